"""Pretrained classifiers: load one with a new head, save a trained one, load it back.

A saved folder holds what `from_pretrained` reads and nothing else, so that equal runs give equal bytes: weights in
safetensors (for an adapter its own and the head's), config.json with `id2label`, the tokenizer. `config.json` also says
under `tunediff` which pretrained model it came from, for the adapter's base and for comparing with the original.
"""

import hashlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import resolve_revision

from stages.common.errors import UserError
from stages.common.files import read_json, write_json
from stages.common.params import ModelConf
from stages.common.pretrained import hub_error, locate

if TYPE_CHECKING:
    from peft import PeftModel

MODULE_SETS = ("target_modules", "modules_to_save", "exclude_modules")

# A repository of pickled weights alone is refused. Left to itself, transformers asks a bot to convert it in public.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
transformers_logging.set_verbosity_error()  # not that the head is new: every method here starts from a new one
transformers_logging.disable_progress_bar()
# PEFT 0.21 asks transformers 5 by an old name; nobody who runs a stage can do anything about it.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def load_tokenizer(conf: ModelConf, where: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer, cutting at `max_length` and padding on the right.

    GPT-2 and its kin have no padding token: the end-of-text token serves, and the model's `pad_token_id` must say so.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(locate(conf.name, where), revision=conf.revision)
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise hub_error(conf.name, conf.revision, where, error) from None
    tokenizer.model_max_length = conf.max_length
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_classifier(
    conf: ModelConf, where: Path, tokenizer: PreTrainedTokenizerBase, labels: list[str], seed: int
) -> PreTrainedModel:
    """The pretrained encoder or decoder under a new classification head, the same one for the same seed."""
    source = locate(conf.name, where)
    try:
        revision = resolve_revision(source, conf.revision)  # one commit for all that follows, if a branch moves or not
        config = AutoConfig.from_pretrained(
            source,
            revision=revision,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            pad_token_id=tokenizer.pad_token_id,
            problem_type="single_label_classification",
        )
        check_weights(conf, where, source)
        if (longest := getattr(config, "max_position_embeddings", None)) and conf.max_length > longest:
            raise UserError(f"{where}: max_length: {conf.max_length}, but {conf.name} reads at most {longest} tokens")
        config.tunediff = {
            "pretrained": conf.name,
            "revision": getattr(revision, "resolved", conf.revision),
            "sha256": conf.sha256,
            "seed": seed,
        }
        set_seed(seed)
        return AutoModelForSequenceClassification.from_pretrained(
            source, config=config, revision=revision, dtype="float32", use_safetensors=True
        )
    except (OSError, ValueError, httpx.HTTPError, SafetensorError) as error:
        raise hub_error(conf.name, conf.revision, where, error) from None


def check_weights(conf: ModelConf, where: Path, source: str) -> None:
    """Raises UserError if model.safetensors has not the SHA-256 that the model's file pins."""
    if conf.sha256 is None:
        return
    file = cached_file(source, "model.safetensors", revision=conf.revision)
    with open(file, "rb") as weights:
        found = hashlib.file_digest(weights, "sha256").hexdigest()
    if found != conf.sha256:
        raise UserError(
            f"{where}: sha256: the weights of {conf.name} have SHA-256 {found}, expected {conf.sha256}; reinstall "
            "the model, or correct the value if you mean these weights"
        )


def count_parameters(model: "PreTrainedModel | PeftModel") -> dict[str, int]:
    return {
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_parameters": sum(p.numel() for p in model.parameters()),
    }


def save(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights, config and tokenizer to `folder`, which exists afterwards and holds nothing else."""
    if hasattr(model, "peft_config"):
        # The name in the model's file, not the folder it was found in on this machine.
        for config in model.peft_config.values():
            config.base_model_name_or_path = model.config.tunediff["pretrained"]
            config.revision = model.config.tunediff["revision"]
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()  # PEFT's empty model card
        # PEFT writes sets in the order of their hashes, which differs from run to run, and a name twice if it was
        # given.
        adapter = read_json(folder / "adapter_config.json")
        write_json(
            folder / "adapter_config.json",
            {
                key: sorted(set(value)) if key in MODULE_SETS and isinstance(value, list) else value
                for key, value in adapter.items()
            },
        )
    else:
        model.save_pretrained(folder)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_saved(folder: Path) -> tuple["PreTrainedModel | PeftModel", PreTrainedTokenizerBase]:
    """What `save` wrote, ready for inference. Raises UserError if `folder` is no such model."""
    config = load_saved_config(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    try:
        if not (folder / "adapter_config.json").is_file():
            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32", use_safetensors=True)
        else:
            from peft import PeftModel

            conf = original_conf(config, tokenizer)
            base = load_classifier(
                conf, folder / "config.json", tokenizer, list(config.id2label.values()), config.tunediff["seed"]
            )
            model = PeftModel.from_pretrained(base, folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: the saved model cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    return model.eval(), tokenizer


def load_original(folder: Path) -> PreTrainedModel:
    """The pretrained model that `folder` was trained from, with the untrained head it started with."""
    config = load_saved_config(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return load_classifier(
        original_conf(config, tokenizer),
        folder / "config.json",
        tokenizer,
        list(config.id2label.values()),
        config.tunediff["seed"],
    ).eval()


def load_saved_config(folder: Path) -> AutoConfig:
    if not (folder / "config.json").is_file():
        present = ", ".join(sorted(path.name for path in folder.parent.glob("*") if path.is_dir())) or "nothing"
        raise UserError(
            f"{folder}: no trained model there (no config.json); {folder.parent}/ has: {present}. Train with `dvc "
            "repro`, or fetch with `dvc pull`"
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder}: the model folder has no weights (*.safetensors); fetch them with `dvc pull` or train again "
            "with `dvc repro`"
        )
    config = AutoConfig.from_pretrained(folder)
    if not hasattr(config, "tunediff"):
        raise UserError(
            f"{folder}/config.json: not written by this project: it does not say which pretrained model it came from "
            "(key `tunediff`)"
        )
    return config


def original_conf(config: AutoConfig, tokenizer: PreTrainedTokenizerBase) -> ModelConf:
    origin = config.tunediff
    return ModelConf(
        name=origin["pretrained"],
        revision=origin["revision"],
        sha256=origin["sha256"],
        max_length=tokenizer.model_max_length,
        learning_rate={},
    )

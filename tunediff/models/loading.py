"""Pretrained classifiers: load one with a new head, save a trained one. `saved.py` loads it back.

A saved folder holds what `from_pretrained` reads and nothing else, so that equal runs give equal bytes: weights in
safetensors (for an adapter its own and the head's), config.json with `id2label`, the tokenizer. `config.json` also says
under `tunediff` which pretrained model it came from, for the adapter's base and for comparing with the original. A
training stage adds the model card (`card.py`).
"""

import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import resolve_revision

from tunediff.core.errors import UserError
from tunediff.core.files import read_json, sha256, write_json
from tunediff.models.pretrained import hub_error, locate
from tunediff.models.settings import ModelConf

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
        tokenizer = AutoTokenizer.from_pretrained(
            locate(conf.name, where), revision=conf.revision, trust_remote_code=False
        )
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
            trust_remote_code=False,  # left out, a terminal is asked
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            pad_token_id=tokenizer.pad_token_id,
            problem_type="single_label_classification",
        )
        check_weights(conf, where, source, revision)
        if (longest := getattr(config, "max_position_embeddings", None)) and conf.max_length > longest:
            raise UserError(f"{where}: max_length: {conf.max_length}, but {conf.name} reads at most {longest} tokens")
        config.tunediff = {
            "pretrained": conf.name,
            "revision": getattr(revision, "resolved", conf.revision),
            "sha256": conf.sha256,
            "seed": seed,
        }
        torch.manual_seed(seed)  # of the head; transformers' set_seed would import the Trainer's modules and PEFT
        model = AutoModelForSequenceClassification.from_pretrained(
            source, config=config, revision=revision, dtype="float32", use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, httpx.HTTPError, SafetensorError) as error:
        raise hub_error(conf.name, conf.revision, where, error) from None
    if hasattr(model, "score"):
        model.register_forward_pre_hook(padding_first, with_kwargs=True)
    return model


def padding_first(model: PreTrainedModel, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Move the padding of `inputs_embeds` from the right to the left, where a decoder's classifier does not read it.

    Decoders answer at a text's last token. They find it by the padding's token ids, and where prompt tuning gives them
    embeddings instead, they take the last place, whatever is there. Positions still count from the first true token.
    """
    embeddings, mask = kwargs.get("inputs_embeds"), kwargs.get("attention_mask")
    if embeddings is None or mask is None:
        return None
    length = mask.shape[1]
    padding = length - mask.sum(1, keepdim=True).long()
    places = torch.arange(length, device=mask.device) - padding  # of what comes to stand there
    places = torch.where(places < 0, places + length, places)
    mask = mask.gather(1, places)
    return args, {
        **kwargs,
        "inputs_embeds": embeddings.gather(1, places.unsqueeze(-1).expand_as(embeddings)),
        "attention_mask": mask,
        "position_ids": (mask.long().cumsum(1) - 1).clamp(min=0),
    }


def check_weights(conf: ModelConf, where: Path, source: str, revision: str) -> None:
    """Raises UserError if model.safetensors has not the SHA-256 that the model's file pins."""
    if conf.sha256 is None:
        return
    file = cached_file(source, "model.safetensors", revision=revision)
    found = sha256(Path(file))
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


def settle(model: "PreTrainedModel | PeftModel") -> None:
    """Give a trained model the form in which it is saved, so that its answers are the saved one's to the last bit.

    A prompt comes in place of the network that makes it. PiSSA and OLoRA take their first B A out of the weights W, by
    a decomposition that another run need not repeat to the last bit: they become LoRA over the whole W, of twice the
    rank, which holds the difference to the first B A. Other models stay.
    """
    for name, config in getattr(model, "peft_config", {}).items():
        if config.peft_type == "P_TUNING" or getattr(config, "prefix_projection", False):
            encoder = model.prompt_encoder[name]
            encoder.embedding = torch.nn.Embedding.from_pretrained(model.get_prompt_embedding_to_save(name))
            encoder.forward = encoder.embedding.forward
        if layers := [layer for layer in model.modules() if hasattr(layer, "start")]:
            config.init_lora_weights = True
            growth = math.sqrt(2) if config.use_rslora else 2  # of alpha, so that the scale stays
            config.r, config.lora_alpha = 2 * config.r, growth * config.lora_alpha
            config.rank_pattern = {place: 2 * rank for place, rank in config.rank_pattern.items()}
            config.alpha_pattern = {place: growth * alpha for place, alpha in config.alpha_pattern.items()}
            for layer in layers:
                (weight, first_a, first_b), a, b = layer.start, layer.lora_A[name], layer.lora_B[name]
                layer.base_layer.weight.data = weight.to(a.weight.device)
                a.weight.data = torch.cat([a.weight, first_a.to(a.weight.device)])
                b.weight.data = torch.cat([b.weight, -first_b.to(b.weight.device)], dim=1)
                rank, alpha = 2 * layer.r[name], growth * layer.lora_alpha[name]
                layer.r[name], layer.lora_alpha[name] = rank, alpha
                layer.scaling[name] = alpha / math.sqrt(rank) if config.use_rslora else alpha / rank


def save(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights, config and tokenizer to `folder`, which exists afterwards and holds nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "peft_config"):
        # The name in the model's file, not the folder it was found in on this machine.
        for config in model.peft_config.values():
            config.base_model_name_or_path = model.config.tunediff["pretrained"]
            config.revision = model.config.tunediff["revision"]
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()  # PEFT's empty model card; `card.write` makes another
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
    elif "adapter" in model.config.tunediff:
        trained = {name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad}
        save_file(trained, folder / "adapter_model.safetensors")
    else:
        model.save_pretrained(folder)
    model.config.save_pretrained(folder)
    for key in ("is_local", "local_files_only"):  # how this machine found it, which differs where HF_HUB_OFFLINE is set
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(folder)

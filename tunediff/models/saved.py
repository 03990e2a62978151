"""Trained models, as `models.save` wrote them, and what they were before."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunediff.core.errors import UserError, reason
from tunediff.models import own_methods
from tunediff.models.loading import auto_class, load_pretrained, place_padding
from tunediff.models.peft_fields import check_own, read_adapter_config
from tunediff.models.settings import Adapted
from tunediff.models.trained_config import check_trained
from tunediff.models.weights import check_adapter, check_all, of_base, reshaped
from tunediff.tasks import task_of

if TYPE_CHECKING:
    from peft import PeftModel


def load_saved(folder: Path, dequantize: bool = False) -> tuple["PreTrainedModel | PeftModel", PreTrainedTokenizerBase]:
    """What `save` wrote, ready for inference. Raises UserError if `folder` is no such model.

    With `dequantize`, quantized weights become floats of the same values, with which an adapter can be merged.
    """
    config = load_saved_config(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if "adapter" in config.tunediff:
            check_own(config.tunediff["adapter"], f"{folder}/config.json: tunediff.adapter")
            model = own_methods.load(_original(folder, config, tokenizer), folder)
        elif (folder / "adapter_config.json").is_file():
            from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING

            adapter = read_adapter_config(folder, config)
            original = _original(folder, config, tokenizer)
            if dequantize and config.tunediff.get("quantize"):
                original = original.dequantize(torch.float32)
            model = MODEL_TYPE_TO_PEFT_MODEL_MAPPING[task_of(config).peft_type](original, adapter)
            check_adapter(model, "default", folder)
            model.load_adapter(folder, "default")
        else:
            model, loading = _read(auto_class(task_of(config)), folder)
            check_all(folder, loading["missing_keys"], loading["unexpected_keys"], reshaped(loading))
            place_padding(model, task_of(config))
    except UserError:
        raise
    except Exception as error:  # PEFT raises errors of any kind
        raise UserError(f"{folder}: the saved model cannot be loaded: {reason(error)}") from None
    model.config.tunediff |= config.tunediff  # an adapter's model is the original one, which has no temperature
    if dequantize:
        for key in ("quantize", "head"):
            model.config.tunediff.pop(key, None)
    return model.eval(), tokenizer


def load_encoder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """An encoder that `save` wrote without a head. Raises UserError if `folder` is none, or has an adapter."""
    load_saved_config(folder)  # a path to nothing would be the name of a model on the Hub
    if (folder / "adapter_config.json").exists():
        raise UserError(f"{folder}/adapter_config.json: an encoder has no adapter; delete the file")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, loading = _read(AutoModel, folder)
    except Exception as error:  # of files that are missing or torn, the libraries raise whatever comes
        raise UserError(
            f"{folder}: the encoder cannot be loaded: {reason(error)}; fetch it with `dvc pull`, or train again"
        ) from None
    kinds = (loading["missing_keys"], loading["unexpected_keys"], reshaped(loading))
    check_all(folder, *([name for name in names if of_base(name, model)] for names in kinds))
    return model.eval(), tokenizer


def _read(kind: type, folder: Path) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model that a class of transformers makes of the folder, and what it says of the loading."""
    return kind.from_pretrained(
        folder,
        dtype="float32",
        use_safetensors=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,  # named by the caller, as what is missing
        output_loading_info=True,
    )


def add_adapter(model: "PeftModel", folder: Path) -> tuple[str, PreTrainedTokenizerBase]:
    """Put the adapter that `save` wrote to `folder` beside those that `model` has; its name there, and its tokenizer.

    It must be of their kind, and of the same pretrained model. Raises UserError if PEFT cannot have both.
    """
    name = f"adapter{len(model.peft_config)}"
    adapter = read_adapter_config(folder, model.config)
    try:
        model.add_adapter(name, adapter)
        check_adapter(model, name, folder)
        model.load_adapter(folder, name)
    except UserError:
        raise
    except Exception as error:  # PEFT raises errors of any kind
        raise UserError(f"{folder}: cannot be loaded beside the others: {reason(error)}; use it alone") from None
    return name, AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def load_original(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The pretrained model that `folder` was trained from, with the untrained head it started with."""
    config, tokenizer = load_saved_config(folder), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return _original(folder, config, tokenizer).eval(), tokenizer


def _original(folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    origin = config.tunediff
    conf = Adapted(
        name=origin["pretrained"],
        revision=origin["revision"],
        sha256=origin["sha256"],
        quantize=origin.get("quantize"),
        head=origin.get("head", []),
        max_length=tokenizer.model_max_length,
        keep_head=origin.get("keep_head", False),
    )
    return load_pretrained(conf, folder / "config.json", tokenizer, task_of(config), origin["seed"])


def load_saved_config(folder: Path) -> PreTrainedConfig:
    if not (folder / "config.json").is_file():
        present = ", ".join(sorted(path.name for path in folder.parent.glob("*") if path.is_dir())) or "nothing"
        raise UserError(
            f"{folder}: no trained model there (no config.json); {folder.parent}/ has: {present}. Train with `dvc "
            "repro`, or fetch with `dvc pull`"
        )
    # Without a file of this name, PEFT would take a pickled one.
    weights = "adapter_model.safetensors" if (folder / "adapter_config.json").is_file() else "*.safetensors"
    if not any(folder.glob(weights)) and not any(folder.glob("*.onnx")):
        raise UserError(
            f"{folder}: the model folder has no weights ({weights}; pickled ones are not loaded); fetch them with `dvc "
            "pull` or train again with `dvc repro`"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}/config.json: cannot be read: {reason(error)}; fetch it with `dvc pull`, or train again with "
            "`dvc repro`"
        ) from None
    if not hasattr(config, "tunediff"):
        raise UserError(
            f"{folder}/config.json: not written by this project: it does not say which pretrained model it came from "
            "(key `tunediff`)"
        )
    check_trained(config.tunediff, folder / "config.json")
    return config

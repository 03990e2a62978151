"""Trained models, as `models.save` wrote them, and what they were before."""

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from stages.common.errors import UserError
from stages.common.models import load_classifier
from stages.common.params import ModelConf

if TYPE_CHECKING:
    from peft import PeftModel


def load_saved(folder: Path) -> tuple["PreTrainedModel | PeftModel", PreTrainedTokenizerBase]:
    """What `save` wrote, ready for inference. Raises UserError if `folder` is no such model."""
    config = load_saved_config(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    try:
        if "adapter" in config.tunediff:
            from stages.common.adapters import load_own

            model = load_own(load_original(folder), folder)
        elif (folder / "adapter_config.json").is_file():
            from peft import PeftModel

            model = PeftModel.from_pretrained(load_original(folder), folder)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32", use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: the saved model cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    return model.eval(), tokenizer


def load_original(folder: Path) -> PreTrainedModel:
    """The pretrained model that `folder` was trained from, with the untrained head it started with."""
    config = load_saved_config(folder)
    origin = config.tunediff
    tokenizer = AutoTokenizer.from_pretrained(folder)
    conf = ModelConf(
        name=origin["pretrained"],
        revision=origin["revision"],
        sha256=origin["sha256"],
        max_length=tokenizer.model_max_length,
    )
    labels = list(config.id2label.values())
    return load_classifier(conf, folder / "config.json", tokenizer, labels, origin["seed"]).eval()


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

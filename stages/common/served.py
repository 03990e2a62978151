"""Trained models and their originals, loaded to answer texts for a long time; adapters of one kind share their base."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from stages.common.errors import UserError, reason
from stages.common.inference import device, probabilities
from stages.common.saved import load_original, load_saved, load_saved_config

if TYPE_CHECKING:
    from peft import PeftModel

STEP = 16  # texts of like length computed together: on a CPU more are no faster, and have more padding


class Classifier(Protocol):
    """What answers texts. Only one thread at a time may ask."""

    names: list[str]
    """The labels, as the columns of `predict` stand."""

    def predict(self, texts: list[str]) -> np.ndarray:
        """Probabilities, the temperature applied, float64, shape [texts, labels]."""


@dataclass
class Served:
    """A trained model under the name of its folder."""

    tuned: Classifier
    original: Classifier | None
    """The untrained model that it was; None where that cannot be loaded."""


@dataclass(eq=False)
class TorchClassifier:
    model: "PreTrainedModel | PeftModel"
    tokenizer: PreTrainedTokenizerBase
    names: list[str]
    temperature: float = 1.0
    chosen: Callable[[], AbstractContextManager] = nullcontext
    """Where the answer is computed: with one of the model's adapters, or without any."""

    @torch.inference_mode()
    def predict(self, texts: list[str]) -> np.ndarray:
        # Not `inference.predict_logits`: its table and progress bar cost half as much as the answer to a single text.
        encoded = self.tokenizer(texts, truncation=True, return_token_type_ids=False)
        order = np.argsort([len(ids) for ids in encoded["input_ids"]], kind="stable")
        logits = np.empty((len(texts), len(self.names)), dtype=np.float32)
        with self.chosen():
            for start in range(0, len(order), STEP):
                rows = order[start : start + STEP]
                columns = {name: [values[row] for row in rows] for name, values in encoded.items()}
                batch = self.tokenizer.pad(columns, return_tensors="pt").to(device())
                logits[rows] = self.model(**batch).logits.float().cpu().numpy()
        return probabilities(logits / self.temperature)


def load(folders: list[Path]) -> dict[str, Served]:
    """The models that `models.save` wrote, by the names of their folders. Raises UserError if one is no such folder."""
    tuned, origins, bases, originals = {}, {}, {}, {}
    for folder in folders:
        name = folder.resolve().name
        if name in tuned:
            raise UserError(f"{folder}: another model is named '{name}' already; copy or link one to another name")
        config = load_saved_config(folder)
        names, temperature = list(config.id2label.values()), config.tunediff.get("temperature", 1)
        origins[name] = (*(config.tunediff[key] for key in ("pretrained", "revision", "sha256", "seed")), *names)
        if not (folder / "adapter_config.json").is_file():
            model, tokenizer = load_saved(folder)
            tuned[name] = TorchClassifier(model.to(device()), tokenizer, names, temperature)
            continue
        model, tokenizer, adapter = _adapter(folder, origins[name], bases)
        tuned[name] = TorchClassifier(model, tokenizer, names, temperature, partial(_with, model, adapter))
        if not model.peft_config[adapter].is_prompt_learning:  # PEFT 0.21 cannot leave a classifier's prompt out
            originals[origins[name]] = TorchClassifier(model, tokenizer, names, chosen=model.disable_adapter)
    for folder, (name, origin) in zip(folders, origins.items(), strict=True):
        if origin not in originals:
            originals[origin] = _original(folder, tuned[name])
    return {name: Served(tuned[name], originals[origin]) for name, origin in origins.items()}


def _adapter(folder: Path, origin: tuple, bases: dict) -> tuple["PeftModel", PreTrainedTokenizerBase, str]:
    """The base, loaded before or now, the folder's tokenizer, and the adapter's name on the base."""
    from peft import PeftConfig

    key = (*origin, PeftConfig.from_pretrained(folder).peft_type)  # PEFT puts no two kinds on one model
    if key not in bases:
        model, tokenizer = load_saved(folder)
        bases[key] = model.to(device())
        return model, tokenizer, model.active_adapter
    model, adapter = bases[key], str(len(bases[key].peft_config))
    try:
        model.load_adapter(folder, adapter_name=adapter)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder}: the adapter cannot be loaded beside another on one base: {reason(error)}; serve it by a "
            "process of its own"
        ) from None
    return model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False), adapter


@contextmanager
def _with(model: "PeftModel", adapter: str) -> Iterator[None]:
    if model.active_adapter != adapter:
        model.set_adapter(adapter, inference_mode=True)
    yield


def _original(folder: Path, tuned: TorchClassifier) -> TorchClassifier | None:
    try:
        return TorchClassifier(load_original(folder).to(device()), tuned.tokenizer, tuned.names)
    except UserError as error:
        print(f"{folder}: served without the original model: {error}", file=sys.stderr)
        return None

"""Trained models behind one interface, whether PyTorch or ONNX Runtime runs them.

PyTorch is imported where it is needed: an exported model does without.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tunediff.core.files import read_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

STEP = 8  # texts of like length computed together: on a CPU more are no faster, and have more padding
ACCELERATOR_STEP = 64


class Classifier(Protocol):
    """What answers texts. Only one thread at a time may ask."""

    names: list[str]
    """Of the labels, in the order of the probabilities."""

    def predict(self, texts: list[str]) -> np.ndarray:
        """Probabilities, float64, shape [texts, labels]."""


class TorchClassifier:
    def __init__(
        self,
        model: "PreTrainedModel | PeftModel",
        tokenizer: "PreTrainedTokenizerBase",
        names: list[str],
        temperature: float = 1,
        chosen: Callable[[], AbstractContextManager] = nullcontext,
    ):
        """In `chosen()` the model answers with one of its adapters, or without any."""
        from tunediff.models.inference import device

        self.names = names
        self._model, self._tokenizer, self._temperature, self._chosen = model, tokenizer, temperature, chosen
        self._device = device()
        model.to(self._device)

    def predict(self, texts: list[str]) -> np.ndarray:
        import torch

        from tunediff.models.inference import probabilities

        # Not `inference.predict_logits`: its table and progress bar cost half as much as the answer to a single text.
        encoded = self._tokenizer(texts, truncation=True, return_token_type_ids=False)
        step = STEP if self._device.type == "cpu" else ACCELERATOR_STEP
        logits = np.empty((len(texts), len(self.names)), dtype=np.float32)
        with torch.inference_mode(), self._chosen():
            for rows in alike(encoded["input_ids"], step):
                columns = {name: [values[row] for row in rows] for name, values in encoded.items()}
                batch = self._tokenizer.pad(columns, return_tensors="pt").to(self._device)
                # fp32, so that an answer hardly depends on which texts shared its batch.
                logits[rows] = self._model(**batch).logits.cpu().numpy()
        return probabilities(logits / self._temperature)


class Loader:
    """Adapters of one kind on one pretrained model share it in memory, and so does the original, where PEFT can."""

    def __init__(self):
        self._bases: dict[tuple, PeftModel] = {}
        """By what the adapters on it must have in common."""
        self._originals: dict[tuple, TorchClassifier] = {}

    def load(self, path: Path) -> Classifier:
        """Of a folder, or a .onnx file in one. Raises UserError if it is no such folder."""
        if is_exported(path):
            from tunediff.use.exported import INT8, OnnxClassifier

            return OnnxClassifier(path.parent, path.name) if path.suffix == ".onnx" else OnnxClassifier(path, INT8)

        from tunediff.models.saved import add_adapter, load_saved, load_saved_config

        config, chosen = load_saved_config(path), nullcontext
        names, temperature = list(config.id2label.values()), config.tunediff.get("temperature", 1)
        if (path / "adapter_config.json").is_file():
            key = (*_origin(config), read_json(path / "adapter_config.json")["peft_type"])
            if key in self._bases:
                model = self._bases[key]
                adapter, tokenizer = add_adapter(model, path)
            else:
                model, tokenizer = load_saved(path)
                self._bases[key], adapter = model, model.active_adapter
                if not model.active_peft_config.is_prompt_learning:  # PEFT 0.21 cannot leave a classifier's prompt out
                    original = TorchClassifier(model, tokenizer, names, chosen=model.disable_adapter)
                    self._originals[_origin(config)] = original
            chosen = partial(_with, model, adapter)
        else:
            model, tokenizer = load_saved(path)
        return TorchClassifier(model, tokenizer, names, temperature, chosen)

    def original(self, folder: Path) -> Classifier:
        """What the model was before it was trained; load the models first. Raises UserError if it is gone."""
        from tunediff.models.saved import load_original, load_saved_config

        config = load_saved_config(folder)
        origin = _origin(config)
        if origin not in self._originals:
            self._originals[origin] = TorchClassifier(*load_original(folder), list(config.id2label.values()))
        return self._originals[origin]


def alike(tokens: list[list[int]], step: int = STEP) -> Iterator[np.ndarray]:
    """Places of the texts that are computed together: up to `step` of like length, the last of them the longest."""
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    for start in range(0, len(order), step):
        yield order[start : start + step]


def is_exported(path: Path) -> bool:
    return path.suffix == ".onnx" or any(path.glob("*.onnx"))


def _origin(config: "PreTrainedConfig") -> tuple:
    """Two models of the same origin were the same before they were trained."""
    return (*(config.tunediff[key] for key in ("pretrained", "revision", "sha256", "seed")), *config.id2label.values())


@contextmanager
def _with(model: "PeftModel", adapter: str) -> Iterator[None]:
    if model.active_adapter != adapter:
        model.set_adapter(adapter, inference_mode=True)
    yield

"""Trained models behind one interface, whether PyTorch or ONNX Runtime runs them.

PyTorch is imported where it is needed: an exported model does without.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stages.common.files import read_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE = 64


class Classifier(Protocol):
    names: list[str]
    """Of the labels, in the order of the probabilities."""

    def predict(self, texts: list[str]) -> np.ndarray:
        """Probabilities, float64, shape [texts, labels]."""


class TorchClassifier:
    """A model that PyTorch runs; one that has several adapters answers with the one named `adapter`."""

    def __init__(
        self,
        model: "PreTrainedModel | PeftModel",
        tokenizer: "PreTrainedTokenizerBase",
        names: list[str],
        temperature: float = 1,
        adapter: str | None = None,
    ):
        self.names = names
        self._model, self._tokenizer, self._temperature, self._adapter = model, tokenizer, temperature, adapter

    def predict(self, texts: list[str]) -> np.ndarray:
        from stages.common.data import encode
        from stages.common.inference import predict_logits, probabilities

        if self._adapter is not None:
            self._model.set_adapter(self._adapter)
        encoded = encode(self._tokenizer, texts)
        # fp32, so that an answer hardly depends on which texts shared its batch.
        logits = predict_logits(self._model, self._tokenizer, encoded, BATCH_SIZE, "fp32", None)
        return probabilities(logits / self._temperature)


def load_classifiers(models: list[Path]) -> list[Classifier]:
    """One for each folder, or .onnx file in a folder; adapters of one kind on one pretrained model share it in memory.

    Raises UserError for what is no such folder.
    """
    bases = {}
    return [_load(path, bases) for path in models]


def _load(path: Path, bases: dict[tuple, "PeftModel"]) -> Classifier:
    """`bases` has the models that further adapters can be added to, by what those must have in common."""
    if path.suffix == ".onnx" or any(path.glob("*.onnx")):
        from stages.common.exported import INT8, OnnxClassifier

        return OnnxClassifier(path.parent, path.name) if path.suffix == ".onnx" else OnnxClassifier(path, INT8)

    from stages.common.saved import add_adapter, load_saved, load_saved_config

    config, adapter, base = load_saved_config(path), None, None
    if (path / "adapter_config.json").is_file():
        origin, peft_type = config.tunediff, read_json(path / "adapter_config.json")["peft_type"]
        base = (origin["pretrained"], origin["revision"], origin["sha256"], len(config.id2label), peft_type)
    if base in bases:
        model = bases[base]
        adapter, tokenizer = add_adapter(model, path)
    else:
        model, tokenizer = load_saved(path)
        if base:
            adapter, bases[base] = "default", model  # PEFT's name for the first
    names = list(config.id2label.values())
    return TorchClassifier(model, tokenizer, names, config.tunediff.get("temperature", 1), adapter)

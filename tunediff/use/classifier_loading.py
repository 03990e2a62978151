"""From the folder of a trained or exported model to a classifier.

What runs a model is imported where it is needed: an exported model does without PyTorch.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunediff.core.errors import UserError
from tunediff.core.files import read_json
from tunediff.tasks.interface import label_names

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tunediff.tasks.interface import Task
    from tunediff.use.classifier import Classifier


class Loader:
    """Loads models that share memory: adapters of one kind on one pretrained model, and the original where PEFT can."""

    def __init__(self):
        self._bases: dict[tuple, PeftModel] = {}
        """By what the adapters on it must have in common."""
        self._originals: dict[tuple, Classifier] = {}

    def load(self, path: Path) -> "Classifier":
        """The model of a folder, or of a .onnx file in one. Raises UserError if there is no such model."""
        if is_exported(path):
            from tunediff.use.classifier_onnx import INT8, OnnxClassifier

            return OnnxClassifier(folder_of(path), path.name if path.suffix == ".onnx" else INT8)

        if is_linear(path):
            from tunediff.baselines.kept import LinearClassifier

            return LinearClassifier(path)

        from tunediff.models.saved import load_saved, load_saved_config, task_of

        config = load_saved_config(path)
        if (path / "adapter_config.json").is_file():
            return self._load_adapter(path, config)
        return _made(*load_saved(path), task_of(config), config.tunediff)

    def _load_adapter(self, path: Path, config: "PreTrainedConfig") -> "Classifier":
        """The adapter of PEFT in the folder `path`, beside those of its kind that are loaded."""
        from tunediff.models.peft_fields import read_adapter_config
        from tunediff.models.saved import add_adapter, load_saved, task_of

        task = task_of(config)
        key = (*_origin(config), read_adapter_config(path, config).peft_type)
        if key in self._bases:
            model = self._bases[key]
            adapter, tokenizer = add_adapter(model, path)
        else:
            model, tokenizer = load_saved(path)
            adapter = model.active_adapter
            self._bases[key] = model
            if not model.active_peft_config.is_prompt_learning:  # PEFT 0.21 cannot leave a classifier's prompt out
                original = _made(model, tokenizer, task, _asked(config), model.disable_adapter)
                self._originals[_origin(config)] = original
        return _made(model, tokenizer, task, config.tunediff, partial(_activated, model, adapter))

    def original(self, folder: Path) -> "Classifier":
        """What the model was before it was trained; load the models first.

        Raises UserError if it is gone, or if there was none.
        """
        if is_linear(folder):
            raise UserError(f"{folder}: no model was trained for it, so there is no original: leave out --compare")
        from tunediff.models.saved import load_original, load_saved_config, task_of

        config = load_saved_config(folder)
        origin = _origin(config)
        if origin not in self._originals:
            self._originals[origin] = _made(*load_original(folder), task_of(config), _asked(config))
        return self._originals[origin]


def _made(
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    task: "Task",
    fitted: dict[str, Any],
    activated: Callable[[], AbstractContextManager] = nullcontext,
) -> "Classifier":
    """What answers with the model: labels, or texts."""
    if task.writes:
        from tunediff.use.generation_answers import Writer

        return Writer(model, tokenizer, task, fitted, activated)
    from tunediff.use.classifier_torch import TorchClassifier

    return TorchClassifier(model, tokenizer, task, fitted, activated)


def _asked(config: "PreTrainedConfig") -> dict[str, Any]:
    """What the original is asked with, of all that belongs to the trained model."""
    return {key: value for key, value in config.tunediff.items() if key == "generate"}


def is_exported(path: Path) -> bool:
    """Whether `path` is a .onnx file, or a folder with one."""
    return path.suffix == ".onnx" or any(path.glob("*.onnx"))


def is_linear(path: Path) -> bool:
    """Whether `path` is the folder of a regression: TF-IDF, the probe or SetFit."""
    file = path / "config.json"
    config = read_json(file) if file.is_file() else None
    origin = config.get("tunediff") if isinstance(config, dict) else None
    return isinstance(origin, dict) and "linear" in origin


def folder_of(path: Path) -> Path:
    """The model's folder, where `path` is that folder or a .onnx file in it."""
    return path.parent if path.suffix == ".onnx" else path


def _origin(config: "PreTrainedConfig") -> tuple:
    """Two models of the same origin were the same before they were trained."""
    keys = ("pretrained", "revision", "sha256", "seed", "keep_head", "quantize", "instruction", "chat")
    return (*(config.tunediff.get(key) for key in keys), *label_names(config.id2label))


@contextmanager
def _activated(model: "PeftModel", adapter: str) -> Iterator[None]:
    if model.active_adapter != adapter:
        model.set_adapter(adapter, inference_mode=True)
    yield

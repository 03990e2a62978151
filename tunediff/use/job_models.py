"""The models that a job asks, each of which answers in columns of its own."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunediff.core.errors import UserError
from tunediff.core.files import read_json, sha256
from tunediff.core.values import as_text
from tunediff.tasks.chats import question
from tunediff.use import job_input
from tunediff.use.classifier_loading import Loader, folder_of
from tunediff.use.job_input import Reading, Row
from tunediff.use.of_task import Columns, of_task

if TYPE_CHECKING:
    import pyarrow as pa

    from tunediff.use.classifier import Classifier


@dataclass(frozen=True)
class JobModels:
    """Classifiers, each with its columns."""

    models: list[tuple["Classifier", Columns]]

    @property
    def columns(self) -> "dict[str, pa.DataType]":
        """All the models' columns, with their types."""
        return {name: kind for _, columns in self.models for name, kind in columns.types().items()}

    @property
    def size(self) -> int:
        """How many rows are answered before they are kept: fewer where a model writes."""
        return job_input.WRITTEN if any(model.task.writes for model, _ in self.models) else job_input.CHUNK

    def answer(self, texts: list[str]) -> list[Row]:
        """The values of the columns for each text."""
        names = list(self.columns)
        values = [column for model, columns in self.models for column in columns.values(model.predict(texts))]
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def load(paths: list[Path], compare: bool, accuracy: float | None) -> JobModels:
    """The models of these folders or .onnx files.

    One alone answers in columns `predicted`, `p_LABEL`, `unsure`, several under their names. `compare` adds what the
    first was before it was trained; `accuracy` is what the surer answers had on validation. Raises UserError for what
    is no model, or has no confidence that goes with that accuracy.
    """
    names = [path.resolve().name for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--model: two models are named {twice[0]}; columns are named by the folder: rename one")
    loader = Loader()
    models = []
    for name, path in zip(names, paths, strict=True):
        predicted, prefix = ("predicted", "") if len(paths) == 1 else (name, f"{name}_")
        model = loader.load(path)
        if len({getattr(each.task, "chat", False) for each, _ in [(model, None), *models]}) > 1:
            raise UserError(
                f"{path}: of models that were trained on chats and others that were not, ask each by itself"
            )
        least = None if accuracy is None else _least_confidence(path, accuracy)
        models.append((model, of_task(model.task).columns(model, predicted, prefix, least)))
    if compare:
        original = loader.original(folder_of(paths[0]))
        models.append((original, of_task(original.task).columns(original, "original", "original_", None)))
    return JobModels(models)


def trained_columns(model: Path) -> list[str]:
    """The columns of texts that the model was trained on; `text` if that is not known."""
    return trained_on(model)[0]


def trained_label(model: Path) -> str:
    """The column of labels that the model was trained on; `label` if that is not known."""
    return _origin(model).get("label") or "label"


def trained_on(model: Path) -> tuple[list[str], Reading]:
    """Those columns, and how a value of one is read: as a text, or as a chat if the model was trained on chats."""
    origin = _origin(model)
    columns = origin.get("text", "text")
    return [columns] if isinstance(columns, str) else columns, question if origin.get("chat") else as_text


def _origin(model: Path) -> dict[str, Any]:
    """What the model's config says of its training."""
    file = folder_of(model) / "config.json"
    return read_json(file).get("tunediff", {}) if file.is_file() else {}


def _least_confidence(model: Path, accuracy: float) -> float:
    """From which confidence on the model's answers had this accuracy on validation. Raises UserError if unknown."""
    file, origin = folder_of(model) / "config.json", _origin(model)
    task = origin.get("task", "classification")
    if task != "classification":
        raise UserError(
            f"{file}: --unsure is for texts with one label each, and this model is for {task}; leave it out"
        )
    known = {float(key): value for key, value in origin.get("confidences", {}).items()}
    if accuracy not in known:
        raise UserError(
            f"{file}: --unsure {accuracy:g}: training found no confidence that goes with this accuracy on validation; "
            f"choose from: {', '.join(f'{key:g}' for key in known) or 'none, so train again'}"
        )
    return known[accuracy]


def fingerprint(model: Path) -> str:
    """SHA-256 of all files in the model's folder, and of which of them is asked."""
    digest = hashlib.sha256(model.name.encode())
    for path in sorted(path for path in folder_of(model).iterdir() if path.is_file()):
        digest.update(path.name.encode())
        digest.update(sha256(path).encode())
    return digest.hexdigest()

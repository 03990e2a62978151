"""The models that the service answers with: each with the original that it was trained from."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunediff.core.errors import UserError
from tunediff.use.classifier_loading import Loader, is_exported, is_linear

if TYPE_CHECKING:
    from tunediff.use.classifier import Classifier


@dataclass
class Served:
    """A model that is served."""

    tuned: "Classifier"
    original: "Classifier | None"
    """The untrained model that it was; None where that is not there."""


def load(paths: list[Path]) -> dict[str, Served]:
    """The models by the names of their folders, or of their .onnx files. Raises UserError if one cannot be loaded."""
    loader = Loader()
    tuned = {}
    for path in paths:
        name = path.absolute().name
        if name in tuned:
            raise UserError(f"{path}: another model is named '{name}' already; copy or link one to another name")
        tuned[name] = loader.load(path)
        if tuned[name].task.writes != next(iter(tuned.values())).task.writes:
            raise UserError(f"{path}: of a model that labels texts and one that writes them, serve each by itself")
    return {name: Served(tuned[name], _original(path, loader)) for name, path in zip(tuned, paths, strict=True)}


def _original(path: Path, loader: Loader) -> "Classifier | None":
    """None for TF-IDF, the probe, SetFit and an exported model: its original would bring PyTorch and the whole base."""
    if is_exported(path) or is_linear(path):
        return None
    try:
        return loader.original(path)
    except UserError as error:
        print(f"{path}: served without the original model: {error}", file=sys.stderr)
        return None

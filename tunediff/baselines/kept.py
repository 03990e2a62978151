"""TF-IDF, probe and SetFit: a regression that `baselines.saved` kept, and the model whose states it reads."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from tunediff.baselines.saved import States, Tuned, load, predict, unit
from tunediff.core.cost import folder_bytes
from tunediff.core.methods import ENCODER


class LinearClassifier:
    """A model that the stage `baseline` fitted. It answers as it did there, text by text."""

    def __init__(self, folder: Path):
        """Raises UserError if the folder does not hold what `baseline` and `package` write."""
        self._model, self.task, self.reads, self.fitted = load(folder)
        self.names = self.task.labels
        self._encode = _Encoder(folder, self.reads, self.fitted, self.task) if isinstance(self.reads, States) else list

    def predict(self, texts: list[str]) -> np.ndarray:
        """Probabilities, float64, shape [texts, labels]."""
        return predict(self._model, self._encode(texts))


def in_use(folder: Path, text: str) -> dict[str, float]:
    """What a kept model costs: bytes on the disk, and seconds from there to its first answer, to `text`."""
    started = time.perf_counter()
    LinearClassifier(folder).predict([text])
    seconds = time.perf_counter() - started
    tuned = folder / ENCODER
    size = folder_bytes(folder) + (folder_bytes(tuned) if tuned.is_dir() else 0)
    return {"artifact_bytes": size, "start_seconds": seconds}


class _Encoder:
    """The model's mean states of texts, float32, shape [texts, hidden]."""

    def __init__(self, folder: Path, reads: States, origin: dict[str, Any], task: Any):
        from tunediff.models.inference import choose_precision

        self._tuned = isinstance(reads, Tuned)
        if self._tuned:
            from tunediff.models.saved import load_encoder

            self._model, self._tokenizer = load_encoder(folder / ENCODER)
        else:
            self._model, self._tokenizer = _frozen(folder, reads, origin, task)
        # The one that the regression was fitted to, unless this machine would be slow with it.
        precision = reads.precision if reads.precision == choose_precision("auto") else "fp32"
        self._options = {"batch_size": reads.batch_size, "precision": precision}

    def __call__(self, texts: list[str]) -> np.ndarray:
        from tunediff.models.inference import embed
        from tunediff.tasks.features import encode

        states = embed(self._model, self._tokenizer, encode(self._tokenizer, texts), title=None, **self._options)
        return unit(states) if self._tuned else states


def _frozen(folder: Path, reads: States, origin: dict[str, Any], task: Any) -> tuple[Any, Any]:
    """The pretrained model, as it was, and its tokenizer."""
    from tunediff.models.loading import load_pretrained, load_tokenizer
    from tunediff.models.settings import Pretrained

    conf = Pretrained(
        name=origin["pretrained"],
        revision=origin["revision"],
        sha256=origin["sha256"],
        max_length=reads.max_length,
        source_language=reads.source_language,
        target_language=reads.target_language,
    )
    file = folder / "config.json"
    tokenizer = load_tokenizer(conf, file)
    return load_pretrained(conf, file, tokenizer, task, origin["seed"]), tokenizer

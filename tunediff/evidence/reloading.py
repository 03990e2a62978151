"""A trained model in a fresh process: does it answer as it did in training, and what does it answer on test?"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from tunediff.core.errors import UserError
from tunediff.core.seeds import folder
from tunediff.evidence.details import fit, with_temperature
from tunediff.evidence.settings import Evaluation
from tunediff.models.inference import choose_precision, predict_logits, probabilities
from tunediff.models.saved import load_saved
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode

# A lost head or adapter moves logits by whole units; another machine's arithmetic by no more than this.
TOLERANCE = {"fp32": 1e-3, "bf16": 0.2, "fp16": 0.05}


@dataclass(frozen=True)
class Evaluated:
    """A method on test."""

    answers: dict[int, np.ndarray]
    """Probabilities, shape [rows, labels], by the seed of the training."""
    difference: float
    """The largest difference of logits on validation between any trainer and its reloaded model."""
    seconds: float
    """Mean time to answer the test split."""
    detail: dict[str, Any]
    """For metrics/detail/METHOD.json: what was fitted on validation, and where the model comes from."""


def evaluate(
    trained: Path,
    trainer_logits: np.ndarray,
    splits: dict[str, Dataset],
    task: Classification,
    settings: Evaluation,
) -> Evaluated:
    """Reload the model of each seed, compare it with its trainer, fit on validation, and answer the test split.

    `trainer_logits` are those on validation, shape [seeds, rows, labels]. Raises UserError if a model's differ.
    """
    precision = choose_precision(settings.precision)
    options = {"batch_size": settings.batch_size, "precision": precision}
    targets = {name: task.targets(split) for name, split in splits.items()}
    rarer = task.rarer(splits["train"])
    answers, differences, seconds = {}, [], []
    detail: dict[str, Any] = {"fitted": {}}
    for seed, expected in zip(settings.seeds, trainer_logits, strict=True):
        path = folder(trained, seed, settings.seeds)
        model, tokenizer = load_saved(path)
        encoded = encode(tokenizer, splits["validation"]["text"])
        reloaded = predict_logits(model, tokenizer, encoded, title=f"{trained.name}: validation", **options)
        differences.append(compare(path, reloaded, expected, TOLERANCE[precision]))
        fitted = fit(task, expected, targets["validation"], rarer)
        detail["fitted"][seed] = fitted

        started = time.perf_counter()
        encoded = encode(tokenizer, splits["test"]["text"])
        logits = predict_logits(model, tokenizer, encoded, title=f"{trained.name}: test", **options)
        seconds.append(time.perf_counter() - started)
        answers[seed] = probabilities(logits)
        if seed == settings.seeds[0]:
            detail["with_temperature"] = with_temperature(targets["test"], logits, task.labels, fitted)
            origin = model.config.tunediff
            detail["model"] = {"revision": origin["revision"], "sha256": origin["sha256"], "seeds": settings.seeds}
    return Evaluated(answers, max(differences), statistics.fmean(seconds), detail)


def compare(model: Path, reloaded: np.ndarray, trainer: np.ndarray, tolerance: float) -> float:
    """The largest difference of logits, shape [rows, ...]. Raises UserError if it is too large for one model."""
    difference = float(np.abs(reloaded - trainer).max())
    print(
        f"{model}: the reloaded model's logits differ from the trainer's by at most {difference:.2g} over "
        f"{len(trainer)} rows"
    )
    if difference > tolerance:
        raise UserError(
            f"{model}: the reloaded model does not answer as it did in training (logits differ by up to "
            f"{difference:.3g}); its folder was changed or is incomplete: train it again"
        )
    return difference

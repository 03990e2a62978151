"""What is fitted and said of several labels: thresholds, by label, of ranking, of calibration, each text.

`of_task.TaskEvidence` says what each function is for. Targets and answers are true or false, probabilities those of
each label for itself, all of shape [rows, labels].
"""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tunediff.core.values import rows_of
from tunediff.evidence.calibration import BINS, best_temperature
from tunediff.tasks.multilabel import Multilabel

if TYPE_CHECKING:
    from datasets import Dataset

NOTHING = "(nothing)"
"""In place of a label that is not there, or that was not answered."""


def score(
    task: Multilabel, actual: np.ndarray, probabilities: np.ndarray, fitted: dict[str, Any] | None = None
) -> dict[str, float]:
    return task.score(actual, probabilities, fitted)


def final(task: Multilabel, logits: np.ndarray, fitted: dict[str, Any]) -> np.ndarray:
    """With the temperature: thresholds are of these probabilities."""
    return task.probabilities(logits, fitted["temperature"])


def detail(
    task: Multilabel, actual: np.ndarray, probabilities: np.ndarray, fitted: dict[str, Any] | None = None
) -> dict[str, float | dict]:
    """Beside figures by label: `at_half`, with 0.5 for every label in place of the fitted thresholds."""
    from sklearn.metrics import average_precision_score, hamming_loss, precision_recall_fscore_support

    answered = task.answers(probabilities, fitted)
    by_label = precision_recall_fscore_support(actual, answered, zero_division=0)
    thresholds = (fitted or {}).get("thresholds", {})
    labels = {}
    for place, (name, p, r, f, support) in enumerate(zip(task.labels, *by_label, strict=True)):
        labels[name] = {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
        if support:
            ranked = average_precision_score(actual[:, place], probabilities[:, place])
            labels[name]["average_precision"] = float(ranked)
        labels[name]["threshold"] = float(thresholds.get(name, 0.5))
    half = task.score(actual, probabilities)
    return {
        "hamming_loss": float(hamming_loss(actual, answered)),
        **calibrated(task, actual, probabilities),
        "labels_per_text": {"actual": float(actual.sum(1).mean()), "answered": float(answered.sum(1).mean())},
        "at_half": {name: half[name] for name in task.headline},
        "labels": labels,
    }


def calibrated(task: Multilabel, actual: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """How far each label's probability can be believed; the Brier score is the mean over rows and labels."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    bins = np.digitize(probabilities.ravel(), edges)
    gaps = np.bincount(bins, probabilities.ravel() - actual.ravel(), minlength=BINS)
    return {
        "log_loss": task.score(actual, probabilities)["loss"],
        "calibration_error": float(np.abs(gaps).sum() / actual.size),
        "brier": float(np.mean((probabilities - actual) ** 2)),
    }


def fit_model(task: Multilabel, logits: np.ndarray, actual: np.ndarray, train: "Dataset") -> dict[str, Any]:
    """`temperature`, one for all labels, and `thresholds`."""
    temperature = best_temperature(lambda t: task.score(actual, task.probabilities(logits, t))["loss"])
    return {"temperature": temperature, **fit_baseline(task, task.probabilities(logits, temperature), actual, train)}


def fit_baseline(task: Multilabel, probabilities: np.ndarray, actual: np.ndarray, train: "Dataset") -> dict[str, Any]:
    return {"thresholds": task.thresholds(actual, probabilities)}


def try_model(task: Multilabel, actual: np.ndarray, logits: np.ndarray, fitted: dict[str, Any]) -> dict[str, dict]:
    """`with_temperature`: the temperature, and how the probabilities are with and `before` it."""
    before = calibrated(task, actual, task.probabilities(logits))
    tempered = calibrated(task, actual, final(task, logits, fitted))
    return {"with_temperature": {"temperature": fitted["temperature"], **tempered, "before": before}}


def try_baseline(
    task: Multilabel, actual: np.ndarray, probabilities: np.ndarray, fitted: dict[str, Any]
) -> dict[str, Any]:
    return {}  # `detail` has the thresholds, label by label


# --- text by text


def predictions(
    task: Multilabel,
    test: "Dataset",
    seed: int,
    probabilities: np.ndarray,
    fitted: dict[str, Any] | None = None,
    train: "Dataset | None" = None,
) -> pd.DataFrame:
    """Columns seed, split, row, text, tokens; actual and predicted, lists of labels; and p_LABEL for each label."""
    table = pd.DataFrame({"seed": seed, **rows_of(test)})
    table["actual"] = names(task, task.targets(test))
    table["predicted"] = names(task, task.answers(probabilities, fitted))
    return table.assign(**{f"p_{name}": probabilities[:, place] for place, name in enumerate(task.labels)})


def names(task: Multilabel, has: np.ndarray) -> list[list[str]]:
    return [[label for label, there in zip(task.labels, row, strict=True) if there] for row in has]


def read(table: pd.DataFrame, rows: int) -> tuple[Multilabel, np.ndarray, np.ndarray]:
    """Targets, shape [rows, labels], and answers, shape [trainings, rows, labels]."""
    task = Multilabel([column.removeprefix("p_") for column in table if column.startswith("p_")])
    actual, predicted = (
        np.array([[label in row for label in task.labels] for row in map(set, table[column])])
        for column in ("actual", "predicted")
    )
    return task, actual[:rows], predicted.reshape(-1, rows, len(task.labels))


def confused(task: Multilabel, actual: np.ndarray, predicted: np.ndarray) -> Iterator[tuple[str, str]]:
    """A label that is there and answered is paired with itself, each that was missed with each that was invented.

    What has no counterpart in its text is paired with `NOTHING`.
    """
    for has, answered in zip(actual, predicted, strict=True):
        hits, missed, invented = (
            [task.labels[place] for place in np.flatnonzero(those)]
            for those in (has & answered, has & ~answered, answered & ~has)
        )
        yield from ((label, label) for label in hits)
        if missed or invented:
            yield from itertools.product(missed or [NOTHING], invented or [NOTHING])


def confidence(table: pd.DataFrame, task: Multilabel, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each label for each text, and whether the text has it."""
    return table[[f"p_{label}" for label in task.labels]].to_numpy().ravel(), actual.ravel()

"""What is fitted and said of a classifier beyond its headline figures: by label, of ranking, of calibration, each text.

`of_task.TaskEvidence` says what each function is for.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tunediff.core.values import rows_of
from tunediff.evidence.calibration import calibration_error, fit_confidences, fit_temperature, fit_threshold
from tunediff.tasks.classification import NO_ANSWER, Classification

if TYPE_CHECKING:
    from datasets import Dataset

# Here and below: libraries are imported where they are used, because the report has no use for them.


def score(
    task: Classification, actual: np.ndarray, probabilities: np.ndarray, fitted: dict[str, Any] | None = None
) -> dict[str, float]:
    """The task's figures. `actual` has class numbers, shape [rows]; `probabilities` has shape [rows, labels]."""
    import evaluate

    metric = evaluate.load(str(Path(__file__).with_name("metric.py")), keep_in_memory=True)
    figures = metric.compute(predictions=task.answers(probabilities), references=actual, labels=task.labels)
    return {**figures, "loss": task.score(actual, probabilities)["loss"]}


def detail(
    task: Classification, actual: np.ndarray, probabilities: np.ndarray, fitted: dict[str, Any] | None = None
) -> dict[str, float | dict]:
    """Figures by label, of ranking and of calibration; shapes as for `score`.

    ROC AUC and average precision (each label against the rest) are means over the labels that some test rows have and
    some have not; they are left out if there is none.
    """
    from sklearn.metrics import (
        average_precision_score,
        matthews_corrcoef,
        precision_recall_fscore_support,
        roc_auc_score,
    )

    labels = task.labels
    predicted = task.answers(probabilities)
    one_hot = np.eye(len(labels), dtype=int)[actual]
    told_apart = (one_hot.sum(0) > 0) & (one_hot.sum(0) < len(actual))
    ranking = {}
    if told_apart.any():
        each = one_hot[:, told_apart], probabilities[:, told_apart]
        ranking = {"roc_auc": float(roc_auc_score(*each)), "average_precision": float(average_precision_score(*each))}
    by_label = precision_recall_fscore_support(actual, predicted, labels=range(len(labels)), zero_division=0)
    return {
        "balanced_accuracy": float(np.mean(by_label[1][one_hot.any(0)])),
        "mcc": float(matthews_corrcoef(actual, predicted)),
        **ranking,
        **calibrated(actual, task.alike(probabilities)),
        "labels": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
            for name, p, r, f, support in zip(labels, *by_label, strict=True)
        },
    }


def calibrated(actual: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """How far the probabilities can be believed; shapes as for `score`.

    The Brier score is summed over labels: 0 is best, 2 worst.
    """
    from sklearn.metrics import brier_score_loss, log_loss

    classes = range(probabilities.shape[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* do not sum to one")  # rounded ones do but for a digit
        return {
            "log_loss": float(log_loss(actual, probabilities, labels=classes)),
            "calibration_error": calibration_error(actual, probabilities),
            "brier": float(brier_score_loss(actual, probabilities, labels=classes, scale_by_half=False)),
        }


def fit(task: Classification, logits: np.ndarray, actual: np.ndarray, rarer: int | None) -> dict[str, Any]:
    """`temperature`, `confidences`, and `threshold`.

    `logits` has shape [rows, labels]. `threshold` is there if there are two labels: the `rarer` one (`label`), and from
    which probability on to answer it (`value`).
    """
    temperature = fit_temperature(logits, actual)
    probabilities = task.probabilities(logits, temperature)
    fitted = {"temperature": temperature, "confidences": fit_confidences(probabilities, actual)}
    if rarer is not None:
        fitted["threshold"] = threshold(task, probabilities, actual, rarer)
    return fitted


def final(task: Classification, logits: np.ndarray, fitted: dict[str, Any]) -> np.ndarray:
    """Without the temperature, which changes no answer; `try_model` says what it does to the probabilities."""
    return task.probabilities(logits)


def fit_model(task: Classification, logits: np.ndarray, actual: np.ndarray, train: "Dataset") -> dict[str, Any]:
    return fit(task, logits, actual, task.rarer(train))


def fit_baseline(
    task: Classification, probabilities: np.ndarray, actual: np.ndarray, train: "Dataset"
) -> dict[str, Any]:
    """`confidences`, and `threshold` if there are two labels."""
    fitted = {"confidences": fit_confidences(probabilities, actual)}
    if (rarer := task.rarer(train)) is not None:
        fitted["threshold"] = threshold(task, probabilities, actual, rarer)
    return fitted


def threshold(task: Classification, probabilities: np.ndarray, actual: np.ndarray, rarer: int) -> dict[str, Any]:
    return {"label": task.labels[rarer], "value": fit_threshold(probabilities[:, rarer], actual == rarer)}


def try_model(
    task: Classification, actual: np.ndarray, logits: np.ndarray, fitted: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """`with_temperature`: the temperature, what it changes, and for two labels the threshold."""
    tempered = task.probabilities(logits, fitted["temperature"])
    figures = {"temperature": fitted["temperature"], **calibrated(actual, tempered)}
    return {"with_temperature": {**figures, **try_baseline(task, actual, tempered, fitted)}}


def try_baseline(
    task: Classification, actual: np.ndarray, probabilities: np.ndarray, fitted: dict[str, Any]
) -> dict[str, Any]:
    """`threshold`, if one was fitted."""
    if "threshold" not in fitted:
        return {}
    return {"threshold": at_threshold(actual, probabilities, task.labels, fitted["threshold"])}


def at_threshold(
    actual: np.ndarray, probabilities: np.ndarray, labels: list[str], threshold: dict[str, str | float]
) -> dict[str, str | float]:
    """`threshold` (`label`, `value`), and how well answering that label from that probability on does.

    Beside it the label's average precision, over all thresholds. Shapes as for `score`.
    """
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    place = labels.index(threshold["label"])
    ranked = float(average_precision_score(actual == place, probabilities[:, place]))
    precision, recall, f1, _ = precision_recall_fscore_support(
        actual == place, probabilities[:, place] >= threshold["value"], average="binary", zero_division=0
    )
    figures = {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
    return {**threshold, **figures, "average_precision": ranked}


# --- text by text


def predictions(
    task: Classification,
    test: "Dataset",
    seed: int,
    probabilities: np.ndarray,
    fitted: dict[str, Any] | None = None,
    train: "Dataset | None" = None,
) -> pd.DataFrame:
    """Columns seed, those of `values.rows_of`, actual, predicted, and p_LABEL for each label.

    A text without an answer has nothing in `predicted`, and 0 for all labels.
    """
    table = pd.DataFrame({"seed": seed, **rows_of(test)})
    for column, codes in (("actual", task.targets(test)), ("predicted", task.answers(probabilities))):
        table[column] = pd.Categorical.from_codes(codes, task.labels)
    return table.assign(**{f"p_{name}": probabilities[:, place] for place, name in enumerate(task.labels)})


def read(table: pd.DataFrame, rows: int) -> tuple[Classification, np.ndarray, np.ndarray]:
    """Class numbers of the labels, shape [rows], and of the answers, shape [trainings, rows]."""
    task = Classification(table.actual.cat.categories.tolist())
    return task, table.actual.cat.codes.to_numpy()[:rows], table.predicted.cat.codes.to_numpy().reshape(-1, rows)


def confused(task: Classification, actual: np.ndarray, predicted: np.ndarray) -> Iterator[tuple[str, str]]:
    names = [*task.labels, NO_ANSWER]
    for one, other in zip(actual, predicted, strict=True):
        yield names[one], names[other]


def confidence(table: pd.DataFrame, task: Classification, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest probability of each text, and whether it is that of its label."""
    return table.filter(regex="^p_").to_numpy().max(1), table.predicted.cat.codes.to_numpy() == actual

"""What is said of a classifier beyond its headline figures: by label, of ranking, of calibration, text by text."""

from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

from tunediff.evidence.calibration import calibration_error, fit_confidences, fit_temperature, fit_threshold
from tunediff.models.inference import probabilities as softmax
from tunediff.tasks.classification import Classification


def detail(actual: np.ndarray, probabilities: np.ndarray, labels: list[str]) -> dict[str, float | dict]:
    """Figures by label, of ranking and of calibration.

    `actual` has class numbers, shape [rows]; `probabilities` has shape [rows, labels]. ROC AUC and average precision
    (each label against the rest) are means over the labels that some test rows have and some have not; they are left
    out if there is none.
    """
    predicted = probabilities.argmax(1)
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
        **calibrated(actual, probabilities),
        "labels": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
            for name, p, r, f, support in zip(labels, *by_label, strict=True)
        },
    }


def calibrated(actual: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """How far the probabilities can be believed; shapes as for `detail`.

    The Brier score is summed over labels: 0 is best, 2 worst.
    """
    classes = range(probabilities.shape[1])
    return {
        "log_loss": float(log_loss(actual, probabilities, labels=classes)),
        "calibration_error": calibration_error(actual, probabilities),
        "brier": float(brier_score_loss(actual, probabilities, labels=classes, scale_by_half=False)),
    }


def fit(task: Classification, logits: np.ndarray, actual: np.ndarray, rarer: int | None) -> dict[str, Any]:
    """What is fitted on validation, for use and for config.json: `temperature`, `confidences`, and `threshold`.

    `logits` has shape [rows, labels]. `threshold` is there if there are two labels: the `rarer` one (`label`), and from
    which probability on to answer it (`value`).
    """
    temperature = fit_temperature(logits, actual)
    probabilities = softmax(logits / temperature)
    fitted = {"temperature": temperature, "confidences": fit_confidences(probabilities, actual)}
    if rarer is not None:
        value = fit_threshold(probabilities[:, rarer], actual == rarer)
        fitted["threshold"] = {"label": task.labels[rarer], "value": value}
    return fitted


def with_temperature(actual: np.ndarray, logits: np.ndarray, labels: list[str], fitted: dict[str, Any]) -> dict:
    """What `fit` gave, tried on test: the temperature, and for two labels the threshold."""
    tempered = softmax(logits / fitted["temperature"])
    figures = {"temperature": fitted["temperature"], **calibrated(actual, tempered)}
    if "threshold" in fitted:
        figures["threshold"] = at_threshold(actual, tempered, labels, fitted["threshold"])
    return figures


def at_threshold(
    actual: np.ndarray, probabilities: np.ndarray, labels: list[str], threshold: dict[str, str | float]
) -> dict[str, str | float]:
    """`threshold` (`label`, `value`), and how well answering that label from that probability on does.

    Beside it the label's average precision, over all thresholds. Shapes as for `detail`.
    """
    place = labels.index(threshold["label"])
    ranked = float(average_precision_score(actual == place, probabilities[:, place]))
    precision, recall, f1, _ = precision_recall_fscore_support(
        actual == place, probabilities[:, place] >= threshold["value"], average="binary", zero_division=0
    )
    figures = {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
    return {**threshold, **figures, "average_precision": ranked}


def predictions(test: Dataset, seed: int, probabilities: np.ndarray) -> pd.DataFrame:
    """Text by text: columns seed, split, row, text, tokens, actual, predicted, and p_LABEL for each label."""
    names = test.features["label"].names
    table = pd.DataFrame({"seed": seed, **{name: test[name][:] for name in ("split", "row", "text", "tokens")}})
    for column, codes in (("actual", test["label"][:]), ("predicted", probabilities.argmax(1))):
        table[column] = pd.Categorical.from_codes(codes, names)
    return table.assign(**{f"p_{name}": probabilities[:, place] for place, name in enumerate(names)})

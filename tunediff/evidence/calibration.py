"""Are probabilities what they say? Calibration error, the temperature that mends it, and where to draw the line."""

from collections.abc import Callable

import numpy as np
import pandas as pd

BINS = 15
ACCURACIES = (0.8, 0.9, 0.95, 0.99)


def fit_temperature(logits: np.ndarray, actual: np.ndarray) -> float:
    """What to divide logits by, so that their softmax fits the labels best (Guo et al. 2017, arXiv 1706.04599).

    `logits` has shape [rows, labels], `actual` class numbers. Between 0.05 and 20, to four digits; the answers, the
    largest logits, stay the same.
    """
    # Here, as below: the report has no use for these libraries' imports, which take longer than its own.
    from scipy.special import logsumexp

    def loss(temperature: float) -> float:
        scaled = logits.astype(float) / temperature
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(actual)), actual]))

    return best_temperature(loss)


def best_temperature(loss: Callable[[float], float]) -> float:
    """The temperature between 0.05 and 20 with the least loss, to four digits."""
    from scipy.optimize import minimize_scalar

    bounds = np.log(0.05), np.log(20)
    options = {"xatol": 1e-6}
    best = minimize_scalar(lambda x: loss(np.exp(x)), bounds=bounds, method="bounded", options=options)
    return round(float(np.exp(best.x)), 4)


def fit_threshold(positive: np.ndarray, actual: np.ndarray) -> float:
    """The probability from which on to answer yes, so that the F1 of yes is highest; halfway to the next lower one.

    `positive` has probabilities of yes, `actual` whether it is, both of shape [rows]; at least one must be.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(actual, positive)
    best = np.argmax(precision[:-1] * recall[:-1] / np.maximum(precision[:-1] + recall[:-1], 1e-12))
    lower = thresholds[best - 1] if best else 0
    return round(float(thresholds[best] + lower) / 2, 6)


def fit_confidences(probabilities: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """For each of `ACCURACIES`, from which largest probability on answers are right at least that often.

    `probabilities` has shape [rows, labels], `actual` class numbers. The least that will do, halfway to the next lower
    one. Left out is an accuracy that no confidence gives, or only one of so few rows that none of them may be wrong.
    """
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    rows = np.arange(1, len(order) + 1)
    accuracy = np.cumsum((probabilities.argmax(1) == actual)[order]) / rows
    lower = np.append(confidence[order][1:], 0)
    last_of_equal = lower < confidence[order]  # equal ones come together
    confidences = {}
    for wanted in ACCURACIES:
        enough = last_of_equal & (accuracy >= wanted) & (rows >= round(1 / (1 - wanted)))
        if enough.any():
            last = np.flatnonzero(enough)[-1]
            confidences[str(wanted)] = round(float(confidence[order][last] + lower[last]) / 2, 6)
    return confidences


def reliability(confidence: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """By probability, in 15 bins of equal width: columns low, high, rows, confidence, accuracy.

    `confidence` has probabilities, `right` whether what they are of is so, both of shape [answers]. Bins without an
    answer are left out.
    """
    edges = np.linspace(0, 1, BINS + 1)
    table = pd.DataFrame(
        {
            "bin": np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1),
            "confidence": confidence,
            "accuracy": right,
        }
    )
    bins = table.groupby("bin").agg(
        rows=("accuracy", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    bins.insert(0, "low", edges[bins.index])
    bins.insert(1, "high", edges[bins.index + 1])
    return bins.reset_index(drop=True)


def calibration_error(actual: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error: how far confidence lies from accuracy, over the rows in the bins of `reliability`.

    To the last bit what torchmetrics computes, whose import takes most of a second.
    """
    import torch

    confidence, answer = torch.from_numpy(probabilities).max(1)
    confidence = confidence.float()
    right = answer.eq(torch.from_numpy(actual)).float()
    bins = torch.bucketize(confidence, torch.linspace(0, 1, BINS + 1), right=True) - 1
    kinds = torch.ones_like(confidence), confidence, right
    rows, sure, hits = (torch.zeros(BINS + 1).scatter_add_(0, bins, each) for each in kinds)
    gaps = (torch.nan_to_num(hits / rows) - torch.nan_to_num(sure / rows)).abs()
    return float((gaps * (rows / rows.sum())).sum())

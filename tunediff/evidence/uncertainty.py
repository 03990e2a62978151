"""How sure a figure is: bootstrap intervals and tests of differences, from predictions on one test split.

Rows are resampled with replacement. Rows on which all predictions in question are alike are alike to every figure, so
what is drawn is how often each kind of row occurs: the same distribution, and as fast for 25,000 rows as for 300.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000
FIGURES = ("accuracy", "f1")


@dataclass(frozen=True)
class Interval:
    value: float
    """The figure on the split as it is."""
    low: float
    high: float
    """Between these lies the share `confidence` of the figures of resampled splits (percentile bootstrap), and what
    `unseen` rows could change."""


def intervals(
    actual: np.ndarray, predicted: np.ndarray, labels: int, confidence: float, seed: int
) -> dict[str, Interval]:
    """Of accuracy and macro F1. `actual` has class numbers, shape [rows]; `predicted` those of one or more trainings.

    Shape of `predicted`: [trainings, rows]. A figure is the mean over the trainings.
    """
    point = _figures(actual, predicted, labels).mean(1)
    drawn = _resampled_figures(actual, predicted, labels, np.random.default_rng(seed)).mean(2)
    return _intervals(point, drawn, confidence, len(actual), (0, 1))


def differences(
    actual: np.ndarray, predicted: np.ndarray, other: np.ndarray, labels: int, confidence: float, seed: int
) -> dict[str, Interval]:
    """Of accuracy and macro F1 of `predicted` less those of `other` on the same rows; shapes as for `intervals`."""
    point, drawn = _compared(actual, predicted, other, labels, np.random.default_rng(seed))
    return _intervals(point, drawn, confidence, len(actual), (-1, 1))


def differences_of_parts(
    actual: np.ndarray,
    predicted: np.ndarray,
    other: np.ndarray,
    part: np.ndarray,
    labels: int,
    confidence: float,
    seed: int,
) -> dict[str, Interval]:
    """The differences on the rows in `part` less those on the rest; `part` is true or false, shape [rows].

    This is also how much more `predicted` gains from the rest to the part than `other` does. Each side's rows are
    resampled for themselves.
    """
    random = np.random.default_rng(seed)
    (inside, drawn_inside), (outside, drawn_outside) = (
        _compared(actual[rows], predicted[:, rows], other[:, rows], labels, random) for rows in (part, ~part)
    )
    rows = int(min(part.sum(), (~part).sum()))
    return _intervals(inside - outside, drawn_inside - drawn_outside, confidence, rows, (-2, 2))


def unseen(rows: int, confidence: float) -> float:
    """How frequent a kind of row may still be that none of `rows` is of: Clopper and Pearson's exact upper limit."""
    return binomtest(0, rows).proportion_ci(confidence, method="exact").high


def mcnemar(actual: np.ndarray, predicted: np.ndarray, other: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test that two predictions, shape [rows], are right equally often."""
    from statsmodels.stats.contingency_tables import mcnemar

    right, other_right = predicted == actual, other == actual
    table = [[np.sum(a & b) for b in (other_right, ~other_right)] for a in (right, ~right)]
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction, so that the chance of one false alarm or more among all of them stays below the level."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def _intervals(
    point: np.ndarray, drawn: np.ndarray, confidence: float, rows: int, limits: tuple[float, float]
) -> dict[str, Interval]:
    """`point` has shape [figures], `drawn` has shape [resamples, figures]; a figure lies between `limits`.

    A bootstrap cannot draw what did not happen, and ends too close to a figure that few rows or none speak against.
    """
    reach = unseen(rows, confidence)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    low, high = np.minimum(low, point - reach).clip(*limits), np.maximum(high, point + reach).clip(*limits)
    return {name: Interval(*map(float, values)) for name, *values in zip(FIGURES, point, low, high, strict=True)}


def _compared(
    actual: np.ndarray, predicted: np.ndarray, other: np.ndarray, labels: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Differences as they are, shape [figures], and of resampled rows, shape [resamples, figures]."""
    both, split = np.concatenate([predicted, other]), len(predicted)
    found = _figures(actual, both, labels), _resampled_figures(actual, both, labels, random)
    point, drawn = (figures[..., :split].mean(-1) - figures[..., split:].mean(-1) for figures in found)
    return point, drawn


def _figures(actual: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """Shape [figures, trainings], of the split as it is."""
    return _weighted_figures(np.ones((1, len(actual))), actual, predicted, labels)[0]


def _resampled_figures(
    actual: np.ndarray, predicted: np.ndarray, labels: int, random: np.random.Generator
) -> np.ndarray:
    """Shape [resamples, figures, trainings]."""
    kinds, counts = np.unique(np.vstack([actual, predicted]), axis=1, return_counts=True)
    # A few at a time: with many labels the kinds can be thousands.
    step = max(1, 10_000_000 // len(counts))
    return np.concatenate(
        [
            _weighted_figures(
                random.multinomial(len(actual), counts / len(actual), size=min(step, RESAMPLES - start)).astype(float),
                kinds[0],
                kinds[1:],
                labels,
            )
            for start in range(0, RESAMPLES, step)
        ]
    )


def _weighted_figures(weights: np.ndarray, actual: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """Accuracy and macro F1, shape [resamples, figures, trainings], where `weights` says how often each row occurs.

    `weights` has shape [resamples, rows]. As in scikit-learn, F1 is 0 for a label that is neither there nor predicted.
    """
    each = np.eye(labels)
    support = weights @ each[actual]
    figures = []
    for guess in predicted:
        hits = weights @ (each[guess] * (guess == actual)[:, None])
        f1 = 2 * hits / np.maximum(support + weights @ each[guess], 1)
        figures.append([hits.sum(1) / weights.sum(1), f1.mean(1)])
    return np.moveaxis(np.array(figures), 2, 0).swapaxes(1, 2)

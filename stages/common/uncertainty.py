"""How sure a figure is: bootstrap intervals and tests of differences, from predictions on one test split.

Rows are resampled with replacement. Rows on which all predictions in question are alike are alike to every figure, so
what is drawn is how often each kind of row occurs: the same distribution, and as fast for 25,000 rows as for 300.
"""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
FIGURES = ("accuracy", "f1")


@dataclass(frozen=True)
class Interval:
    value: float
    """The figure on the split as it is."""
    low: float
    high: float
    """Between these lie 95% of the figures of resampled splits (percentile bootstrap)."""


def intervals(actual: np.ndarray, predicted: np.ndarray, labels: int, seed: int) -> dict[str, Interval]:
    """Of accuracy and macro F1. `actual` has class numbers, shape [rows]; `predicted` those of one or more trainings.

    Shape of `predicted`: [trainings, rows]. A figure is the mean over the trainings.
    """
    point = _figures(actual, predicted, labels)
    drawn = _resampled_figures(actual, predicted, labels, seed)
    return _intervals(point.mean(1), drawn.mean(2))


def differences(
    actual: np.ndarray, predicted: np.ndarray, other: np.ndarray, labels: int, seed: int
) -> dict[str, Interval]:
    """Of accuracy and macro F1 of `predicted` less those of `other` on the same rows; shapes as for `intervals`."""
    both, split = np.concatenate([predicted, other]), len(predicted)
    point = _figures(actual, both, labels)
    drawn = _resampled_figures(actual, both, labels, seed)
    return _intervals(
        point[:, :split].mean(1) - point[:, split:].mean(1), drawn[..., :split].mean(2) - drawn[..., split:].mean(2)
    )


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


def _intervals(point: np.ndarray, drawn: np.ndarray) -> dict[str, Interval]:
    """`point` has shape [figures], `drawn` has shape [resamples, figures]."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {name: Interval(*map(float, values)) for name, *values in zip(FIGURES, point, low, high, strict=True)}


def _figures(actual: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """Shape [figures, trainings], of the split as it is."""
    return _weighted_figures(np.ones((1, len(actual))), actual, predicted, labels)[0]


def _resampled_figures(actual: np.ndarray, predicted: np.ndarray, labels: int, seed: int) -> np.ndarray:
    """Shape [resamples, figures, trainings]."""
    kinds, counts = np.unique(np.vstack([actual, predicted]), axis=1, return_counts=True)
    random = np.random.default_rng(seed)
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

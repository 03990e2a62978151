"""How sure a figure is: bootstrap intervals and tests of differences, from answers on one test split.

Rows are resampled with replacement. A figure is a function of sums over rows, so rows with equal counts are alike to
it, and what is drawn is how often each kind of row occurs: the same distribution, and as fast for 25,000 rows as for
300.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    value: float
    """The figure on the split as it is."""
    low: float
    high: float
    """Between these lies the share `confidence` of the figures of resampled splits (percentile bootstrap), and what
    `unseen` rows could change."""


@dataclass(frozen=True)
class Figures:
    """Figures, as a task has them: shares of something, from sums of `counts` over rows."""

    names: Sequence[str]
    of: Callable[[np.ndarray], dict[str, np.ndarray]]
    """From sums of counts, shape [..., counts], to each figure, shape [...]."""

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        """From shape [..., trainings, counts] to means over the trainings, shape [..., figures]."""
        figures = self.of(sums)
        return np.stack([figures[name] for name in self.names], axis=-1).mean(-2)


def intervals(figures: Figures, counts: np.ndarray, confidence: float, seed: int) -> dict[str, Interval]:
    """The interval of each figure. `counts` are those of one or more trainings, shape [trainings, rows, counts].

    A figure is the mean over the trainings.
    """
    point = figures(counts.sum(1, dtype=float))
    drawn = figures(_resampled(counts, np.random.default_rng(seed)))
    return _intervals(figures, point, drawn, confidence, counts.shape[1], (0, 1))


def differences(
    figures: Figures, counts: np.ndarray, other: np.ndarray, confidence: float, seed: int
) -> dict[str, Interval]:
    """The figures of one method less those of another on the same rows; `counts` and `other` as for `intervals`."""
    point, drawn = _compared(figures, counts, other, np.random.default_rng(seed))
    return _intervals(figures, point, drawn, confidence, counts.shape[1], (-1, 1))


def differences_of_parts(
    figures: Figures, counts: np.ndarray, other: np.ndarray, part: np.ndarray, confidence: float, seed: int
) -> dict[str, Interval]:
    """The differences on the rows in `part` less those on the rest; `part` is true or false, shape [rows].

    This is also how much more one method gains from the rest to the part than the other does. The rows of each side are
    resampled for themselves.
    """
    random = np.random.default_rng(seed)
    (inside, drawn_inside), (outside, drawn_outside) = (
        _compared(figures, counts[:, rows], other[:, rows], random) for rows in (part, ~part)
    )
    rows = int(min(part.sum(), (~part).sum()))
    return _intervals(figures, inside - outside, drawn_inside - drawn_outside, confidence, rows, (-2, 2))


def unseen(rows: int, confidence: float) -> float:
    """How frequent a kind of row may still be that none of `rows` is of: Clopper and Pearson's exact upper limit."""
    return binomtest(0, rows).proportion_ci(confidence, method="exact").high


def equally_often_right(right: np.ndarray, other: np.ndarray, seed: int) -> float:
    """The two-sided p that two methods are right equally often on the same rows.

    Both arrays say whether an answer is right, or how right it is, shape [trainings, rows]. For one training of each
    and answers that are right or wrong it is that of McNemar's exact test. Else it is that of a permutation test, which
    swaps the two methods' mean correctness on random rows.
    """
    if len(right) == len(other) == 1 and right.dtype == bool:
        return mcnemar(right[0], other[0])
    difference = (right.mean(0) - other.mean(0)).round(9)
    # Rows with the same difference are alike to the test: what is drawn is how many of them are swapped.
    sizes, rows = np.unique(np.abs(difference), return_counts=True)
    swapped = np.random.default_rng(seed).binomial(rows, 0.5, (RESAMPLES, len(rows)))
    drawn = np.abs((rows - 2 * swapped) @ sizes)
    return float((1 + np.sum(drawn >= abs(difference.sum()) - 1e-6)) / (1 + RESAMPLES))


def mcnemar(right: np.ndarray, other_right: np.ndarray) -> float:
    """The exact two-sided p of McNemar's test that two methods are right equally often.

    Both arrays say whether an answer is right, shape [rows].
    """
    from statsmodels.stats.contingency_tables import mcnemar

    table = [[np.sum(a & b) for b in (other_right, ~other_right)] for a in (right, ~right)]
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction, so that the chance of one false alarm or more among all of them stays below the level."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def _intervals(
    figures: Figures,
    point: np.ndarray,
    drawn: np.ndarray,
    confidence: float,
    rows: int,
    limits: tuple[float, float],
) -> dict[str, Interval]:
    """`point` has shape [figures], `drawn` has shape [resamples, figures]; a figure lies between `limits`.

    A bootstrap cannot draw what did not happen, and ends too close to a figure that few rows or none speak against.
    """
    reach = unseen(rows, confidence)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    low = np.minimum(low, point - reach).clip(*limits)
    high = np.maximum(high, point + reach).clip(*limits)
    return {name: Interval(*map(float, values)) for name, *values in zip(figures.names, point, low, high, strict=True)}


def _compared(
    figures: Figures, counts: np.ndarray, other: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Differences as they are, shape [figures], and of resampled rows, shape [resamples, figures]."""
    both, split = np.concatenate([counts, other]), len(counts)
    sums = both.sum(1, dtype=float)
    drawn = _resampled(both, random)
    return (
        figures(sums[:split]) - figures(sums[split:]),
        figures(drawn[:, :split]) - figures(drawn[:, split:]),
    )


def _resampled(counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Sums over resampled rows, shape [resamples, trainings, counts], from shape [trainings, rows, counts]."""
    trainings, rows, width = counts.shape
    kinds, frequencies = np.unique(np.moveaxis(counts, 1, 0).reshape(rows, -1), axis=0, return_counts=True)
    kinds, frequencies = kinds[::-1].astype(float), frequencies[::-1]
    # A few resamples at a time: with many labels the kinds can be thousands.
    step = max(1, 10_000_000 // len(frequencies))
    sums = [
        random.multinomial(rows, frequencies / rows, size=min(step, RESAMPLES - start)).astype(float) @ kinds
        for start in range(0, RESAMPLES, step)
    ]
    return np.concatenate(sums).reshape(RESAMPLES, trainings, width)

"""How sure a figure is: intervals and tests of differences, from answers on one test split.

A figure is a function of sums over rows. Leaving out one row after the other (the jackknife) therefore gives its bias,
its variance and the influence of each row, for any task. Rows with equal counts are alike to it, so each kind of row is
left out once: 25,000 rows take no longer than 300.

- One figure has Wilson's score interval, with as many rows as its variance is worth. For accuracy it is Wilson's own.
  Else Student's t stands for the normal quantile; its degrees of freedom fall where few rows make the variance, as with
  rare labels.
- A difference has the limits of both figures, put together by their correlation over rows (Zou and Donner 2008, MOVER).
  For accuracy that is Newcombe's paired interval (1998, method 10).
- A paired permutation test gives p.
- Rows of one group are no independent rows: `by_group` sums their counts, and these sums stand for rows.

`benchmarks/intervals.py` shows that the intervals hold.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    value: float
    """The figure on the split as it is."""
    low: float
    high: float


@dataclass(frozen=True)
class Figures:
    """Figures, as a task has them: shares of something, from sums of `counts` over rows."""

    names: Sequence[str]
    of: Callable[[np.ndarray], dict[str, np.ndarray]]
    """From sums of counts, shape [..., counts], to each figure, shape [...]."""

    def each(self, sums: np.ndarray) -> np.ndarray:
        """From shape [..., trainings, counts] to shape [..., trainings, figures]."""
        figures = self.of(sums)
        return np.stack([figures[name] for name in self.names], axis=-1)

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        """From shape [..., trainings, counts] to means over the trainings, shape [..., figures]."""
        return self.each(sums).mean(-2)


@dataclass(frozen=True)
class Estimate:
    """Some figures on some rows, and what each row does to them."""

    value: np.ndarray
    """Shape [figures]."""
    unbiased: np.ndarray
    """The value less the jackknife's estimate of its bias, and no less than 0 or more than 1."""
    influence: np.ndarray
    """Of each kind of row; shape [kinds, figures]."""
    frequencies: np.ndarray
    """Rows of each kind, shape [kinds]."""

    @property
    def rows(self) -> int:
        return int(self.frequencies.sum())

    def moment(self, influence: np.ndarray) -> np.ndarray:
        """The mean over rows of what is given for each kind."""
        return self.frequencies @ influence / self.rows


@dataclass(frozen=True)
class Limits:
    """Around figures or their differences; arrays of shape [figures]."""

    value: np.ndarray
    centre: np.ndarray
    """What the limits were reckoned from: the value without its bias."""
    low: np.ndarray
    high: np.ndarray

    def widened(self, reach: float, ends: tuple[float, float]) -> "Limits":
        """At least `reach` to either side of the value, and between `ends`.

        What did not happen on the split has no variance, so limits may end too close to a figure that few rows or none
        speak against.
        """
        low = np.minimum(self.low, self.value - reach).clip(*ends)
        high = np.maximum(self.high, self.value + reach).clip(*ends)
        return Limits(self.value, self.centre, low, high)

    def named(self, figures: Figures) -> dict[str, Interval]:
        columns = zip(figures.names, self.value, self.low, self.high, strict=True)
        return {name: Interval(*map(float, values)) for name, *values in columns}


def intervals(figures: Figures, counts: np.ndarray, confidence: float) -> dict[str, Interval]:
    """The interval of each figure. `counts` are those of one or more trainings, shape [trainings, rows, counts].

    A figure is the mean over the trainings, and its interval says how sure it is for other rows.
    """
    return _level(_estimates(figures, counts)[0], confidence).named(figures)


def differences(figures: Figures, counts: np.ndarray, other: np.ndarray, confidence: float) -> dict[str, Interval]:
    """The figures of one method less those of another on the same rows; `counts` and `other` as for `intervals`."""
    return _paired(figures, counts, other, confidence).named(figures)


def differences_of_parts(
    figures: Figures, counts: np.ndarray, other: np.ndarray, part: np.ndarray, confidence: float
) -> dict[str, Interval]:
    """The differences on the rows in `part` less those on the rest; `part` is true or false, shape [rows].

    This is also how much more one method gains from the rest to the part than the other does.
    """
    inside, outside = (_paired(figures, counts[:, rows], other[:, rows], confidence) for rows in (part, ~part))
    return _apart(inside, outside).named(figures)


def differs_on_part(figures: Figures, counts: np.ndarray, part: np.ndarray) -> float:
    """The two-sided p that the first figure is the same on the rows in `part` as on the rest.

    It is one less the confidence at which the interval of the difference begins to include 0.
    """
    inside, outside = (_estimates(figures, counts[:, rows])[0] for rows in (part, ~part))

    def margin(p: float) -> float:
        apart = _apart(_level(inside, 1 - p), _level(outside, 1 - p))
        return float(apart.low[0] if apart.centre[0] > 0 else -apart.high[0])

    least = 1e-9
    return 1.0 if margin(1 - least) <= 0 else least if margin(least) > 0 else float(brentq(margin, least, 1 - least))


def unseen(rows: int, confidence: float) -> float:
    """How frequent a kind of row may still be that none of `rows` is of: Clopper and Pearson's exact upper limit."""
    return 1 - ((1 - confidence) / 2) ** (1 / rows)


# --- rows that belong together


def numbered(groups: Sequence[str]) -> np.ndarray:
    """The number of each row's group, shape [rows]; a row without a name of a group is one of its own."""
    _, numbers = np.unique(groups, return_inverse=True)
    return np.where(np.asarray(groups) == "", len(numbers) + np.arange(len(numbers)), numbers)


def by_group(counts: np.ndarray, groups: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of `counts` over the rows of a group that are in the same part, and which part that is.

    `counts` have shape [trainings, rows, counts]; `groups` (see `numbered`) and `part` have shape [rows]. In place of
    rows there are sums. Nothing changes where no rows belong together.
    """
    order = np.lexsort((part, groups))
    new = (np.diff(groups[order]) != 0) | (np.diff(part[order]) != 0)
    first = np.flatnonzero(np.concatenate([[True], new]))
    if len(first) == len(order):
        return counts, part
    return np.add.reduceat(counts[:, order], first, axis=1, dtype=float), part[order[first]]


# --- tests


def permuted(figures: Figures, counts: np.ndarray, other: np.ndarray, seed: int) -> dict[str, float]:
    """The two-sided p of each figure that two methods are the same on the same rows: a paired permutation test.

    It swaps what the methods answered on random rows. `counts` and `other` as for `intervals`; if one has fewer
    trainings, they are repeated, which leaves its means as they are.
    """
    trainings = math.lcm(len(counts), len(other))
    kind = np.promote_types(np.promote_types(counts.dtype, other.dtype), np.int64)  # with a sign
    one, two = (np.repeat(each, trainings // len(each), axis=0).astype(kind) for each in (counts, other))
    sums, other_sums = one.sum(1), two.sum(1)
    # Rows with the same difference are alike to the test: what is drawn is how many of them are swapped.
    kinds, rows = _kinds(one - two)
    apart = kinds.any(axis=(1, 2))
    kinds, rows = kinds[apart], rows[apart]
    observed = np.abs(figures(sums) - figures(other_sums))
    random, beyond = np.random.default_rng(seed), np.zeros(len(observed))
    for size in _steps(max(1, kinds.size)):
        swapped = random.binomial(rows, 0.5, (size, len(rows))).astype(float)
        moved = np.tensordot(swapped, kinds.astype(float), axes=1)
        beyond += (np.abs(figures(sums - moved) - figures(other_sums + moved)) >= observed - 1e-9).sum(0)
    return dict(zip(figures.names, map(float, (1 + beyond) / (1 + RESAMPLES)), strict=True))


def mcnemar(right: np.ndarray, other_right: np.ndarray) -> float:
    """The exact two-sided p of McNemar's test that two methods are right equally often.

    Both arrays say whether an answer is right, shape [rows].
    """
    from statsmodels.stats.contingency_tables import mcnemar

    table = [[np.sum(a & b) for b in (other_right, ~other_right)] for a in (right, ~right)]
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction, so that the chance of one false alarm or more among all of them stays below the level."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


# --- resampled rows


def resampled(counts: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Sums over rows drawn with replacement, shape [resamples, trainings, counts], until there are RESAMPLES.

    `counts` has shape [trainings, rows, counts]; the trainings may be of several methods. A few resamples at a time:
    with many labels the kinds of rows can be thousands.
    """
    kinds, frequencies = _kinds(counts)
    kinds, rows = kinds.astype(float), frequencies.sum()
    random = np.random.default_rng(seed)
    for size in _steps(len(frequencies)):
        drawn = random.multinomial(rows, frequencies / rows, size=size).astype(float)
        yield np.tensordot(drawn, kinds, axes=1)


def _steps(width: int) -> Iterator[int]:
    """Sizes that add up to RESAMPLES, of which each times `width` fits into memory."""
    step = max(1, 10_000_000 // width)
    for start in range(0, RESAMPLES, step):
        yield min(step, RESAMPLES - start)


def _kinds(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of shape [trainings, rows, counts] as shape [kinds, trainings, counts], and how many of each.

    They are told apart by their bytes: numpy compares columns one by one, which takes seconds where there are hundreds.
    """
    by_row = np.ascontiguousarray(np.moveaxis(counts, 1, 0))
    keys = by_row.reshape(len(by_row), -1).view(np.dtype((np.void, by_row[0].nbytes))).ravel()
    _, first, frequencies = np.unique(keys, return_index=True, return_counts=True)
    return by_row[first], frequencies


# --- intervals


def _estimates(figures: Figures, *counts: np.ndarray) -> list[Estimate]:
    """Those of each method from its `counts`; all are of the same rows, so their kinds of rows are the same ones."""
    kinds, frequencies = _kinds(np.concatenate(counts))
    ends = np.cumsum([len(each) for each in counts])[:-1]
    rows = frequencies.sum()
    estimates = []
    for own in np.split(kinds.astype(float), ends, axis=1):
        sums = np.tensordot(frequencies, own, axes=1)
        value = figures(sums)
        without = figures(sums - own) if rows > 1 else np.tile(value, (1, 1))
        mean = frequencies @ without / rows
        unbiased = (value - (rows - 1) * (mean - value)).clip(0, 1)
        estimates.append(Estimate(value, unbiased, (rows - 1) * (mean - without), frequencies))
    return estimates


def _level(estimate: Estimate, confidence: float) -> Limits:
    """The limits of figures themselves."""
    return _score(estimate, confidence, cautious=True).widened(unseen(estimate.rows, confidence), (0, 1))


def _score(estimate: Estimate, confidence: float, cautious: bool = False) -> Limits:
    """Wilson's score interval for figures with any variance.

    It knows what of the variance goes with the value; degrees of freedom say how unsure the rest is. For accuracy there
    is no rest, and t is the normal quantile.
    """
    rows, influence = estimate.rows, estimate.influence
    second, third, fourth = (estimate.moment(influence**power) for power in (2, 3, 4))
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.nan_to_num(fourth - second**2 - third**2 / second)
        known = rest <= 1e-9 * second**2
        quantile = _quantile(confidence, np.where(known, np.inf, 2 * rows * second**2 / rest))
        if cautious:
            # Few rows, as of a rare label, may all be right by luck: then the rest looks small, and with it alone 90 of
            # 100 intervals held. With the whole variance 99 did; halfway it is 93 to 97.
            whole = np.where(known, np.inf, 2 * rows * second**2 / (fourth - second**2))
            quantile = (quantile + _quantile(confidence, whole)) / 2
        inside = estimate.value.clip(0.5 / rows, 1 - 0.5 / rows)
        worth = rows * inside * (1 - inside) / second  # rows of accuracy that have the same variance
    centre, shrink = estimate.unbiased, quantile**2 / worth
    middle = (centre + shrink / 2) / (1 + shrink)
    half = np.sqrt(shrink * centre * (1 - centre) + shrink**2 / 4) / (1 + shrink)
    return Limits(estimate.value, centre, middle - half, middle + half)


def _quantile(confidence: float, freedom: np.ndarray) -> np.ndarray:
    return student.ppf((1 + confidence) / 2, np.maximum(freedom, 2))


def _paired(figures: Figures, counts: np.ndarray, other: np.ndarray, confidence: float) -> Limits:
    """The limits of differences on the same rows."""
    one, two = _estimates(figures, counts, other)
    together = one.moment(one.influence * two.influence)
    spread = np.sqrt(one.moment(one.influence**2) * two.moment(two.influence**2))
    correlation = np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0)
    apart = _apart(_score(one, confidence), _score(two, confidence), correlation)
    return apart.widened(unseen(one.rows, confidence), (-1, 1))


def _apart(one: Limits, two: Limits, correlation: np.ndarray | float = 0.0) -> Limits:
    """The limits of one less the other, from those of both."""

    def reach(down: np.ndarray, up: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(down**2 - 2 * correlation * down * up + up**2, 0))

    centre = one.centre - two.centre
    low = centre - reach(one.centre - one.low, two.high - two.centre)
    high = centre + reach(one.high - one.centre, two.centre - two.low)
    return Limits(one.value - two.value, centre, low, high)

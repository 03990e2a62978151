"""What few labels give, from what `few_labels` wrote: a curve for each method, where curves cross, what 100 more give.

Two kinds of noise are in each interval: other test texts, and other training rows. Resamples draw both again, the same
ones for every method and every number of rows, so that what is alike in them does not count as noise.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.stats import t as student

from tunediff.evidence.uncertainty import Figures, intervals

RESAMPLES = 1000
FITTED = 200  # resamples that a curve is fitted to
POINTS = 5  # of a curve, at least, for its three parameters and a last point to predict
MORE = 100  # labels
MOST = 0.9  # of all rows, of which draws still differ enough to say how much trainings on other rows would
LEAST_FLOOR = 1e-6  # below it, the law's bound and not the points decides how the curve goes on
LEAST_POWER = 0.02  # a curve with a smaller one does not level off, so that nothing says where it goes


@dataclass(frozen=True)
class Crossing:
    """From some number of rows on, another method is best. Numbers are rows for each label."""

    before: str
    after: str
    value: float
    low: float
    """0 if it may be below the smallest number, and ..."""
    high: float
    """... infinite if it may be beyond the largest, or beyond the last one before the next crossing."""


@dataclass(frozen=True)
class NextLabels:
    """What MORE labels are likely to add to a method's figure."""

    method: str
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Curves:
    points: pd.DataFrame
    """A row for each method and number: method, per_label, rows, value, deviation (of one draw), low, high.

    The last number is that of all training rows, on average over labels; one training has no deviation.
    """
    crossings: list[Crossing]
    next: NextLabels | None
    """None if a power law does not fit the curve of the method that is best with all rows."""


def curves(
    figures: Figures,
    per_label: Sequence[float],
    rows: Sequence[int],
    counts: dict[str, list[np.ndarray]],
    confidence: float,
    seed: int,
) -> Curves:
    """`counts` has for each method and number those of its draws, shape [draws, rows of test, counts].

    `figures` names one figure. `per_label` and `rows` are what was trained on; the last number is all rows, whose array
    has the trainings of the method's own stage.
    """
    each = {
        method: [figures.each(one.sum(1, dtype=float))[:, 0] for one in numbers] for method, numbers in counts.items()
    }
    fractions = np.array(rows) / rows[-1]
    table = []
    for method, numbers in counts.items():
        deviations = np.array([np.std(values, ddof=1) for values in each[method][:-1]])
        draws = len(each[method][0])
        reaches = student.ppf((1 + confidence) / 2, draws - 1) * of_mean(
            on_other_rows(deviations, fractions), fractions, draws
        )
        for place, (one, reach) in enumerate(zip(numbers, reaches, strict=True)):
            (own,) = intervals(figures, one, confidence).values()
            table.append(
                {
                    "method": method,
                    "per_label": per_label[place],
                    "rows": rows[place],
                    "value": own.value,
                    "deviation": deviations[place] if place < len(deviations) else math.nan,
                    "low": max(0.0, own.value - math.hypot(own.value - own.low, reach)),
                    "high": min(1.0, own.value + math.hypot(own.high - own.value, reach)),
                }
            )
    points = pd.DataFrame(table)
    values = np.array([[one.mean() for one in numbers] for numbers in each.values()])
    drawn_again = np.concatenate(list(resampled(figures, list(counts.values()), fractions, seed)))
    methods = list(counts)
    best = int(values[:, -1].argmax())
    return Curves(
        points,
        list(crossings(methods, np.array(per_label, float), values, drawn_again, confidence)),
        next_labels(methods[best], np.array(rows, float), values[best], drawn_again[:, best], confidence),
    )


def on_other_rows(deviations: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Standard deviations between trainings on rows that have none in common, shape [..., numbers].

    `deviations`, shape [..., numbers - 1], are those between draws, each of which takes a number's fraction of all
    rows. Draws share the more rows, the larger this is, and differ the less. Where more than MOST are drawn, it is that
    of the number before: a little too much, since more rows vary less.
    """
    found: list[np.ndarray] = []
    for place, fraction in enumerate(fractions):
        if found and fraction > MOST:
            found.append(found[-1])
        else:
            found.append(deviations[..., place] / math.sqrt(1 - min(fraction, MOST)))
    return np.stack(found, axis=-1)


def of_mean(deviations: np.ndarray, fractions: np.ndarray, draws: int) -> np.ndarray:
    """The standard deviation of the mean over draws, for other rows in all; `deviations` as `on_other_rows` gives them.

    More draws take out their own noise, not that of the rows which they are drawn from.
    """
    return deviations * np.sqrt(fractions + (1 - fractions) / draws)


def resampled(
    figures: Figures, counts: list[list[np.ndarray]], fractions: np.ndarray, seed: int
) -> Iterator[np.ndarray]:
    """Figures of resamples of test rows and draws, shape [resamples, methods, numbers], until there are RESAMPLES.

    `fractions` of all rows are drawn. What other rows in all would change is alike for all numbers of a method.
    """
    random = np.random.default_rng(seed)
    rows, draws = counts[0][0].shape[1], len(counts[0][0])
    scale = math.sqrt(draws / (draws - 1))  # the mean of n values drawn from n varies too little by this
    step = max(1, min(RESAMPLES, 20_000_000 // rows))
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        weights = random.multinomial(rows, np.full(rows, 1 / rows), size=size).astype(float)
        chosen = random.integers(draws, size=(size, draws))
        other = random.standard_normal((size, len(counts)))
        table = np.empty((size, len(counts), len(counts[0])))
        for method, numbers in enumerate(counts):
            deviations = []
            for number, one in enumerate(numbers):
                sums = np.stack([weights @ training.astype(float) for training in one], axis=1)
                each = figures.each(sums)[..., 0]
                table[:, method, number] = mean = each.mean(1)
                if number < len(numbers) - 1:  # all rows are one draw, whose noise is that of the rows
                    deviations.append(each.std(1, ddof=1))
                    table[:, method, number] += scale * (np.take_along_axis(each, chosen, 1).mean(1) - mean)
            spread = on_other_rows(np.stack(deviations, axis=1), fractions)
            table[:, method] += other[:, method, None] * np.sqrt(fractions) * spread
        yield table


def crossings(
    methods: list[str], per_label: np.ndarray, values: np.ndarray, drawn_again: np.ndarray, confidence: float
) -> Iterator[Crossing]:
    """Where the best method changes. `values` has shape [methods, numbers]; see `resampled` for `drawn_again`."""
    places = np.log2(per_label)
    best = values.argmax(0)
    changes = np.flatnonzero(best[1:] != best[:-1])
    for place in changes:
        # What comes behind the next change is not about this one.
        until = min((later + 1 for later in changes if later > place), default=len(places))
        before, after = best[place], best[place + 1]
        apart = values[after] - values[before]
        value = _zero(places[place : place + 2], apart[place : place + 2])
        again = drawn_again[:, after, :until] - drawn_again[:, before, :until]
        others = [last_change(places[:until], one) for one in again]
        low, high = np.quantile(others, [(1 - confidence) / 2, (1 + confidence) / 2], method="closest_observation")
        # 2 to the power of minus infinity is 0.
        yield Crossing(methods[before], methods[after], *map(float, (2.0**value, 2.0**low, 2.0**high)))


def last_change(places: np.ndarray, apart: np.ndarray) -> float:
    """Where a difference turns positive for good: minus infinity if it always is, infinity if it is not at the end."""
    if apart[-1] <= 0:
        return math.inf
    below = np.flatnonzero(apart <= 0)
    if not len(below):
        return -math.inf
    last = below[-1]
    return _zero(places[last : last + 2], apart[last : last + 2])


def _zero(places: np.ndarray, apart: np.ndarray) -> float:
    """Where the line between two points is 0."""
    return float(places[0] - apart[0] * (places[1] - places[0]) / (apart[1] - apart[0]))


# --- a power law


def next_labels(
    method: str, rows: np.ndarray, values: np.ndarray, drawn_again: np.ndarray, confidence: float
) -> NextLabels | None:
    """What a power law says of MORE labels; None if the law is not to be trusted.

    It is if the curve has enough points, MORE labels at most double the rows, the law of the points before the last one
    predicts that one, and it can be fitted to nearly all resamples (shape [resamples, numbers]).
    """
    if len(rows) < POINTS or rows[-1] < MORE:
        return None
    some = drawn_again[:FITTED]
    deviation = np.maximum(some.std(0), 1e-4)
    law = power_law(rows, 1 - values, deviation)
    if law is None or law[0] < LEAST_FLOOR:
        return None
    missed, gains = [], []
    for one in some:
        before, whole = power_law(rows[:-1], 1 - one[:-1], deviation[:-1]), power_law(rows, 1 - one, deviation)
        if before is None or whole is None:
            continue
        missed.append(error(rows[-1], *before) - (1 - one[-1]))
        gains.append(error(rows[-1], *whole) - error(rows[-1] + MORE, *whole))
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    if len(gains) < confidence * len(some):
        return None
    least, most = np.quantile(missed, ends)
    if not least <= 0 <= most:
        return None
    gain = error(rows[-1], *law) - error(rows[-1] + MORE, *law)
    return NextLabels(method, float(gain), *map(float, np.quantile(gains, ends)))


def error(rows: np.ndarray | float, floor: float, scale: float, power: float) -> np.ndarray | float:
    """What a figure lacks of 1 with so many rows, by a power law that falls to `floor`."""
    return floor + scale * rows**-power


def power_law(rows: np.ndarray, errors: np.ndarray, deviation: np.ndarray) -> tuple[float, float, float] | None:
    """The parameters of `error` that fit best; None if there are none, or if the curve does not level off."""
    start = (0.5 * errors[-1], max(errors[0] - 0.5 * errors[-1], 1e-3) * rows[0] ** 0.5, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            found, _ = curve_fit(
                error, rows, errors, start, deviation, bounds=((0, 0, LEAST_POWER / 2), (1, np.inf, 3)), max_nfev=2000
            )
        except (RuntimeError, ValueError):
            return None
    return tuple(map(float, found)) if found[2] > LEAST_POWER else None

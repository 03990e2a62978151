"""Which split each row goes to where a row counts for several strata at once: iterative stratification."""

import numpy as np
import pandas as pd


def assign(strata: pd.Series, unit: np.ndarray, shares: dict[str, float], seed: int) -> np.ndarray:
    """The split of each row: a name from `shares` (which add up to 1). Shape [rows].

    `strata` has a tuple for each row, `unit` a number; rows of one unit stay together. The rarest stratum is dealt out
    first, each unit of it to the split that lacks most of that stratum (Sechidis, Tsoumakas and Vlahavas 2011,
    https://doi.org/10.1007/978-3-642-23808-6_10). Rows without a stratum come last, by what is lacking of rows.
    """
    random = np.random.default_rng(seed)
    names = list(shares)
    counts = _counts(strata, unit)
    # How many of each stratum, and (the last column) of rows, each split still lacks.
    lacking = np.outer(list(shares.values()), counts.sum(0)).astype(float)
    side = np.full(len(counts), -1)
    left = counts[:, :-1].sum(0)
    open_units = random.permutation(len(counts))
    while left.any():
        stratum = int(np.where(left > 0, left, np.inf).argmin())
        # The largest units first, while there is room for them.
        those = open_units[(side[open_units] < 0) & (counts[open_units, stratum] > 0)]
        for number in those[np.argsort(-counts[those, stratum], kind="stable")]:
            _put(number, stratum, counts, lacking, side, random)
        left = counts[side < 0, :-1].sum(0)
    rest = open_units[side[open_units] < 0]
    for number in rest[np.argsort(-counts[rest, -1], kind="stable")]:
        _put(number, -1, counts, lacking, side, random)
    return np.array(names, dtype=object)[_completed(side, counts[:, :-1] > 0, len(names))[unit]]


def _counts(strata: pd.Series, unit: np.ndarray) -> np.ndarray:
    """How many rows of each unit count for each stratum, and in the last column how many there are."""
    known = {name: place for place, name in enumerate(sorted({name for row in strata for name in row}))}
    counts = np.zeros((unit.max() + 1, len(known) + 1), dtype=np.int64)
    for number, row in zip(unit, strata, strict=True):
        counts[number, [known[name] for name in row]] += 1
        counts[number, -1] += 1
    return counts


def _completed(side: np.ndarray, has: np.ndarray, splits: int) -> np.ndarray:
    """The split of each unit after some were moved, so that each split has each stratum with as many units, if it can.

    `has`, shape [units, strata], says which strata a unit has. None leaves a split whose last one of a stratum it is.
    """
    side = side.copy()
    for stratum in has.sum(0).argsort(kind="stable"):
        if has[:, stratum].sum() < splits:
            continue
        for lacking in set(range(splits)) - set(side[has[:, stratum]]):
            held = np.array([has[side == split].sum(0) for split in range(splits)])
            free = has[:, stratum] & ~(has & (held[side] < 2)).any(1)
            if free.any():
                # From the split with most of the stratum, one with few others.
                rank = np.where(free, 1e6 * held[side, stratum] - has.sum(1), -1)
                side[rank.argmax()] = lacking
    return side


def _put(
    number: int, stratum: int, counts: np.ndarray, lacking: np.ndarray, side: np.ndarray, random: np.random.Generator
) -> None:
    """Give a unit to the split that lacks most of the stratum, then most rows, then by chance."""
    order = np.lexsort((random.random(len(lacking)), lacking[:, -1], lacking[:, stratum]))
    side[number] = order[-1]
    lacking[order[-1]] -= counts[number]

"""Trainings of one method that are alike but for their seed."""

import statistics
from collections.abc import Iterable
from pathlib import Path


def folder(model: Path, seed: int, seeds: list[int]) -> Path:
    """Where the training of `seed` is saved: the first one's is `model` itself, the others' are folders in it."""
    return model if seed == seeds[0] else model / f"seed-{seed}"


def summary(each: list[dict[str, float]], headline: Iterable[str]) -> dict[str, float]:
    """The mean of each figure over the trainings, and, if there are several, the deviation of the `headline` ones.

    The deviation is that of a sample: the root of the sum of squares divided by one less than their number.
    """
    if len(each) == 1:
        return each[0]
    values = {name: [figures[name] for figures in each] for name in each[0]}
    deviations = {f"{name}_deviation": statistics.stdev(values[name]) for name in headline if name in values}
    return {name: statistics.fmean(numbers) for name, numbers in values.items()} | deviations

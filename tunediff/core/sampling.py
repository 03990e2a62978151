"""Stratified random samples of rows."""

import numpy as np
import pandas as pd


def sample(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """A random sample of `rows` rows in the table's order, in which each value of `stratum` keeps its share.

    Each value has a row at least, if there are rows enough. `table` has a column `stratum`. Where that is a tuple of
    labels, this holds for each label, not for each tuple. A smaller sample with the same seed is part of a larger one.
    """
    if rows >= len(table):
        return table
    shuffled = table.sample(frac=1, random_state=seed)
    # The rows of each stratum are spread evenly over [0, 1); the first `rows` positions hold each by its share.
    groups = shuffled.groupby("stratum")
    place = groups.cumcount()
    size = groups.stratum.transform("size")
    if isinstance(shuffled.stratum.iloc[0], tuple):
        # Most tuples may be there once: each begins at random, or all of them would stand at the same place.
        position = ((place + np.random.default_rng(seed).random(len(place))) / size).sort_values(kind="stable")
        later = _without_new_label(shuffled.stratum.loc[position.index])
    else:
        position = (place + 0.5) / size
        later = place > 0
    order = pd.DataFrame({"later": later, "position": position}).sort_values(["later", "position"], kind="stable")
    return shuffled.loc[order.index[:rows]].sort_index()


def _without_new_label(strata: pd.Series) -> pd.Series:
    """Whether the rows before have all labels of each row."""
    seen: set = set()
    known = []
    for labels in strata:
        known.append(seen.issuperset(labels))
        seen.update(labels)
    return pd.Series(known, strata.index)

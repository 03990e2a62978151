"""Stratified random samples of rows."""

import pandas as pd


def sample(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """A random sample of `rows` rows in the table's order, in which each value of `stratum` keeps its share.

    Each value has a row at least, if there are rows enough. `table` has a column `stratum`. A smaller sample with the
    same seed is part of a larger one.
    """
    if rows >= len(table):
        return table
    shuffled = table.sample(frac=1, random_state=seed)
    # The rows of each stratum are spread evenly over [0, 1); the first `rows` positions hold each by its share.
    groups = shuffled.groupby("stratum")
    place = groups.cumcount()
    position = (place + 0.5) / groups.stratum.transform("size")
    order = pd.DataFrame({"later": place > 0, "position": position}).sort_values(["later", "position"], kind="stable")
    return shuffled.loc[order.index[:rows]].sort_index()

"""Which rows are kept, and on which side of the split each one goes. Array work only: a million rows take seconds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tunediff.sources import iterative

STEPS = {
    "lowercase": lambda texts: texts.str.lower(),
    # Everything but letters, digits and spaces, in any script.
    "strip_special": lambda texts: texts.str.replace(r"[\W_]+", " ", regex=True).str.strip(),
}


@dataclass(frozen=True)
class Dropped:
    """Rows left out: how many for each reason, and the first few of them (numbered from 1 in their source split)."""

    reason: str
    rows: int
    first: list[str]


def drop_empty(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Dropped]]:
    """Drop rows with no text or no label. `table` has columns split, row, text, label, group."""
    table, no_text = _drop(table, table.text.str.strip() == "", "no text")
    table, no_label = _drop(table, table.label == "", "no label")
    return table, no_text + no_label


def drop_duplicates(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Dropped]]:
    """Drop rows whose text and label stand in an earlier row."""
    return _drop(table, table.duplicated(["text", "label"]), "duplicate of an earlier row")


def _drop(table: pd.DataFrame, bad: pd.Series, reason: str) -> tuple[pd.DataFrame, list[Dropped]]:
    if not bad.any():
        return table, []
    return table[~bad].reset_index(drop=True), [Dropped(reason, int(bad.sum()), first_places(table[bad]))]


def first_places(rows: pd.DataFrame) -> list[str]:
    """`SPLIT:ROW` of the first twenty rows."""
    return [f"{split}:{row}" for split, row in rows[["split", "row"]].head(20).itertuples(index=False)]


def contradictions(table: pd.DataFrame) -> pd.DataFrame:
    """Rows whose text also stands with another label."""
    return table[table.groupby("text").label.transform("nunique") > 1]


def units(table: pd.DataFrame) -> np.ndarray:
    """Number the sets of rows that must stay on one side: same group, or same text but for case and spaces. [rows]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = len(table)
    # Text by text: pandas' own steps would hold a list of words for each row.
    by_text = table.text.map(lambda text: " ".join(text.casefold().split())).factorize()[0]
    by_group = np.where(table.group == "", np.arange(rows), rows + table.group.factorize()[0])
    # A row links its text with its group: two nodes of a graph whose connected parts are the sets.
    texts, groups = int(by_text.max()) + 1, 2 * rows
    edges = coo_array((np.ones(rows), (by_text, texts + by_group)), shape=(texts + groups, texts + groups))
    return connected_components(edges, directed=False)[1][by_text]


def assign(table: pd.DataFrame, shares: dict[str, float], seed: int) -> np.ndarray:
    """The split of each row: a name from `shares` (which add up to 1). Shape [rows].

    Each value of the column `stratum` is divided by these shares, and no unit is divided. A row may have a tuple of
    values there; it counts for each of them.
    """
    unit = units(table)
    if isinstance(table.stratum.iloc[0], tuple):
        return iterative.assign(table.stratum, unit, shares, seed)
    # A unit counts for its most frequent stratum. Within a stratum, units in random order fill one split after another.
    pairs = table.groupby([unit, table.stratum]).size().rename_axis(["unit", "stratum"]).reset_index(name="rows")
    strata = (
        pairs.sort_values(["unit", "rows", "stratum"], ascending=[True, False, True])
        .drop_duplicates("unit")
        .set_index("unit")
        .stratum
    )
    sizes = pairs.groupby("unit").rows.sum()
    frame = pd.DataFrame({"stratum": strata, "rows": sizes}).sample(frac=1, random_state=seed)
    done = frame.groupby("stratum").rows.cumsum() - frame.rows / 2
    position = done / frame.groupby("stratum").rows.transform("sum")
    names = np.array(list(shares))
    frame["side"] = names[np.minimum(np.searchsorted(np.cumsum(list(shares.values())), position), len(names) - 1)]
    return frame.side.reindex(unit).to_numpy()

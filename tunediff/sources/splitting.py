"""Which rows are kept, and on which side of the split each one goes. Array work only: a million rows take seconds."""

import re
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd

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


def natural_order(labels: list[str]) -> list[str]:
    """Sort as people do: 2 before 10, and -1 before 0."""

    def key(label: str) -> tuple[list, str]:
        # Every second part is a number, of any length: Python makes no `int` of thousands of digits.
        parts = re.split(r"((?:^-)?\d+)", label)
        return [(0, Decimal(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)], label

    return sorted(labels, key=key)


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
    """Give each row a name from `shares` (which add up to 1), stratified by label, units undivided. Shape [rows]."""
    unit = units(table)
    # A unit counts for its most frequent label; within a label, units in random order fill one split after the other.
    pairs = table.groupby([unit, table.label]).size().rename_axis(["unit", "label"]).reset_index(name="rows")
    labels = (
        pairs.sort_values(["unit", "rows", "label"], ascending=[True, False, True])
        .drop_duplicates("unit")
        .set_index("unit")
        .label
    )
    frame = pd.DataFrame({"label": labels, "rows": pairs.groupby("unit").rows.sum()}).sample(frac=1, random_state=seed)
    done = frame.groupby("label").rows.cumsum() - frame.rows / 2
    position = done / frame.groupby("label").rows.transform("sum")
    names = np.array(list(shares))
    frame["side"] = names[np.minimum(np.searchsorted(np.cumsum(list(shares.values())), position), len(names) - 1)]
    return frame.side.reindex(unit).to_numpy()


def sample(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """A random sample of `rows` rows with the labels' shares kept, in the table's order."""
    if rows >= len(table):
        return table
    shuffled = table.sample(frac=1, random_state=seed)
    # Each label's rows are spread evenly over [0, 1); the first `rows` positions hold each label by its share.
    place = (shuffled.groupby("label").cumcount() + 0.5) / shuffled.groupby("label").label.transform("size")
    return shuffled.loc[place.sort_values(kind="stable").index[:rows]].sort_index()

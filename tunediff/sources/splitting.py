"""Which rows are kept, and on which side of the split each one goes. Array work only: a million rows take seconds."""

import functools
import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tunediff.core.values import characters_of
from tunediff.sources import iterative

STEPS = {
    "lowercase": lambda texts: texts.str.lower(),
    "strip_special": lambda texts: texts.map(lambda text: " ".join(_words().findall(text))),
}


@functools.cache
def _words() -> re.Pattern:
    """Letters and digits of any script, with the marks on them, such as vowel signs."""
    return re.compile(f"[^\\W_](?:[^\\W_]|[{characters_of('M')}])*")


@dataclass(frozen=True)
class Dropped:
    """Rows left out: how many for each reason, and the first few of them (numbered from 1 in their source split)."""

    reason: str
    rows: int
    first: list[str]


def drop_empty(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Dropped]]:
    """Drop rows with no text or no label. `table` has columns split, row, text, label, group."""
    table, no_text = drop(table, table.text.str.strip() == "", "no text")
    table, no_label = drop(table, table.label == "", "no label")
    return table, no_text + no_label


def drop_duplicates(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Dropped]]:
    """Drop rows whose text and label stand in an earlier row."""
    return drop(table, table.duplicated(["text", "label"]), "duplicate of an earlier row")


def first_places(rows: pd.DataFrame) -> list[str]:
    """`SPLIT:ROW` of the first twenty rows."""
    return [f"{split}:{row}" for split, row in rows[["split", "row"]].head(20).itertuples(index=False)]


def contradictions(table: pd.DataFrame) -> pd.DataFrame:
    """Rows whose text also stands with another label."""
    return table[table.groupby("text").label.transform("nunique") > 1]


def plain(texts: pd.Series) -> pd.Series:
    """The texts without differences of case and spaces."""
    # Text by text: pandas' own steps would hold a list of words for each row.
    return texts.map(lambda text: " ".join(text.casefold().split()))


def units(table: pd.DataFrame) -> np.ndarray:
    """Number the sets of rows that must stay on one side: same group, or same text but for case and spaces. [rows]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = len(table)
    by_text = plain(table.text).factorize()[0]
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
    ends = np.cumsum(list(shares.values()))
    place = np.minimum(np.searchsorted(ends, position), len(names) - 1)
    if len(names) > 2:
        # What lies between the last two, as the ninth of ten rows does, goes to the one and the other by turns.
        tie = np.isclose(position, ends[-2], rtol=0, atol=1e-9)
        turn = frame.stratum.where(tie).rank(method="dense") % 2
        place = np.where(tie, len(names) - 1 - (turn == 0), place)
    frame["side"] = names[place]
    return complete(table, frame.side.reindex(unit).to_numpy(), unit, list(shares))


def complete(table: pd.DataFrame, side: np.ndarray, unit: np.ndarray, names: list[str]) -> np.ndarray:
    """The split of each row after units were moved, so that each of `names` has each stratum with units enough."""
    present = set(zip(table.stratum, side, strict=True))
    for stratum in table.stratum.unique():
        lacking = [name for name in names if (stratum, name) not in present]
        rows = (table.stratum == stratum).to_numpy()
        if not lacking or len(pd.unique(unit[rows])) < len(names):
            continue
        mixed = set(unit[~rows])
        for name in lacking:
            units_of = {other: pd.unique(unit[rows & (side == other)]) for other in names}
            largest = max(names, key=lambda other: len(units_of[other]))
            # One without rows of other strata, which it might be the last to have there; the last in the file.
            moved = max(units_of[largest], key=lambda each: (each not in mixed, each))
            side = np.where(unit == moved, name, side)
    return side


def rare(table: pd.DataFrame, names: list[str]) -> dict[str, str]:
    """Strata that are not in each of the splits `names`, with how many rows they have. `table` has a column side."""
    table = table[table.side.isin(names)]
    sides = table.explode("stratum").groupby("stratum").side.nunique()
    lacking = sides[sides < len(names)].index
    return {stratum: _size(table[has_one_of(table.stratum, [stratum])], len(names)) for stratum in lacking}


def has_one_of(strata: pd.Series, names: Collection[str]) -> pd.Series:
    """Whether each row's stratum is one of some names, or one of its strata, where a row has a tuple of them."""
    if not isinstance(strata.iloc[0], tuple):
        return strata.isin(names)
    return strata.map(lambda own: not set(names).isdisjoint(own))


def _size(rows: pd.DataFrame, splits: int) -> str:
    count = f"{len(rows)} row{'s'[: len(rows) != 1]}"
    if len(rows) < splits:
        return count
    groups = rows.group.nunique() if (rows.group != "").all() else 0
    if groups and groups < splits:
        return f"{count}, all in {groups} group{'s'[: groups != 1]}"
    return f"{count} of the same texts or groups" if units(rows).max() + 1 < splits else count


def drop(table: pd.DataFrame, bad: pd.Series, reason: str) -> tuple[pd.DataFrame, list[Dropped]]:
    """The table without the `bad` rows, and what was dropped."""
    if not bad.any():
        return table, []
    return table[~bad].reset_index(drop=True), [Dropped(reason, int(bad.sum()), first_places(table[bad]))]

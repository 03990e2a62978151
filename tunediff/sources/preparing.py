"""From the rows of a source to those of train, validation and test: clean, drop, split, take a subset."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tunediff.core.errors import UserError
from tunediff.core.sampling import sample
from tunediff.sources import find_source, overlap, splitting
from tunediff.sources.columns import Rows, Target
from tunediff.sources.settings import SPLITS, DataConf


def read(conf: DataConf, path: Path, task: Target) -> tuple[pd.DataFrame, dict[str, Rows]]:
    """Every row of the source with its place, and the splits that they come from.

    The table has the columns split, row, text, label, group. `path` is the data file's, for messages.
    """
    used = used_splits(find_source.read(conf, path, task), conf, path)
    table = pd.concat([rows.table.assign(split=split) for split, rows in used.items()], ignore_index=True)
    return table, used


def used_splits(read: dict[str, Rows], conf: DataConf, path: Path) -> dict[str, Rows]:
    """Those splits of the source that `splits` names, or its only one. Raises UserError if they do not fit."""
    named = conf.named_splits
    if not named:
        if len(read) > 1:
            raise UserError(
                f"{path}: splits: the source has the splits {', '.join(read)}: say which is train, validation and "
                "test, or give a share that is cut from train, as in {train: train, validation: 0.2, test: test}"
            )
        return read
    for side, name in named.items():
        if name not in read:
            raise UserError(f"{path}: splits.{side}: the source has no split '{name}'; it has: {', '.join(read)}")
        if twin := next((other for other in named if other != side and named[other] == name), None):
            raise UserError(f"{path}: splits: {side} and {twin} are both '{name}'; each needs rows of its own")
    return {name: rows for name, rows in read.items() if name in named.values()}


def place_of(conf: DataConf, used: dict[str, Rows]) -> Callable[[pd.Series], str]:
    """A function that says where a row of the `used` splits comes from, for a message."""

    def place(row: pd.Series) -> str:
        if before := used[row.split].before:
            file = [file for file, number in before.items() if number < row.row][-1]
            return f"{file} row {row.row - before[file]}"
        if isinstance(conf.source, dict):
            return f"{conf.source[row.split]} row {row.row}"
        return f"{conf.source} row {row.row}" + (f" of {row.split}" if row.split != "all" else "")

    return place


def clean(table: pd.DataFrame, conf: DataConf) -> tuple[pd.DataFrame, list[splitting.Dropped]]:
    """The table after the steps of `clean`, without rows that have no text or no label, or that `overlap` drops."""
    for step in conf.clean:
        table["text"] = splitting.STEPS[step](table.text)
    table, empty = splitting.drop_empty(table)
    table, shared = overlap.apart(table, conf)
    return table, empty + shared


@dataclass(frozen=True)
class Split:
    """The rows of the source, on their sides."""

    table: pd.DataFrame
    """With a column `side`: the split that each row is in."""
    rare: dict[str, str]
    """Labels that have too few rows to be in each split that is cut, and how many these are."""
    renamed: dict[str, str | None]
    """What has become of them, by label: another label, or None if their rows were dropped."""
    dropped: list[splitting.Dropped]


def split(table: pd.DataFrame, conf: DataConf, path: Path, seed: int) -> Split:
    """Divide the rows into train, validation and test.

    Splits are the source's own by name, or shares cut from what `train` names or from all rows. Raises UserError if one
    of its own has no row, or if the label that rare ones are merged into is still too rare.
    """
    divided = _sides(table, conf, path, seed)
    cut = _cut(conf)
    rare = splitting.rare(divided, cut)
    if not rare:
        return Split(divided, {}, {}, [])
    is_rare = splitting.has_one_of(divided.stratum, list(rare))
    if conf.rare == "keep":
        part = divided.side.isin(cut)
        unit = pd.Series(splitting.units(divided[part]), divided.index[part])
        to_train = unit.isin(unit[is_rare[part]]).reindex(divided.index, fill_value=False)
        return Split(divided.assign(side=divided.side.mask(to_train, "train")), rare, {}, [])
    if conf.rare == "drop":
        reason = f"a label with too few rows to be in each of {', '.join(cut)}: {listed(rare)}"
        kept, dropped = splitting.drop(divided, is_rare, reason)
        return Split(kept, rare, dict.fromkeys(rare), dropped)
    name = conf.rare.merge
    merged = divided.drop(columns="side").assign(
        **{column: divided[column].mask(is_rare, name) for column in ("label", "stratum")}
    )
    divided = _sides(merged.sort_index(), conf, path, seed)
    if name in splitting.rare(divided, cut):
        raise UserError(
            f"{path}: rare: '{name}', which {listed(rare)} become, still has too few rows to be in each of "
            f"{', '.join(cut)}; add rows, or say `rare: drop`"
        )
    return Split(divided, rare, dict.fromkeys(rare, name), [])


def _cut(conf: DataConf) -> list[str]:
    """The splits in which a label must be that is not rare; none if the source has its own."""
    return ["train", *conf.cut_splits] if conf.named_splits and conf.cut_splits else list(conf.cut_splits)


def rare_labels(table: pd.DataFrame, conf: DataConf, path: Path, seed: int) -> set[str]:
    """Labels that `split` would take for rare, if duplicates were dropped before."""
    table, _ = splitting.drop_duplicates(table)
    return set(splitting.rare(_sides(table, conf, path, seed), _cut(conf)))


def listed(rare: dict[str, str]) -> str:
    """Rare labels in a message, with how many rows they have."""
    shown = [f"'{label}' ({size})" for label, size in list(rare.items())[:20]]
    return ", ".join([*shown, *([f"and {len(rare) - 20} more"] if len(rare) > 20 else [])])


def _sides(table: pd.DataFrame, conf: DataConf, path: Path, seed: int) -> pd.DataFrame:
    named, shares = conf.named_splits, conf.cut_splits
    if not named:
        return table.assign(side=splitting.assign(table, shares, seed))
    parts = []
    for side, name in named.items():
        part = table[table.split == name]
        if part.empty:
            raise UserError(
                f"{path}: splits.{side}: every row of the source's split '{name}' is dropped: it has no text or no "
                "label, or stands in another split"
            )
        if side == "train" and shares:
            part = part.assign(side=splitting.assign(part, {"train": 1 - sum(shares.values()), **shares}, seed))
        parts.append(part.assign(side=side) if "side" not in part else part)
    return pd.concat(parts)


def subset(table: pd.DataFrame, conf: DataConf, path: Path, seed: int) -> pd.DataFrame:
    """The subset that `rows` asks for; one number is divided by the splits' sizes."""
    kept = table
    if conf.rows is not None:
        wanted = conf.rows
        if not isinstance(wanted, dict):
            # Rounding the running total, not each part, gives as many as were asked for.
            sizes = table.side.value_counts().reindex(SPLITS, fill_value=0)
            ends = (sizes.cumsum() * min(conf.rows, len(table)) / len(table)).round().astype(int)
            wanted = ends.diff().fillna(ends).astype(int).to_dict()
        parts = table.groupby("side")
        kept = pd.concat(sample(part, wanted.get(side, len(part)), seed) for side, part in parts).sort_index()
    for side in SPLITS:
        if not (kept.side == side).any():
            raise UserError(f"{path}: splits.{side}: too few rows{of_subset(conf)}: none is left for it")
    return kept


def of_side(kept: pd.DataFrame, side: str, conf: DataConf) -> pd.DataFrame:
    """The rows of a split; the column `group` is left out if the data file names none."""
    rows = kept[kept.side == side]
    return rows if conf.group else rows.drop(columns="group")


def of_subset(conf: DataConf) -> str:
    """The end of "no row ..." in a message."""
    return "" if conf.rows is None else " in the subset that `rows` asks for"

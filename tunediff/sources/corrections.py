"""Labels that people have read again: a file in data/raw/ that says what each row's label should be, and who says so.

The source stays as it is. data/label_noise.csv with corrected labels is such a file.
"""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from tunediff.core.csv_cells import harmless, original
from tunediff.core.errors import UserError, nearest
from tunediff.core.values import as_text
from tunediff.sources import preparing
from tunediff.sources.find_source import raw_file
from tunediff.sources.formats import read_records
from tunediff.sources.settings import DataConf, FileKeys, Merge

Said = dict[int, list[tuple[str, str]]]
"""By a row's index: who says what, in pairs."""


def applied(
    table: pd.DataFrame, conf: DataConf, conf_path: Path, task: Any, seed: int
) -> tuple[Any, pd.DataFrame, dict[str, Any]]:
    """The task, the table with corrected labels, and `corrections` for data/profile.json, if the data file names some.

    `table` has labels that `task` has checked. They may become the one that rare labels are merged into, which the task
    then has too; a row that is in it by its own label keeps that. `seed` is that of the split. Raises UserError for a
    row that is not there or has another text, for an unknown label, and if people disagree.
    """
    named = getattr(conf, "corrections", None)
    if not named:
        return task, table, {}
    path = raw_file(named, conf_path, "corrections")
    read = read_records(path, FileKeys(), asked=["row", "label"])
    if missing := [name for name in ("row", "label") if name not in read.names]:
        raise UserError(f"{path}: no column '{missing[0]}'; it has: {', '.join(read.names)}; expected row and label")
    said: Said = {}
    merged = conf.rare.merge if isinstance(conf.rare, Merge) else ""
    labels = list(dict.fromkeys(filter(None, [*task.labels, merged])))
    rows = {place: index for index, place in zip(table.index, zip(table.split, table.row, strict=True), strict=True)}
    for number, record in enumerate(read.rows, 1):
        try:
            label = original(as_text(record, "label").strip())
        except ValueError as error:  # such as a list
            raise UserError(f"{path}: row {number}: {error}") from None
        if label:
            index = _row(record, rows, table, f"{path}: row {number}")
            if label not in labels:
                raise UserError(f"{path}: row {number}: there is no label '{label:.100}'; {nearest(label, labels)}")
            said.setdefault(index, []).append((as_text(record, "by").strip(), label))
    if merged in _labels(said):
        said = _unmerged(said, table.label, merged, preparing.rare_labels(table, conf, conf_path, seed))
        task = type(task)(labels if merged in _labels(said) else task.labels)
    for index, voices in said.items():
        if len({label for _, label in voices}) > 1:
            words = ", ".join(f"{by or 'someone'}: {label}" for by, label in voices)
            raise UserError(f"{path}: row {table.row[index]} is given several labels ({words}); agree on one")
    table, told = _corrected(table, said, path)
    # A list of `labels` is the user's word, and may not have one without rows.
    gone = [] if conf.labels else [label for label in task.labels if not (table.label == label).any()]
    return task.renamed(dict.fromkeys(gone), conf_path, f"{', '.join(gone)}, which {path} leaves no row"), table, told


def _labels(said: Said) -> set[str]:
    return {label for voices in said.values() for _, label in voices}


def _unmerged(said: Said, own: pd.Series, merged: str, rare: Collection[str]) -> Said:
    """What was said, with its own label for a row that a list shows as `merged`, because that label is rare."""
    return {
        index: [(by, own[index] if label == merged and own[index] in rare else label) for by, label in voices]
        for index, voices in said.items()
    }


def _corrected(table: pd.DataFrame, said: Said, path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    changes = [
        {
            "split": table.split[index],
            "row": int(table.row[index]),
            "before": table.label[index],
            "after": voices[0][1],
            "by": [by for by, _ in voices if by],
        }
        for index, voices in said.items()
        if voices[0][1] != table.label[index]
    ]
    label = table.label.copy()
    for index, voices in said.items():
        label[index] = voices[0][1]
    label, equal = _equal_rows(table, label, said)
    told = {
        "file": path.name,
        "read_again": len(said),
        "by": dict(Counter(by for voices in said.values() for by, _ in voices if by)),
        "changed": len(changes),
        "equal_rows": equal,
        "changes": changes,
    }
    # A stratum of this task is the label.
    return table.assign(label=label, stratum=label), {"corrections": told}


def _equal_rows(table: pd.DataFrame, label: pd.Series, read: Collection[int]) -> tuple[pd.Series, int]:
    """The labels, changed too for unread rows that had text and label of a changed one, and for how many.

    A list of likely wrong labels shows only the first of equal rows. Where people read several of them and gave these
    different labels, the others stay.
    """
    rows = [*read]
    given = table.loc[rows, ["text", "label"]].assign(new=label[rows]).drop_duplicates()
    given = given[~given.duplicated(["text", "label"], keep=False)].set_index(["text", "label"]).new
    others = table.index.difference(rows)
    new = given.reindex(pd.MultiIndex.from_frame(table.loc[others, ["text", "label"]])).set_axis(others)
    new = new[new.notna() & (new != table.label[others])]
    label[new.index] = new
    return label, len(new)


def _row(record: dict[str, Any], rows: dict[tuple[str, int], int], table: pd.DataFrame, place: str) -> int:
    """The index of the row that a record is about."""
    number, split = as_text(record, "row").strip(), original(as_text(record, "split").strip())
    splits = sorted({split for split, _ in rows})
    if not split and len(splits) == 1:
        (split,) = splits
    index = rows.get((split, int(number))) if number.isdecimal() and len(number) < 20 else None
    if index is None:
        raise UserError(
            f"{place}: there is no row '{number:.20}' of '{split:.40}', or it was dropped; expected a number as "
            f"data/label_noise.csv has it, and in a column `split` one of: {', '.join(splits)}"
        )
    # A spreadsheet may have changed line ends; `harmless` sees them.
    own = table.text[index]
    text, *known = (" ".join(one.split()) for one in (as_text(record, "text"), own, harmless(own)))
    if text and text not in known:
        raise UserError(
            f"{place}: row {number} has another text now: rows of the source have moved; take the numbers of a new "
            "data/label_noise.csv"
        )
    return index

"""The columns of a source that a data file names: places, texts, targets, groups."""

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from tunediff.core import limits
from tunediff.core.errors import UserError
from tunediff.core.values import as_text
from tunediff.sources.settings import DataConf
from tunediff.sources.table import Table

RAW = Path("data/raw")


class Target(Protocol):
    """What a task says of the columns that texts are labelled in."""

    def columns(self, conf: DataConf) -> dict[str, str]:
        """Columns that the source must have, by the key of the data file that names each."""

    def as_text(self, record: dict[str, Any], column: str) -> str:
        """A value of a column of texts. Raises ValueError for what is no text."""

    def target(self, record: dict[str, Any], conf: DataConf) -> Any:
        """What a record is labelled with; empty if it has no label. Raises ValueError for what is no label."""


@dataclass(frozen=True)
class Rows:
    """One file or split of a source."""

    table: pd.DataFrame
    """Columns row (from 1), text, label, group; a missing value is an empty string."""
    origin: str
    """The file with its SHA-256, or the Hub id with the commit that its revision resolved to."""
    decided: dict[str, Any] = field(default_factory=dict)
    """How the file was read."""
    before: dict[str, int] = field(default_factory=dict)
    """Of several files: how many rows stand before those of each; `row` goes on from file to file."""
    taken: int = 0
    """What the rows take in memory, with those of the files before."""


def needed(conf: DataConf, task: Target) -> list[tuple[str, str]]:
    """Pairs of a key of the data file and the column that it names, each once."""
    texts = [conf.text] if isinstance(conf.text, str) else conf.text
    own = task.columns(conf)
    groups = [("group", conf.group)] if conf.group is not None else []
    keys = {column: key for key, column in own.items() if key == "messages"}  # which stands for `text`
    return list(dict.fromkeys([*((keys.get(column, "text"), column) for column in texts), *own.items(), *groups]))


def columns(
    source: Table,
    conf: DataConf,
    conf_path: Path,
    task: Target,
    place: str,
    origin: str,
    numbers: list[int] | None = None,
    before: int = 0,
) -> Rows:
    """The columns that `conf` names, out of all that the source has.

    Raises UserError if one is missing, or if a row or all of them together take more than `limits` allows.
    `place` names the source in a message; `numbers` are the rows' places in it, where these are not all of them.
    `before` is how many bytes the rows of the same list's files take that were read already.
    """
    for key, column in needed(conf, task):
        if column not in source.names:
            raise UserError(f"{conf_path}: {key}: {place} {missing(source, column, 'columns: [{}]')}")
    text_columns = [conf.text] if isinstance(conf.text, str) else conf.text
    texts, labels, groups = [], [], []
    limit = limits.memory()
    size = before
    records = iter(source.rows)
    for row in numbers or itertools.count(1):
        try:
            if (record := next(records, None)) is None:
                break
            texts.append(joined(record, text_columns, task.as_text))
            labels.append(task.target(record, conf))
            groups.append(as_text(record, conf.group).strip() if conf.group else "")
            size += sum(sys.getsizeof(column[-1]) for column in (texts, labels, groups))
            if size > limit:
                raise ValueError(
                    f"the rows up to here take more than an eighth of this machine's memory ({limit:,} bytes), and "
                    "to prepare them takes six times as much; use a part of them, or a larger machine"
                )
        except ValueError as error:
            raise UserError(f"{place}: row {row}: {error}") from None
    if not texts:
        raise UserError(f"{place}: column names, but no rows under them; add rows, or name another file")
    numbers = numbers or range(1, len(texts) + 1)
    table = pd.DataFrame({"row": numbers, "text": texts, "label": labels, "group": groups})
    return Rows(table, origin, source.decided, taken=size)


def joined(
    record: dict[str, Any], text_columns: list[str], read: Callable[[dict[str, Any], str], str] = as_text
) -> str:
    """The texts of the columns, without empty ones, with a blank line between. Raises ValueError as `read` does."""
    text = "\n\n".join(part for column in text_columns if (part := read(record, column)))
    if len(text) > limits.ROW:
        raise ValueError(f"{len(text):,} characters of text; at most {limits.ROW:,} are read: shorten it")
    return text


def missing(source: Table, column: str, naming: str) -> str:
    """The end of a message about a column that is not there; `naming` says how columns are named where none are."""
    if not source.first_row_is_data:
        return f"has no column '{column}'; it has: {', '.join(source.names)}"
    first = ", ".join(f"'{name:.30}'" for name in source.header[:5])
    longest = max(source.header, key=len)
    others = iter(["label", *(f"column{number}" for number in range(2, len(source.header)))])
    example = ", ".join("text" if name is longest else next(others) for name in source.header)
    return (
        f"has no column '{column}', and its first row looks like data and not like names ({first}): name its "
        f"{len(source.header)} columns, as in `{naming.format(example)}`"
    )

"""The rows of one file or split of a source: places, texts, labels, groups."""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tunediff.core.errors import UserError
from tunediff.sources.settings import DataConf

RAW = Path("data/raw")


@dataclass(frozen=True)
class Rows:
    """One file or split of a source."""

    table: pd.DataFrame
    """Columns row (from 1), text, label, group; a missing value is an empty string."""
    origin: str
    """The file with its SHA-256, or the Hub id with the commit that its revision resolved to."""


def columns(
    header: list[str],
    records: Iterable[dict[str, Any]],
    conf: DataConf,
    conf_path: Path,
    where: str,
    origin: str,
    numbers: list[int] | None = None,
) -> Rows:
    """The columns that `conf` names, out of all that the records have. Raises UserError if one is not there.

    `where` names the source in a message; `numbers` are the rows' places in it, where these are not all of them.
    """
    text_columns = [conf.text] if isinstance(conf.text, str) else conf.text
    for key, column in [*(("text", column) for column in text_columns), ("label", conf.label), ("group", conf.group)]:
        if column is not None and column not in header:
            raise UserError(f"{conf_path}: {key}: {where} has no column '{column}'; it has: {', '.join(header)}")
    texts, labels, groups = [], [], []
    for row, record in zip(numbers or itertools.count(1), records, strict=False):
        try:
            texts.append("\n\n".join(part for column in text_columns if (part := as_text(record, column))))
            labels.append(as_text(record, conf.label).strip())
            groups.append(as_text(record, conf.group).strip() if conf.group else "")
        except ValueError as error:
            raise UserError(f"{where}: row {row}: {error}") from None
    if not texts:
        raise UserError(f"{where}: column names, but no rows under them; add rows, or name another file")
    numbers = numbers or range(1, len(texts) + 1)
    return Rows(pd.DataFrame({"row": numbers, "text": texts, "label": labels, "group": groups}), origin)


def as_text(record: dict[str, Any], column: str) -> str:
    """What a value looks like in a CSV; None and NaN are empty, and whole floats lose their `.0`.

    Raises ValueError if it is no text or number, or text that no file can hold.
    """
    value = record.get(column)
    if value is None or value != value:
        return ""
    if isinstance(value, (list, dict, bytes)):
        raise ValueError(f"column '{column}': expected text or a number, found {type(value).__name__}")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    if not text.isascii() and re.search(r"[\ud800-\udfff]", text):
        raise ValueError(f"column '{column}': half a character (a lone surrogate, {text!a:.40}); correct the text")
    return text

"""Reader of files with separated values: csv, tsv and others."""

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from tunediff.core import limits
from tunediff.core.errors import UserError
from tunediff.sources.csv_dialect import Dialect, Lines, decide, first_fields
from tunediff.sources.settings import FileKeys
from tunediff.sources.table import Table, unique
from tunediff.sources.text_lines import ending

COMPARED = 200  # rows with which the first one is compared, to see whether it has names


def read(path: Path, lines: Lines, keys: FileKeys, wanted: Collection[str]) -> Table:
    """The columns and the rows, which are read as they are asked for. `wanted` are columns that it should have.

    Raises UserError, also while the rows are read, if the file is malformed.
    """
    dialect = decide(ending(path), lines, keys, wanted)
    table = Table([], [], (), {**dialect.describe(), "header": not keys.columns, "rows_over_lines": 0})
    numbered_fields = _numbered_fields(path, lines(), dialect, table)
    if keys.columns:
        table.header = keys.columns
        first = first_fields(dialect, lines(), 1)
        if first and first[0] == keys.columns:
            raise UserError(f"{path}: line 1: the file has these names itself; take `columns` out")
    else:
        _, table.header = next(numbered_fields)
        table.repeated = {name for name, times in Counter(table.header).items() if times > 1}
        table.header = unique(table.header)
        rows = first_fields(dialect, lines(), COMPARED)
        table.first_row_is_data = not set(wanted) <= set(table.header) and _is_data(rows)
    table.rows = _records(path, table.header, numbered_fields, "names in `columns`" if keys.columns else "the header")
    return table


def _is_data(rows: list[list[str]]) -> bool:
    """Whether the first of some rows is a row as the others, and not names: it has a number, a sentence or a value
    that stands below it again.
    """
    if len(rows) < 2:
        return False
    below = [set(column) for column in zip(*rows[1:], strict=False)]
    return any(
        field and (field.strip().lstrip("+-").isdigit() or len(field.split()) > 5 or (field in values))
        for field, values in zip(rows[0], below, strict=False)
    )


def _numbered_fields(
    path: Path, lines: Iterable[str], dialect: Dialect, table: Table
) -> Iterator[tuple[int, list[str]]]:
    """The header and each row as a list of fields, with the number of the line where it begins, from 1."""
    start = 1
    size = 0

    def measured() -> Iterator[str]:
        nonlocal size
        for line in lines:
            size += len(line)
            if size > limits.ROW:
                raise UserError(
                    f"{path}: line {start}: a row of more than {limits.ROW:,} characters; shorten it, or close its "
                    "quotes"
                )
            yield line

    reader = dialect.parser(measured())
    try:
        for fields in reader:
            if fields:  # a blank line is no row
                table.decided["rows_over_lines"] += reader.line_num > start
                yield start, fields
            start = reader.line_num + 1
            size = 0
    except csv.Error as error:
        raise UserError(
            f"{path}: line {start}: malformed: {error}; a quote inside a quoted field is written twice; for a file "
            "without quotes around fields, say `quoting: none`"
        ) from None


def _records(
    path: Path, header: list[str], numbered_fields: Iterable[tuple[int, list[str]]], names: str
) -> Iterator[dict[str, str]]:
    for line, fields in numbered_fields:
        if len(fields) != len(header):
            advice = (
                "quote fields that contain the separator"
                if len(fields) > len(header)
                else "a missing value needs its separator too, and a field with a line break needs quotes"
            )
            raise UserError(
                f"{path}: line {line}: expected {len(header)} fields, as in {names}, found {len(fields)}; {advice}"
            )
        yield dict(zip(header, fields, strict=True))

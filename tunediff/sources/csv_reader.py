"""Reader of files with separated values: csv and tsv."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tunediff.core import limits
from tunediff.core.errors import UserError


def read(path: Path, lines: Callable[[], Iterator[str]]) -> tuple[list[str], Iterable[dict[str, str]]]:
    """Return the column names and the rows, which are read as they are asked for.

    Raises UserError, also while the rows are read, if the file is malformed.
    """
    numbered_fields = _numbered_fields(path, lines())
    _, header = next(numbered_fields)
    return header, _records(path, header, numbered_fields)


def csv_parser(path: Path, lines: Iterable[str], strict: bool = False) -> Any:
    """A parser of Python's csv module for fields of any length. The ending of the name tells the separator."""
    csv.field_size_limit(sys.maxsize)
    return csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=strict)


def _numbered_fields(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
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

    reader = csv_parser(path, measured(), strict=True)
    try:
        for fields in reader:
            if fields:  # a blank line is no row
                yield start, fields
            start = reader.line_num + 1
            size = 0
    except csv.Error as error:
        raise UserError(
            f"{path}: line {start}: malformed: {error}; a quote inside a quoted field is written twice"
        ) from None


def _records(
    path: Path, header: list[str], numbered_fields: Iterable[tuple[int, list[str]]]
) -> Iterator[dict[str, str]]:
    for line, fields in numbered_fields:
        if len(fields) != len(header):
            advice = (
                "quote fields that contain the separator"
                if len(fields) > len(header)
                else "a missing value needs its separator too, and a field with a line break needs quotes"
            )
            raise UserError(
                f"{path}: line {line}: expected {len(header)} fields, as in the header, found {len(fields)}; {advice}"
            )
        yield dict(zip(header, fields, strict=True))

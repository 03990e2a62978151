"""The input of a job of any length: rows with a column of texts, read in chunks."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from tunediff.core import limits
from tunediff.core.errors import UserError, reason
from tunediff.core.files import sha256
from tunediff.core.settings import check
from tunediff.core.values import as_text
from tunediff.sources import formats
from tunediff.sources.columns import joined, missing
from tunediff.sources.settings import FileKeys
from tunediff.sources.table import Table
from tunediff.sources.text_lines import pieces

CHUNK = 2048  # rows in memory; no more are computed again after a break
WRITTEN = 64  # of those that texts are written for, which take seconds each: a few batches
CHARACTERS = 2**24  # of rows in memory, if no row has more

Row = dict[str, Any]
Reading = Callable[[Row, str], str]


@dataclass(frozen=True)
class Input:
    """Rows with a column of texts."""

    place: Path | str
    """The file, or the option that names the column of texts: what a message about the columns begins with."""
    header: list[str]
    text_columns: list[str]
    """Their texts are joined, as `prepare` joins them."""
    rows: Callable[[], Iterable[Row]]
    """Begins anew at each call; standard input goes on."""
    schema: pa.Schema
    """Types of the columns, for Parquet; empty if they were not asked for."""
    total: int | None = None
    """How many rows, where they can be counted."""
    sha256: str | None = None
    """SHA-256 of the file; None for what cannot be read again."""
    keys: dict[str, Any] = field(default_factory=dict)
    """How the file was to be read."""
    reading: Reading = as_text
    """What makes a value a text."""

    def texts(self, rows: list[Row]) -> list[str]:
        """The texts of some of the rows."""
        return [joined(row, self.text_columns, self.reading) for row in rows]

    def check_new(self, columns: Iterable[str]) -> None:
        """Raises UserError if some of the columns that are to be added are there already."""
        if clash := [name for name in columns if name in self.header]:
            raise UserError(
                f"{self.place}: the columns {', '.join(clash)} are there already; rename them, or leave them out"
            )


def chunks(rows: Iterable[Row], size: int | None = None) -> Iterator[list[Row]]:
    """Lists of up to `size` rows, or `CHUNK`, and of fewer if these are long."""
    size = size or CHUNK
    chunk: list[Row] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += sum(len(value) for value in row.values() if isinstance(value, str | bytes))
        if len(chunk) == size or characters >= CHARACTERS:
            yield chunk
            chunk = []
            characters = 0
    if chunk:
        yield chunk


def read_texts(texts: list[str], column: str, reading: Reading = as_text) -> Input:
    """The input of texts from the command line, in one column; `reading` makes a text of each."""
    rows = [{column: text} for text in texts]
    _check_texts(rows, [column], 1, "TEXT", reading)
    return _texts_alone(column, lambda: rows, reading, len(texts))


def read_lines(file: TextIO, column: str, reading: Reading = as_text) -> Input:
    """The input of one text a line; an empty line is an empty text, so that answers stand where the texts stood."""
    file.reconfigure(encoding="utf-8-sig")

    def rows() -> Iterator[Row]:
        try:
            for number, line in enumerate(pieces(file), 1):
                if len(line) > limits.ROW:
                    raise UserError(f"standard input: line {number}: more than {limits.ROW:,} characters; shorten it")
                row = {column: line.removesuffix("\n")}
                _check_texts([row], [column], number, "standard input", reading)
                yield row
        except UnicodeDecodeError as error:
            raise UserError(f"standard input: {reason(error)}; expected UTF-8") from None

    return _texts_alone(column, rows, reading)


def _texts_alone(column: str, rows: Callable[[], Iterable[Row]], reading: Reading, total: int | None = None) -> Input:
    return Input("--text", [column], [column], rows, pa.schema([(column, pa.string())]), total, reading=reading)


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say how a file is written: the keys of a data file."""
    group = parser.add_argument_group("how the file is written, where that is not found by reading it")
    for name, key in FileKeys.model_fields.items():
        group.add_argument(f"--{name}", help=key.description.rstrip("."))


def file_keys(args: argparse.Namespace) -> FileKeys:
    """What these arguments say. Raises UserError for a value that cannot be."""
    values = {name: getattr(args, name) for name in FileKeys.model_fields}
    values["columns"] = values["columns"].split(",") if values["columns"] else None
    return check(values, FileKeys, Path("--file"))


def read_file(
    path: Path, text_columns: list[str], typed: bool, keys: FileKeys | None = None, reading: Reading = as_text
) -> Input:
    """The input of a file, read through once to see that every row is right; `typed`: with the columns' types.

    `keys` say how the file is written, and `reading` what makes a value a text. Raises UserError, which names file and
    row, if a row is not right, or if a column that is to have one type has several.
    """

    def read() -> Table:
        return formats.read_records(path, keys, "name it, as in --encoding ENCODING", text_columns)

    keys = keys or FileKeys()
    table = read()
    header = table.header
    for column in text_columns:
        if column not in table.names:
            if table.first_row_is_data:
                raise UserError(f"{path}: {missing(table, column, '--columns {}')}")
            raise UserError(
                f"{path}: no column '{column}'; it has: {', '.join(table.names)}. Name the column of texts with --text"
            )
    has_types = path.suffix.lower() == ".parquet"
    schema = pq.read_schema(path).remove_metadata() if typed and has_types else pa.schema([])
    total = 0
    with tqdm(desc="checking", unit="row") as progress:
        for chunk in chunks(table.rows):
            _check_texts(chunk, text_columns, total + 1, path, reading)
            if typed and not has_types:
                schema = _schema(path, header, chunk, schema)
            total += len(chunk)
            progress.update(len(chunk))
    if typed:
        _check_schema(path, schema)
    named = keys.model_dump(exclude_none=True)
    return Input(path, header, text_columns, lambda: read().rows, schema, total, sha256(path), named, reading)


def _check_texts(
    rows: list[Row], columns: list[str], first: int, place: Path | str, reading: Reading = as_text
) -> None:
    for number, row in enumerate(rows, first):
        try:
            joined(row, columns, reading)
        except ValueError as error:
            raise UserError(f"{place}: row {number}: {error}") from None


def _check_schema(path: Path, schema: pa.Schema) -> None:
    """Raises UserError if Parquet cannot hold these types: objects without keys, or lists in each other, too many."""
    try:
        written = pa.BufferOutputStream()
        pq.ParquetWriter(written, schema).close()
        pq.read_schema(pa.BufferReader(written.getvalue()))
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: Parquet cannot hold a column of it: {reason(error)}; name the answers .jsonl or .csv"
        ) from None


def _schema(path: Path, header: list[str], chunk: list[Row], before: pa.Schema) -> pa.Schema:
    """Types that fit the chunk and those `before` it."""
    schema = before
    for name in header:
        try:
            values = pa.array([row.get(name) for row in chunk])
            schema = pa.unify_schemas([schema, pa.schema([(name, values.type)])], promote_options="permissive")
        except (pa.ArrowException, UnicodeEncodeError):
            raise UserError(
                f"{path}: column '{name}' has values of several types, which Parquet cannot hold; name the answers "
                ".jsonl or .csv"
            ) from None
    return schema

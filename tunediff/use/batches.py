"""Jobs of any length: rows come and go in chunks, and a run that breaks goes on where it was."""

import csv
import json
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from tunediff.core.errors import UserError, reason
from tunediff.core.files import atomic, read_json, sha256, write_json
from tunediff.core.spreadsheets import harmless
from tunediff.core.values import as_text
from tunediff.sources import formats

CHUNK = 2048  # rows in memory; no more are computed again after a break
ROW_GROUP = 32  # chunks in a row group of a Parquet file
FORMATS = (".csv", ".jsonl", ".parquet")

Row = dict[str, Any]


@dataclass(frozen=True)
class Input:
    """Rows with a column of texts."""

    header: list[str]
    rows: Callable[[], Iterable[Row]]
    """Begins anew at each call; standard input goes on."""
    schema: pa.Schema
    """Types of the columns, for Parquet; empty if they were not asked for."""
    total: int | None = None
    """How many rows, where they can be counted."""
    sha256: str | None = None
    """Of the file; None for what cannot be read again."""


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(rows)
    return iter(lambda: list(islice(rows, CHUNK)), [])


# --- what comes in


def read_texts(texts: list[str], column: str) -> Input:
    """Texts of the command line."""
    rows = [{column: text} for text in texts]
    _check(rows, column, 1, "TEXT")
    return Input([column], lambda: rows, pa.schema([(column, pa.string())]), len(texts))


def read_lines(file: TextIO, column: str) -> Input:
    """One text a line; an empty line is an empty text, so that answers stand where the texts stood."""
    file.reconfigure(encoding="utf-8-sig")

    def rows() -> Iterator[Row]:
        try:
            for line in file:
                yield {column: line.removesuffix("\n")}
        except UnicodeDecodeError as error:
            raise UserError(f"standard input: {reason(error)}; expected UTF-8") from None

    return Input([column], rows, pa.schema([(column, pa.string())]))


def read_file(path: Path, column: str, typed: bool) -> Input:
    """A file with a column of texts, read through once to see that it is whole; `typed`: with the columns' types.

    Raises UserError, which names file and row, if it is not, or if a column that is to have one type has several.
    """
    header, records = formats.read_records(path)
    if column not in header:
        raise UserError(
            f"{path}: no column '{column}'; it has: {', '.join(header)}. Name the column of texts with --text"
        )
    has_types = path.suffix.lower() == ".parquet"
    total, schema = 0, pq.read_schema(path).remove_metadata() if typed and has_types else pa.schema([])
    with tqdm(desc="checking", unit="row") as progress:
        for chunk in chunks(records):
            _check(chunk, column, total + 1, path)
            if typed and not has_types:
                schema = _schema(path, header, chunk, schema)
            total += len(chunk)
            progress.update(len(chunk))
    return Input(header, lambda: formats.read_records(path)[1], schema, total, sha256(path))


def _check(rows: list[Row], column: str, first: int, where: Path | str) -> None:
    for number, row in enumerate(rows, first):
        try:
            as_text(row, column)
        except ValueError as error:
            raise UserError(f"{where}: row {number}: {error}") from None


def _schema(path: Path, header: list[str], chunk: list[Row], before: pa.Schema) -> pa.Schema:
    """Types that fit the chunk and those `before` it."""
    for name in header:
        try:
            column = pa.array([row.get(name) for row in chunk])
            found = pa.schema([(name, column.type)])
            before = pa.unify_schemas([before, found], promote_options="permissive")
        except (pa.ArrowException, UnicodeEncodeError):
            raise UserError(
                f"{path}: column '{name}' has values of several types, which Parquet cannot hold; name the answers "
                ".jsonl or .csv"
            ) from None
    return before


# --- what goes out


def check_place(out: Path) -> None:
    """Raises UserError if no file of answers can be written to `out`; before hours of work, not after."""
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"--out {out}: the name ends in none of {', '.join(FORMATS)}")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written there: {error.strerror}; name another folder") from None


def labelled(
    source: Input, column: str, answer: Callable[[list[str]], list[Row]], done: int = 0
) -> Iterator[list[Row]]:
    """Chunks of the input's rows, from row `done` on, with what `answer` says of their texts."""
    rows = islice(source.rows(), done, None)
    with tqdm(total=source.total, initial=done, unit="text") as progress:
        for chunk in chunks(rows):
            answers = answer([as_text(row, column) for row in chunk])
            yield [row | answered for row, answered in zip(chunk, answers, strict=True)]
            progress.update(len(chunk))


def save(
    out: Path,
    source: Input,
    column: str,
    answer: Callable[[list[str]], list[Row]],
    new: dict[str, pa.DataType],
    options: dict[str, Any],
) -> int:
    """Write the rows with their answers, which are columns `new`, to `out`; return how many they are.

    Until all are there, chunks are kept in a folder beside it. If an earlier run left some, of the same input and with
    the same `options`, they are not asked for again.
    """
    folder, ending = out.with_name(f".{out.name}.partial"), out.suffix.lower()
    note, made_from = folder / "made-from.json", {"input": source.sha256, "text": column, "rows": CHUNK, **options}
    if folder.exists() and not (source.sha256 and note.is_file() and read_json(note) == made_from):
        print(f"{folder}: left by a run on another input, model or option; begun anew", file=sys.stderr)
        shutil.rmtree(folder)
    write_json(note, made_from)
    parts = sorted(folder.glob(f"*{ending}"))
    rows = min(len(parts) * CHUNK, source.total) if parts else 0
    if parts:
        print(f"{folder}: {rows:,} rows are there from an earlier run; it goes on after them", file=sys.stderr)

    columns, schema = [*source.header, *new], pa.schema([*source.schema, *new.items()])
    for chunk in labelled(source, column, answer, rows):
        parts.append(folder / f"{len(parts):08}{ending}")
        with atomic(parts[-1]) as partial:
            if ending == ".parquet":
                pq.write_table(pa.Table.from_pylist(chunk, schema), partial)
            else:
                with _open(partial) as file:
                    if ending == ".csv":
                        write_csv(file, chunk, columns, new)
                    else:
                        _write_jsonl(file, chunk)
        rows += len(chunk)

    with atomic(out) as partial:
        if ending == ".parquet":
            with pq.ParquetWriter(partial, schema) as writer:
                for start in range(0, len(parts), ROW_GROUP):
                    writer.write_table(pa.concat_tables(map(pq.read_table, parts[start : start + ROW_GROUP])))
        else:
            with _open(partial) as file:
                if ending == ".csv":
                    write_csv(file, [dict(zip(columns, columns, strict=True))], columns, new)
                for part in parts:
                    with part.open(encoding="utf-8", newline="") as written:
                        shutil.copyfileobj(written, file)
    shutil.rmtree(folder)
    return rows


def _open(path: Path) -> TextIO:
    # Half a character, which JSON can write and UTF-8 cannot, goes out as JSON writes it.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def write_csv(file: TextIO, rows: list[Row], columns: list[str], new: Collection[str]) -> None:
    """The input's cells as they came in, whatever a spreadsheet takes them for; those of columns `new` are harmless."""
    # csv puts quotes around a carriage return only where it ends lines with one.
    writer = csv.writer(SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n")))
    for row in rows:
        row = row | {name: harmless(row[name]) for name in new if isinstance(row[name], str)}
        cells = (row.get(name) for name in columns)
        writer.writerow([_json(cell) if isinstance(cell, list | dict) else cell for cell in cells])


def _write_jsonl(file: TextIO, rows: list[Row]) -> None:
    file.writelines(f"{_json(row)}\n" for row in rows)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # a date or a decimal of a Parquet file as text

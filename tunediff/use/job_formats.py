"""The formats in which a job's rows are written: each chunk to a file of its own, and all of them joined into one."""

import csv
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from tunediff.core.csv_cells import harmless
from tunediff.use.job_input import Input, Row

ROW_GROUP = 32  # chunks in a row group of a Parquet file


class Format(ABC):
    """A format of files with the input's columns and the `new` ones of the answers, whose types `new` gives."""

    def __init__(self, source: Input, new: dict[str, pa.DataType]):
        self.new = new
        self.columns = [*source.header, *new]
        self.schema = pa.schema([*source.schema, *new.items()])

    @abstractmethod
    def write(self, path: Path, rows: list[Row]) -> None:
        """Write a chunk."""

    @abstractmethod
    def join(self, path: Path, chunks: list[Path]) -> None:
        """Write a file of all the chunks' rows."""


class Parquet(Format):
    def write(self, path: Path, rows: list[Row]) -> None:
        pq.write_table(pa.Table.from_pylist(rows, self.schema), path)

    def join(self, path: Path, chunks: list[Path]) -> None:
        with pq.ParquetWriter(path, self.schema) as writer:
            for start in range(0, len(chunks), ROW_GROUP):
                writer.write_table(pa.concat_tables(map(pq.read_table, chunks[start : start + ROW_GROUP])))


class Jsonl(Format):
    def write(self, path: Path, rows: list[Row]) -> None:
        with _open(path) as file:
            file.writelines(f"{_json(row)}\n" for row in rows)

    def join(self, path: Path, chunks: list[Path]) -> None:
        with _open(path) as file:
            _copy(chunks, file)


class Csv(Format):
    """The input's cells stay as they came, whatever a spreadsheet takes them for; the new columns' are harmless.

    Where the new columns are one of spans, a span has a row of its own, and a text without any has one with empty
    cells: columns NAME_start, NAME_end and so on. Raises UserError if the input has such columns already.
    """

    def __init__(self, source: Input, new: dict[str, pa.DataType]):
        super().__init__(source, new)
        self.spans = ""
        if len(new) == 1 and pa.types.is_list(kind := next(iter(new.values()))) and pa.types.is_struct(kind.value_type):
            [self.spans] = new
            self.new = {f"{self.spans}_{part.name}": part.type for part in kind.value_type}
            source.check_new(self.new)
            self.columns = [*source.header, *self.new]

    @property
    def made_harmless(self) -> Collection[str]:
        """The columns whose texts are no formulas."""
        return self.new

    def write(self, path: Path, rows: list[Row]) -> None:
        with _open(path) as file:
            self.write_rows(file, rows)

    def join(self, path: Path, chunks: list[Path]) -> None:
        with _open(path) as file:
            self.write_header(file)
            _copy(chunks, file)

    def write_header(self, file: TextIO) -> None:
        self.write_rows(file, [dict(zip(self.columns, self.columns, strict=True))])

    def write_rows(self, file: TextIO, rows: list[Row]) -> None:
        # csv puts quotes around a carriage return only where it ends lines with one.
        writer = csv.writer(SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n")))
        for row in self._divided(rows) if self.spans else rows:
            row = row | {name: harmless(row[name]) for name in self.made_harmless if isinstance(row.get(name), str)}
            cells = (row.get(name) for name in self.columns)
            writer.writerow([_json(cell) if isinstance(cell, list | dict) else cell for cell in cells])

    def _divided(self, rows: list[Row]) -> Iterator[Row]:
        for row in rows:
            for span in row.get(self.spans) or [{}]:  # none: the header, too
                yield row | {f"{self.spans}_{name}": value for name, value in span.items()}


class SpreadsheetCsv(Csv):
    """To be edited in a spreadsheet: no cell is a formula, and a mark at the beginning says UTF-8 to Excel."""

    @property
    def made_harmless(self) -> Collection[str]:
        return self.columns

    def write_header(self, file: TextIO) -> None:
        file.write("\ufeff")
        super().write_header(file)


BY_ENDING: dict[str, type[Format]] = {".csv": Csv, ".jsonl": Jsonl, ".parquet": Parquet}


def _open(path: Path) -> TextIO:
    # Half a character, which JSON can write and UTF-8 cannot, goes out as JSON writes it.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def _copy(chunks: list[Path], file: TextIO) -> None:
    for chunk in chunks:
        with chunk.open(encoding="utf-8", newline="") as written:
            shutil.copyfileobj(written, file)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # a date or a decimal of a Parquet file as text

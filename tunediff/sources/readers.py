"""Read labelled texts where they are: files under data/raw/ or a Hub data set.

Everything is read as text, so that a label `NA`, `007` or `1e5` stays what it is. Malformed input raises UserError with
the place: byte, line, row or column.
"""

import codecs
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tunediff.core.errors import UserError, reason
from tunediff.core.files import sha256
from tunediff.sources import hub
from tunediff.sources.columns import FORMATS, RAW, Rows, columns
from tunediff.sources.settings import DataConf


def read(conf: DataConf, conf_path: Path) -> dict[str, Rows]:
    """Return the rows of each split that the source has; a single file is one split named `all`."""
    if on_hub(conf):
        return hub.read(conf, conf_path)
    if not conf.source:
        raise UserError(f"{conf_path}: source: names no file; write a file under {RAW}/, or one for each split")
    sources = conf.source if isinstance(conf.source, dict) else {"all": conf.source}
    return {split: _read_file(_raw_file(source, conf_path), conf, conf_path) for split, source in sources.items()}


def on_hub(conf: DataConf) -> bool:
    """Whether the source is a Hub data set, and no file."""
    return isinstance(conf.source, str) and Path(conf.source).suffix.lower() not in FORMATS


def _raw_file(source: str, conf_path: Path) -> Path:
    """The file below data/raw/ that `source` names: DVC watches that folder, so a change there is seen."""
    path = Path(source) if Path(source).is_relative_to(RAW) else RAW / source
    if ".." in path.parts or not path.is_relative_to(RAW):
        raise UserError(
            f"{conf_path}: source: {source} is not under {RAW}/; copy or link the file there, so that DVC sees it "
            "change"
        )
    if not path.is_file():
        present = ", ".join(sorted(p.name for p in RAW.glob("*") if p.suffix.lower() in FORMATS)) or "no data file"
        raise UserError(f"{conf_path}: source: there is no file {path}; {RAW}/ has: {present}")
    return path


def _read_file(path: Path, conf: DataConf, conf_path: Path) -> Rows:
    header, records = read_records(
        path, conf.encoding, f"write its encoding in {conf_path}, for example `encoding: cp1252`"
    )
    return columns(header, records, conf, conf_path, str(path), f"{path.name} sha256:{sha256(path)}")


def read_records(
    path: Path, encoding: str = "utf-8", advice: str = "convert it"
) -> tuple[list[str], Iterable[dict[str, Any]]]:
    """Column names and rows of a csv, tsv, json, jsonl or parquet file. `advice` ends a message about the encoding.

    The rows are read as they are asked for, so that a file may be larger than memory; but a json file is read whole,
    and of a parquet file one row group.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{path}: the name ends in none of {', '.join(FORMATS)}")
    try:
        with path.open("rb") as file:
            blank = not file.read(1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if suffix != ".parquet":
        blank = not any(line.strip() for line in _lines(path, encoding, advice))
    if blank:
        raise UserError(f"{path}: the file is empty; expected rows with a column of texts")
    if suffix == ".parquet":
        return _parquet(path)
    read = {".csv": _separated, ".tsv": _separated, ".json": _json, ".jsonl": _jsonl}[suffix]
    return read(path, lambda: _lines(path, encoding, advice))


def _lines(path: Path, encoding: str, advice: str) -> Iterator[str]:
    """The lines of a text file, each with its end as it is."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            # A byte-order mark is no part of the first column's name.
            yield file.readline().removeprefix("\ufeff")
            yield from file
    except UnicodeDecodeError:
        raise _undecodable(path, encoding, advice) from None
    except UnicodeError as error:  # no byte of it is wrong, as where utf-16 lacks its mark
        raise UserError(f"{path}: not {encoding}: {reason(error)}; save the file as UTF-8, or {advice}") from None
    except (LookupError, ValueError):  # the latter of a name with a NUL
        raise UserError(
            f"{path}: Python knows no encoding '{encoding}'; try utf-8, utf-16, latin-1 or cp1252"
        ) from None


def _undecodable(path: Path, encoding: str, advice: str) -> UserError:
    """Where the first byte is that does not decode."""
    content = path.read_bytes()
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        start = error.start
    before = content[:start].decode(encoding).removeprefix("\ufeff")
    place = f"line {before.count(chr(10)) + 1}"
    if path.suffix.lower() in (".csv", ".tsv"):
        # Rows are counted as for every message: the first one under the header is row 1.
        row = sum(1 for fields in _csv_reader(path, io.StringIO(before + "?", newline="")) if fields) - 1
        place = f"{f'row {row}' if row else 'the header'}, {place}"
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return UserError(
        f"{path}: not {encoding}{', but maybe utf-16' * marked}: byte {start} "
        f"(0x{content[start]:02x}), in {place}; save the file as UTF-8, or {advice}"
    )


# --- formats: each gives its columns and an iterator over rows; `lines` begins the text again at each call


def _csv_reader(path: Path, lines: Iterable[str], strict: bool = False) -> Any:
    csv.field_size_limit(sys.maxsize)
    return csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=strict)


def _separated(path: Path, lines: Callable[[], Iterator[str]]) -> tuple[list[str], Iterable[dict[str, Any]]]:
    reader = _csv_reader(path, lines(), strict=True)

    def numbered() -> Iterator[tuple[int, list[str]]]:
        start = 1
        try:
            for fields in reader:
                if fields:  # a blank line is no row
                    yield start, fields
                start = reader.line_num + 1
        except csv.Error as error:
            raise UserError(
                f"{path}: line {start}: malformed: {error}; a quote inside a quoted field is written twice"
            ) from None

    rows = numbered()
    _, header = next(rows)
    _check_names(path, header)

    def records() -> Iterator[dict[str, Any]]:
        for line, fields in rows:
            if len(fields) != len(header):
                advice = (
                    "quote fields that contain the separator"
                    if len(fields) > len(header)
                    else "a missing value needs its separator too, and a field with a line break needs quotes"
                )
                raise UserError(
                    f"{path}: line {line}: expected {len(header)} fields, as in the header, found {len(fields)}; "
                    f"{advice}"
                )
            yield dict(zip(header, fields, strict=True))

    return header, records()


def _check_names(path: Path, header: list[str]) -> None:
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"{path}: two columns are named '{repeated[0]}'; rename one of them")


def _jsonl(path: Path, lines: Callable[[], Iterator[str]]) -> tuple[list[str], Iterable[dict[str, Any]]]:
    def records() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(lines(), 1):
            if line.strip():
                try:
                    yield _object(json.loads(line), f"{path}: line {number}")
                except json.JSONDecodeError as error:
                    raise UserError(
                        f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}; expected one object, "
                        'as in {"text": "...", "label": "..."}, on each line'
                    ) from None
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{path}: line {number}: not read: {reason(error)}; shorten the value") from None

    return _columns_of(records()), records()


def _json(path: Path, lines: Callable[[], Iterator[str]]) -> tuple[list[str], Iterable[dict[str, Any]]]:
    try:
        records = json.loads("".join(lines()))
    except json.JSONDecodeError as error:
        unwrapped = error.msg == "Extra data"
        advice = "a file with an object on each line is named .jsonl" if unwrapped else "correct it there"
        raise UserError(
            f"{path}: line {error.lineno}: not JSON: {error.msg} at column {error.colno}; {advice}"
        ) from None
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets in each other
        raise UserError(f"{path}: not read: {reason(error)}; shorten the value") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: expected a list of objects, [{{...}}, ...], found {type(records).__name__}")
    if not records:
        raise UserError(f"{path}: the list is empty; expected rows with a column of texts")
    records = [_object(record, f"{path}: row {number}") for number, record in enumerate(records, 1)]
    return _columns_of(records), records


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{place}: expected an object with the columns as keys, found {type(value).__name__}")
    return value


def _columns_of(records: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for record in records for key in record))


def _parquet(path: Path) -> tuple[list[str], Iterable[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def broken(error: Exception) -> UserError:
        return UserError(f"{path}: not a whole Parquet file: {reason(error)}; copy or write it again")

    def records() -> Iterator[dict[str, Any]]:
        try:
            # One row group at a time: over all of them at once, pyarrow holds on to what it has read.
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(batch_size=1024, row_groups=[group]):
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise broken(error) from None
        except (ValueError, OverflowError, LookupError) as error:  # a date of the year 100,000, an unknown time zone
            raise UserError(
                f"{path}: row group {group + 1} has a value that Python cannot hold: {reason(error)}; write that "
                "column as text"
            ) from None

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
        raise broken(error) from None
    header = file.schema_arrow.names
    _check_names(path, header)
    return header, records()

"""Read labelled texts where they are: files under data/raw/ or a Hub data set.

Everything is read as text, so that a label `NA`, `007` or `1e5` stays what it is. Malformed input raises UserError with
the place: byte, line, row or column.
"""

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.common.params import DataConf

RAW = Path("data/raw")
FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Rows:
    """The columns that matter of one file or split, row by row. A missing value is an empty string."""

    texts: list[str]
    labels: list[str]
    groups: list[str]
    origin: str
    """The file with its SHA-256, or the Hub id with the commit that its revision resolved to."""


def read(conf: DataConf, conf_path: Path) -> dict[str, Rows]:
    """Return the rows of each split that the source has; a single file is one split named `all`."""
    if isinstance(conf.source, str) and not conf.source.endswith(FORMATS):
        return _read_hub(conf, conf_path)
    sources = conf.source if isinstance(conf.source, dict) else {"all": conf.source}
    return {split: _read_file(_raw_file(source, conf_path), conf, conf_path) for split, source in sources.items()}


def _raw_file(source: str, conf_path: Path) -> Path:
    """The file below data/raw/ that `source` names: DVC watches that folder, so a change there is seen."""
    path = Path(source) if Path(source).is_relative_to(RAW) else RAW / source
    if ".." in path.parts or not path.is_relative_to(RAW):
        raise UserError(f"{conf_path}: source: {source} is not under {RAW}/; copy or link the file there, so that DVC sees it change")
    if path.suffix not in FORMATS:
        raise UserError(f"{conf_path}: source: {source} ends in none of {', '.join(FORMATS)}")
    if not path.is_file():
        present = ", ".join(sorted(p.name for p in RAW.glob("*") if p.suffix in FORMATS)) or "no data file"
        raise UserError(f"{conf_path}: source: there is no file {path}; {RAW}/ has: {present}")
    return path


def _read_file(path: Path, conf: DataConf, conf_path: Path) -> Rows:
    content = path.read_bytes()
    if not content.strip():
        raise UserError(f"{path}: the file is empty")
    origin = f"{path.name} sha256:{hashlib.sha256(content).hexdigest()}"
    if path.suffix == ".parquet":
        header, records = _parquet(path)
    else:
        text = _decode(content, path, conf, conf_path)
        header, records = {".csv": _separated, ".tsv": _separated, ".json": _json, ".jsonl": _jsonl}[path.suffix](path, text)
    return _columns(header, records, conf, conf_path, str(path), origin)


def _decode(content: bytes, path: Path, conf: DataConf, conf_path: Path) -> str:
    # A byte-order mark is no part of the first column's name.
    encoding = "utf-8-sig" if conf.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else conf.encoding
    try:
        return content.decode(encoding)
    except LookupError:
        raise UserError(f"{conf_path}: encoding: Python knows no encoding '{conf.encoding}'; try utf-8, latin-1 or cp1252") from None
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, errors="replace")
        row = sum(1 for _ in csv.reader(io.StringIO(before, newline=""))) - 1 if path.suffix in (".csv", ".tsv") else before.count("\n") + 1
        raise UserError(
            f"{path}: not {conf.encoding}: byte {error.start} (0x{content[error.start]:02x}), in row {max(row, 1)}, line "
            f"{before.count(chr(10)) + 1}; save the file as UTF-8, or write its encoding in {conf_path}, for example `encoding: cp1252`"
        ) from None


# --- formats: each gives its columns and an iterator over rows ----------------------------------------------------------


def _separated(path: Path, text: str) -> tuple[list[str], Iterator[dict[str, Any]]]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)

    def lines() -> Iterator[tuple[int, list[str]]]:
        start = 1
        try:
            for fields in reader:
                if fields:  # a blank line is no row
                    yield start, fields
                start = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{path}: line {start}: malformed: {error}; a quote inside a quoted field is written twice") from None

    rows = lines()
    _, header = next(rows)

    def records() -> Iterator[dict[str, Any]]:
        for line, fields in rows:
            if len(fields) != len(header):
                raise UserError(f"{path}: line {line}: {len(fields)} fields, but the header has {len(header)}; quote fields that contain the separator")
            yield dict(zip(header, fields, strict=True))

    return header, records()


def _jsonl(path: Path, text: str) -> tuple[list[str], Iterator[dict[str, Any]]]:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}") from None
    return _objects(path, records)


def _json(path: Path, text: str) -> tuple[list[str], Iterator[dict[str, Any]]]:
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}: not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: expected a list of objects, found {type(records).__name__}")
    return _objects(path, records)


def _objects(path: Path, records: list[Any]) -> tuple[list[str], Iterator[dict[str, Any]]]:
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise UserError(f"{path}: row {number}: expected an object with the columns as keys, found {type(record).__name__}")
    return list(dict.fromkeys(key for record in records for key in record)), iter(records)


def _parquet(path: Path) -> tuple[list[str], Iterator[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        header = file.schema_arrow.names
        batches = [file.read()]
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a whole Parquet file: {error}") from None
    return header, (record for batch in batches for record in batch.to_pylist())


# --- a Hub data set ------------------------------------------------------------------------------------------------------


def _read_hub(conf: DataConf, conf_path: Path) -> dict[str, Rows]:
    import datasets
    import huggingface_hub

    where = f"{conf_path}: source: Hub data set {conf.source} at revision {conf.revision}"
    try:
        loaded = datasets.load_dataset(conf.source, revision=conf.revision)
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise UserError(
            f"{where}: cannot be read: {' '.join(str(error).split())}. Check its name and the network, log in with `hf auth login` if it "
            f"is gated, or put a file under {RAW}/ and name that"
        ) from None
    commit = next(iter(loaded.values())).info.version
    rows = {}
    for split, table in loaded.items():
        names = {column: feature.int2str for column, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)}
        records = ({key: names[key](value) if key in names and value is not None and value >= 0 else value for key, value in record.items()} for record in table)
        rows[split] = _columns(table.column_names, records, conf, conf_path, f"{conf.source} ({split})", f"{conf.source} {commit}")
    return rows


# --- from records to columns ---------------------------------------------------------------------------------------------


def _columns(header: list[str], records: Iterable[dict[str, Any]], conf: DataConf, conf_path: Path, where: str, origin: str) -> Rows:
    text_columns = [conf.text] if isinstance(conf.text, str) else conf.text
    for key, column in [*(("text", column) for column in text_columns), ("label", conf.label), ("group", conf.group)]:
        if column is not None and column not in header:
            raise UserError(f"{conf_path}: {key}: {where} has no column '{column}'; it has: {', '.join(header)}")
    texts, labels, groups = [], [], []
    for record in records:
        texts.append("\n\n".join(part for column in text_columns if (part := _string(record.get(column)))))
        labels.append(_string(record.get(conf.label)).strip())
        groups.append(_string(record.get(conf.group)).strip() if conf.group else "")
    if not texts:
        raise UserError(f"{where}: there are column names but no rows")
    return Rows(texts, labels, groups, origin)


def _string(value: Any) -> str:
    """What a value looks like in a CSV; None and NaN are empty, and whole floats lose their `.0`."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)

"""Read labelled texts where they are: files under data/raw/ or a Hub data set.

Everything is read as text, so that a label `NA`, `007` or `1e5` stays what it is. Malformed input raises UserError with
the place: byte, line, row or column.
"""

import codecs
import csv
import hashlib
import io
import itertools
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from stages.common.errors import UserError
from stages.common.files import whole
from stages.common.params import DataConf

if TYPE_CHECKING:
    import datasets

RAW = Path("data/raw")
FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Rows:
    """One file or split of a source."""

    table: pd.DataFrame
    """Columns row (from 1), text, label, group; a missing value is an empty string."""
    origin: str
    """The file with its SHA-256, or the Hub id with the commit that its revision resolved to."""


def read(conf: DataConf, conf_path: Path) -> dict[str, Rows]:
    """Return the rows of each split that the source has; a single file is one split named `all`."""
    if isinstance(conf.source, str) and Path(conf.source).suffix.lower() not in FORMATS:
        return _read_hub(conf, conf_path)
    if not conf.source:
        raise UserError(f"{conf_path}: source: names no file; write a file under {RAW}/, or one for each split")
    sources = conf.source if isinstance(conf.source, dict) else {"all": conf.source}
    return {split: _read_file(_raw_file(source, conf_path), conf, conf_path) for split, source in sources.items()}


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
    with path.open("rb") as file:
        origin = f"{path.name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return _columns(header, records, conf, conf_path, str(path), origin)


def read_records(
    path: Path, encoding: str = "utf-8", advice: str = "convert it"
) -> tuple[list[str], Iterable[dict[str, Any]]]:
    """Column names and rows of a csv, tsv, json, jsonl or parquet file. `advice` ends a message about the encoding."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{path}: the name ends in none of {', '.join(FORMATS)}")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    empty = UserError(f"{path}: the file is empty; expected rows with a column of texts")
    if not content.strip():
        raise empty
    if suffix == ".parquet":
        return _parquet(path)
    text = _decode(content, path, encoding, advice)
    if not text.strip():  # nothing but a byte-order mark
        raise empty
    return {".csv": _separated, ".tsv": _separated, ".json": _json, ".jsonl": _jsonl}[suffix](path, text)


def _decode(content: bytes, path: Path, encoding: str, advice: str) -> str:
    try:
        # A byte-order mark is no part of the first column's name.
        return content.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise UserError(
            f"{path}: Python knows no encoding '{encoding}'; try utf-8, utf-16, latin-1 or cp1252"
        ) from None
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, errors="replace").removeprefix("\ufeff")
        place = f"line {before.count(chr(10)) + 1}"
        if path.suffix.lower() in (".csv", ".tsv"):
            # Rows are counted as for every message: the first one under the header is row 1.
            row = sum(1 for fields in _csv_reader(path, before + "?") if fields) - 1
            place = f"{f'row {row}' if row else 'the header'}, {place}"
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise UserError(
            f"{path}: not {encoding}{', but maybe utf-16' * marked}: byte {error.start} "
            f"(0x{content[error.start]:02x}), in {place}; save the file as UTF-8, or {advice}"
        ) from None


# --- formats: each gives its columns and an iterator over rows


def _csv_reader(path: Path, text: str, strict: bool = False) -> Any:
    csv.field_size_limit(sys.maxsize)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)


def _separated(path: Path, text: str) -> tuple[list[str], Iterable[dict[str, Any]]]:
    reader = _csv_reader(path, text, strict=True)

    def lines() -> Iterator[tuple[int, list[str]]]:
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

    rows = lines()
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


def _jsonl(path: Path, text: str) -> tuple[list[str], Iterable[dict[str, Any]]]:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                records.append(_object(json.loads(line), f"{path}: line {number}"))
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}; expected one object, as in "
                    '{"text": "...", "label": "..."}, on each line'
                ) from None
    return _columns_of(records), records


def _json(path: Path, text: str) -> tuple[list[str], Iterable[dict[str, Any]]]:
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        lines = error.msg == "Extra data"
        advice = "a file with an object on each line is named .jsonl" if lines else "correct it there"
        raise UserError(
            f"{path}: line {error.lineno}: not JSON: {error.msg} at column {error.colno}; {advice}"
        ) from None
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


def _columns_of(records: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for record in records for key in record))


def _parquet(path: Path) -> tuple[list[str], Iterable[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        header = file.schema_arrow.names
        _check_names(path, header)
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a whole Parquet file: {reason}; copy or write it again") from None
    return header, (record for batch in table.to_batches() for record in batch.to_pylist())


# --- a Hub data set


def _read_hub(conf: DataConf, conf_path: Path) -> dict[str, Rows]:
    import datasets
    from huggingface_hub import resolve_revision
    from huggingface_hub.errors import RevisionNotFoundError, RevisionResolutionError
    from huggingface_hub.utils import HFValidationError, httpx, validate_repo_id

    try:
        validate_repo_id(conf.source)
        if Path(conf.source).is_relative_to(RAW) or (RAW / conf.source).exists():
            raise HFValidationError
    except HFValidationError:
        raise UserError(
            f"{conf_path}: source: '{conf.source}' is neither a data file, whose name ends in {', '.join(FORMATS)}, "
            "nor the id of a Hub data set"
        ) from None
    where = f"Hub data set {conf.source} at revision {conf.revision}"
    try:
        if conf.rows is not None:
            commit = resolve_revision(conf.source, repo_type="dataset", revision=conf.revision).resolved
            if (kept := _kept_part(conf, commit)).is_file():
                return _load_part(kept)
        # With hf://, a folder of that name here is not taken for the data set.
        builder = datasets.load_dataset_builder(f"hf://datasets/{conf.source}", revision=conf.revision)
        if conf.rows is not None and (part := _fetch_part(builder, conf, conf_path)) is not None:
            with whole(kept := _kept_part(conf, builder.hash)) as partial:
                part.to_parquet(partial)
            return _load_part(kept)
        builder.download_and_prepare()
        loaded = builder.as_dataset()
    except (
        OSError,
        ValueError,
        RuntimeError,
        httpx.HTTPError,
        RevisionResolutionError,
        datasets.exceptions.DatasetsError,
    ) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        wrong_revision = any(isinstance(e, RevisionNotFoundError) for e in (error, error.__cause__))
        key = "revision" if wrong_revision else "source"
        raise UserError(
            f"{conf_path}: {key}: {where}: cannot be read: {reason}. Check its name and the network, log in with "
            f"`hf auth login` if it is gated, or put a file under {RAW}/ and name that"
        ) from None
    # Without a network, the library falls back on whatever commit it has.
    commit = builder.hash
    if re.fullmatch("[0-9a-f]{40}", conf.revision) and commit != conf.revision:
        raise UserError(
            f"{conf_path}: revision: {where}: the Hub is out of reach, and the copy on this machine is commit "
            f"{commit}; connect to the network, or name that commit"
        )
    rows = {}
    for split, table in loaded.items():
        records = _named_labels(table, table.features)
        rows[split] = _columns(
            table.column_names, records, conf, conf_path, f"{conf.source} ({split})", f"{conf.source} {commit}"
        )
    return rows


def _named_labels(records: Iterable[dict[str, Any]], features: "datasets.Features") -> Iterator[dict[str, Any]]:
    """The records with names for the numbers of ClassLabel columns; -1 marks a row without a label."""
    names = {column: feature.int2str for column, feature in features.items() if hasattr(feature, "int2str")}
    for record in records:
        yield {
            key: value if key not in names else None if value in (None, -1) else names[key](value)
            for key, value in record.items()
        }


# --- part of a large Hub data set
#
# Where `rows` asks for little of a data set in Parquet files, the rest is not downloaded. The least that can be fetched
# is a row group, often 1000 rows. Of each split, evenly spaced row groups are read, so that labels keep their shares
# even if the rows are sorted by them. They hold several times the rows asked for; `prepare` draws its sample from them.

PART_PER_ROW = 10  # rows read for each row that is asked for
PART_GROUPS = 20  # row groups read at least, but not more than a quarter of them for that alone


def _fetch_part(builder: "datasets.DatasetBuilder", conf: DataConf, conf_path: Path) -> pd.DataFrame | None:
    """Rows of the splits that `splits` names, with columns split and origin; None if the whole had better be read."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq
    from huggingface_hub import HfFileSystem
    from tqdm import tqdm

    # Which splits: none here if `splits` does not fit them, which is reported when the whole has been read.
    files = builder.config.data_files or {}  # none without a network
    named = {side: split for side, split in conf.splits.items() if isinstance(split, str)}
    used = [split for split in files if split in named.values() or not named]
    if len(used) != max(len(named), 1) or not all(file.endswith(".parquet") for split in used for file in files[split]):
        return None

    # Which row groups of each.
    system = HfFileSystem()
    groups = {}
    for split in used:
        shards = [pq.ParquetFile(system.open(file, cache_type="none"), pre_buffer=True) for file in files[split]]
        groups[split] = [(shard, group) for shard in shards for group in range(shard.num_row_groups)]
    sizes = {split: [s.metadata.row_group(group).num_rows for s, group in groups[split]] for split in used}
    shares = _shares_asked_for(conf, named, {split: sum(sizes[split]) for split in used})
    least = min(PART_GROUPS / sum(map(len, groups.values())), 1 / 4)
    chosen = {split: _evenly(len(groups[split]), max(PART_PER_ROW * shares[split], least)) for split in used}
    if all(len(chosen[split]) == len(groups[split]) for split in used):
        return None

    # Read them.
    tables = []
    for split in used:
        shard = groups[split][0][0]
        first_rows = list(itertools.accumulate(sizes[split], initial=1))
        numbers = [row for i in chosen[split] for row in range(first_rows[i], first_rows[i + 1])]
        wanted = [conf.text] if isinstance(conf.text, str) else conf.text
        table = pa.concat_tables(
            groups[split][i][0].read_row_group(groups[split][i][1], columns=[*wanted, conf.label, conf.group or ""])
            for i in tqdm(chosen[split], desc=f"Reading part of {split}", unit="row group")
        )
        records = (record for batch in table.to_batches() for record in batch.to_pylist())
        features = builder.info.features or datasets.Features.from_arrow_schema(shard.schema_arrow)
        origin = f"{conf.source} {builder.hash} ({len(chosen[split])} of {len(groups[split])} row groups)"
        where = f"{conf.source} ({split})"
        header = shard.schema_arrow.names
        rows = _columns(header, _named_labels(records, features), conf, conf_path, where, origin, numbers)
        tables.append(rows.table.assign(split=split, origin=origin))
    return pd.concat(tables, ignore_index=True)


def _evenly(total: int, share: float) -> list[int]:
    """Evenly spaced indices below `total`, about that share of them; all of them if it is half or more."""
    count = math.ceil(share * total) if share < 1 / 2 else total
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def _shares_asked_for(conf: DataConf, named: dict[str, str], sizes: dict[str, int]) -> dict[str, float]:
    """The part of each split of the source that `rows` asks for; may be more than 1."""
    if not isinstance(conf.rows, dict):
        return dict.fromkeys(sizes, conf.rows / sum(sizes.values()))
    cut = {side: share for side, share in conf.splits.items() if isinstance(share, float)}
    shares = {}
    for split, size in sizes.items():
        sides = {side: 1.0 for side, name in named.items() if name == split}
        if not named or "train" in sides:
            sides = {"train": 1 - sum(cut.values()), **cut}
        shares[split] = max(conf.rows[side] / share / size if side in conf.rows else 1 for side, share in sides.items())
    return shares


def _kept_part(conf: DataConf, commit: str) -> Path:
    """Where a part is kept for the next time, which may be without a network: beside the library's own cache."""
    import datasets

    question = repr((conf.text, conf.label, conf.group, conf.splits, conf.rows, PART_PER_ROW, PART_GROUPS))
    name = f"{commit}-{hashlib.sha256(question.encode()).hexdigest()[:16]}.parquet"
    return Path(datasets.config.HF_DATASETS_CACHE, "tunediff", conf.source.replace("/", "___"), name)


def _load_part(kept: Path) -> dict[str, Rows]:
    return {
        split: Rows(table.drop(columns=["split", "origin"]), table.origin.iloc[0])
        for split, table in pd.read_parquet(kept).groupby("split", sort=False)
    }


# --- from records to columns


def _columns(
    header: list[str],
    records: Iterable[dict[str, Any]],
    conf: DataConf,
    conf_path: Path,
    where: str,
    origin: str,
    numbers: list[int] | None = None,
) -> Rows:
    """`numbers` are the rows' places in the source, where these are not all of them."""
    text_columns = [conf.text] if isinstance(conf.text, str) else conf.text
    for key, column in [*(("text", column) for column in text_columns), ("label", conf.label), ("group", conf.group)]:
        if column is not None and column not in header:
            raise UserError(f"{conf_path}: {key}: {where} has no column '{column}'; it has: {', '.join(header)}")
    texts, labels, groups = [], [], []
    for row, record in zip(numbers or itertools.count(1), records, strict=False):
        try:
            texts.append("\n\n".join(part for column in text_columns if (part := _string(record, column))))
            labels.append(_string(record, conf.label).strip())
            groups.append(_string(record, conf.group).strip() if conf.group else "")
        except ValueError as error:
            raise UserError(f"{where}: row {row}: {error}") from None
    if not texts:
        raise UserError(f"{where}: column names, but no rows under them; add rows, or name another file")
    columns = {"row": numbers or range(1, len(texts) + 1), "text": texts, "label": labels, "group": groups}
    return Rows(pd.DataFrame(columns), origin)


def _string(record: dict[str, Any], column: str) -> str:
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

"""Read part of a large Hub data set.

If `rows` asks for few rows of a data set in Parquet files, the rest is not downloaded. The least that can be fetched is
a row group, often 1000 rows. From each split, evenly spaced row groups are read, so that the labels keep their shares
even if the rows are sorted by label. These groups hold several times the rows asked for, and `prepare` draws its sample
from them.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tunediff.core.files import atomic
from tunediff.sources.class_labels import nested, with_label_names
from tunediff.sources.columns import Rows, Target, columns, needed
from tunediff.sources.json_reader import with_nested
from tunediff.sources.settings import DataConf
from tunediff.sources.table import Table

if TYPE_CHECKING:
    import datasets
    import pyarrow.parquet as pq

PART_PER_ROW = 10  # rows read for each row that is asked for
PART_GROUPS = 20  # row groups read at least, but not more than a quarter of them for that alone


@dataclass(frozen=True)
class RowGroup:
    """One row group of a split, in one of its files."""

    file: "pq.ParquetFile"
    number: int
    """Place in the file, from 0."""
    first_row: int
    """Place of its first row in the split, from 1."""
    rows: int


def load_kept(conf: DataConf, task: Target) -> dict[str, Rows] | None:
    """Return the rows that `fetch` kept at an earlier run, or None if there are none.

    Raises errors of huggingface_hub if the revision does not exist, or cannot be asked for.
    """
    from huggingface_hub import resolve_revision

    commit = resolve_revision(conf.source, repo_type="dataset", revision=conf.revision).resolved
    kept = _kept_file(conf, task, commit)
    return _load(kept) if kept.is_file() else None


def fetch(builder: "datasets.DatasetBuilder", conf: DataConf, conf_path: Path, task: Target) -> dict[str, Rows] | None:
    """Fetch rows of each split that `splits` names, and keep them for `load_kept`.

    Return None if all of the data set is to be read instead: it is not in Parquet files, its splits are not those that
    `splits` names, or all row groups are needed. Raises UserError if a column is missing, and errors of pyarrow and
    huggingface_hub if the download fails.
    """
    splits = _used_splits(builder, conf)
    if not splits:
        return None
    row_groups = {split: _row_groups(builder, split) for split in splits}
    chosen = _choose(row_groups, conf)
    if chosen == row_groups:
        return None
    tables = []
    for split in splits:
        origin = f"{conf.source} {builder.hash} ({len(chosen[split])} of {len(row_groups[split])} row groups)"
        rows = _read_split(builder, split, chosen[split], conf, conf_path, task, origin)
        tables.append(rows.table.assign(split=split, origin=origin))
    kept = _kept_file(conf, task, builder.hash)
    with atomic(kept) as partial:
        pd.concat(tables, ignore_index=True).to_parquet(partial)
    return _load(kept)


def _used_splits(builder: "datasets.DatasetBuilder", conf: DataConf) -> list[str]:
    """The splits to read part of; none if they are not in Parquet files, or not those that `splits` names.

    Splits that do not fit are reported when all of the data set has been read.
    """
    files = builder.config.data_files or {}  # none without a network
    named = conf.named_splits
    used = [split for split in files if split in named.values() or not named]
    if len(used) != max(len(named), 1) or not all(file.endswith(".parquet") for split in used for file in files[split]):
        return []
    return used


def _row_groups(builder: "datasets.DatasetBuilder", split: str) -> list[RowGroup]:
    """All row groups of a split. Only the ends of its files are downloaded."""
    import pyarrow.parquet as pq
    from huggingface_hub import HfFileSystem

    system = HfFileSystem()
    row_groups = []
    first_row = 1
    for path in builder.config.data_files[split]:
        file = pq.ParquetFile(system.open(path, cache_type="none"), pre_buffer=True)
        for number in range(file.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            row_groups.append(RowGroup(file, number, first_row, rows))
            first_row += rows
    return row_groups


def _choose(row_groups: dict[str, list[RowGroup]], conf: DataConf) -> dict[str, list[RowGroup]]:
    """The row groups of each split that are read."""
    sizes = {split: sum(group.rows for group in groups) for split, groups in row_groups.items()}
    shares = _shares_asked_for(conf, sizes)
    least = min(PART_GROUPS / sum(map(len, row_groups.values())), 1 / 4)
    return {
        split: [groups[i] for i in _evenly(len(groups), max(PART_PER_ROW * shares[split], least))]
        for split, groups in row_groups.items()
    }


def _evenly(total: int, share: float) -> list[int]:
    """Evenly spaced indices below `total`, about that share of them; all of them if it is half or more."""
    count = math.ceil(share * total) if share < 1 / 2 else total
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def _shares_asked_for(conf: DataConf, sizes: dict[str, int]) -> dict[str, float]:
    """The share of each split of the source that `rows` asks for; may be more than 1."""
    if not isinstance(conf.rows, dict):
        return dict.fromkeys(sizes, conf.rows / sum(sizes.values()))
    named, cut = conf.named_splits, conf.cut_splits
    shares = {}
    for split, size in sizes.items():
        sides = {side: 1.0 for side, name in named.items() if name == split}
        if not named or "train" in sides:
            sides = {"train": 1 - sum(cut.values()), **cut}
        shares[split] = max(conf.rows[side] / share / size if side in conf.rows else 1 for side, share in sides.items())
    return shares


def _read_split(
    builder: "datasets.DatasetBuilder",
    split: str,
    row_groups: list[RowGroup],
    conf: DataConf,
    conf_path: Path,
    task: Target,
    origin: str,
) -> Rows:
    """Download the row groups and return their rows, with the numbers that these have in the split."""
    import datasets
    import pyarrow as pa
    from tqdm import tqdm

    wanted = [column for _, column in needed(conf, task)]  # names that the file does not have are ignored
    table = pa.concat_tables(
        group.file.read_row_group(group.number, columns=wanted)
        for group in tqdm(row_groups, desc=f"Reading part of {split}", unit="row group")
    )
    schema = row_groups[0].file.schema_arrow
    features = builder.info.features or datasets.Features.from_arrow_schema(schema)
    records = (record for batch in table.to_batches() for record in batch.to_pylist())
    numbers = [row for group in row_groups for row in range(group.first_row, group.first_row + group.rows)]
    place = f"{conf.source} ({split})"
    source = Table(schema.names, nested(features), with_nested(with_label_names(records, features), wanted))
    return columns(source, conf, conf_path, task, place, origin, numbers)


def _kept_file(conf: DataConf, task: Target, commit: str) -> Path:
    """Where a part is kept for the next time, which may be without a network: beside the library's own cache."""
    import datasets

    question = repr((needed(conf, task), conf.config, conf.splits, conf.rows, PART_PER_ROW, PART_GROUPS))
    name = f"{commit}-{hashlib.sha256(question.encode()).hexdigest()[:16]}.parquet"
    return Path(datasets.config.HF_DATASETS_CACHE, "tunediff", conf.source.replace("/", "___"), name)


def _load(kept: Path) -> dict[str, Rows]:
    return {
        split: Rows(table.drop(columns=["split", "origin"]), table.origin.iloc[0])
        for split, table in pd.read_parquet(kept).groupby("split", sort=False)
    }

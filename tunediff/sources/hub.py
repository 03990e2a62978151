"""Read a Hub data set: all of it, or no more than a part of a large one."""

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tunediff.core.errors import UserError, reason
from tunediff.core.files import atomic
from tunediff.sources.columns import FORMATS, RAW, Rows, columns
from tunediff.sources.settings import DataConf

if TYPE_CHECKING:
    import datasets


def read(conf: DataConf, conf_path: Path) -> dict[str, Rows]:
    """Return the rows of each split, or of a part of each that `splits` names if `rows` asks for little of it."""
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
            with atomic(kept := _kept_part(conf, builder.hash)) as partial:
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
        wrong_revision = any(isinstance(e, RevisionNotFoundError) for e in (error, error.__cause__))
        key = "revision" if wrong_revision else "source"
        raise UserError(
            f"{conf_path}: {key}: {where}: cannot be read: {reason(error)}. Check its name and the network, log in "
            f"with `hf auth login` if it is gated, or put a file under {RAW}/ and name that"
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
        rows[split] = columns(
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
    named = conf.named_splits
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
    shares = _shares_asked_for(conf, {split: sum(sizes[split]) for split in used})
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
        rows = columns(header, _named_labels(records, features), conf, conf_path, where, origin, numbers)
        tables.append(rows.table.assign(split=split, origin=origin))
    return pd.concat(tables, ignore_index=True)


def _evenly(total: int, share: float) -> list[int]:
    """Evenly spaced indices below `total`, about that share of them; all of them if it is half or more."""
    count = math.ceil(share * total) if share < 1 / 2 else total
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def _shares_asked_for(conf: DataConf, sizes: dict[str, int]) -> dict[str, float]:
    """The part of each split of the source that `rows` asks for; may be more than 1."""
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

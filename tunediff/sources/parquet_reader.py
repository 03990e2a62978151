"""Reader of Parquet files."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunediff.core.errors import UserError, reason
from tunediff.core.parquet import read_batches
from tunediff.sources.class_labels import with_label_names
from tunediff.sources.settings import FileKeys
from tunediff.sources.table import Table

BATCH_SIZE = 1024  # rows that are Python objects at once


def read(path: Path, keys: FileKeys, wanted: Collection[str] | None) -> Table:
    """All column names, and the rows, which are read as they are asked for, with the columns that are wanted.

    If some are, numbers of a ClassLabel column are replaced by their names. Raises UserError, also while the rows are
    read, if the file is damaged or has a value that Python has no type for.
    """
    schema, batches = read_batches(path, BATCH_SIZE, "copy or write it again", wanted)
    repeated = {name for name, times in Counter(schema.names).items() if times > 1}
    if repeated and wanted is None:
        raise UserError(f"{path}: two columns are named '{sorted(repeated)[0]}'; rename one of them")
    records = _records(path, batches)
    # A file that the library datasets wrote has the names in its metadata.
    if wanted is not None and b"huggingface" in (schema.metadata or {}):
        records = _named(path, schema, records)
    return Table(schema.names, [], records, {}, repeated)


def _named(path: Path, schema: pa.Schema, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    import datasets

    try:
        features = datasets.Features.from_arrow_schema(schema)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: the names of its labels cannot be read: {reason(error)}; write it again, without its metadata"
        ) from None
    yield from with_label_names(records, features)


def _records(path: Path, batches: Iterable[tuple[int, pa.RecordBatch]]) -> Iterator[dict[str, Any]]:
    for group, batch in batches:
        try:
            yield from batch.to_pylist()
        # For example a date of the year 100,000 or an unknown time zone.
        except (pa.ArrowException, ValueError, OverflowError, LookupError) as error:
            raise UserError(
                f"{path}: row group {group} has a value that Python cannot hold: {reason(error)}; write that "
                "column as text"
            ) from None

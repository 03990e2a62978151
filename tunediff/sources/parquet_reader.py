"""Reader of Parquet files."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunediff.core.errors import UserError, reason
from tunediff.core.parquet import read_batches

BATCH_SIZE = 1024  # rows that are Python objects at once


def read(path: Path, wanted: Collection[str] | None) -> tuple[list[str], Iterable[dict[str, Any]]]:
    """Return all column names, and the rows, which are read as they are asked for, with the columns that are wanted.

    Raises UserError, also while the rows are read, if the file is damaged or has a value that Python has no type for.
    """
    schema, batches = read_batches(path, BATCH_SIZE, "copy or write it again", wanted)
    return schema.names, _records(path, batches)


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

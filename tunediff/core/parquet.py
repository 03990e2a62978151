"""Parquet files that may be larger than memory."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunediff.core.errors import UserError, reason

BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError)  # the last one for the name of a column


def read_batches(path: Path, batch_size: int, advice: str) -> tuple[pa.Schema, Iterator[tuple[int, pa.RecordBatch]]]:
    """Open a Parquet file. Return its schema and its batches, each with the number of its row group, from 1.

    A batch has at most `batch_size` rows and is read when it is asked for. Raises UserError, also while the batches
    are read, if the file is damaged; `advice` ends the message and says what to do.
    """

    def damaged(error: Exception) -> UserError:
        return UserError(f"{path}: not a whole Parquet file: {reason(error)}; {advice}")

    def batches() -> Iterator[tuple[int, pa.RecordBatch]]:
        try:
            # One row group at a time: over all of them at once, pyarrow holds on to what it has read.
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(batch_size, row_groups=[group]):
                    yield group + 1, batch
        except BROKEN as error:
            raise damaged(error) from None

    try:
        file = pq.ParquetFile(path)
    except BROKEN as error:
        raise damaged(error) from None
    return file.schema_arrow, batches()

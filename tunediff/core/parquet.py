"""Parquet files that may be larger than memory, or a few bytes long and larger in memory: values are repeated."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tunediff.core import limits
from tunediff.core.errors import UserError, reason

BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError)  # the last one for the name of a column
PROBED = 1024  # rows, and bytes, that are read at once to see a dictionary


def read_batches(
    path: Path, batch_size: int, advice: str, wanted: Collection[str] | None = None
) -> tuple[pa.Schema, Iterator[tuple[int, pa.RecordBatch]]]:
    """Open a Parquet file. Return its schema and its batches, each with the number of its row group, from 1.

    A batch has the columns that are `wanted`, or all, and at most `batch_size` rows; it is read when it is asked for.
    Raises UserError, also while the batches are read, if the file is damaged or takes too much memory; `advice` ends
    the message about damage and says what to do.
    """

    def damaged(error: Exception) -> UserError:
        return UserError(f"{path}: not a whole Parquet file: {reason(error)}; {advice}")

    def batches() -> Iterator[tuple[int, pa.RecordBatch]]:
        try:
            # One row group at a time: over all of them at once, pyarrow holds on to what it has read.
            for group in range(file.num_row_groups):
                rows = min(batch_size, _rows_at_once(path, file, group, wanted))
                for batch in file.iter_batches(rows, row_groups=[group], columns=names):
                    yield group + 1, batch
        except BROKEN as error:
            raise damaged(error) from None

    try:
        file = pq.ParquetFile(path)
    except BROKEN as error:
        raise damaged(error) from None
    names = None if wanted is None else [name for name in file.schema_arrow.names if name in wanted]
    return file.schema_arrow, batches()


def _rows_at_once(path: Path, file: pq.ParquetFile, group: int, wanted: Collection[str] | None) -> int:
    """How many rows of a row group may be decoded together. Raises UserError if a column takes more than it may.

    A column may be far larger than its bytes in the file: each row may repeat a long value of the dictionary, or the
    long beginning of the value before, and one row may have a list of any length.
    """
    metadata = file.metadata.row_group(group)
    total = 1
    for number in range(metadata.num_columns):
        chunk = metadata.column(number)
        name = chunk.path_in_schema
        if wanted is not None and not any(f"{name}.".startswith(f"{column}.") for column in wanted):
            continue
        decoded = chunk.total_uncompressed_size
        if decoded <= limits.COLUMN:
            decoded += chunk.num_values * _repeated_bytes(path, file, group, number)
        lists = file.schema.column(number).max_repetition_level > 0
        if (decoded if lists else chunk.total_uncompressed_size) > limits.COLUMN:
            raise UserError(
                f"{path}: row group {group + 1}: column '{name}' takes more than {limits.COLUMN:,} bytes; write the "
                "file with smaller row groups (pandas: row_group_size=10000)"
            )
        total += decoded
    return max(1, metadata.num_rows * limits.DECODED // total)


def _repeated_bytes(path: Path, file: pq.ParquetFile, group: int, number: int) -> int:
    """The most bytes that a value of a column takes in memory, beside those that it alone has in the file."""
    chunk = file.metadata.row_group(group).column(number)
    leaf = file.schema.column(number)
    if leaf.physical_type != "BYTE_ARRAY":
        return leaf.length or 8
    if "DELTA_BYTE_ARRAY" in chunk.encodings:
        return chunk.total_uncompressed_size
    if not chunk.has_dictionary_page:
        return 0
    name = chunk.path_in_schema
    probe = pq.ParquetFile(path, metadata=file.metadata, read_dictionary=[name], buffer_size=PROBED)
    for batch in probe.iter_batches(PROBED, row_groups=[group], columns=[name]):
        lengths = [pc.binary_length(dictionary) for dictionary in _dictionaries(batch.column(0)) if len(dictionary)]
        if lengths:
            return max(pc.max(each).as_py() for each in lengths)
    return chunk.total_uncompressed_size


def _dictionaries(array: pa.Array) -> Iterator[pa.Array]:
    """The dictionaries in an array; each comes whole with the first value of it."""
    if isinstance(array, pa.ExtensionArray):
        yield from _dictionaries(array.storage)
    elif pa.types.is_dictionary(array.type):
        yield array.dictionary
    elif pa.types.is_map(array.type):
        yield from _dictionaries(array.keys)
        yield from _dictionaries(array.items)
    elif pa.types.is_struct(array.type):
        for index in range(array.type.num_fields):
            yield from _dictionaries(array.field(index))
    elif pa.types.is_nested(array.type):
        yield from _dictionaries(array.values)

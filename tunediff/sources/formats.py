"""Read a data file by the ending of its name. The table below has the reader of each format.

A new format is a reader in a file of its own, and a line in the table. A reader returns the column names and the rows.
Values may be of any type that `columns.as_text` takes. Malformed input raises UserError with the place: line or row.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from tunediff.core import limits
from tunediff.core.errors import UserError
from tunediff.sources import conll_reader, csv_reader, json_reader, parquet_reader
from tunediff.sources.text_lines import read_lines

# These take the path and a function. Each call of the function gives the lines from the first one on.
TEXT_READERS = {
    ".csv": csv_reader.read,
    ".tsv": csv_reader.read,
    ".json": json_reader.read,
    ".jsonl": json_reader.read_jsonl,
    ".conll": conll_reader.read,
}
# These take the path, and the names of the columns that are needed, or None for all of them.
BINARY_READERS = {
    ".parquet": parquet_reader.read,
}
FORMATS = (*TEXT_READERS, *BINARY_READERS)


def read_records(
    path: Path, encoding: str = "utf-8", advice: str = "convert it", wanted: Collection[str] | None = None
) -> tuple[list[str], Iterable[dict[str, Any]]]:
    """Return the column names and the rows of a data file. `advice` ends a message about the encoding.

    The rows are read as they are asked for, so that a file may be larger than memory; but a json file is read whole. If
    columns are `wanted`, rows may lack the others. Raises UserError, also while the rows are read, if the file cannot
    be read, is empty or is malformed, or takes more than `limits` allows.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{path}: the name ends in none of {', '.join(FORMATS)}")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if suffix in TEXT_READERS:
        empty = not any(line.strip() for line in read_lines(path, encoding, advice))
    if empty:
        raise UserError(f"{path}: the file is empty; expected rows with a column of texts")

    if suffix in TEXT_READERS:
        header, records = TEXT_READERS[suffix](path, lambda: read_lines(path, encoding, advice))
    else:
        header, records = BINARY_READERS[suffix](path, wanted)
    if len(header) > limits.COLUMNS:
        raise UserError(f"{path}: more than {limits.COLUMNS:,} columns; write a file of those that are needed")
    if repeated := sorted(name for name, times in Counter(header).items() if times > 1):
        raise UserError(f"{path}: two columns are named '{repeated[0]}'; rename one of them")
    return header, records

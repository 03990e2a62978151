"""Read a data file by the ending of its name. The tables below have the reader of each format.

A new format is a reader in a file of its own, and a line in a table. A reader returns a `Table`. Malformed input raises
UserError with the place: line or row.
"""

from collections.abc import Collection
from pathlib import Path

from tunediff.core import limits
from tunediff.core.errors import UserError
from tunediff.sources import conll_reader, csv_reader, excel_reader, json_reader, parquet_reader
from tunediff.sources.settings import FileKeys
from tunediff.sources.table import Table
from tunediff.sources.text_lines import COMPRESSED, encoding_of, ending, open_bytes, read_lines, unreadable

# These take the path and a function, of which each call gives the lines from the first one on; keys; columns wanted.
TEXT_READERS = {
    ".csv": csv_reader.read,
    ".tsv": csv_reader.read,
    ".txt": csv_reader.read,
    ".data": csv_reader.read,
    ".label": csv_reader.read,
    "": csv_reader.read,
    ".json": json_reader.read,
    ".jsonl": json_reader.read_jsonl,
    ".ndjson": json_reader.read_jsonl,
    ".conll": conll_reader.read,
}
# These take the path, keys, and the names of the columns that are needed, or None for all of them.
BINARY_READERS = {
    ".parquet": parquet_reader.read,
    ".xlsx": excel_reader.read,
    ".xls": excel_reader.read,
}
FORMATS = (*filter(None, TEXT_READERS), *BINARY_READERS)


def is_format(path: Path) -> bool:
    """Whether the name of a file ends in that of a format; one of text may be compressed."""
    kind = ending(path)
    return kind in FORMATS and (kind in TEXT_READERS or path.suffix.lower() not in COMPRESSED)


def read_records(
    path: Path,
    keys: FileKeys,
    advice: str = "convert it",
    asked: Collection[str] = (),
    needed_alone: bool = False,
) -> Table:
    """The columns and rows of a data file. `advice` ends a message about the encoding.

    The rows are read as they are asked for, so that a file may be larger than memory; but json files and workbooks are
    read whole. The columns that are `asked` for decide what is the header; with `needed_alone`, rows may lack others.
    Raises UserError, also while the rows are read, if the file cannot be read, is empty or is malformed, or takes more
    than `limits` allows.
    """
    kind = ending(path)
    if kind and not is_format(path):
        raise UserError(f"{path}: the name ends in none of {', '.join(FORMATS)}")
    try:
        with open_bytes(path) as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise unreadable(path, error) from None
    encoding = keys.encoding or encoding_of(path)
    if kind in TEXT_READERS:
        empty = not any(line.strip() for line in read_lines(path, encoding, advice))
    if empty:
        raise UserError(f"{path}: the file is empty; expected rows with a column of texts")

    if kind in TEXT_READERS:
        table = TEXT_READERS[kind](path, lambda: read_lines(path, encoding, advice), keys, asked)
        table.decided = {"encoding": encoding, **table.decided}
    else:
        table = BINARY_READERS[kind](path, keys, asked if needed_alone else None)
    if len(table.header) > limits.COLUMNS:
        raise UserError(f"{path}: more than {limits.COLUMNS:,} columns; write a file of those that are needed")
    table.check(path, asked)
    return table

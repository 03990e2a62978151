"""What one file may take: hostile or broken input ends in one line, not in a machine without memory."""

from collections.abc import Iterable, Iterator

import psutil

ROW = 12_000_000
"""Characters of a row: while a text is divided into tokens, each of these takes some 250 bytes."""
COLUMNS = 10_000
"""Columns of a file."""
JSON = 2**28
"""Bytes of a .json file, which is read whole."""
COLUMN = 2**30
"""Bytes of one column in one row group of a Parquet file, uncompressed."""
DECODED = 2**26
"""Bytes of a Parquet file that are decoded at once, if no row has more."""
TOGETHER = 250
"""Texts whose tokens are held at once."""
CHARACTERS = 2**20
"""Characters of texts whose tokens are held at once, if no text has more."""
TURNS = 200
"""Of a chat: it is framed again at each turn of the user, so its time grows with the square."""


def memory() -> int:
    """Bytes that the rows of a file, or of a list of files, may take where all are held: an eighth of all memory.

    To prepare them takes about six times as much.
    """
    return psutil.virtual_memory().total // 8


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, in order, as many together as their tokens are held at once."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) == TOGETHER or size + len(text) > CHARACTERS):
            yield batch
            batch = []
            size = 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch

"""Reader of CoNLL files: a token on each line, its tag in the last column, a blank line between texts."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from tunediff.core import limits
from tunediff.core.errors import UserError
from tunediff.sources.csv_dialect import Lines
from tunediff.sources.settings import FileKeys
from tunediff.sources.table import Table

COLUMNS = ["tokens", "tags", "document"]
DOCUMENT = "-DOCSTART-"


def read(path: Path, lines: Lines, keys: FileKeys, asked: Collection[str]) -> Table:
    """The columns tokens and tags, which are lists, and document: the file and the number of the -DOCSTART- before, or
    empty.

    Raises UserError, while the rows are read, if a line has no tag.
    """
    return Table(COLUMNS, [], _records(path, lines()))


def _records(path: Path, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    tokens: list[str] = []
    tags: list[str] = []
    document = size = 0
    for number, line in enumerate(lines, 1):
        fields = line.split()
        size += len(line)
        if size > limits.ROW:
            raise UserError(f"{path}: line {number}: a text of more than {limits.ROW:,} characters; put blank lines in")
        if fields and fields[0] != DOCUMENT:
            if len(fields) < 2:
                raise UserError(
                    f"{path}: line {number}: expected a token and its tag with a space or tab between, found "
                    f"'{line.strip():.40}'; a blank line ends a text"
                )
            tokens.append(fields[0])
            tags.append(fields[-1])
            continue
        if tokens:
            yield _record(tokens, tags, path, document)
            tokens, tags, size = [], [], 0
        document += bool(fields)
    if tokens:
        yield _record(tokens, tags, path, document)


def _record(tokens: list[str], tags: list[str], path: Path, document: int) -> dict[str, Any]:
    # Each file begins to count anew: the number alone would tie documents of different files together.
    return {"tokens": tokens, "tags": tags, "document": f"{path}:{document}" if document else ""}

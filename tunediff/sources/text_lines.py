"""Lines of a text file in a named encoding; a byte that does not fit it is reported with its place."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path

from tunediff.core.errors import UserError, reason
from tunediff.sources.csv_reader import csv_parser


def read_lines(path: Path, encoding: str, advice: str) -> Iterator[str]:
    """Yield the lines of a text file, each with its end as it is.

    Raises UserError if the bytes are not in that encoding, or if there is no such encoding. `advice` ends the message:
    what to do if the file cannot be saved as UTF-8.
    """
    try:
        with path.open(encoding=encoding, newline="") as file:
            # A byte-order mark is no part of the first column's name.
            yield file.readline().removeprefix("\ufeff")
            yield from file
    except UnicodeDecodeError:
        raise _undecodable(path, encoding, advice) from None
    except UnicodeError as error:  # no single byte is wrong, for example utf-16 lacks its mark
        raise UserError(f"{path}: not {encoding}: {reason(error)}; save the file as UTF-8, or {advice}") from None
    except (LookupError, ValueError):  # ValueError: the name of the encoding has a NUL
        raise UserError(
            f"{path}: Python knows no encoding '{encoding}'; try utf-8, utf-16, latin-1 or cp1252"
        ) from None


def _undecodable(path: Path, encoding: str, advice: str) -> UserError:
    """The message about the first byte that does not decode, with its place in the file."""
    content = path.read_bytes()
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        start = error.start
    before = content[:start].decode(encoding).removeprefix("\ufeff")
    place = f"line {before.count(chr(10)) + 1}"
    if path.suffix.lower() in (".csv", ".tsv"):
        # Rows are counted as for every message: the first one under the header is row 1.
        row = sum(1 for fields in csv_parser(path, io.StringIO(before + "?", newline="")) if fields) - 1
        place = f"{f'row {row}' if row else 'the header'}, {place}"
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return UserError(
        f"{path}: not {encoding}{', but maybe utf-16' * marked}: byte {start} "
        f"(0x{content[start]:02x}), in {place}; save the file as UTF-8, or {advice}"
    )

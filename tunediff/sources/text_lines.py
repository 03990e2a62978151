"""Lines of a text file in a named encoding; a byte that does not fit it is reported with its place."""

import codecs
import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TextIO

from tunediff.core import limits
from tunediff.core.errors import UserError, reason
from tunediff.sources.csv_reader import csv_parser

BLOCK = 2**20  # bytes that are searched at once


def read_lines(path: Path, encoding: str, advice: str) -> Iterator[str]:
    """Yield the lines of a text file, each with its end as it is; one that is longer than a row may be, in pieces.

    Raises UserError if the bytes are not in that encoding, or if there is no such encoding. `advice` ends the message:
    what to do if the file cannot be saved as UTF-8.
    """
    try:
        with path.open(encoding=encoding, newline="") as file:
            # A byte-order mark is no part of the first column's name.
            yield file.readline(limits.ROW + 1).removeprefix("\ufeff")
            yield from pieces(file)
    except UnicodeDecodeError:
        raise _undecodable(path, encoding, advice) from None
    except UnicodeError as error:  # no single byte is wrong, for example utf-16 lacks its mark
        raise UserError(f"{path}: not {encoding}: {reason(error)}; save the file as UTF-8, or {advice}") from None
    except (LookupError, ValueError):  # ValueError: the name of the encoding has a NUL
        raise UserError(
            f"{path}: Python knows no encoding '{encoding}'; try utf-8, utf-16, latin-1 or cp1252"
        ) from None


def pieces(file: TextIO) -> Iterator[str]:
    """The lines of a file; one that is longer than a row may be, in pieces of which the first is longer too."""
    return iter(lambda: file.readline(limits.ROW + 1), "")


def _undecodable(path: Path, encoding: str, advice: str) -> UserError:
    """The message about the first byte that does not decode, with its place in the file."""
    start, byte = _first_wrong_byte(path, encoding)
    with path.open("rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    line = 1 + sum(piece.count("\n") for piece in _before(path, encoding, start))
    place = f"line {line}"
    if path.suffix.lower() in (".csv", ".tsv"):
        before = _before(path, encoding, start)
        first = next(before).removeprefix("\ufeff")
        # Rows are counted as for every message: the first one under the header is row 1.
        row = sum(1 for fields in csv_parser(path, chain([first], before)) if fields) - 1
        place = f"{f'row {row}' if row else 'the header'}, {place}"
    return UserError(
        f"{path}: not {encoding}{', but maybe utf-16' * marked}: byte {start} "
        f"(0x{byte:02x}), in {place}; save the file as UTF-8, or {advice}"
    )


def _first_wrong_byte(path: Path, encoding: str) -> tuple[int, int]:
    """The place in the file of the first byte that does not decode, and its value."""
    decoder = codecs.getincrementaldecoder(encoding)()
    read = 0
    with path.open("rb") as file:
        for block in chain(iter(lambda: file.read(BLOCK), b""), [b""]):
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                kept = len(error.object) - len(block)  # bytes of the block before, where a character is not complete
                return read - kept + error.start, error.object[error.start]
            read += len(block)
    raise UserError(f"{path}: changes while it is read; run this again when it does not")


def _before(path: Path, encoding: str, size: int) -> Iterator[str]:
    """The lines in the first bytes of a file, and a question mark for what comes next."""
    with path.open("rb") as file:
        text = io.TextIOWrapper(io.BufferedReader(_Beginning(file, size)), encoding, newline="")
        last = ""
        for piece in pieces(text):
            if last:
                yield last
            last = piece
        if last.endswith(("\r", "\n")):
            yield last
            last = ""
        yield f"{last}?"


class _Beginning(io.RawIOBase):
    """The first bytes of a file."""

    def __init__(self, file: BinaryIO, size: int):
        self.file = file
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        read = self.file.read(min(len(buffer), self.left))
        buffer[: len(read)] = read
        self.left -= len(read)
        return len(read)

"""Lines of a text file, which may be compressed, in a named encoding; a byte that does not fit is reported with its
place."""

import codecs
import csv
import io
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TextIO

import charset_normalizer
import pyarrow as pa

from tunediff.core import limits
from tunediff.core.errors import UserError, reason

BLOCK = 2**20  # bytes that are searched at once
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
# Encodings that few bytes are enough to tell; those of western Europe differ in too few.
FAR = (
    "big5",
    "big5hkscs",
    "gb18030",
    "gb2312",
    "gbk",
    "euc_jp",
    "shift_jis",
    "cp932",
    "euc_kr",
    "cp949",
    "cp1251",
    "koi8_r",
)
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def ending(path: Path) -> str:
    """The ending of the file's name, in small letters and without that of compression: `.csv` of `A.CSV.gz`."""
    name = Path(path.name.lower())
    return Path(name.stem).suffix if name.suffix in COMPRESSED else name.suffix


def open_bytes(path: Path) -> BinaryIO:
    """The bytes of a file, as they were before it was compressed."""
    return pa.input_stream(path) if path.suffix.lower() in COMPRESSED else path.open("rb")


def encoding_of(path: Path) -> str:
    """UTF-16 if the file begins with its mark, else UTF-8."""
    try:
        with open_bytes(path) as file:
            return "utf-16" if file.read(2) in UTF16 else "utf-8"
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read: {error.strerror or reason(error)}")


def read_lines(path: Path, encoding: str, advice: str) -> Iterator[str]:
    """Yield the lines of a text file, each with its end as it is; one that is longer than a row may be, in pieces.

    Raises UserError if the bytes are not in that encoding, or if there is no such encoding. `advice` ends the message:
    what to do if the file cannot be saved as UTF-8.
    """
    unknown = UserError(f"{path}: Python knows no encoding '{encoding}'; try utf-8, utf-16, latin-1 or cp1252")
    try:
        with open_bytes(path) as stream, io.TextIOWrapper(stream, encoding, newline="") as file:
            # A byte-order mark is no part of the first column's name.
            yield file.readline(limits.ROW + 1).removeprefix("\ufeff")
            yield from pieces(file)
    except UnicodeDecodeError:
        raise _undecodable(path, encoding, advice) from None
    except UnicodeEncodeError:  # the name of the encoding has half a character
        raise unknown from None
    except UnicodeError as error:  # no single byte is wrong, for example utf-16 lacks its mark
        advice = advice.replace("ENCODING", _likely(path, encoding))
        raise UserError(f"{path}: not {encoding}: {reason(error)}; save the file as UTF-8, or {advice}") from None
    except (LookupError, ValueError):  # ValueError: the name of the encoding has a NUL
        raise unknown from None
    except OSError as error:
        raise unreadable(path, error) from None


def pieces(file: TextIO) -> Iterator[str]:
    """The lines of a file; one that is longer than a row may be, in pieces of which the first is longer too."""
    return iter(lambda: file.readline(limits.ROW + 1), "")


def _undecodable(path: Path, encoding: str, advice: str) -> UserError:
    """The message about the first byte that does not decode, with its place in the file."""
    start, byte = _first_wrong_byte(path, encoding)
    marked = encoding_of(path) == "utf-16"
    line = 1 + sum(piece.count("\n") for piece in _before(path, encoding, start))
    place = f"line {line}"
    if ending(path) in (".csv", ".tsv"):
        before = _before(path, encoding, start)
        first = next(before).removeprefix("\ufeff")
        # Rows are counted as for every message: the first one under the header is row 1.
        csv.field_size_limit(sys.maxsize)
        separated = csv.reader(chain([first], before), delimiter="\t" if ending(path) == ".tsv" else ",")
        row = sum(1 for fields in separated if fields) - 1
        place = f"{f'row {row}' if row else 'the header'}, {place}"
    return UserError(
        f"{path}: not {encoding}{', but maybe utf-16' * marked}: byte {start} "
        f"(0x{byte:02x}), in {place}; save the file as UTF-8, or {advice.replace('ENCODING', _likely(path, encoding))}"
    )


def _likely(path: Path, encoding: str) -> str:
    """An encoding to try after the one that did not fit."""
    with open_bytes(path) as file:
        beginning = file.read(BLOCK)
    if beginning[:2] in UTF16 and encoding != "utf-16":
        return "utf-16"
    guess = charset_normalizer.from_bytes(beginning).best()
    names = [guess.encoding] if guess and guess.encoding in FAR else ["utf-8", "cp1252", "latin-1"]
    tried = codecs.lookup(encoding).name
    return next((name for name in names if codecs.lookup(name).name != tried and _fits(beginning, name)), "latin-1")


def _fits(content: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(content)
    except UnicodeError:
        return False
    return True


def _first_wrong_byte(path: Path, encoding: str) -> tuple[int, int]:
    """The place in the file of the first byte that does not decode, and its value."""
    decoder = codecs.getincrementaldecoder(encoding)()
    read = 0
    with open_bytes(path) as file:
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
    with open_bytes(path) as file:
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

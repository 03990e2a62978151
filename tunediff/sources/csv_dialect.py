"""How a file of separated values is written: its separator and quotes, decided by reading it."""

import csv
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from tunediff.core import limits
from tunediff.sources.settings import SEPARATORS, FileKeys

QUOTES = {"double": '"', "single": "'", "none": ""}
GUESSED = {name: separator for name, separator in SEPARATORS.items() if name != "space"}
SAMPLE = 1000  # lines in which spaces before quotes are counted

Lines = Callable[[], Iterator[str]]
"""Each call gives the lines of the file from the first one on."""


@dataclass(frozen=True)
class Dialect:
    """How fields are told from each other."""

    separator: str
    quote: str = '"'
    """Empty: a quote is a character as any other."""
    spaces: bool = False
    """Whether spaces after a separator are no part of the field."""
    fields: int = 0
    """How many there are, where a space separates them: the last field has all that is left of the line."""

    def parser(self, lines: Iterable[str], strict: bool = True) -> Any:
        """An iterator over lists of fields, which counts lines in `line_num`, for fields of any length."""
        if self.separator == " " and not self.quote:
            return _Words(lines, self.fields)
        csv.field_size_limit(sys.maxsize)
        quoting = {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}
        return csv.reader(lines, delimiter=self.separator, skipinitialspace=self.spaces, strict=strict, **quoting)

    def describe(self) -> dict[str, str]:
        names = {separator: name for name, separator in SEPARATORS.items()}
        quoting = next(name for name, quote in QUOTES.items() if quote == self.quote)
        return {"separator": names.get(self.separator, self.separator), "quoting": quoting}


class _Words:
    """Lines divided at their first spaces."""

    def __init__(self, lines: Iterable[str], fields: int):
        self.lines = iter(lines)
        self.fields = fields
        self.line_num = 0

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        line = next(self.lines).strip("\r\n ")
        self.line_num += 1
        return re.split(" +", line, maxsplit=max(self.fields - 1, 0)) if line else []


def decide(ending: str, lines: Lines, keys: FileKeys, wanted: Collection[str]) -> Dialect:
    """The dialect of a file: as `keys` say, or else the one in which it is a table.

    A header with the columns that are `wanted` decides the separator; without one, it is the first that gives every row
    of the file as many fields, two or more. A file with tabs has quotes if these make it a table.
    """
    usual = "\t" if ending == ".tsv" else ","
    separators = [keys.separator] if keys.separator else sorted(GUESSED.values(), key=lambda other: other != usual)
    if separators == [" "]:
        return Dialect(" ", QUOTES[keys.quoting or "none"], fields=len(keys.columns or ()) or 2)
    quotes = [QUOTES[keys.quoting]] if keys.quoting else ['"', "'", ""]
    candidates = [Dialect(s, quote, spaces) for spaces in (False, True) for s in separators for quote in quotes]
    width = len(keys.columns or ())
    matches = [_matches(first_fields(dialect, lines(), 1), width, wanted) for dialect in candidates]
    if best := max(matches):
        candidates = [dialect for dialect, match in zip(candidates, matches, strict=True) if match == best]
    dialect = candidates[0]
    if width or not best:
        dialect = next((each for each in candidates if _survey(each, lines, width).table), dialect)
    if dialect.separator == "\t" and not keys.quoting:
        dialect = replace(dialect, quote='"' if _tabs_are_quoted(lines) else "")
    elif not dialect.spaces and _spaces_before_quotes(dialect, lines):
        dialect = replace(dialect, spaces=True)
    return dialect


def first_fields(dialect: Dialect, lines: Iterable[str], rows: int) -> list[list[str]]:
    """The fields of the first rows, or none if they are malformed."""
    found: list[list[str]] = []
    row = _Row(lines)
    try:
        for fields in dialect.parser(row):
            row.size = 0
            found += [fields] if fields else []
            if len(found) == rows:
                break
    except (csv.Error, _TooLong):
        return []
    return found


def _matches(first: list[list[str]], width: int, wanted: Collection[str]) -> int:
    """How many of the columns that are wanted the first row names; with `width`, whether it has as many fields."""
    fields = first[0] if first else []
    return int(len(fields) == width) if width else len(set(wanted) & set(fields))


@dataclass(frozen=True)
class _Survey:
    table: bool
    """Whether every row has as many fields."""
    rows: int
    quotes: int
    """Fields that begin with a quote."""
    line: int
    """The last line that was read: where it is no table, the first one that does not fit."""


def _survey(dialect: Dialect, lines: Lines, width: int = 0) -> _Survey:
    """Read the file up to the first row that does not have `width` fields, or as many as the first, two or more."""
    least = width or 2
    row = _Row(lines())
    parser = dialect.parser(row)
    rows = quotes = 0
    try:
        for fields in parser:
            row.size = 0
            if not fields:
                continue
            width = width or len(fields)
            if len(fields) != width or width < least:
                return _Survey(False, rows, quotes, parser.line_num)
            rows += 1
            quotes += sum(field.startswith('"') for field in fields)
    except (csv.Error, _TooLong):
        return _Survey(False, rows, quotes, parser.line_num)
    return _Survey(True, rows, quotes, parser.line_num)


def _tabs_are_quoted(lines: Lines) -> bool:
    """Whether quotes enclose fields: without them the file is no table, or each field that begins with one ends so.

    A text that begins with a quote and goes on after the next one, or that ends some rows later, is not enclosed.
    """
    plain, quoted = (
        _survey(dialect, lines, max(map(len, first_fields(dialect, lines(), 1)), default=0))
        for dialect in (Dialect("\t", ""), Dialect("\t"))
    )
    if plain.table and not plain.quotes:
        return False
    if plain.table:
        return quoted.table and quoted.rows == plain.rows
    return quoted.table or quoted.line >= plain.line


def _spaces_before_quotes(dialect: Dialect, lines: Lines) -> bool:
    """Whether most lines have a quote that opens after a separator and spaces, as in `"pos", "x"`."""
    if not dialect.quote:
        return False
    opens = re.compile(f"{re.escape(dialect.separator)} +{dialect.quote}(?!{dialect.quote})")
    seen = spaced = size = 0
    for line in islice((line for line in lines() if line.strip()), SAMPLE):
        size += len(line)
        if size > limits.ROW:
            break
        seen += 1
        spaced += bool(opens.search(line))
    return 2 * spaced > seen > 0


class _TooLong(Exception):
    pass


class _Row:
    """Lines that are refused when those of one row have more characters than a row may have."""

    def __init__(self, lines: Iterable[str]):
        self.lines = lines
        self.size = 0
        """Characters since this was set to 0, as whoever reads the lines does after each row."""

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.size += len(line)
            if self.size > limits.ROW:
                raise _TooLong
            yield line

"""Text for Markdown."""

import re

# What a page may not hold, or a terminal obeys, and half characters, which UTF-8 has not.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text, with the replacement character for each control character; line breaks and tabs stay."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def cell(text: object) -> str:
    """The text in one line, for a cell of a table or a heading: characters with a meaning there are escaped."""
    return _escaped(_line(text))


def code(text: object) -> str:
    """The text in one line, set as code: between more backticks than it has in a row."""
    line = _line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def prose(text: str) -> str:
    """A paragraph, in which words between backticks are code and all others text."""
    parts = re.split("(`[^`]+`)", _line(text))
    return "".join(part if place % 2 else _escaped(part) for place, part in enumerate(parts))


def _line(text: object) -> str:
    return printable(" ".join(str(text).split()))


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]|#~$&])", r"\\\1", text)

"""Text for Markdown."""

import re


def cell(text: object) -> str:
    """The text in one line, for a cell of a table: characters with a meaning there are escaped."""
    return _escaped(" ".join(str(text).split()))


def prose(text: str) -> str:
    """A paragraph, in which words between backticks are code and all others text."""
    parts = re.split("(`[^`]*`)", " ".join(text.split()))
    return "".join(part if place % 2 else _escaped(part) for place, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]|#~$&])", r"\\\1", text)

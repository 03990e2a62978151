"""Text for Markdown."""

import re


def cell(text: object) -> str:
    """In one line of a table, where some characters have a meaning."""
    return _escaped(" ".join(str(text).split()))


def prose(text: str) -> str:
    """A paragraph, in which words between backticks are code and all others text."""
    parts = re.split("(`[^`]*`)", " ".join(text.split()))
    return "".join(part if place % 2 else _escaped(part) for place, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]|#~$&])", r"\\\1", text)

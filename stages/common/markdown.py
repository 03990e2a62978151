"""Text for Markdown."""

import re


def cell(text: object) -> str:
    """In one line of a table, where some characters have a meaning."""
    return re.sub(r"([\\`*_<>\[\]|#~$&])", r"\\\1", " ".join(str(text).split()))

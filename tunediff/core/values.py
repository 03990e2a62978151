"""Values of a record as text; the columns that say which rows a split has."""

import re
import unicodedata
from typing import TYPE_CHECKING, Any

from tunediff.core import limits

if TYPE_CHECKING:
    from datasets import Dataset

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese, which have no spaces between words, to stand in a pattern."""


def as_text(record: dict[str, Any], column: str) -> str:
    """The value as a CSV file shows it; None and NaN are empty, and integral floats lose their `.0`.

    Raises ValueError if it is neither text nor a number, or if it is text that is too long or that no file can hold.
    """
    value = record.get(column)
    if value is None or value != value:
        return ""
    if isinstance(value, (list, dict, bytes)):
        raise ValueError(f"column '{column}': expected text or a number, found {type(value).__name__}")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    if len(text) > limits.ROW:
        raise ValueError(f"column '{column}': {len(text):,} characters; at most {limits.ROW:,} are read: shorten it")
    if not text.isascii() and re.search(r"[\ud800-\udfff]", text):
        raise ValueError(f"column '{column}': half a character (a lone surrogate, {text!a:.40}); correct the text")
    return text


def characters_of(category: str) -> str:
    """All characters of a category of Unicode, such as `M`, the marks, to stand in a pattern."""
    return "".join(chr(code) for code in range(0x20000) if unicodedata.category(chr(code)).startswith(category))


def rows_of(split: "Dataset") -> dict[str, list]:
    """What says which rows these are: the columns split, row, text, tokens, and group, if there is one."""
    names = ("split", "row", "text", "tokens", "group")
    return {name: split[name][:] for name in names if name in split.column_names}

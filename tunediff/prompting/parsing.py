"""Which labels does an endpoint's answer name?"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

AROUND = " \t\r\n.,:;!?\"'`*_()[]"  # a label in quotes, in bold, at a sentence's end
NONE = "none"
"""What is answered for a text without a label."""


def schema(labels: Sequence[str], several: bool = False) -> dict[str, Any]:
    """The `response_format` that lets a server give nothing but `{"label": LABEL}`, or `{"labels": [LABEL, ...]}`."""
    one = {"type": "string", "enum": list(labels)}
    key, value = ("labels", {"type": "array", "items": one}) if several else ("label", one)
    answer = {"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": answer}}


def label_of(answer: str, labels: Sequence[str]) -> int | None:
    """The number of the one label that the answer is or mentions; None if there is none, or several.

    The answer is JSON of `schema`, or text.
    """
    said = _said(answer, "label")
    if said in labels:
        return labels.index(said)
    plain = said.strip(AROUND).casefold()
    folded = _folded(labels)
    if folded.count(plain) == 1:
        return folded.index(plain)
    mentioned = _mentioned(plain, folded)
    return folded.index(mentioned[0]) if len(mentioned) == 1 and folded.count(mentioned[0]) == 1 else None


def labels_of(answer: str, labels: Sequence[str]) -> list[int] | None:
    """The numbers of the labels that the answer lists or mentions, in order; None if it names none, nor says so."""
    said = _said(answer, "labels")
    folded = _folded(labels)
    mentioned = _mentioned(said.casefold(), folded)
    if not mentioned:
        return [] if said == "[]" or said.strip(AROUND).casefold() == NONE else None
    return None if any(folded.count(label) > 1 for label in mentioned) else sorted(map(folded.index, mentioned))


def last_words(answer: str) -> str:
    """An answer without what a reasoning model thinks before."""
    return answer.rpartition("</think>")[2].strip()


def _said(answer: str, key: str) -> str:
    said = last_words(answer)
    with suppress(ValueError, RecursionError):
        value = json.loads(said)
        said = str(value.get(key, "")) if isinstance(value, dict) else said
    return said


def _folded(labels: Sequence[str]) -> list[str]:
    return [label.strip(AROUND).casefold() for label in labels]


def _mentioned(plain: str, folded: Sequence[str]) -> list[str]:
    """The labels that stand in a text, each once."""
    mentioned = []
    for label in sorted(dict.fromkeys(folded), key=len, reverse=True):  # `not spam` before `spam`
        without = re.sub(rf"(?<!\w){re.escape(label)}(?!\w)", " ", plain)
        if without != plain:
            mentioned.append(label)
        plain = without
    return mentioned

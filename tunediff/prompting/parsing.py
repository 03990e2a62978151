"""Which label does an endpoint's answer name?"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

AROUND = " \t\r\n.,:;!?\"'`*_()[]"  # a label in quotes, in bold, at a sentence's end


def schema(labels: Sequence[str]) -> dict[str, Any]:
    """The `response_format` that lets a server give nothing but `{"label": LABEL}`."""
    label = {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(labels)}},
        "required": ["label"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": label}}


def label_of(answer: str, labels: Sequence[str]) -> int | None:
    """The number of the one label that the answer is or mentions; None if there is none, or several.

    The answer is JSON of `schema`, or text. What a reasoning model thinks before is left out.
    """
    said = answer.rpartition("</think>")[2].strip()
    with suppress(ValueError, RecursionError):
        value = json.loads(said)
        said = str(value.get("label", "")) if isinstance(value, dict) else said
    if said in labels:
        return labels.index(said)
    plain = said.strip(AROUND).casefold()
    folded = [label.strip(AROUND).casefold() for label in labels]
    if folded.count(plain) == 1:
        return folded.index(plain)
    mentioned = []
    for label in sorted(folded, key=len, reverse=True):  # `not spam` before `spam`
        without = re.sub(rf"(?<!\w){re.escape(label)}(?!\w)", " ", plain)
        if without != plain:
            mentioned.append(label)
        plain = without
    return folded.index(mentioned[0]) if len(mentioned) == 1 and folded.count(mentioned[0]) == 1 else None

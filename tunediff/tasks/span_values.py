"""Spans and tags as the cells of a source have them."""

import json
from typing import Any

import numpy as np

from tunediff.core.values import as_text
from tunediff.tasks.spans import misfit, of_tags


def listed(value: Any) -> list | None:
    """A list; None for what is none."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, list | tuple) else None


def parsed(value: Any) -> list | None:
    """A list, which may be in JSON, as in the cell of a CSV file; None for what is none."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return listed(value)


OTHER = {"relation", "choices", "taxonomy", "textarea", "rating", "number", "datetime"}
"""Types of Label Studio's results that are no spans."""


def spans_in(value: Any) -> list | None:
    """The spans or tags of a cell; None for what holds none.

    One alone may be no list: a column such as `annotations.result` has it as it is. The library datasets has spans as
    an object of lists. Results of Label Studio that are no spans are left out.
    """
    if isinstance(value, dict):
        lists = bool(value) and all(isinstance(part, list) for part in value.values())
        value = (
            [dict(zip(value, parts, strict=True)) for parts in zip(*value.values(), strict=True)] if lists else [value]
        )
    values = parsed(value)
    if values and isinstance(values[0], int) and any(isinstance(part, str) for part in values):
        values = [values]
    return values and [
        each
        for each in values
        if not (isinstance(each, dict) and each.get("type") in OTHER and not {"start", "start_offset"} & set(each))
    ]


def tokens_of(record: dict[str, Any], column: str) -> list[str]:
    tokens = [as_text({column: token}, column).strip() for token in listed(record[column])]
    if "" in tokens:
        raise ValueError(f"column '{column}': token {tokens.index('') + 1} is empty; take it out, and its tag")
    return tokens


def spans_of_tokens(tokens: list[str], tags: list[str], column: str) -> list[list]:
    """Spans as [start, end, type], and behind it what the first and the last tag begin with, unless as in IOB2."""
    if len(tokens) != len(tags):
        raise ValueError(f"column '{column}': {len(tags)} tags for {len(tokens)} tokens; each token needs one")
    if wrong := misfit(tags):
        raise ValueError(
            f"column '{column}': '{wrong}' is no tag such as O, B-TYPE or I-TYPE; if tags are numbers, name them in "
            "`labels: {0: O, 1: B-TYPE, ...}`"
        )
    stops = np.cumsum([len(token) + 1 for token in tokens]) - 1
    starts = stops - [len(token) for token in tokens]
    found = []
    for first, end, kind in of_tags(tags):
        ends = tags[first][0] + tags[end - 1][0]
        found.append([int(starts[first]), int(stops[end - 1]), kind, *([] if ends in ("BI", "BB") else [ends])])
    return found


def span_of(value: Any, text: str, column: str) -> list:
    """A span of the text as [start, end, type], from the forms that tools write."""
    if isinstance(value, list | tuple):
        value = dict(zip(("start", "end", "label"), value, strict=False))
    if not isinstance(value, dict):
        raise ValueError(f"column '{column}': expected spans such as {{start, end, label}}, found {value!r:.60}")
    value = value["value"] if isinstance(value.get("value"), dict) else value  # Label Studio's
    start, end = (value.get(name, value.get(f"{name}_offset")) for name in ("start", "end"))
    kind = next((value[name] for name in ("label", "labels", "type") if value.get(name) not in (None, "", [])), None)
    if isinstance(kind, list) and len(kind) == 1:
        kind = kind[0]
    kind = str(kind).strip() if isinstance(kind, str | int) else ""
    whole = all(isinstance(edge, int) or (isinstance(edge, float) and edge.is_integer()) for edge in (start, end))
    if not whole or not kind:
        raise ValueError(f"column '{column}': a span needs start, end and one label, found {value!r:.80}")
    start, end = int(start), int(end)
    own, there = value.get("text"), text[max(start, 0) : max(end, 0)]
    if isinstance(own, str) and end <= len(text) and _letters(own) != _letters(there):
        raise ValueError(
            f"column '{column}': {kind} {start} to {end} is {there!r:.40} in the text, but {own!r:.40} in the span; "
            "count characters from 0 (JavaScript counts an emoji twice)"
        )
    return [start, end, kind]


def _letters(text: str) -> str:
    """A text without spaces and line breaks, which tools write in their own ways."""
    return "".join(text.replace("\\n", " ").split())


def check_spans(found: list[list], text: str, column: str) -> None:
    before = None
    for span in found:
        start, end, kind, *_ = span
        if not 0 <= start < end <= len(text):
            raise ValueError(f"column '{column}': {kind} {start} to {end} is not in the text, which has {len(text)}")
        shown = text[start:end]
        if shown != shown.strip():
            raise ValueError(f"column '{column}': {kind} {start} to {end} ({shown!r:.40}) begins or ends with a space")
        if before and start < before[1]:
            how = "lies within" if end <= before[1] else "overlaps"
            raise ValueError(
                f"column '{column}': {kind} {start} to {end} {how} {before[2]} {before[0]} to {before[1]}; a word has "
                "one type: leave one of them out"
            )
        before = span

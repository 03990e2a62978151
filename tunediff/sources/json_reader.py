"""Readers of JSON: a list of objects (json), and one object on each line (jsonl)."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tunediff.core import limits
from tunediff.core.errors import UserError, reason


def read(path: Path, lines: Callable[[], Iterator[str]]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the keys and the objects of a json file, which is read whole.

    Raises UserError if it is malformed or too large.
    """
    if path.stat().st_size > limits.JSON:
        raise UserError(
            f"{path}: {path.stat().st_size:,} bytes; a .json file is read whole and may have {limits.JSON:,}: write an "
            "object on each line, and name the file .jsonl"
        )
    try:
        records = json.loads("".join(lines()))
    except json.JSONDecodeError as error:
        unwrapped = error.msg == "Extra data"
        advice = "a file with an object on each line is named .jsonl" if unwrapped else "correct it there"
        raise UserError(
            f"{path}: line {error.lineno}: not JSON: {error.msg} at column {error.colno}; {advice}"
        ) from None
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets in each other
        raise UserError(f"{path}: not read: {reason(error)}; shorten the value") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: expected a list of objects, [{{...}}, ...], found {type(records).__name__}")
    if not records:
        raise UserError(f"{path}: the list is empty; expected rows with a column of texts")
    records = [_object(record, f"{path}: row {number}") for number, record in enumerate(records, 1)]
    return _keys(records), records


def read_jsonl(path: Path, lines: Callable[[], Iterator[str]]) -> tuple[list[str], Iterable[dict[str, Any]]]:
    """Return the keys and the objects of a jsonl file, which are read as they are asked for.

    The file is read once more before, for its keys. Raises UserError if a line is malformed.
    """
    return _keys(_objects(path, lines())), _objects(path, lines())


def _objects(path: Path, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if len(line) > limits.ROW:
            raise UserError(f"{path}: line {number}: more than {limits.ROW:,} characters; shorten it")
        if not line.strip():
            continue
        try:
            yield _object(json.loads(line), f"{path}: line {number}")
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}; expected one object, "
                'as in {"text": "...", "label": "..."}, on each line'
            ) from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number}: not read: {reason(error)}; shorten the value") from None


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{place}: expected an object with the columns as keys, found {type(value).__name__}")
    return value


def _keys(records: Iterable[dict[str, Any]]) -> list[str]:
    """The keys of all records, each once, in the order in which they come first; no more of them than are refused."""
    keys: dict[str, None] = {}
    for record in records:
        keys.update(dict.fromkeys(record))
        if len(keys) > limits.COLUMNS:
            break
    return list(keys)

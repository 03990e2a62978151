"""Readers of JSON: a list of objects, or one under a key (json), and one object on each line (jsonl).

A column of nested objects is named by the keys on the way to it, as in `data.text`: exports of labelling tools have
them. Lists on the way are gone through; what all of them have is one value, or else a list of values.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from tunediff.core import limits
from tunediff.core.errors import UserError, reason
from tunediff.sources.csv_dialect import Lines
from tunediff.sources.settings import FileKeys
from tunediff.sources.table import Table


def read(path: Path, lines: Lines, keys: FileKeys, asked: Collection[str]) -> Table:
    """The keys and the objects of a json file, which is read whole.

    Raises UserError if it is malformed or too large.
    """
    if path.stat().st_size > limits.JSON:
        raise _too_large(path, f"{path.stat().st_size:,} bytes")
    try:
        records = json.loads("".join(_limited(path, lines())))
        records, decided = _under_key(path, records, keys.field)
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
    records = [_object(record, f"{path}: row {number}", keys) for number, record in enumerate(records, 1)]
    return Table(*_names(records), with_nested(records, asked), decided)


def read_jsonl(path: Path, lines: Lines, keys: FileKeys, asked: Collection[str]) -> Table:
    """The keys and the objects of a jsonl file, which are read as they are asked for.

    The file is read once more before, for its keys. Raises UserError if a line is malformed.
    """
    return Table(*_names(_objects(path, lines(), keys)), with_nested(_objects(path, lines(), keys), asked))


def _too_large(path: Path, size: str) -> UserError:
    return UserError(
        f"{path}: {size}; a .json file is read whole and may have {limits.JSON:,}: write an object on each line, and "
        "name the file .jsonl"
    )


def _limited(path: Path, lines: Iterable[str]) -> Iterator[str]:
    """The lines, which may be many more than the bytes of a compressed file."""
    size = 0
    for line in lines:
        size += len(line)
        if size > limits.JSON:
            raise _too_large(path, f"more than {limits.JSON:,} characters")
        yield line


def _under_key(path: Path, value: Any, field: str | None) -> tuple[Any, dict[str, Any]]:
    """The rows of a file that is an object: those under the key `field`, or the only list of objects in it."""
    if not isinstance(value, dict):
        return value, {}
    lists = dict(_lists(value))
    if field is None and len(lists) > 1:
        example = f"`field: {next(iter(lists))}`"
        raise UserError(f"{path}: rows stand under the keys {', '.join(lists)}: say which are meant, as in {example}")
    if field is not None and field not in lists:
        raise UserError(f"{path}: field: no rows under the key '{field}'; there are: {', '.join(lists) or 'none'}")
    for name in [field] if field else lists:
        return lists[name], {"field": name}
    return value, {}


def _lists(value: dict[str, Any], before: str = "") -> Iterator[tuple[str, list[Any]]]:
    """The lists of objects or lists under the keys, with the keys on the way to them, as in `data.rows`."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _lists(inner, f"{before}{key}.")
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict | list):
            yield f"{before}{key}", inner


def _objects(path: Path, lines: Iterable[str], keys: FileKeys) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if len(line) > limits.ROW:
            raise UserError(f"{path}: line {number}: more than {limits.ROW:,} characters; shorten it")
        if not line.strip():
            continue
        try:
            yield _object(json.loads(line), f"{path}: line {number}", keys)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}; expected one object, "
                'as in {"text": "...", "label": "..."}, on each line'
            ) from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number}: not read: {reason(error)}; shorten the value") from None


def _object(value: Any, place: str, keys: FileKeys) -> dict[str, Any]:
    if keys.columns and isinstance(value, list):
        if len(value) != len(keys.columns):
            raise UserError(f"{place}: {len(value)} values; `columns` names {len(keys.columns)}: name as many")
        return dict(zip(keys.columns, value, strict=True))
    if not isinstance(value, dict):
        advice = "; name the values of the lists, as in `columns: [text, label]`" * isinstance(value, list)
        raise UserError(f"{place}: expected an object with the columns as keys, found {type(value).__name__}{advice}")
    return value


def _names(records: Iterable[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The keys of all records, and the names of columns in nested objects, each once, in the order in which they come
    first; no more of them than are refused.
    """
    header: dict[str, None] = {}
    nested: dict[str, None] = {}
    for record in records:
        header.update(dict.fromkeys(record))
        for key, value in record.items():
            if isinstance(value, dict | list) and len(nested) <= limits.COLUMNS:
                nested.update(dict.fromkeys(_leaves(value, key)))
        if len(header) > limits.COLUMNS:
            break
    return list(header), [name for name in nested if name not in header]


def _leaves(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}")
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        yield name  # all of them, as a column of spans
        for inner in value:
            yield from _leaves(inner, name)
    else:
        yield name


def with_nested(records: Iterable[dict[str, Any]], asked: Collection[str]) -> Iterator[dict[str, Any]]:
    """The records, with the columns of nested objects that are asked for."""
    paths = [name for name in asked if "." in name]
    for record in records:
        found = {name: _only(_values(record, name.split("."))) for name in paths if name not in record}
        yield {**record, **found} if found else record


def _values(value: Any, keys: list[str]) -> list[Any]:
    """All values that the keys lead to, through lists as well; a list in another is one value."""
    if not keys:
        return value if isinstance(value, list) else [value]
    if isinstance(value, list):
        return [each for inner in value for each in _values(inner, keys)]
    return _values(value.get(keys[0]), keys[1:]) if isinstance(value, dict) else []


def _only(values: list[Any]) -> Any:
    """What all values are, None if there is none, or a list of those that differ."""
    distinct = [value for place, value in enumerate(values) if value is not None and value not in values[:place]]
    return distinct if len(distinct) > 1 else distinct[0] if distinct else None

"""Building blocks of typed settings: numbers and names with their checks, and one file read into a frozen class.

`read` checks every key before any work starts, and reports all that is wrong at once. Numbers are coerced, because
`dvc exp run -S x=1e-5` writes `1e-05`, which YAML 1.1 reads as a string.
"""

import re
import reprlib
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tunediff.core.errors import UserError, nearest, reason, suggestion


def number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number, found a yes/no value")
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


Count = Annotated[int, BeforeValidator(number), Field(ge=1)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, BeforeValidator(number), Field(ge=0, lt=2**32)]
Fraction = Annotated[float, BeforeValidator(number), Field(ge=0, lt=1)]
Scalar = str | bool | int | float


def _column(value: object) -> object:
    if isinstance(value, bool | int | float):
        raise ValueError(
            f"expected the name of a column, found {value}: write a name like that in quotes; columns of a file "
            "without names get them from `columns`"
        )
    return value


Column = Annotated[str, BeforeValidator(_column)]
"""Name of a column of the source."""
Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Number format of matrix products; `auto` is the fastest one that the machine computes in hardware."""


def _folder_name(name: str) -> str:
    if not re.fullmatch("[a-z0-9]+([-_][a-z0-9]+)*", name):
        raise ValueError(
            f"'{name}' is no name for a method: expected small letters and digits, with single hyphens or underscores "
            "between"
        )
    return name


MethodName = Annotated[str, AfterValidator(_folder_name)]


def check_chosen(methods: list[str], entries: dict[str, Any], section: str) -> None:
    """Raises ValueError if `methods` has a name that is no entry, or one twice; both are keys of `section`."""
    if unknown := [name for name in methods if name not in entries]:
        raise ValueError(
            f"{section}.methods: no entry for {', '.join(unknown)}; there are: {', '.join(entries)}"
            f"{suggestion(unknown[0], entries)}"
        )
    if twice := [name for name in entries if methods.count(name) > 1]:
        raise ValueError(f"{section}.methods: {twice[0]} is there twice")


class Section(BaseModel):
    """Settings that belong together: frozen, and without keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=Section)


def read(path: Path, section: type[T]) -> T:
    """The settings in a YAML or JSON file. Raises UserError with a line for each key that is wrong."""
    return check(read_values(path), section, path)


def read_values(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML or JSON file, unchecked. Raises UserError if it has none."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's top folder") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    # PyYAML says what Python says about a date, a number or a tag that is none, and about very deep nesting.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {reason(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(values).__name__}")
    return values


def check(values: dict[str, Any], section: type[T], path: Path) -> T:
    """The values as a `section`. Raises UserError with a line for each key that is wrong; `path` is their file."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise mistakes(path, _explain(error, values, section)) from None


def mistakes(path: Path, lines: list[str]) -> UserError:
    return UserError(*(f"{path}: {line}" for line in lines))


def _explain(error: ValidationError, values: dict[str, Any], section: type[Section]) -> list[str]:
    """One line per key. A value that fits none of several types has a message for each of them."""
    messages: dict[str, list[str]] = {}
    for problem in error.errors():
        match problem["type"]:
            case "extra_forbidden":
                message = f"unknown key; {nearest(str(problem['loc'][-1]), _known_keys(section, problem['loc'][:-1]))}"
            case "missing":
                message = "missing key"
            case "value_error":
                message = str(problem["ctx"]["error"])
            case _:
                message = f"{problem['msg']}, found {reprlib.repr(problem['input'])}"
        messages.setdefault(_key(problem, values), []).append(message)
    return [
        # Some messages name a key further down themselves.
        "; or: ".join(lines) if lines[0].startswith(f"{key}.") else f"{key}: {'; or: '.join(lines)}"
        for key, lines in messages.items()
        # What is wrong with an entry says more than that the parent could have been of another type.
        if not any(other.startswith(f"{key}.") for other in messages)
    ]


def _known_keys(section: Any, place: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at a place below `section`."""
    for part in place:
        kind = section.model_fields[part].annotation if hasattr(section, "model_fields") else get_args(section)[-1]
        optional = get_origin(kind) is UnionType
        section = next((each for each in get_args(kind) if hasattr(each, "model_fields")), kind) if optional else kind
    return list(getattr(section, "model_fields", ()))


def _key(problem: ErrorDetails, values: object) -> str:
    """The place in the file. Pydantic's own also has the names of the types that it tried; those are no keys there."""
    parts = []
    for part in problem["loc"]:
        entries = values if isinstance(values, dict) else dict(enumerate(values)) if isinstance(values, list) else {}
        for name, value in entries.items():
            if str(name) == str(part):
                parts.append(str(part))
                values = value
    if problem["type"] == "missing":
        parts.append(str(problem["loc"][-1]))
    return ".".join(parts)

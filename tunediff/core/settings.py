"""Building blocks of typed settings: numbers and names with their checks, and one file read into a frozen class.

`read` checks every key before any work starts, and reports all that is wrong at once. Numbers are coerced, because
`dvc exp run -S x=1e-5` writes `1e-05`, which YAML 1.1 reads as a string.
"""

import re
import reprlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tunediff.core.errors import UserError, reason


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


def _folder_name(name: str) -> str:
    if not re.fullmatch("[a-z0-9]+([-_][a-z0-9]+)*", name):
        raise ValueError(
            f"'{name}' is no name for a method: expected small letters and digits, with single hyphens or underscores "
            "between"
        )
    return name


MethodName = Annotated[str, AfterValidator(_folder_name)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


T = TypeVar("T", bound=Section)


def read(path: Path, section: type[T]) -> T:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's top folder") from None
    # Of a date, a number or a tag that is none, and of very deep nesting, PyYAML says what Python says.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {reason(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(values).__name__}")
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise mistakes(path, _explain(error, values)) from None


def mistakes(path: Path, lines: list[str]) -> UserError:
    return UserError(*(f"{path}: {line}" for line in lines))


def _explain(error: ValidationError, values: dict) -> list[str]:
    """A line per key. A value that fits none of several types has a message for each of them."""
    messages: dict[str, list[str]] = {}
    for problem in error.errors():
        match problem["type"]:
            case "extra_forbidden":
                message = "unknown key; check its spelling against the README"
            case "missing":
                message = "missing key"
            case "value_error":
                message = str(problem["ctx"]["error"])
            case _:
                message = f"{problem['msg']}, found {reprlib.repr(problem['input'])}"
        messages.setdefault(_key(problem, values), []).append(message)
    return [
        # Some messages name a key further down themselves.
        "; or: ".join(found) if found[0].startswith(f"{key}.") else f"{key}: {'; or: '.join(found)}"
        for key, found in messages.items()
        # What is wrong with an entry says more than that the whole could have been of another type.
        if not any(other.startswith(f"{key}.") for other in messages)
    ]


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

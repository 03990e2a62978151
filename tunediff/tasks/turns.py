"""Chats as text: turns of a system, a user and an assistant, one behind the other.

`user: Hello`, a blank line, `assistant: Hi`: whatever reads a source as a text reads a chat as well. A sign behind each
role's name, which no turn's own text has, tells where a turn begins.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from tunediff.core import limits
from tunediff.core.values import as_text

ROLES = ("system", "user", "assistant")
SHAREGPT = {"human": "user", "gpt": "assistant"}
"""Names of roles in the form {from, value}."""
SIGN = "\x1f"
"""ASCII's unit separator, which Python takes for a space."""
BEGIN = re.compile(rf"(?:\A|\n\n)({'|'.join(ROLES)}):{SIGN} ")

Turn = tuple[str, str]
"""Role and text."""


def text_of(turns: list[Turn]) -> str:
    return "\n\n".join(f"{role}:{SIGN} {said}" for role, said in turns)


def turns_of(text: str) -> list[Turn]:
    """The turns of what `text_of` made; a text without turns is one of the user."""
    before, *parts = BEGIN.split(text)
    return [*zip(parts[::2], parts[1::2], strict=True)] if parts and not before else [("user", text.replace(SIGN, " "))]


def latest(text: str) -> str:
    """The last turn's text."""
    return BEGIN.split(text)[-1]


def read_turns(value: Any, column: str, last: str) -> list[Turn]:
    """The turns of a list of messages, or of such a list as JSON: {role, content}, or {from, value}; none if empty.

    The system may begin; then user and assistant take turns, and the chat ends with `last`. Raises ValueError, which
    names the turn, for anything else.
    """
    if value is None or value != value or value == "":
        return []
    try:
        messages = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        messages = None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError(f"""column '{column}': expected a list as in [{{"role": "user", "content": "Hello"}}, ...]""")
    try:
        return checked(list(_read(messages)), last)
    except ValueError as error:
        raise ValueError(f"column '{column}': {error}") from None


def _read(messages: list[dict[str, Any]]) -> Iterator[Turn]:
    for number, message in enumerate(messages, 1):
        role, content = ("from", "value") if message.get("from") is not None else ("role", "content")
        named = message.get(role)
        try:
            said = as_text(message, content)
        except ValueError as error:
            raise ValueError(f"turn {number}: {error}") from None
        yield SHAREGPT.get(named, named) if isinstance(named, str) else repr(named), said


def checked(turns: list[Turn], last: str) -> list[Turn]:
    """The turns, their texts without what would begin another; see `read_turns`."""
    if len(turns) > limits.TURNS:
        raise ValueError(f"{len(turns):,} turns; a chat may have {limits.TURNS}: split it")
    expected = ROLES[:2]
    for number, (role, said) in enumerate(turns, 1):
        if role not in ROLES:
            raise ValueError(f"turn {number}: unknown role '{role:.100}'; expected {', '.join(ROLES)}")
        if role not in expected:
            raise ValueError(f"turn {number} is of the {role}; expected {' or '.join(expected)}: they take turns")
        if not said.strip():
            raise ValueError(f"turn {number}, of the {role}, is empty; fill it, or take the row out")
        expected = ("assistant",) if role == "user" else ("user",)
    if turns and turns[-1][0] != last:
        advice = {"assistant": "its answer is what is learnt", "user": "take out what is to be written"}[last]
        raise ValueError(f"the last turn is of the {turns[-1][0]}; expected the {last}: {advice}")
    return [(role, said.replace(SIGN, " ").strip()) for role, said in turns]

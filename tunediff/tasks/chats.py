"""Chats of several turns, whose last one is to be written: how `generation` reads them from a source."""

import re
from typing import Any

from tunediff.tasks.generation import BETWEEN, Generation, Keys
from tunediff.tasks.turns import read_turns, text_of


class Chats(Generation):
    """Generation whose sources are the turns before the last, as `turns.text_of` writes them."""

    @staticmethod
    def as_text(record: dict[str, Any], column: str) -> str:
        return text_of(read_turns(record.get(column), column, "assistant")[:-1])

    @staticmethod
    def columns(keys: Keys) -> dict[str, str]:
        return {"messages": keys.messages}

    @staticmethod
    def target(record: dict[str, Any], keys: Keys) -> str:
        turns = read_turns(record.get(keys.messages), keys.messages, "assistant")
        return turns[-1][1].replace(BETWEEN, " ").strip() if turns else ""


def question(record: dict[str, Any], column: str) -> str:
    """A chat that is to be answered: messages of which the user's is the last one, or a text of the user."""
    value = record.get(column)
    if isinstance(value, str) and not re.match(r"\s*\[\s*\{", value):
        value = [{"role": "user", "content": value}] if value.strip() else None
    return text_of(read_turns(value, column, "user"))

"""Answers of endpoints on disk, by what was asked: nothing is asked twice, also after an interruption.

They are in the user's cache folder, since a queued experiment's workspace is a temporary one. A record has the answer,
and neither the question nor the key.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import platformdirs

from tunediff.core.errors import UserError
from tunediff.core.files import read_json, write_json


def digest(request: dict[str, Any]) -> str:
    """The SHA-256 of a request's content."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def place(key: str) -> Path:
    return platformdirs.user_cache_path("tunediff") / "answers" / key[:2] / f"{key}.json"


def load(key: str) -> dict[str, Any] | None:
    """The record, or None if there is none that can be read."""
    try:
        return read_json(place(key))
    except (FileNotFoundError, UserError):
        return None


def save(key: str, record: dict[str, Any]) -> None:
    write_json(place(key), record)

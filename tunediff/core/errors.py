"""A user's mistake, in words."""

import difflib
from collections.abc import Iterable

LINE = 1000  # characters of a message's line, of which the middle may be a whole text


class UserError(Exception):
    """Bad input: the message names the file, row, column or key, what was expected and what to do."""

    def __init__(self, *lines: str):
        super().__init__("\n       ".join(map(_shown, lines)))
        self.lines = lines


def _shown(line: str) -> str:
    """For a terminal, which obeys some characters of a user's data instead of showing them."""
    if len(line) > LINE:
        line = f"{line[: LINE // 2]} ... {line[-LINE // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def reason(error: Exception, secret: str | None = None) -> str:
    """What a library's error says, on one line, without the secret."""
    said = str(error).replace(secret, "(key)") if secret else str(error)
    return " ".join(said.split())[:300].rstrip(".") or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known names like it, or all known names if none is like it."""
    close = _close(name, known) or sorted(known)
    return f"did you mean {' or '.join(close)}?" if len(close) <= 3 else f"there are: {', '.join(close)}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message that lists the known names: those like an unknown name, or nothing if none is like it."""
    close = _close(name, known)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _close(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)

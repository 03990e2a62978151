"""A user's mistake ends with one line and exit code 1, never with a traceback."""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

LINE = 1000  # characters of a message's line, of which the middle may be a whole text


class UserError(Exception):
    """Bad input: the message names the file, row, column or key, what was expected and what to do."""

    def __init__(self, *lines: str):
        super().__init__("\n       ".join(map(_shown, lines)))


def _shown(line: str) -> str:
    """For a terminal, which obeys some characters of a user's data instead of showing them."""
    if len(line) > LINE:
        line = f"{line[: LINE // 2]} ... {line[-LINE // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def reason(error: Exception) -> str:
    """What a library's error says, on one line."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def run(main: Callable[[], None]) -> None:
    """Call a stage's `main`; print a `UserError` as one line on stderr and exit with code 1.

    A stage that DVC runs ends when DVC is killed: the next `dvc repro` shall not write the same files beside it.
    """
    if "DVC_STAGE" in os.environ:
        child = _child_of_dvc()
        threading.Thread(target=_end_with_parent, args=(child, child.ppid()), daemon=True).start()
    gc.freeze()  # what was imported is there to stay
    gc.enable()  # after `stages/__init__.py`
    try:
        main()
    except UserError as error:
        # Of several processes on a machine, all say the same.
        sys.exit(f"error: {error}" if os.environ.get("LOCAL_RANK", "0") == "0" else 1)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        gc.freeze()  # the process ends, and searching all objects for what it may free takes a second


def _child_of_dvc() -> psutil.Process:
    """This process, or one above it: a launcher of several processes, a shell that waits for its command."""
    child = psutil.Process()
    with suppress(psutil.Error):  # of another user
        while (parent := child.parent()) and "DVC_STAGE" in parent.environ():
            child = parent
    return child


def _end_with_parent(child: psutil.Process, parent: int) -> None:
    with suppress(psutil.NoSuchProcess):
        while child.ppid() == parent:
            time.sleep(0.2)
    os._exit(1)

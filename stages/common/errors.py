"""A user's mistake ends with one line and exit code 1, never with a traceback."""

import os
import sys
import threading
import time
from collections.abc import Callable


class UserError(Exception):
    """Bad input: the message names the file, row, column or key, what was expected and what to do."""


def reason(error: Exception) -> str:
    """What a library's error says, on one line."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def run(main: Callable[[], None]) -> None:
    """Call a stage's `main`; print a `UserError` as one line on stderr and exit with code 1.

    A stage that DVC runs ends when DVC is killed: the next `dvc repro` shall not write the same files beside it.
    """
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)

"""How a stage or a command begins and ends: one line for a user's mistake, no traceback; it ends when DVC is gone."""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from tunediff.core.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Call a stage's `main`; print a `UserError` as one line on stderr and exit with code 1.

    A stage that DVC runs ends when DVC is killed: the next `dvc repro` shall not write the same files beside it.
    """
    if "DVC_STAGE" in os.environ:
        child = _child_of_dvc()
        threading.Thread(target=_end_with_parent, args=(child, child.ppid()), daemon=True).start()
    gc.freeze()  # what was imported is there to stay
    gc.enable()  # which `core/__init__.py` has turned off
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

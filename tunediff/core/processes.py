"""Other processes: the DVC that runs this stage, as long as it lives; and whether a process lives."""

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

WRITERS = Path(".dvc/tmp/rwlock")  # DVC's note of which of its processes writes which output now
INIT = ("systemd", "launchd")  # beside process 1

_above: list[tuple[psutil.Process, int]] = []  # this process or one above it, and the number of DVC, which started it


def end_with_dvc() -> None:
    """End this process when the DVC that runs it as a stage is killed: the next one may run the same stage.

    If that DVC was killed already, it ends now. A stage calls this before it imports anything else.
    """
    if _above or "DVC_STAGE" not in os.environ:
        return
    writers = _writers()
    child = psutil.Process()
    with suppress(psutil.Error):  # of another user
        # Between the two may be a launcher of several processes, or a shell that waits for its command.
        while (parent := child.parent()) and parent.pid not in writers and "DVC_STAGE" in parent.environ():
            child = parent
    dvc = child.ppid()
    _above.append((child, 0 if WRITERS.exists() and dvc not in writers and _is_init(dvc) else dvc))
    check_dvc()
    threading.Thread(target=_watch, daemon=True).start()


def check_dvc() -> None:
    """End this process at once if DVC was killed: to be called before anything is published."""
    with suppress(psutil.NoSuchProcess):
        if all(child.ppid() == dvc for child, dvc in _above):
            return
    print("the DVC that ran this stage was killed: it ends", file=sys.stderr, flush=True)
    os._exit(1)


def _is_init(pid: int) -> bool:
    """Whether processes fall to this one when the one above them is killed."""
    with suppress(psutil.Error):
        return pid == 1 or psutil.Process(pid).name() in INIT
    return True


def _watch() -> None:
    while True:
        check_dvc()
        time.sleep(0.2)


def _writers() -> set[int]:
    with suppress(OSError, ValueError, LookupError):
        return {writer["pid"] for writer in json.loads(WRITERS.read_text(encoding="utf-8"))["write"].values()}
    return set()


def lives(pid: int, then: float) -> bool:
    """Whether the process that had this number `then` (seconds since 1970) still runs; the number may be reused."""
    try:
        process = psutil.Process(pid)
        return process.create_time() <= then and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""Which trainings run, by the heartbeats that they write."""

import time
from socket import gethostname
from typing import Any

import platformdirs
import psutil

from tunediff.core.files import read_json

SILENT = 300  # seconds without a heartbeat, longer than a step or a checkpoint takes
KEPT = 3600  # seconds for which a training that died is shown


def trainings() -> list[dict[str, Any]]:
    """What `heartbeat.Heartbeat` wrote of each training, and its `state`: `runs`, `silent` or `died`; by start time.

    Machines may share the user's cache, but a process can only be seen on its own machine. A process of another machine
    counts as died when it was silent for an hour. Files of what died are removed after an hour.
    """
    beats = []
    for path in (platformdirs.user_cache_path("tunediff") / "running").glob("*.json"):
        try:
            beat = read_json(path)
        except FileNotFoundError:  # it ended meanwhile
            continue
        silent = time.time() - beat["updated"]
        alive = lives(beat["pid"], beat["started"]) if beat["host"] == gethostname() else silent < KEPT
        if not alive and silent >= KEPT:
            path.unlink(missing_ok=True)
        else:
            beats.append(beat | {"state": "died" if not alive else "silent" if silent > SILENT else "runs"})
    return sorted(beats, key=lambda beat: beat["started"])


def lives(pid: int, then: float) -> bool:
    """Whether the process that had this number `then` (seconds since 1970) still runs; the number may be reused."""
    try:
        process = psutil.Process(pid)
        return process.create_time() <= then and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

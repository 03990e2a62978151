"""Which trainings run, by their heartbeats."""

import time
from socket import gethostname
from typing import Any

import platformdirs
import psutil

from tunediff.core.files import read_json

SILENT = 300  # seconds without a heartbeat, longer than a step takes or a checkpoint
KEPT = 3600  # seconds for which a training that died is told of


def trainings() -> list[dict[str, Any]]:
    """What `heartbeat.Heartbeat` wrote of each, and its `state`: `runs`, `silent` or `died`; the first begun is first.

    Of the machines that share the user's cache, a process can only be seen on this one: one of another machine counts
    as died when it was silent for an hour. Files of what died are removed after an hour.
    """
    found = []
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
            found.append(beat | {"state": "died" if not alive else "silent" if silent > SILENT else "runs"})
    return sorted(found, key=lambda beat: beat["started"])


def lives(pid: int, then: float) -> bool:
    """Whether the process that had this number `then` (seconds since 1970) is there, and not another one by now."""
    try:
        process = psutil.Process(pid)
        return process.create_time() <= then and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

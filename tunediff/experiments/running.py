"""Which trainings of a project run, by the heartbeats that they write."""

import os
import time
from pathlib import Path
from socket import gethostname
from typing import Any

import platformdirs

from tunediff.core.files import read_json
from tunediff.core.processes import lives

SILENT = 300  # seconds without a heartbeat, longer than a step or a checkpoint takes
KEPT = 3600  # seconds after which a training of another machine, or of another project, is not waited for


def trainings() -> list[dict[str, Any]]:
    """What `heartbeat.Heartbeat` wrote of each training of this project, and its `state`, by start time.

    The state is `runs`, `silent` or `died`. What died is there once: its file is removed. Machines may share the user's
    cache, but a process can only be seen on its own machine. A process of another machine counts as died when it was
    silent for an hour.
    """
    beats = []
    for path in (platformdirs.user_cache_path("tunediff") / "running").glob("*.json"):
        try:
            beat = read_json(path)
        except FileNotFoundError:  # it ended meanwhile
            continue
        silent = time.time() - beat["updated"]
        alive = lives(beat["pid"], beat["started"]) if beat["host"] == gethostname() else silent < KEPT
        ours = in_this_project(beat["project"])
        if not alive and (ours or silent >= KEPT):
            path.unlink(missing_ok=True)
        if ours:
            beats.append(beat | {"state": "died" if not alive else "silent" if silent > SILENT else "runs"})
    return sorted(beats, key=lambda beat: beat["started"])


def in_this_project(folder: str) -> bool:
    """Whether the folder is that of this project, or of an experiment in it."""
    return Path(os.path.realpath(folder)).is_relative_to(Path.cwd())

"""Tables of what runs and what waits: trainings and other stages, and DVC's queue."""

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from tunediff.core.errors import reason
from tunediff.experiments.running import in_this_project, trainings
from tunediff.tasks import FIGURES

COLUMNS = ["experiment", "stage", "method", "seed", "epoch", "loss", "best so far", "left", "since"]


def overview(died: list[dict[str, Any]]) -> Group:
    """Both tables, or a line that says that nothing runs or waits.

    `died` has the trainings that died since the first look, which `trainings` tells of once; this one's are added.
    """
    beats = trainings()
    died += [beat for beat in beats if beat["state"] == "died"]
    running = [beat for beat in beats if beat["state"] != "died"]
    rows = [training_row(beat) for beat in (*died, *running)] + other_stages({beat["pid"] for beat in running})
    table = Table(*COLUMNS, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)  # fits 100 columns
    for row in rows:
        table.add_row(*row)
    return Group(table if rows else "Nothing runs.", queue())


def training_row(beat: dict[str, Any]) -> list[str]:
    """The cells of COLUMNS, from a heartbeat as `running.trainings` gives it."""
    silent = timedelta(seconds=round(time.time() - beat["updated"]))
    left = "" if beat["seconds_left"] is None else str(timedelta(seconds=round(beat["seconds_left"])))
    return [
        _name(beat["experiment"], beat["project"]),
        beat["stage"],
        beat["method"],
        str(beat["seed"]),
        f"{beat['epoch']:.1f} of {beat['epochs']}",
        "" if beat["loss"] is None else f"{beat['loss']:.3f}",
        best(beat["validation"], beat["select_by"]),
        {"runs": left, "silent": f"hangs? silent for {silent}", "died": f"died {silent} ago"}[beat["state"]],
        _clock(beat["started"]),
    ]


def best(validation: list[dict[str, float]], select_by: str) -> str:
    """The figure and epoch by which the model would be chosen now. `validation` has the figures of each epoch."""
    if not validation:
        return ""
    sign = FIGURES[select_by].sign
    chosen = max(validation, key=lambda figures: sign * figures[select_by])
    return f"{select_by} {chosen[select_by]:.3f}, epoch {chosen['epoch']}"


def other_stages(known: set[int]) -> list[list[str]]:
    """A row for each stage of this project that DVC runs and whose process is not `known`: it does not train yet."""
    rows = []
    for process in psutil.process_iter(["pid", "cmdline", "environ", "create_time"]):
        info = process.info
        if info["pid"] in known or not info["environ"] or "DVC_STAGE" not in info["environ"]:
            continue
        environment = info["environ"]
        is_stage = any(word.startswith("stages.") for word in info["cmdline"][2:3])  # not the shell of DVC
        if is_stage and in_this_project(environment["DVC_ROOT"]):
            experiment = _name(environment.get("DVC_EXP_NAME"), environment["DVC_ROOT"])
            empty = [""] * (len(COLUMNS) - 3)
            rows.append([experiment, environment["DVC_STAGE"], *empty, _clock(info["create_time"])])
    return rows


def _name(experiment: str | None, project: str) -> str:
    """The experiment's name in DVC, and the end of the project's path if the project is not this folder."""
    experiment = experiment or "(workspace)"
    end = Path(*Path(project).parts[-2:])
    return experiment if os.path.realpath(project) == os.getcwd() else f"{experiment} in {end}"


def _clock(seconds: float) -> str:
    """The time of today, or an earlier day."""
    moment = datetime.fromtimestamp(seconds)
    return moment.strftime("%H:%M" if moment.date() == datetime.now().date() else "%d %b")


def queue() -> Table | str:
    """The experiments that wait in DVC's queue, the next first."""
    try:
        with Repo() as repo:
            tasks = repo.experiments.celery_queue
            waiting = [(entry.name, entry.stash_rev) for entry in tasks.iter_queued()]
            since = {rev: repo.scm.resolve_commit(rev).commit_time for _, rev in waiting}
            workers = len(tasks.worker_status()) if waiting else 0
    except DvcException as error:
        return f"DVC's queue cannot be read: {reason(error)}"
    if not waiting:
        return "Nothing waits in DVC's queue."
    table = Table(
        "waits",
        "since",
        box=SIMPLE_HEAD,
        caption=f"workers: {workers}" if workers else "no worker takes them: dvc queue start",
    )
    for experiment, rev in waiting:
        table.add_row(experiment, _clock(since[rev]))
    return table

"""What runs and what waits: experiments with epoch, loss and time left, and DVC's queue.

python -m stages.status
python -m stages.status --watch
"""

import argparse
import os
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from tunediff.core.errors import reason
from tunediff.core.process import run
from tunediff.experiments.running import trainings

AGAIN = 2.0  # seconds
COLUMNS = ["experiment", "stage", "method", "seed", "epoch", "loss", "best on validation", "left", "since"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--watch", action="store_true", help=f"show it again every {AGAIN:g} seconds, until Ctrl-C")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200)  # into a file or a pipe, lines are not wrapped

    if not args.watch:
        console.print(shown())
        return
    with Live(shown(), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(AGAIN)
            live.update(shown(), refresh=True)


def shown() -> Group:
    beats = trainings()
    rows = [training_row(beat) for beat in beats] + other_stages({beat["pid"] for beat in beats})
    running = Table(*COLUMNS, box=SIMPLE_HEAD)
    for row in rows:
        running.add_row(*row)
    return Group(running if rows else "Nothing runs.", queue())


# --- what runs


def training_row(beat: dict[str, Any]) -> list[str]:
    """The cells of COLUMNS, from a heartbeat as `running.trainings` gives it."""
    silent = timedelta(seconds=round(time.time() - beat["updated"]))
    left = "" if beat["seconds_left"] is None else str(timedelta(seconds=round(beat["seconds_left"])))
    return [
        name(beat["experiment"], beat["project"]),
        beat["stage"],
        beat["method"],
        str(beat["seed"]),
        f"{beat['epoch']:.1f} of {beat['epochs']}",
        "" if beat["loss"] is None else f"{beat['loss']:.3f}",
        best(beat["validation"], beat["select_by"]),
        {"runs": left, "silent": f"hangs? silent for {silent}", "died": f"died {silent} ago"}[beat["state"]],
        clock(beat["started"]),
    ]


def best(validation: list[dict[str, float]], select_by: str) -> str:
    """The figure and epoch by which the model would be chosen now."""
    if not validation:
        return ""
    sign = -1 if select_by == "loss" else 1
    found = max(validation, key=lambda figures: sign * figures[select_by])
    return f"{select_by} {found[select_by]:.3f}, epoch {found['epoch']}"


def other_stages(known: set[int]) -> list[list[str]]:
    """A row for each stage that DVC runs and whose process is none of the `known`: it does not train, or not yet."""
    rows = []
    for process in psutil.process_iter(["pid", "cmdline", "environ", "create_time"]):
        info = process.info
        if info["pid"] in known or not info["environ"] or "DVC_STAGE" not in info["environ"]:
            continue
        if any(word.startswith("stages.") for word in info["cmdline"][2:3]):  # not the shell that DVC starts it with
            environment = info["environ"]
            experiment = name(environment.get("DVC_EXP_NAME"), environment["DVC_ROOT"])
            empty = [""] * (len(COLUMNS) - 3)
            rows.append([experiment, environment["DVC_STAGE"], *empty, clock(info["create_time"])])
    return rows


def name(experiment: str | None, project: str) -> str:
    """An experiment's as DVC has it, and the end of the project's path if that is not this folder."""
    experiment = experiment or "(workspace)"
    end = Path(*Path(project).parts[-2:])
    return experiment if os.path.realpath(project) == os.getcwd() else f"{experiment} in {end}"


def clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%d %b %H:%M")


# --- what waits


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
        table.add_row(experiment, clock(since[rev]))
    return table


if __name__ == "__main__":
    run(main)

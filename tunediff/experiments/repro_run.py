"""Stages that do not depend on each other, run at once: a `dvc repro --single-item` for each one that is ready."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tunediff.core.errors import UserError
from tunediff.experiments.repro_plan import Plan, ignore_outputs, sort_lock, still_changed
from tunediff.experiments.running import trainings
from tunediff.experiments.status import COLUMNS, training_row

LOGS = Path(".dvc/tmp/repro")  # what a stage says until it has ended well
GRACE = 10.0  # seconds that interrupted stages have to end
AGAIN = 1.0  # seconds from one picture of the table to the next
# DVC as a process that ends when the one that started it is gone, and then its stage ends too.
DVC = """
import os, sys, threading, time
def watch(parent):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
threading.Thread(target=watch, args=[int(sys.argv.pop(1))], daemon=True).start()
sys.argv[0] = "dvc"
from dvc.cli import main
sys.exit(main())
"""


@dataclass
class Run:
    """The state of a plan's stages. Each is first in `waiting`, then in `ready`, `running`, and `done` or `failed`."""

    plan: Plan
    environment: dict[str, str]
    console: Console
    waiting: list[str] = field(init=False)
    ready: list[str] = field(default_factory=list)
    running: dict[str, psutil.Popen] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    """The stages that have run well, and those that need not run."""
    ran: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    """The first one first."""
    ignored: bool = False
    """Whether git ignores the outputs of all stages."""

    def __post_init__(self) -> None:
        self.waiting = list(self.plan.order)

    def look(self) -> None:
        """Find the stages that are ready, and pass over those that need not run."""
        while came := [name for name in self.waiting if self.plan.before[name] <= self.done]:
            self.waiting = [name for name in self.waiting if name not in came]
            unsure = [name for name in came if name not in self.plan.changed and self.plan.before[name] & self.ran]
            changed = self.plan.changed | (still_changed(unsure) if unsure else set())
            self.ready += [name for name in came if name in changed]
            self.done.update(name for name in came if name not in changed)
        self.ready.sort(key=self.plan.left.get, reverse=True)

    def start(self) -> None:
        """Start the first stage that is ready."""
        name = self.ready.pop(0)
        # After `settings`, which checks the names in their paths.
        if not self.ignored and ("settings" in self.done or "settings" not in self.plan.order):
            ignore_outputs(self.plan)
            self.ignored = True
        with _log(name).open("w", encoding="utf-8") as log:
            self.running[name] = psutil.Popen(
                [sys.executable, "-c", DVC, str(os.getpid()), "--wait-for-lock", "repro", "--single-item", name],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is not for it: see `end`
            )
        self.say(f"{name}: begins")

    def collect(self) -> None:
        """Take the stages that have ended out of those that run, and say how they ended."""
        for name, process in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[name]
            seconds = _seconds(process)
            log = _log(name)
            output = log.read_bytes().decode(errors="replace")
            if process.returncode:
                self.failed.append(name)
                self.say(f"{name}: FAILED after {seconds}", output)
            else:
                self.done.add(name)
                self.ran.add(name)
                self.say(f"{name}: done in {seconds}", _own_words(output))
                log.unlink()
                self.look()

    def say(self, line: str, words: str = "") -> None:
        """Print a line, and below it what a stage has said, without its progress bars."""
        ends = [each.rpartition("\r")[2] for each in words.split("\n")]
        for each in (line, *(f"    {end}" for end in ends if end.strip())):
            self.console.out(each, highlight=False)

    def table(self) -> Table:
        """The stages that run now, and how far the trainings among them are."""
        here = os.path.realpath(".")
        beats = {beat["stage"]: beat for beat in trainings() if os.path.realpath(beat["project"]) == here}
        shown = slice(COLUMNS.index("epoch"), COLUMNS.index("since"))
        waits = len(self.waiting) + len(self.ready)
        caption = f"{len(self.done)} of {len(self.plan.order)} stages are done, {waits} wait"
        table = Table("stage", "for", *COLUMNS[shown], box=SIMPLE_HEAD, caption=caption, caption_justify="left")
        for name, process in self.running.items():
            table.add_row(name, _seconds(process), *(training_row(beats[name])[shown] if name in beats else ()))
        return table


def places(jobs: int | None) -> tuple[int, dict[str, str]]:
    """How many stages run at once, and their environment, by which `devices.take` knows how many share a device.

    `jobs` is how many were asked for. None: one for each GPU, or two that share the processor. What the environment
    says of PER_DEVICE holds. Raises UserError if that is no number.
    """
    import torch  # which takes seconds

    from tunediff.core.devices import PER_DEVICE, choices, per_device

    count = torch.cuda.device_count()
    devices = len(choices(os.environ, count)) or 1
    sharing = math.ceil(jobs / devices) if jobs else 1 if count else 2
    if PER_DEVICE in os.environ:
        sharing = per_device(os.environ)
    return jobs or devices * sharing, {**os.environ, PER_DEVICE: str(sharing)}


def run(plan: Plan, jobs: int, environment: dict[str, str], stop: bool) -> None:
    """Run what the plan needs, `jobs` stages at once; `stop` ends all of them when the first fails.

    Without it, all that does not depend on what failed runs to its end. Raises UserError if a stage failed.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    work = Run(plan, environment, Console())
    try:
        with _shown(work) as show:
            work.look()
            while work.running or work.ready:
                while work.ready and len(work.running) < jobs:
                    work.start()
                show()
                time.sleep(0.1)
                work.collect()
                if work.failed and stop:
                    break
    finally:
        end(list(work.running.values()))
        sort_lock(plan)
    if work.failed:
        left = [name for name in plan.order if name not in work.done and name not in work.failed]
        raise UserError(
            f"{work.failed[0]} failed: its words are above, and in {_log(work.failed[0])}"
            + (f"; then failed {', '.join(work.failed[1:])}" if work.failed[1:] else "")
            + (f"; did not run or end: {', '.join(left)}" if left else "")
        )


@contextmanager
def _shown(work: Run) -> Iterator:
    """A function that draws the table anew if a second has passed; it does nothing where no one looks at a terminal."""
    if not work.console.is_terminal:
        yield lambda: None
        return
    drawn = 0.0
    with Live(console=work.console, auto_refresh=False, transient=True) as live:

        def show() -> None:
            nonlocal drawn
            if time.monotonic() - drawn >= AGAIN:
                drawn = time.monotonic()
                live.update(work.table(), refresh=True)

        yield show


def end(processes: list[psutil.Popen]) -> None:
    """Interrupt the stages that these processes of DVC run, and wait: DVC itself may be writing dvc.lock.

    What is there after GRACE seconds, or at a second Ctrl-C, is killed.
    """
    told: set[psutil.Process] = set()
    until = time.monotonic() + GRACE
    try:
        while time.monotonic() < until and any(process.poll() is None for process in processes):
            for process in set().union(*map(_below, processes)) - told:
                told.add(process)
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGINT)
            time.sleep(0.1)
    finally:
        for process in processes:
            for each in (*_below(process), process):
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        psutil.wait_procs(processes)


def _below(process: psutil.Process) -> set[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return set(process.children(recursive=True))
    return set()


def _log(name: str) -> Path:
    return LOGS / f"{name.replace('/', '-')}.log"


def _seconds(process: psutil.Popen) -> str:
    return str(timedelta(seconds=round(time.time() - process.create_time())))


def _own_words(output: str) -> str:
    """What the stage has said, without bars, between DVC's words: its command, and that dvc.lock is written."""
    _, _, words = output.partition("\n> ")
    words = re.split(r"^(?:Updating|Generating) lock file", words, maxsplit=1, flags=re.MULTILINE)[0]
    return "\n".join(line for line in words.split("\n")[1:] if "\r" not in line)

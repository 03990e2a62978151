"""Stages at once, by `python -m stages.repro`: the files of `dvc repro`, and what a failure or Ctrl-C leaves."""

import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from conftest import ENVIRONMENT, ROOT, Project
from rich.console import Console

from tunediff.core.devices import PER_DEVICE
from tunediff.core.errors import UserError
from tunediff.experiments import repro_plan, repro_run

REPRO = ("python", "-m", "stages.repro")
# As a stage of ours begins, which ends with its DVC; then it waits.
WAITS = "python -c 'import time; from tunediff.core.process import run; run(lambda: time.sleep(100))'"
# Two stages that each wait until the other has begun: they end well only at the same time.
MEETS = "touch {0}.begun; for i in $(seq 300); do test -e {1}.begun && break; sleep 0.1; done; test -e {1}.begun && "
# In dvc.lock it comes after what depends on the other.
LAST = "until test -e alone || grep -qs each@w dvc.lock; do sleep 0.1; done && "


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """In which `python` finds the code from any folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def small(tmp_path: Path, environment: dict[str, str]) -> Project:
    """A DVC project of shell commands, of which `a` and `b` end well only at the same time, and `a` last."""
    made = Project(tmp_path / "project")
    made.folder.mkdir()
    made.run("git", "init", "-q", "-b", "main", environment=environment)
    made.run("dvc", "init", "-q", environment=environment)
    made.write_yaml("params.yaml", {"x": 1, "y": 1, "unused": 1})
    made.write_yaml(
        "dvc.yaml",
        {
            "stages": {
                "settings": {"cmd": "grep x params.yaml > x; grep y params.yaml > y", "params": [{"params.yaml": None}]}
                | {"outs": ["x", "y"]},
                "a": {"cmd": MEETS.format("a", "b") + LAST + "cp x a", "deps": ["x"], "outs": ["a"]},
                "b": {"cmd": MEETS.format("b", "a") + "cp x b", "deps": ["x"], "outs": [{"b": {"cache": False}}]},
                "each": {"matrix": {"of": ["v", "w"]}, "cmd": "cat y b > ${item.of}", "deps": ["y", "b"]}
                | {"outs": ["${item.of}"]},
                "end": {"cmd": "cat a b v > end", "deps": ["a", "b", "v"], "outs": ["end"]},
            }
        },
    )
    made.run("git", "add", "-A", environment=environment)
    made.run("git", "commit", "-qm", "code", environment=environment)
    return made


def repro(project: Project, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    return project.run(*REPRO, *arguments, check=False, environment=environment)


def begun(done: subprocess.CompletedProcess) -> set[str]:
    return {line.removesuffix(": begins") for line in done.stdout.splitlines() if line.endswith(": begins")}


def files(project: Project) -> dict[str, bytes]:
    paths = [path for path in project.folder.iterdir() if path.is_file()]
    return {path.name: path.read_bytes() for path in paths if path.suffix != ".begun" and path.name != "alone"}


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.05)


def working_in(folder: Path) -> list[str]:
    """Command lines of all processes that work in the folder."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended meanwhile
            continue
    return lines


@pytest.mark.slow
def test_two_at_once_write_the_files_of_dvc_repro(small: Project, environment: dict[str, str], tmp_path: Path):
    plain = Project(shutil.copytree(small.folder, tmp_path / "plain", symlinks=True))
    for name in ("a.begun", "b.begun", "alone"):  # nobody waits
        (plain.folder / name).touch()
    plain.run("dvc", "repro", environment=environment)

    done = repro(small, environment, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert begun(done) == {"settings", "a", "b", "each@v", "each@w", "end"}
    assert "\x1b" not in done.stdout and not (small.folder / ".dvc/tmp/repro/a.log").exists()
    assert files(small) == files(plain)

    again = repro(small, environment)
    assert (again.returncode, again.stdout) == (0, "Data and pipelines are up to date.\n")
    # What is written anew as it was makes nothing else run, and what is named alone runs alone.
    small.edit_yaml("params.yaml", unused=2)
    assert begun(repro(small, environment)) == {"settings"}
    small.edit_yaml("params.yaml", y=2)
    assert begun(repro(small, environment, "each@w")) == {"settings", "each@w"}
    assert small.run("dvc", "status", "--json", environment=environment).stdout.count("changed deps") == 1  # of each@v
    for project in (plain, small):
        project.edit_yaml("params.yaml", unused=2, y=2)
    plain.run("dvc", "repro", environment=environment)
    repro(small, environment)
    assert files(small) == files(plain)


@pytest.mark.slow
def test_a_failure_is_named_and_what_does_not_depend_on_it_ends(small: Project, environment: dict[str, str]):
    stages = small.read_yaml("dvc.yaml")["stages"]
    stages["b"]["cmd"] = "echo 'error: no such label'; exit 3"
    stages["a"]["cmd"] = "until test -e go; do sleep 0.1; done; cp x a"
    small.write_yaml("dvc.yaml", {"stages": stages})
    stopped = repro(small, environment, "--stop")
    assert stopped.returncode == 1 and not (small.folder / "a").exists()
    (small.folder / "go").touch()
    done = repro(small, environment)
    assert done.returncode == 1 and (small.folder / "a").read_text() == "x: 1\n"
    assert re.search(r"^b: FAILED after 0:00:\d\d\n(    .*\n)*    error: no such label$", done.stdout, re.MULTILINE)
    # DVC may say that it took the lock of a process that `--stop` has ended.
    assert [line for line in done.stderr.splitlines() if not line.startswith("WARNING: ")] == [
        "error: b failed: its words are above, and in .dvc/tmp/repro/b.log; did not run or end: each@v, each@w, end"
    ]
    assert "did not run or end: a, each@v" in stopped.stderr and "a: done" not in stopped.stdout
    assert working_in(small.folder) == []
    assert list(small.read_yaml("dvc.lock")["stages"]) == ["settings", "a"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_end_leaves_nothing_running_and_the_next_run_goes_on(
    small: Project, environment: dict[str, str], how: signal.Signals
):
    stages = small.read_yaml("dvc.yaml")["stages"]
    for name in "ab":
        stages[name]["cmd"] = f"touch {name}.begun && (test -e go || {WAITS}) && cp x {name}"
    small.write_yaml("dvc.yaml", {"stages": stages})
    process = subprocess.Popen(
        [sys.executable, *REPRO[1:]],
        cwd=small.folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    wait_for(lambda: all((small.folder / f"{name}.begun").exists() for name in "ab"))
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == ((-9, "") if how == signal.SIGKILL else (1, "interrupted\n"))
    if how == signal.SIGKILL:  # what is below notices it a moment later; and for DVC, what is not reaped still runs
        wait_for(lambda: not any(psutil.pid_exists(each.pid) for each in below))
    assert working_in(small.folder) == []
    (small.folder / "go").touch()
    assert begun(repro(small, environment)) == {"a", "b", "each@v", "each@w", "end"}
    assert list(small.read_yaml("dvc.lock")["stages"]) == ["settings", "a", "b", "each@v", "each@w", "end"]


@pytest.mark.slow
def test_a_terminal_shows_what_runs(small: Project, environment: dict[str, str]):
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *REPRO[1:]], cwd=small.folder, env={**environment, "TERM": "xterm"}, stdout=terminal
    )
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # the end of a terminal
        pass
    assert process.wait() == 0
    assert re.search(rb"of 6 stages are done, \d wait", shown) and b"\x1b" in shown and b"end: done in" in shown


@pytest.mark.slow
def test_what_dvc_does_not_know_is_one_line(small: Project, environment: dict[str, str]):
    done = repro(small, environment, "nothing")
    assert done.returncode == 1 and re.fullmatch(r"error: .*nothing.*\n", done.stderr), done.stderr


def test_the_longest_chain_begins_first():
    order = ["settings", "quick", "train", "slow", "evaluate", "report"]
    before = {"settings": set(), "quick": {"settings"}, "train": {"settings"}, "slow": {"settings"}}
    before |= {"evaluate": {"train", "slow"}, "report": {"evaluate", "quick"}}
    plan = repro_plan.Plan(order, before, set(order), set(), {"slow": 40.0})
    assert plan.left == {"settings": 43, "quick": 2, "train": 3, "slow": 42, "evaluate": 2, "report": 1}


def test_what_a_training_took_is_read_from_its_last_run_or_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = Project(tmp_path)
    made.run("dvc", "init", "-q", "--no-scm", environment=ENVIRONMENT)
    files = {name: f"metrics/cost/training/{name}.json" for name in ("full", "lora-v1")}
    stages = {name: {"cmd": f"touch {path}", "metrics": [{path: {"cache": False}}]} for name, path in files.items()}
    made.write_yaml("dvc.yaml", {"stages": {**stages, "other": {"cmd": "touch x", "outs": ["x"]}}})
    (tmp_path / "metrics/cost/training").mkdir(parents=True)
    (tmp_path / files["lora-v1"]).write_text('{"train_seconds": 97.5}')
    monkeypatch.chdir(tmp_path)
    assert repro_plan.make([]).seconds == {"full": 97.5, "lora-v1": 97.5}
    (tmp_path / files["lora-v1"]).write_text('{"train_sec')
    assert repro_plan.make([]).seconds == {"full": 1, "lora-v1": 1}


def test_a_frozen_stage_waits_for_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """DVC does not run what it depends on for its sake, but reads it, and it must not be written meanwhile."""
    made = Project(tmp_path)
    made.run("dvc", "init", "-q", "--no-scm", environment=ENVIRONMENT)
    stages = {"first": {"cmd": "echo > x", "outs": ["x"]}}
    stages["second"] = {"cmd": "cp x y", "deps": ["x"], "outs": ["y"], "frozen": True}
    made.write_yaml("dvc.yaml", {"stages": stages})
    monkeypatch.chdir(tmp_path)
    plan = repro_plan.make([])
    assert plan.before == {"first": set(), "second": {"first"}}
    assert repro_plan.make(["second"]).order == ["second"]


def test_what_a_stage_says_stands_without_dvcs_words():
    output = "Running stage 'a':\n> python -m stages.a\nfirst\n\r0%\r100%\nsecond\nUpdating lock file 'dvc.lock'\n\nTo"
    assert repro_run._own_words(output).splitlines() == ["first", "second"]
    assert repro_run._own_words("Stage 'a' didn't change, skipping\n") == ""


def test_a_training_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    now = time.time()
    beat = {"stage": "train_full", "project": str(tmp_path), "experiment": None, "method": "full", "seed": 17}
    beat |= {"epoch": 1.0, "epochs": 6, "loss": 0.656, "validation": [], "select_by": "f1", "seconds_left": 868}
    other = {**beat, "project": "/elsewhere", "loss": 9.0}
    beats = [each | {"state": "runs", "updated": now, "started": now} for each in (beat, other)]
    monkeypatch.setattr(repro_run, "trainings", lambda: beats)

    class Process:
        def create_time(self) -> float:
            return now - 72

    plan = repro_plan.Plan(["train_full", "baseline"], {"train_full": set(), "baseline": set()}, set(), set(), {})
    console = Console(file=io.StringIO(), width=120)
    work = repro_run.Run(plan, {}, console, running={"train_full": Process()})
    console.print(work.table())
    assert re.search(r"train_full +0:01:12 +1.0 of 6 +0.656 +0:14:28", console.file.getvalue())


@pytest.mark.parametrize(
    ("told", "count", "jobs", "expected"),
    [
        ({}, 0, None, (2, 2)),  # half of the threads for each of two
        ({}, 0, 4, (4, 4)),
        ({}, 3, None, (3, 1)),
        ({}, 3, 2, (2, 1)),
        ({}, 3, 4, (4, 2)),
        ({PER_DEVICE: "2"}, 3, None, (6, 2)),
        ({PER_DEVICE: "1"}, 1, 2, (2, 1)),  # the second waits
        ({"CUDA_VISIBLE_DEVICES": "2"}, 1, None, (1, 1)),
    ],
)
def test_how_many_at_once(monkeypatch: pytest.MonkeyPatch, told: dict[str, str], count: int, jobs, expected):
    for name in (PER_DEVICE, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    at_once, environment = repro_run.places(jobs)
    assert (at_once, int(environment[PER_DEVICE])) == expected


def test_a_wrong_number_of_sharers_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(PER_DEVICE, "none")
    with pytest.raises(UserError, match="TUNEDIFF_PER_DEVICE=none"):
        repro_run.places(2)

"""Several DVC commands in one project at once: all end, or one says who holds the lock; nothing is half written."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from conftest import ENVIRONMENT, GOAL, Project, copy_of

pytestmark = pytest.mark.slow


@pytest.fixture
def project(trained: Project, tmp_path: Path) -> Iterator[Project]:
    project = copy_of(trained, tmp_path / "project")
    yield project
    for number in children(project.folder):  # of a test that failed: a queue's workers outlive their command
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def start(project: Project, *command: str) -> subprocess.Popen:
    return subprocess.Popen(
        command, cwd=project.folder, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def children(folder: Path) -> dict[int, str]:
    """Numbers and command lines of all processes that work in or below the folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # ended meanwhile
            continue
    return found


def contents(project: Project) -> dict[Path, bytes]:
    folders = [project.folder / name for name in ("data", "metrics", "models")]
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def wait_for_end(project: Project) -> None:
    """No process is left behind; workers of a queue end by themselves soon after it is empty."""
    for _ in range(100):
        if not (left := children(project.folder)):
            return
        time.sleep(0.2)
    raise AssertionError(left)


def check_whole(project: Project) -> None:
    """Nothing is partial, and the stages' outputs are those of the lock."""
    assert not list(project.folder.rglob("*.partial"))
    assert project.run("dvc", "status", GOAL).stdout.strip() == "Data and pipelines are up to date."


def test_of_two_repros_at_once_one_waits_or_says_who_holds_the_lock(project: Project):
    stage = project.folder / "stages/prepare.py"
    stage.write_text(stage.read_text() + "\n# changed\n")
    first = start(project, "dvc", "repro", GOAL)
    while "stages.prepare" not in " ".join(children(project.folder).values()):
        assert first.poll() is None
        time.sleep(0.05)
    second = start(project, "dvc", "repro", GOAL)
    (out, error), (out_2, error_2) = first.communicate(timeout=120), second.communicate(timeout=120)
    assert first.returncode == 0, error
    assert "Running stage 'prepare'" in out
    assert second.returncode, out_2
    # The process that holds it, by its number and command.
    assert re.search(rf"(PID {first.pid}|cmd: .*dvc repro)", error_2), error_2
    project.run("dvc", "repro", GOAL)
    check_whole(project)
    wait_for_end(project)


def test_a_queue_of_four_workers_beside_a_repro(project: Project):
    before = contents(project)
    project.run("dvc", "exp", "run", "--queue", "-S", "seed=1,2,3,4", "prepare")
    project.run("dvc", "queue", "start", "--jobs", "4")
    repro = project.run("dvc", "repro", GOAL, check=False)
    assert repro.returncode == 0 or "lock" in repro.stderr, repro.stderr
    for _ in range(240):
        status = project.run("dvc", "queue", "status").stdout.partition("Worker status")[0]
        if not re.search(r"\b(Queued|Running)\b", status):
            break
        time.sleep(4)
    project.run("dvc", "queue", "stop", "--kill")
    assert len(re.findall(r"\bSuccess\b", status)) == 4, status
    # Each experiment has a split of its own, the workspace the one it had.
    refs = project.run("git", "for-each-ref", "--format=%(objectname)", "refs/exps/*/*/*").stdout.split()
    locks = [yaml.safe_load(project.run("git", "show", f"{ref}:dvc.lock").stdout)["stages"] for ref in refs]
    assert {lock["settings"]["params"]["params.yaml"]["seed"] for lock in locks} == {1, 2, 3, 4}
    outputs = [out for lock in locks for out in lock["prepare"]["outs"]]
    assert len({out["md5"] for out in outputs if out["path"] == "data/prepared"}) == 4
    assert contents(project) == before
    check_whole(project)
    wait_for_end(project)

"""Experiments of DVC's queue on a real Dask cluster of two workers, through a git and a DVC remote, and home again."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ENVIRONMENT, GOAL, Project, copy_of

from stages import cluster as cluster_command
from tunediff.core.errors import UserError

pytestmark = pytest.mark.slow

TARGET = "train_lora@v1"


@pytest.fixture
def home(trained: Project, tmp_path: Path) -> Project:
    """With a git remote, and a training that notes in `runs` its experiment and folder, which is not committed."""
    home = copy_of(trained, tmp_path / "home")
    home.run("git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "hub.git"))
    home.run("git", "remote", "add", "origin", str(tmp_path / "hub.git"))
    stage = home.folder / "stages/train_lora.py"
    note = f"import os\nprint(os.environ['DVC_EXP_NAME'], os.getcwd(), file=open({str(tmp_path / 'runs')!r}, 'a'))\n"
    stage.write_text(stage.read_text().replace("if __name__", f"{note}\n\nif __name__"))
    return home


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """Address of the scheduler; the workers, each in a folder `worker-0` or `worker-1`."""
    address, started = str(tmp_path / "scheduler.json"), []
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def start(*command: str) -> subprocess.Popen:
        with (tmp_path / f"{len(started)}.log").open("w") as log:
            options = {"env": environment, "cwd": tmp_path, "stdout": log, "stderr": log}
            started.append(subprocess.Popen([sys.executable, "-m", *command], **options))
        return started[-1]

    options = ("--no-dashboard", "--scheduler-file", address)
    try:
        start("distributed.cli.dask_scheduler", *options, "--host", "127.0.0.1", "--port", "0")
        wait_for(Path(address).is_file)
        worker = ("distributed.cli.dask_worker", *options, "--nthreads", "1", "--no-nanny", "--local-directory")
        workers = [start(*worker, f"worker-{number}") for number in range(2)]
        yield yaml.safe_load(Path(address).read_text())["address"], workers
    finally:
        for process in started:
            process.kill()
            process.wait()


def wait_for(found: Callable[[], Any]) -> Any:
    for _ in range(3000):
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("not within five minutes")


def at_work(folder: Path) -> list[Path]:
    """The processes that work below the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append(process)
    return found


def noted(runs: Path) -> Counter[str]:
    """How often each experiment trained."""
    return Counter(line.split()[0] for line in runs.read_text().splitlines())


def on_remote(project: Project) -> list[str]:
    """Names of the git remote's refs."""
    return project.run("git", "ls-remote", "origin").stdout.split()[1::2]


def test_the_queue_runs_on_workers_though_the_command_and_a_worker_are_killed(
    home: Project, cluster: tuple[str, list[subprocess.Popen]], tmp_path: Path
):
    scheduler, workers = cluster
    command = ["python", "-m", "stages.cluster", "--scheduler", scheduler]
    queue = ["dvc", "exp", "run", "--queue", "--name"]
    runs = tmp_path / "runs"

    home.run(*queue, "beside", "-S", "train.epochs=2", TARGET)
    refused = home.run(*command, check=False)
    assert refused.returncode == 1 and "dvc remote modify storage" in refused.stderr
    home.run("dvc", "queue", "remove", "--all")
    home.run("dvc", "remote", "modify", "storage", "url", str(tmp_path / "store"))  # not committed either
    home.run("dvc", "push", "--with-deps", GOAL)
    # None ends before it is killed.
    home.run(*queue, "good", "-S", "train.epochs=30,31", "-S", "train.patience=0", TARGET)
    home.run(*queue, "bad", "-S", "train.batch_size=0", TARGET)
    lost = copy_of(home, tmp_path / "lost")

    # A worker is killed while it trains, and all that it began ends; the command is interrupted.
    interrupted = subprocess.Popen(
        [sys.executable, *command[1:]],
        cwd=home.folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    killed = "worker-0" not in wait_for(lambda: runs.is_file() and runs.read_text())
    workers[killed].kill()
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.communicate(timeout=60)[1].endswith(b"interrupted\n")
    wait_for(lambda: not at_work(tmp_path / f"worker-{killed:d}"))
    assert not list(tmp_path.glob(f"worker-{killed:d}/**/metrics/validation/lora-v1.json")), "it trained to the end"

    # The other one goes on, and the next command finds what it did.
    wait_for(lambda: {"good-1", "good-2"} <= {ref.split("/")[-1] for ref in on_remote(home)})
    error = home.run(*command, check=False).stderr
    assert "bad: dvc exp run" in error and "train.batch_size" in error, error
    assert "1 of 3 experiments failed" in error.splitlines()[-1]
    ran = noted(runs)
    # `bad` fails in the stage `settings`, before it trains.
    assert ran.total() == 3 and set(ran) == {"good-1", "good-2"}, f"{ran}: only what was killed runs again"

    # Home has them with their data, the queue what failed, and the remote no more than that.
    refs = on_remote(home)
    assert [ref.split("/")[-1] for ref in refs[:-1]] == ["good-1", "good-2"] and "/queue/" in refs[-1]
    for ref, epochs in zip(refs, (30, 31), strict=False):
        home.run("git", "checkout", "-qf", "--detach", ref)
        home.run("dvc", "checkout", "--with-deps", TARGET)
        assert home.read_json("metrics/validation/lora-v1.json")["epochs"] == epochs
        assert "DVC_EXP_NAME" in (home.folder / "stages/train_lora.py").read_text()
        assert home.run("dvc", "status", TARGET).stdout.strip() == "Data and pipelines are up to date."
    home.run("git", "checkout", "-qf", "main")
    assert home.run("dvc", "queue", "status").stdout.splitlines()[1].split()[1] == "bad"

    # Who has the same queue, and knows nothing of this, gets the same results; another one of that name is refused.
    lost.run("dvc", "queue", "remove", "bad", "good-2")
    lost.run(*queue, "good-2", "-S", "train.epochs=5", TARGET)
    error = lost.run(*command, check=False).stderr
    assert "good-2: another experiment of this name" in error and "1 of 2" in error, error
    assert lost.run("git", "rev-parse", refs[0]).stdout == home.run("git", "rev-parse", refs[0]).stdout
    assert noted(runs) == ran


def test_what_cannot_begin_is_named(home: Project):
    command = ["python", "-m", "stages.cluster", "--scheduler", "tcp://127.0.0.1:9"]
    assert "nothing waits in DVC's queue" in home.run(*command, check=False).stderr
    home.run("dvc", "remote", "modify", "storage", "url", "/srv/store")
    home.run("dvc", "exp", "run", "--queue", "-S", "train.epochs=2", TARGET)
    nobody = home.run(*command, check=False)
    assert nobody.returncode == 1 and "`dask scheduler` starts one" in nobody.stderr
    home.run("git", "remote", "remove", "origin")
    assert "No such remote 'origin'" in home.run(*command, check=False).stderr


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setattr(sys, "argv", ["cluster", "--scheduler", "tcp://127.0.0.1:9"])
    with pytest.raises(UserError, match=r"needs Dask.*pip install -r requirements-cluster\.txt$"):
        cluster_command.main()

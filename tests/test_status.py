"""What runs and what waits, told by trainings that run in a real queue."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from conftest import ENVIRONMENT, Project
from rich.console import Console

from tunediff.experiments import running, status
from tunediff.training import heartbeat

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where heartbeats are in these tests, and those of nobody else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(ENVIRONMENT, "XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tunediff/running"


@pytest.fixture
def queue(project: Project) -> Iterator[Project]:
    """Two long trainings, of which a worker has begun the first."""
    values = project.read_yaml("params.yaml")
    project.edit_yaml("params.yaml", train={**values["train"], "epochs": 1000, "patience": 0})
    project.commit("code")
    project.run("dvc", "exp", "run", "--queue", "-n", "decay", "-S", "train.weight_decay=0.01,0.02", "train_full")
    with open(os.devnull, "w") as nowhere:  # a pipe would be kept open by the worker
        subprocess.run(["dvc", "queue", "start"], cwd=project.folder, env=ENVIRONMENT, stdout=nowhere, check=True)
    yield project
    project.run("dvc", "queue", "stop", "--kill")
    os.chdir(project.folder.anchor)
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(project.folder):
            process.kill()


def wait_for(what: Callable[[], Any]) -> Any:
    until = time.monotonic() + 120
    while not (found := what()):
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.02)
    return found


@pytest.mark.slow
def test_a_queued_experiment_is_followed_by_its_name_until_it_dies(
    queue: Project, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def others() -> list[list[str]]:
        return [
            row for row in status.other_stages({beat["pid"] for beat in running.trainings()}) if row[0] == "decay-1"
        ]

    monkeypatch.chdir(queue.folder)
    assert wait_for(others)[0][:2] in (["decay-1", "settings"], ["decay-1", "prepare"])
    [beat] = wait_for(lambda: [beat for beat in running.trainings() if beat["epoch"] > 2])
    shown = queue.run("python", "-m", "stages.status").stdout
    [row] = [line for line in shown.splitlines() if "decay-1" in line]
    assert row.split()[:4] == ["decay-1", "train_full", "full", "17"] and "of 1000" in row and "f1" in row
    assert any(line.split()[:1] == ["decay-2"] for line in shown.splitlines()) and "workers: 1" in shown
    assert others() == []
    assert (beat["experiment"], beat["project"], beat["state"]) == ("decay-1", str(queue.folder), "runs")
    assert 0 < beat["step"] < beat["steps"] and beat["loss"] > 0 and beat["seconds_left"] > 0
    assert [figures["epoch"] for figures in beat["validation"]] == [*range(1, len(beat["validation"]) + 1)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert running.trainings() == [] and others() == []
    assert status.training_row(beat)[0] == f"decay-1 in {queue.folder.parent.name}/project"
    monkeypatch.chdir(queue.folder)

    os.kill(beat["pid"], signal.SIGSTOP)
    monkeypatch.setattr(running, "SILENT", 0.5)
    [row] = wait_for(lambda: [status.training_row(one) for one in running.trainings() if one["state"] == "silent"])
    assert "hangs? silent for 0:00:" in row[7]
    os.kill(beat["pid"], signal.SIGKILL)
    monkeypatch.chdir(elsewhere)
    wait_for(lambda: not running.lives(beat["pid"], beat["started"]))
    assert running.trainings() == [] and (cache / f"{beat['pid']}.json").exists()  # it is told there where it was
    monkeypatch.chdir(queue.folder)
    [row] = [status.training_row(one) for one in running.trainings() if one["state"] == "died"]
    assert "died 0:00:" in row[7]
    assert beat["pid"] not in [one["pid"] for one in running.trainings()]
    assert not (cache / f"{beat['pid']}.json").exists()


@pytest.mark.slow
def test_a_training_that_fails_leaves_no_heartbeat(project: Project, cache: Path):
    project.edit_yaml("conf/model/tiny.yaml", learning_rate={"full": 1e30, "lora": 1e-2})
    project.prepare()
    paths = {"settings": "data/settings/training/full.json", "splits": "data/prepared", "trained": "data/trained/full"}
    paths |= {"validation": "v.json", "logits": "l.npy", "cost": "c.json", "curves": "plots/curves/full"}
    options = [word for name, path in paths.items() for word in (f"--{name}", path)]
    done = project.run("python", "-m", "stages.train_full", *options, check=False)
    assert "the training diverged" in done.stderr
    assert list(cache.iterdir()) == []  # and the folder is there: it had one


def test_a_machine_that_shares_the_cache_is_believed_while_it_is_heard(cache: Path):
    """Its processes cannot be seen here; and a number that another process has by now is nobody's."""
    now = time.time()
    here, foreign = {"project": os.getcwd(), "host": "other"}, {"project": "/elsewhere", "host": "other"}
    mine = {"project": os.getcwd(), "host": running.gethostname(), "pid": os.getpid()}  # not this process: long before
    beats = {1: here, 2: here, 3: here, 4: mine, 5: foreign, 6: foreign}
    for number, silent in zip(beats, (60, 600, 9000, 0, 600, 9000), strict=True):
        beat = {"pid": number, "started": number, "updated": now - silent, **beats[number]}
        heartbeat.write_json(cache / f"{number}.json", beat)
    for died in ({3: "died", os.getpid(): "died"}, {}):  # told once
        assert {beat["pid"]: beat["state"] for beat in running.trainings()} == {1: "runs", 2: "silent", **died}
        assert sorted(path.stem for path in cache.glob("*.json")) == ["1", "2", "5"]


def test_what_died_stays_in_sight_while_somebody_watches(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(status, "queue", lambda: "")
    figures = dict.fromkeys(("experiment", "loss", "seconds_left")) | {"validation": [], "select_by": "f1"}
    names = {"project": os.getcwd(), "host": running.gethostname(), "stage": "train_full", "method": "full", "seed": 17}
    beat = {**figures, **names, "pid": 1, "started": 1, "updated": time.time(), "epoch": 1.0, "epochs": 2}
    heartbeat.write_json(cache / "1.json", beat)
    died = []
    for _ in range(2):
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(status.overview(died))
        assert "died 0:00:0" in console.export_text()
    assert list(cache.iterdir()) == []


def test_a_training_that_goes_on_takes_the_heartbeat_away_that_was_left(cache: Path):
    beating = heartbeat.Heartbeat(Trainer(), ("f1", "loss"), "full", 17)
    killed = {**beating.training, "pid": 1, "started": 1, "updated": 1}
    others = [
        {**killed, key: value} for key, value in (("seed", 18), ("project", "/elsewhere"), ("experiment", "another"))
    ]
    for number, beat in enumerate((killed, *others)):
        heartbeat.write_json(cache / f"{number}.json", beat)
    beating.on_train_begin(SimpleNamespace(metric_for_best_model="eval_f1"), state_of(0), None)
    assert {path.stem for path in cache.glob("*.json")} == {"1", "2", "3", str(os.getpid())}
    beating.on_train_end(None, None, None)
    assert sorted(path.stem for path in cache.glob("*.json")) == ["1", "2", "3"]


def test_a_process_that_has_ended_is_dead_even_if_nobody_waits_for_it():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert running.lives(process.pid, time.time() + 1)
    process.stdin.close()
    wait_for(lambda: not running.lives(process.pid, time.time() + 1))
    process.wait()


class Trainer:
    """With a loss on a device that counts how often it is asked for."""

    def __init__(self):
        self._globalstep_last_logged, self._tr_loss, self.asked = 0, self, 0

    def item(self) -> float:
        self.asked += 1
        return 30.0


def state_of(steps: int) -> SimpleNamespace:
    state = SimpleNamespace(global_step=0, max_steps=steps, epoch=0.0, num_train_epochs=10, log_history=[])
    state.is_world_process_zero = True
    return state


def test_a_step_neither_writes_nor_waits_for_the_device_more_than_once_a_second(monkeypatch: pytest.MonkeyPatch):
    now, written = [1000.0], []
    monkeypatch.setattr(heartbeat.time, "time", lambda: now[0])
    monkeypatch.setattr(heartbeat, "write_json", lambda path, value: written.append(value))
    trainer, args = Trainer(), SimpleNamespace(metric_for_best_model="eval_f1")
    state = state_of(1280)
    beating = heartbeat.Heartbeat(trainer, ("f1", "loss"), "lora-v1", 18)
    beating.on_train_begin(args, state, None)
    for step in range(1, 641):
        now[0] += 1 / 64
        state.global_step, state.epoch = step, step / 128
        beating.on_step_end(args, state, None)
    assert len(written) == 1 + 10 and trainer.asked == 10
    assert (written[0]["loss"], written[0]["seconds_left"]) == (None, None)
    last = written[-1]
    assert (last["method"], last["loss"], last["seconds_left"]) == ("lora-v1", 30 / last["step"], pytest.approx(10))


@pytest.mark.parametrize(("select_by", "expected"), [("f1", "f1 0.700, epoch 2"), ("loss", "loss 0.500, epoch 1")])
def test_the_best_epoch_is_that_which_would_be_chosen(select_by: str, expected: str):
    figures = [{"epoch": epoch, "f1": f1, "loss": loss} for epoch, f1, loss in ((1, 0.6, 0.5), (2, 0.7, 0.6))]
    assert status.best(figures, select_by) == expected
    assert status.best([], select_by) == ""


def test_a_long_row_fits_100_columns(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(status, "queue", lambda: "")
    beat = {"experiment": "tepid-joys", "project": os.getcwd(), "stage": "train_lora@v1", "method": "lora-v1"}
    beat |= {"seed": 17, "epoch": 12.5, "epochs": 100, "loss": 0.5234, "select_by": "f1", "seconds_left": 3723}
    beat |= {
        "validation": [{"epoch": 12, "f1": 0.785}],
        "started": 1,
        "updated": time.time(),
        "host": "other",
        "pid": 1,
    }
    heartbeat.write_json(cache / "1.json", beat)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(status.overview([]))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert any("tepid-joys" in line and "epoch 12" in line for line in lines)
    assert max(map(len, lines)) <= 100

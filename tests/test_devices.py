"""Each process takes a device of its own: real processes and locks, on devices that are not there."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import ENVIRONMENT, ROOT
from threadpoolctl import threadpool_info, threadpool_limits

from tunediff.core import devices
from tunediff.core.errors import UserError


@pytest.mark.parametrize(
    ("environment", "count", "expected"),
    [
        ({}, 0, []),
        ({}, 1, ["0"]),
        ({}, 3, ["0", "1", "2"]),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, 2, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "2"}, 1, []),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0, []),
        ({"LOCAL_RANK": "1"}, 4, []),
    ],
)
def test_what_is_told_already_is_kept_to(environment: dict[str, str], count: int, expected: list[str]):
    assert devices.choices(environment, count) == expected


class Processes:
    """Each takes a device of this machine, which has two, and keeps it until it is killed."""

    def __init__(self, folder: Path):
        self.folder, self.started = folder, []
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tunediff.core.devices"])

    def start(self, **environment: str) -> multiprocessing.Process:
        process = self.context.Process(target=_take, args=(self.folder, len(self.started), environment))
        process.start()
        self.started.append(process)
        return process

    def said(self, number: int, seconds: float = 60) -> str:
        """The first line of a process."""
        path = self.folder / f"{number}.txt"
        for _ in range(round(seconds / 0.02)):
            if path.is_file() and (lines := path.read_text().splitlines()):
                return lines[-1]
            self.started[number].join(0.02)
        raise AssertionError("it says nothing")


def _take(folder: Path, number: int, environment: dict[str, str]) -> None:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), **environment}
    torch.cuda.device_count = lambda: 2
    devices.AGAIN = 0.05
    with (folder / f"{number}.txt").open("w", buffering=1) as sys.stderr:
        devices.take()
        print(os.environ["CUDA_VISIBLE_DEVICES"], file=sys.stderr)
        multiprocessing.Event().wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    for process in made.started:
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("sharing", [1, 2])
def test_each_takes_another_device_and_one_too_many_waits_for_a_killed_one(processes: Processes, sharing: int):
    told = {devices.PER_DEVICE: str(sharing)}
    taken = []
    for number in range(2 * sharing):
        processes.start(**told)
        taken.append(processes.said(number))
    assert taken == ["0", "1"] * sharing
    last = len(taken)
    waiting = processes.start(**told)
    message = f"other processes have 0, 1; {devices.PER_DEVICE}={sharing + 1} would let {sharing + 1} share each"
    assert message in processes.said(last)
    waiting.join(0.3)
    assert message in processes.said(last)
    processes.started[1].kill()
    processes.started[1].join()
    while (found := processes.said(last)).startswith("waits"):
        assert waiting.is_alive()
    assert found == "1"


def test_locks_that_cannot_be_written_are_done_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").touch()
    assert devices.wait_for(["4", "5"], 1, tmp_path / "file/devices") == "4"
    assert "Not a directory: takes device 4, whoever has it" in capsys.readouterr().err


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    with threadpool_limits():  # which puts the other libraries back
        yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, 4), ({devices.PER_DEVICE: "2"}, 2), ({devices.PER_DEVICE: "9"}, 1)],
    ids=["alone", "two", "more than threads"],
)
def test_the_threads_are_divided_as_told(
    environment: dict[str, str], expected: int, four_threads: None, monkeypatch: pytest.MonkeyPatch
):
    for name in ("OMP_NUM_THREADS", devices.PER_DEVICE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    devices.take()
    assert torch.get_num_threads() == expected
    if environment:
        assert {library["num_threads"] for library in threadpool_info()} == {expected}
        torch.set_num_threads(4)
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        devices.take()
        assert torch.get_num_threads() == 4  # what is told of the threads is kept to


@pytest.mark.parametrize("told", ["0", "two", "1.5", "-1", ""])
def test_a_number_of_processes_that_is_none_is_named(told: str):
    with pytest.raises(UserError, match=f"{devices.PER_DEVICE}={told}: expected how many processes share a device"):
        devices.per_device({devices.PER_DEVICE: told})


# CUDA reads CUDA_VISIBLE_DEVICES once, when it is first asked for anything.
ASKED = """
import sys, torch
for name in ("is_available", "device_count", "_lazy_init"):
    setattr(torch.cuda, name, lambda *args, name=name: exit(f"asked: {name}"))
from stages import train_full, train_lora, train_peft, training_rows, few_labels
from stages import evaluate, baseline, label_noise, export, prompt
from stages import fold_train, fold_training_rows, fold_baseline, fold_prompt
"peft" in sys.modules and exit("imported: peft, which imports bitsandbytes if it is there, which asks")
"""


@pytest.mark.slow
def test_no_import_asks_cuda_before_a_device_is_taken():
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("stage", "busy", "told", "waits"),
    [
        ("train_full", 90.0, {}, "PASSIVE"),
        ("train_full", 0.0, {}, None),
        ("train_full", 90.0, {"OMP_NUM_THREADS": "1"}, None),
        ("report", 90.0, {}, None),  # it has no such threads, and does not spend the time to look
    ],
)
def test_threads_sleep_while_they_wait_where_others_need_the_processors(stage, busy, told, waits):
    """What a stage finds as it begins; a subprocess, since the variable is read once, as torch is loaded."""
    begins = (
        f"import os, sys, psutil; sys.argv[0] = '-m'; sys.orig_argv[1:] = ['-m', 'stages.{stage}']; "
        f"psutil.cpu_percent = lambda interval: {busy}; import stages; print(os.environ.get('OMP_WAIT_POLICY'))"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", begins], env={**clean, **told}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(waits)

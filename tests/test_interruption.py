"""Trainings that are killed go on, and end as if nothing had been."""

import hashlib
import multiprocessing
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
import yaml
from conftest import ENVIRONMENT, ROOT, SETTINGS, Project, make_project
from datasets import Dataset
from torch.nn.functional import cross_entropy

from stages import settings
from tunediff.training.checkpoints import made_from

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TUNEDIFF_KILLS", "4"))
STAGES = {"full": "train_full", "lora-v1": "train_lora", "prompts": "train_peft", "0.5": "training_rows"}
TARGETS = ("train_full", "train_lora@v1", "train_peft@prompts", "training_rows@0.5")
OUTPUTS = ("data/trained", "data/logits", "metrics/validation", "metrics/training_rows", "plots/curves")  # all but cost


def arguments(method: str) -> list[str]:
    if STAGES[method] == "training_rows":
        return [
            *("--settings", "data/settings/training_rows.json", "--splits", "data/prepared"),
            *("--metrics", f"metrics/training_rows/{method}.json"),
        ]
    return [
        *("--settings", f"data/settings/training/{method}.json", "--splits", "data/prepared"),
        *("--trained", f"data/trained/{method}", "--logits", f"data/logits/{method}.npy"),
        *("--validation", f"metrics/validation/{method}.json", "--cost", f"metrics/cost/training/{method}.json"),
        *("--curves", f"plots/curves/{method}"),
    ]


def resolve(project: Project) -> None:
    """After a change of settings, as DVC runs the stage `settings`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.setattr(sys, "argv", ["settings", *SETTINGS])
        settings.main()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts) -> Project:
    """A prepared project with four short epochs; tests work on copies."""
    made = make_project(tmp_path_factory.mktemp("prepared") / "project", tiny_model, tiny_texts)
    values = made.read_yaml("params.yaml")
    # P-tuning has a network in training that is not saved.
    entry = {"learning_rate": 1e-2, "peft_type": "P_TUNING", "num_virtual_tokens": 4, "encoder_hidden_size": 16}
    made.edit_yaml(
        "params.yaml",
        train={**values["train"], "epochs": 4, "batch_size": 8, "patience": 1},
        train_peft={"methods": ["prompts"], "entries": {"prompts": entry}},
        training_rows={"shares": [0.5], "per_label": [], "methods": ["full", "prompts"]},
    )
    made.prepare()
    return made


@pytest.fixture
def project(prepared: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """With a cache of its own, so that no other test's checkpoints are there."""
    monkeypatch.setitem(ENVIRONMENT, "XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(prepared.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def outputs(project: Project) -> dict[str, bytes]:
    found = [path for name in OUTPUTS for path in (project.folder / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(project.folder)): path.read_bytes() for path in found if path.name != ".gitignore"}


def begin(project: Project, method: str) -> multiprocessing.Process:
    """The stage in a process of its own that has its modules already: a tenth of the time. stderr.txt has its words."""
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(["tunediff.training.stage", "tunediff.training.loop", "tunediff.evidence.growth"])
    process = forked.Process(target=_stage, args=(project.folder, method))
    process.start()
    return process


def _stage(folder: Path, method: str) -> None:
    os.chdir(folder)
    os.environ |= {"XDG_CACHE_HOME": str(folder.parent / "cache"), "TUNEDIFF_PER_DEVICE": "2"}
    tempfile.tempdir = str(temporary(folder))
    with open("stderr.txt", "w") as file:
        os.dup2(file.fileno(), 2)
    sys.argv = ["stage", *arguments(method)]
    runpy.run_module(f"stages.{STAGES[method]}", run_name="__main__")


def temporary(folder: Path) -> Path:
    """Where a training of the project puts what is temporary."""
    place = folder.parent / "temporary"
    place.mkdir(exist_ok=True)
    return place


def train(project: Project, method: str, code: int = 0) -> str:
    """To its end; what it said."""
    process = begin(project, method)
    process.join()
    said = (project.folder / "stderr.txt").read_text()
    assert process.exitcode == code, said
    return said


def cache(project: Project) -> Path:
    return project.folder.parent / "cache/tunediff/checkpoints"


def checkpoints(project: Project) -> list[Path]:
    """Those that are whole."""
    return sorted(path.parent for path in cache(project).glob("*/checkpoint-*/whole.json"))


def wait_for(what: Callable[[], object], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.01)


def start(project: Project, *command: str) -> subprocess.Popen:
    """In a process group of its own, as a shell starts it."""
    command = [sys.executable if word == "python" else word for word in command]
    none = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env=ENVIRONMENT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
        **none,
    )


@pytest.fixture
def versioned(project: Project) -> Project:
    """With epochs enough that no training ends between its first checkpoint and the signal."""
    train = project.read_yaml("params.yaml")["train"]
    project.edit_yaml("params.yaml", train={**train, "epochs": 15, "patience": 0})
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "repro", "prepare")  # which tells git what to ignore
    project.commit("prepared")
    return project


@pytest.mark.parametrize("target", TARGETS)
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(
    versioned: Project, monkeypatch: pytest.MonkeyPatch, target: str
):
    """DVC or its stage is killed, as often as TUNEDIFF_KILLS says, all in all; after each, a `dvc repro` to the end.

    A third of the kills come in the first two seconds of the stage. In half of the rounds a parameter is another one
    from the kill on. What was killed may not write a byte to what the next run has made.
    """
    moment, expected, took = random.Random(target), {}, 0.0
    for warmup in (0.5, 0.1):
        set_warmup(versioned, warmup)
        began = time.monotonic()
        versioned.run("dvc", "repro", "--no-run-cache", target)
        took = time.monotonic() - began
        expected[warmup] = outputs(versioned)
    assert expected[0.5].keys() == expected[0.1].keys() and expected[0.5] != expected[0.1]
    for kill in range(-(-KILLS // len(TARGETS))):
        number = kill * len(TARGETS) + TARGETS.index(target)
        early, edited = number % 3 == 0, (kill + number) % 2 == 0
        at_checkpoint = not early and not edited
        when = None if at_checkpoint else moment.uniform(0, 2) if early else moment.uniform(2, took)
        before, way = moment.choice(list(expected)), moment.choice(list(WAYS))
        after = next(share for share in expected if (share != before) == edited)
        monkeypatch.setitem(ENVIRONMENT, "SHELL", shutil.which(moment.choice(["sh", "bash"])))
        again = kill_and_repeat(versioned, target, way, when, before, after)
        what = f"kill {number}, {target}: {way} after {when} s, warmup {before}, then {after}"
        assert outputs(versioned) == expected[after], what
        assert "up to date" in versioned.run("dvc", "status", target).stdout, what
        assert "goes on after epoch" in again or not at_checkpoint, what
        assert not list(versioned.folder.rglob("*.partial")), what


def set_warmup(project: Project, share: float) -> None:
    project.edit_yaml("params.yaml", train={**project.read_yaml("params.yaml")["train"], "warmup": share})


def kill_and_repeat(project: Project, target: str, way: str, when: float | None, before: float, after: float) -> str:
    """What `dvc repro` says at once after one was killed, `when` seconds after its stage began.

    Or, if `when` is None, after its next checkpoint. `before` and `after` are the shares of warmup of the two.
    """
    for name in (*OUTPUTS, "metrics/cost"):
        shutil.rmtree(project.folder / name, ignore_errors=True)
    project.run("git", "checkout", "-q", "dvc.lock")  # what it knows, DVC would take from its cache without a run
    set_warmup(project, before)
    left, name = checkpoints(project), target.split("@")[0]
    dvc = start(project, "dvc", "repro", "--no-run-cache", target)
    wait_for(lambda: stages_of(dvc, name))
    if when is None:
        wait_for(lambda: set(checkpoints(project)) - set(left))
    else:
        time.sleep(when)
    WAYS[way](dvc, stages_of(dvc, name))
    set_warmup(project, after)
    dvc.wait()
    again = project.run("dvc", "repro", "--no-run-cache", target, check=False)
    if "'./dvc.lock' validation failed" in again.stderr:  # DVC was killed while it wrote that file
        project.run("git", "checkout", "-q", "dvc.lock")
        again = project.run("dvc", "repro", "--no-run-cache", target, check=False)
    assert again.returncode == 0, again.stderr
    wait_for(lambda: not alive(dvc.pid), 60)
    return again.stderr


def stages_of(dvc: subprocess.Popen, name: str) -> list[psutil.Process]:
    """The processes of that stage that DVC runs."""
    with suppress(psutil.Error):
        return [one for one in psutil.Process(dvc.pid).children(recursive=True) if f"stages.{name}" in one.cmdline()]
    return []


def kill_all(processes: list[psutil.Process]) -> None:
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.kill()


WAYS = {
    "kill -9 of DVC": lambda dvc, stages: dvc.kill(),
    "SIGTERM of DVC": lambda dvc, stages: dvc.terminate(),
    "kill -9 of the stage": lambda dvc, stages: kill_all(stages),
    "Ctrl-C": lambda dvc, stages: os.killpg(dvc.pid, signal.SIGINT),
}

SLOW = """import time
import tunediff.core
time.sleep({importing})
from pathlib import Path
from tunediff.core.files import atomic
from tunediff.core.process import run

def main():
    with atomic(Path("out")) as partial:
        partial.write_text("")
        time.sleep({writing})

if __name__ == "__main__":
    run(main)
"""


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["starting", "importing", "writing"])
def test_a_stage_whose_dvc_is_killed_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, kill: signal.Signals
):
    """Before it could note which DVC runs it, while it imports, and while it writes."""
    project = Project(tmp_path)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(ROOT))
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").touch()
    seconds = {name: 3 if name == moment else 0 for name in ("starting", "importing", "writing")}
    (tmp_path / "stages/slow.py").write_text(SLOW.format(**seconds))
    (tmp_path / "starting").write_text(f"sleep {seconds['starting']}")
    command = ". ./starting; python -m stages.slow"
    project.write_yaml("dvc.yaml", {"stages": {"slow": {"cmd": command, "outs": ["out"]}}})
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    dvc = start(project, "dvc", "repro")
    if moment == "starting":
        wait_for(lambda: psutil.Process(dvc.pid).children())
    elif moment == "importing":
        wait_for(lambda: stages_of(dvc, "slow"))
        time.sleep(1)
    else:
        wait_for(lambda: list(tmp_path.glob(".out.*.partial")))
    dvc.send_signal(kill)
    dvc.wait()
    wait_for(lambda: not alive(dvc.pid), 60)
    assert not (tmp_path / "out").exists()
    (tmp_path / "starting").write_text("")
    (tmp_path / "stages/slow.py").write_text(SLOW.format(importing=0, writing=0))
    project.run("dvc", "repro")
    assert (tmp_path / "out").exists() and not list(tmp_path.glob("*.partial"))


def test_what_is_complete_when_dvc_is_gone_is_not_published(tmp_path: Path):
    """Where the stage would publish before it looks the next time."""
    code = f"""import psutil
from pathlib import Path
from tunediff.core import files, processes
processes._above.append((psutil.Process(), 0))
files.write_json(Path({str(tmp_path / "out.json")!r}), 1)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "the DVC that ran this stage was killed: it ends\n")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(("kind", "shell"), [("kill -9 of DVC", "sh"), ("Ctrl-C", "bash")])
def test_dvc_repro_goes_on(versioned: Project, monkeypatch: pytest.MonkeyPatch, kind: str, shell: str):
    """DVC runs a stage by the user's shell; bash becomes the stage, and sh stays between the two."""
    monkeypatch.setitem(ENVIRONMENT, "SHELL", shutil.which(shell))
    train(versioned, "full")
    expected = outputs(versioned)
    dvc = start(versioned, "dvc", "repro", "train_full")
    wait_for(lambda: checkpoints(versioned))
    if kind == "Ctrl-C":
        os.killpg(dvc.pid, signal.SIGINT)
    else:
        dvc.kill()
    dvc.wait()
    wait_for(lambda: not alive(dvc.pid))  # the stage ends with DVC
    again = versioned.run("dvc", "repro", "train_full")
    assert "goes on after epoch" in again.stderr
    assert outputs(versioned) == expected


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_queued_experiment_goes_on(versioned: Project):
    """Its workspace is gone when it fails; the checkpoint is not."""
    queue = ("dvc", "exp", "run", "--queue", "-S", "train.weight_decay=0.02", "train_full", "-n")
    versioned.run(*queue, "killed")
    worker = start(versioned, "dvc", "exp", "run", "--run-all")
    wait_for(lambda: checkpoints(versioned))
    [stage] = [one for one in psutil.process_iter() if inside(one, versioned) and "stages.train_full" in one.cmdline()]
    stage.kill()
    worker.wait()
    assert checkpoints(versioned)
    versioned.run(*queue, "again")
    again = versioned.run("dvc", "exp", "run", "--run-all")
    assert "goes on after epoch" in again.stdout + again.stderr
    assert not checkpoints(versioned)
    [ref] = [ref for ref in versioned.run("git", "for-each-ref").stdout.split() if ref.endswith("/again")]
    lock = yaml.safe_load(versioned.run("git", "show", f"{ref}:dvc.lock").stdout)
    [model] = [out["md5"] for out in lock["stages"]["train_full"]["outs"] if out["path"] == "data/trained/full"]
    listed = versioned.read_json(f".dvc/cache/files/md5/{model[:2]}/{model[2:]}")
    values = versioned.read_yaml("params.yaml")["train"]
    versioned.edit_yaml("params.yaml", train={**values, "weight_decay": 0.02})
    resolve(versioned)
    train(versioned, "full")
    folder = versioned.folder / "data/trained/full"
    expected = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert {entry["relpath"]: entry["md5"] for entry in listed} == expected


def inside(process: psutil.Process, project: Project) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(project.folder)
    except psutil.Error:
        return False


def killed(project: Project, method: str) -> list[Path]:
    """The checkpoints that a training leaves which is killed after its first epoch."""
    process = begin(project, method)
    wait_for(lambda: checkpoints(project))
    process.kill()
    process.join()
    return checkpoints(project)


def test_the_best_epoch_may_be_before_the_interruption(project: Project):
    """At this rate every text gets one label from the first epoch on, so that no later one is better."""
    project.edit_yaml("conf/model/tiny.yaml", learning_rate={"full": 0.3, "lora": 1e-2})
    resolve(project)
    train(project, "full")
    expected = outputs(project)
    figures, rows = project.read_json("metrics/validation/full.json"), project.prepared().query("side == 'validation'")
    assert figures["best_epoch"] == 1
    logits = torch.from_numpy(np.load(project.folder / "data/logits/full.npy")[0])
    loss = cross_entropy(logits, torch.tensor(rows.label.to_numpy())).item()
    assert loss == pytest.approx(figures["loss"], rel=1e-3)  # of the best epoch's weights, not of the last one's
    killed(project, "full")
    assert "goes on after epoch 1" in train(project, "full")
    assert outputs(project) == expected


def test_a_torn_checkpoint_is_ignored_with_a_line(project: Project):
    train(project, "lora-v1")
    expected = outputs(project)
    for folder in killed(project, "lora-v1"):
        weights = folder / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    again = train(project, "lora-v1")
    assert re.search(r"checkpoint-\d+: a checkpoint that is not whole; ignored", again)
    assert "goes on" not in again
    assert outputs(project) == expected


def test_a_checkpoint_of_another_training_is_not_taken_up(project: Project):
    left = killed(project, "lora-v1")
    values = project.read_yaml("params.yaml")["train"]
    project.edit_yaml("params.yaml", train={**values, "weight_decay": 0.02})
    resolve(project)
    assert "goes on" not in train(project, "lora-v1")
    assert checkpoints(project) == left


def test_what_a_training_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same if all is equal; another if any of it is not."""
    rows = {"input_ids": [[1, 2], [3]], "labels": [0, 1]}
    code = tmp_path / "code.py"
    code.write_text("a")
    module = SimpleNamespace(__file__=str(code))
    monkeypatch.setitem(sys.modules, "tunediff.another", module)

    def made(change: str = "", pinned: bool = False) -> str:
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 2)
        if pinned:
            model.config = SimpleNamespace(tunediff={"pretrained": "./it", "revision": "main", "sha256": "0" * 64})
            model.weight.requires_grad = False
        if change == "origin":
            model.config.tunediff["sha256"] = "1" * 64
        data = {**rows, "labels": [1, 1]} if change == "data" else rows
        if change == "weights":
            model.weight.data.view(torch.int32)[0, 0] ^= 1  # the last bit
        elif change == "trained weights":
            model.bias.data[0] += 1
        elif change == "what is trained":
            model.bias.requires_grad = False
        code.write_text("b" if change == "code" else "a")
        with monkeypatch.context() as patch:
            if change == "versions":
                patch.setattr("tunediff.training.checkpoints.version", lambda package: "0")
            elif change == "threads":
                patch.setattr(torch, "get_num_threads", lambda: 64)
            return made_from(model, [Dataset.from_dict(data)], (17, "AdamW") if change == "settings" else (17, "SGD"))

    kinds = ["", "weights", "what is trained", "data", "code", "versions", "threads", "settings"]
    assert made() == made()
    assert len({made(kind) for kind in kinds}) == len(kinds)

    # Where the model's own hash says what its frozen weights are, they are not read.
    assert made("weights", pinned=True) == made(pinned=True)
    kinds = ["", "origin", "trained weights", *kinds[2:]]
    assert len({made(kind, pinned=True) for kind in kinds}) == len(kinds)


def test_two_of_the_same_training_at_once(project: Project):
    """In two workspaces, as workers of DVC's queue have them. The second says so, and comes to the same result."""
    other = Project(shutil.copytree(project.folder, project.folder.with_name("other"), symlinks=True))
    first = begin(project, "lora-v1")
    wait_for(lambda: checkpoints(project))
    os.kill(first.pid, signal.SIGSTOP)
    assert "another process is at this same training" in train(other, "lora-v1")
    os.kill(first.pid, signal.SIGCONT)
    first.join()
    assert first.exitcode == 0
    assert outputs(project) == outputs(other)


def test_what_is_killed_leaves_no_temporary_folder(project: Project):
    """Not the second of two equal trainings, which has no checkpoints, and not one whose curves nobody sees."""
    other = Project(shutil.copytree(project.folder, project.folder.with_name("other"), symlinks=True))
    killed(project, "0.5")
    first = begin(project, "full")
    wait_for(lambda: len({path.parent for path in checkpoints(project)}) == 2)
    os.kill(first.pid, signal.SIGSTOP)
    second = begin(other, "full")
    said = other.folder / "stderr.txt"
    wait_for(lambda: said.is_file() and "another process is at this same training" in said.read_text())
    time.sleep(0.5)
    for one in (first, second):
        one.kill()
        one.join()
    assert not list(temporary(project.folder).iterdir())


def test_checkpoints_that_nobody_goes_on_with_are_removed_after_a_month(project: Project):
    left = killed(project, "lora-v1")
    old = time.time() - 31 * 86400
    os.utime(left[0].parent, (old, old))
    train(project, "full")
    assert not checkpoints(project)
    assert not list(cache(project).iterdir())


def test_a_cache_that_cannot_be_written_is_named_and_done_without(project: Project):
    (project.folder.parent / "cache").write_text("a file, where a folder should be")
    said = train(project, "lora-v1")
    assert "this one cannot go on if it is interrupted" in said
    assert said.count("this training cannot be watched") == 1


def test_a_loss_that_is_no_number_stops_the_training_with_what_to_change(project: Project):
    project.edit_yaml("conf/model/tiny.yaml", learning_rate={"full": 1e30, "lora": 1e-2})
    resolve(project)
    said = train(project, "full", code=1)
    assert re.search(r"error: step \d+ of \d+: the loss is (nan|inf): the training diverged .*; lower", said)
    assert "Traceback" not in said
    assert not checkpoints(project)


# --- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", place], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no small file system can be made here: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves so many bytes free."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        while (left := shutil.disk_usage(disk).free - free) > 0:
            file.write(bytes(min(left, 2**20)))
            file.flush()
    return filler


def test_a_full_disk_is_named_and_loses_nothing(versioned: Project, small_disk: Path):
    project = Project(shutil.copytree(versioned.folder, small_disk / "project", symlinks=True))
    elsewhere = small_disk.parent / "elsewhere"
    elsewhere.mkdir()
    (small_disk / "cache").symlink_to(elsewhere)  # a cache without room ends sooner: test_data.py
    project.run("dvc", "repro", "train_full")
    project.commit("trained")
    before = outputs(project)
    values = project.read_yaml("params.yaml")["train"]
    project.edit_yaml("params.yaml", train={**values, "weight_decay": 0.02})
    project.run("dvc", "repro", "settings")
    filler = fill(small_disk, free=2**16)
    said = train(project, "full", code=1)
    assert "error: data/trained/full: cannot be written: the disk is full; make room and run it again" in said
    assert "Traceback" not in said
    kept = {name: content for name, content in before.items() if name.startswith("data/trained")}
    assert kept and kept.items() <= outputs(project).items()
    failed = project.run("dvc", "repro", "train_full", check=False)
    assert failed.returncode
    assert re.search("the disk is full|No space left on device", failed.stderr)
    filler.unlink()

    project.run("git", "stash", "-q")  # DVC deletes outputs before it makes them anew
    project.run("dvc", "checkout", "--force", "train_full")
    assert outputs(project) == before
    project.run("git", "stash", "pop", "-q")
    project.run("dvc", "repro", "train_full")
    versioned.edit_yaml("params.yaml", train={**values, "weight_decay": 0.02})
    resolve(versioned)
    train(versioned, "full")
    assert outputs(project) == outputs(versioned)

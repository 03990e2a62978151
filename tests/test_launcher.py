"""One training in several processes: the same batches, the same result, one that writes, and one end for all."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ENVIRONMENT, Project, make_project
from safetensors.numpy import load_file

from tunediff.core.errors import UserError
from tunediff.training import ranks
from tunediff.training.ranks import GlobalBatches

pytestmark = pytest.mark.slow

TWO = "torchrun --nproc-per-node 2"
SHARDED = "accelerate launch --use_fsdp --fsdp_version 2 --num_processes 2"


@pytest.mark.parametrize(("processes", "parts"), [(2, 1), (1, 3), (3, 2), (4, 4)])
@pytest.mark.parametrize("rows", [160, 171])
def test_each_step_has_the_same_texts_however_they_are_shared(processes: int, parts: int, rows: int, monkeypatch):
    lengths = np.random.default_rng(0).integers(3, 60, rows).tolist()

    def steps(processes: int, parts: int, epoch: int = 1) -> list[list[int]]:
        shares = []
        for rank in range(processes):
            state = type("State", (), {"num_processes": processes, "process_index": rank})
            monkeypatch.setattr(ranks, "ranks", lambda state=state: state)
            batches = GlobalBatches(lengths, 16, 17, parts)
            batches.set_epoch(epoch)
            shares.append(list(batches))
            assert len(shares[-1]) == len(batches) == -(-rows // 16) * parts
            assert all(shares[-1])  # no process waits for another one's texts
        return [
            sorted(row for share in shares for part in share[start : start + parts] for row in part)
            for start in range(0, len(shares[0]), parts)
        ]

    whole, shared = steps(1, 1), steps(processes, parts)
    assert sorted(row for step in whole for row in step) == list(range(rows))
    assert shared[:-1] == whole[:-1]
    assert set(shared[-1]) - set(shared[0]) == set(whole[-1])  # too few for all: some of the first step's again
    assert steps(1, 1, epoch=2) != whole
    waste = sum(max(lengths[row] for row in step) * len(step) for step in whole) / sum(lengths)
    assert waste < 1.5  # of like length; in random order it is 1.8


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts) -> Project:
    """Prepared, under git; without dropout, the result depends on nothing but the batches."""
    folder = tmp_path_factory.mktemp("steady")
    shutil.copytree(tiny_model, folder / "model")
    config = json.loads((folder / "model/config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "model/config.json").write_text(json.dumps(config))
    made = make_project(folder / "project", folder / "model", tiny_texts)
    values = made.read_yaml("params.yaml")
    made.edit_yaml(
        "params.yaml",
        precision="fp32",
        train={**values["train"], "epochs": 3, "batch_size": 16, "patience": 0},
        train_lora={name: {**variant, "dropout": 0} for name, variant in values["train_lora"].items()},
    )
    made.run("git", "init", "-q", "-b", "main")
    made.run("dvc", "repro", "prepare")
    made.commit("prepared")
    return made


@pytest.fixture
def project(steady: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setitem(ENVIRONMENT, "XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(steady.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def result(project: Project, method: str) -> tuple[dict, dict[str, np.ndarray]]:
    weights = {}
    for path in (project.folder / "data/trained" / method).rglob("*.safetensors"):
        weights |= load_file(path)
    return project.read_json(f"metrics/validation/{method}.json"), weights


@pytest.mark.parametrize(("stage", "method"), [("train_full", "full"), ("train_lora@v1", "lora-v1")])
def test_two_processes_end_as_one_does(project: Project, stage: str, method: str):
    project.run("dvc", "repro", stage)
    figures, weights = result(project, method)
    train = project.read_yaml("params.yaml")["train"]
    for launcher, parts in ((TWO, 1), ("python", 3), (SHARDED, 1)):
        project.edit_yaml("params.yaml", launcher=launcher, train={**train, "accumulation": parts})
        said = project.run("dvc", "repro", stage)
        assert f"> {launcher} -m stages" in said.stdout
        now, shared = result(project, method)
        assert now == pytest.approx(figures, abs=1e-5)
        assert shared.keys() == weights.keys()
        for name, expected in weights.items():
            if name.endswith("key.bias"):  # has no gradient but rounding, which Adam makes steps of
                continue
            np.testing.assert_allclose(shared[name], expected, atol=1e-5, err_msg=name)
        # One writes: the curves have a point for each epoch, and nothing else has been left.
        curve = project.folder / f"plots/curves/{method}/plots/metrics/validation/f1.tsv"
        assert len(curve.read_text().splitlines()) == 1 + 3
        assert not list((project.folder.parent / "cache/tunediff/checkpoints").iterdir())
    assert project.run("dvc", "status", stage).stdout.strip().endswith("up to date.")


@pytest.mark.parametrize(("killed", "launcher"), [("a process", TWO), ("DVC", SHARDED)])
def test_a_kill_ends_all_processes_and_the_next_run_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, killed: str, launcher: str
):
    monkeypatch.setitem(ENVIRONMENT, "SHELL", shutil.which("sh"))  # which stays between DVC and the launcher
    train = project.read_yaml("params.yaml")["train"]
    project.edit_yaml("params.yaml", launcher=launcher, train={**train, "epochs": 6})
    project.run("dvc", "repro", "train_full")
    expected = result(project, "full")
    shutil.rmtree(project.folder / "data/trained/full")
    dvc = subprocess.Popen(
        ["dvc", "repro", "-f", "--no-run-cache", "train_full"],
        cwd=project.folder, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    checkpoints = project.folder.parent / "cache/tunediff/checkpoints"
    wait_for(lambda: list(checkpoints.glob("*/checkpoint-*/whole.json")))
    # Of sharded weights, the second process has a part to keep.
    assert bool(list(checkpoints.glob("*/checkpoint-*/optimizer_0/__1_0.distcp"))) == (launcher == SHARDED)
    processes = psutil.Process(dvc.pid).children(recursive=True)
    if killed == "DVC":
        dvc.kill()
    else:
        one = next(each for each in processes if each.environ().get("LOCAL_RANK") == "1")
        one.kill()
        _, said = dvc.communicate()
        assert "failed to reproduce 'train_full'" in said
    assert dvc.wait() != 0
    psutil.wait_procs(processes, timeout=60)
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)
    again = project.run("dvc", "repro", "train_full")
    assert again.stderr.count("goes on after epoch") == 1
    figures, weights = result(project, "full")
    assert figures == expected[0]
    for name, values in expected[1].items():
        np.testing.assert_array_equal(weights[name], values, err_msg=name)


def wait_for(what, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.02)


def test_a_launcher_that_does_not_fit_is_refused(project: Project):
    train = project.read_yaml("params.yaml")["train"]
    project.edit_yaml("params.yaml", launcher=TWO, train={**train, "batch_size": 3, "accumulation": 2})
    said = project.run("dvc", "repro", "train_full", check=False)
    assert said.returncode
    line = "error: params.yaml: train.batch_size: 3 texts cannot be shared by 2 processes of 2 parts each"
    assert said.stderr.count(line) == 1
    project.edit_yaml("params.yaml", launcher="accelerate launch --use_fsdp --num_processes 2", train=train)
    said = project.run("dvc", "repro", "train_full", check=False)
    assert said.returncode
    assert "FSDP's second version alone; add --fsdp_version 2" in said.stderr


def test_deepspeed_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UserError, match=r"params\.yaml: launcher: the stages do not do DeepSpeed"):
        ranks.ranks()

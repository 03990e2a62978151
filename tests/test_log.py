"""What a run says in a file or a pipe, and that it sees when a model's weights change."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Project
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.slow


@pytest.fixture
def repository(project: Project) -> Project:
    params = project.read_yaml("params.yaml")
    project.edit_yaml("params.yaml", train={**params["train"], "epochs": 2, "patience": 0})
    project.commit("code")
    return project


def test_a_log_has_a_line_for_each_epoch_and_says_what_was_made(repository: Project):
    done = repository.run("dvc", "repro", "train_full", environment=ENVIRONMENT)  # a true start, as in a pipe
    said = done.stdout + done.stderr
    assert re.findall(r"^full: (epoch \d of 2): loss \d.*, on validation accuracy ", said, re.MULTILINE) == [
        "epoch 1 of 2",
        "epoch 2 of 2",
    ]
    assert "it/s" not in said and "%|" not in said and "{'" not in said
    made = r"^data/trained/full: epoch (\d) of 2 is the best: validation f1 0\.\d+(; it is the last one.*)?$"
    [(best, still)] = re.findall(made, said, re.MULTILINE)
    assert bool(still) == (best == "2")
    for line in ("data/settings: data tiny, model tiny, to be trained: full", "  more in data/profile.json"):
        assert line in said


def test_weights_that_change_in_conf_model_train_again(repository: Project, tiny_model: Path):
    folder = Path(shutil.copytree(tiny_model, repository.folder / "conf/model/mine"))
    repository.edit_yaml("conf/model/tiny.yaml", name="conf/model/mine")
    said = repository.run("dvc", "repro", "settings").stdout
    assert "outside conf/model" not in said
    before = repository.read_json("data/settings/training/full.json")["model"]["sha256"]
    assert "up to date" in repository.run("dvc", "status", "settings").stdout
    weights = load_file(folder / "model.safetensors")
    save_file({name: 2 * each for name, each in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    assert "conf/model" in repository.run("dvc", "status", "settings").stdout
    repository.run("dvc", "repro", "settings")
    assert repository.read_json("data/settings/training/full.json")["model"]["sha256"] != before


def test_a_model_elsewhere_is_checked_and_the_log_says_that_nobody_watches(repository: Project, tiny_model: Path):
    folder = Path(shutil.copytree(tiny_model, repository.folder / "mine"))
    repository.edit_yaml("conf/model/tiny.yaml", name="./mine")
    said = repository.run("dvc", "repro", "prepare").stdout
    assert "conf/model/tiny.yaml: name: mine is outside conf/model: DVC does not see if it changes" in said
    weights = load_file(folder / "model.safetensors")
    save_file({name: 2 * each for name, each in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    done = repository.run("dvc", "repro", "baseline", check=False)
    assert "error: conf/model/tiny.yaml: sha256: the weights of ./mine have SHA-256" in done.stderr

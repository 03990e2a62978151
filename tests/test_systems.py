"""The five systems, each by its command in the README, through the Hub on this machine (hub.py): data to figures."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import warm_python
from conftest import ROOT, Project, World
from huggingface_hub import ModelCard

pytestmark = pytest.mark.slow

# From the README's table: the arguments of one `dvc exp run` for each system.
COMMANDS = [
    shlex.split(line)[3:]
    for line in re.findall(r"`(dvc exp run -S data=[^`]*)`", (ROOT / "README.md").read_text(encoding="utf-8"))
]
NAMES = [dict(change.split("=") for change in command[1::2][:2]) for command in COMMANDS]
FIGURES = {"accuracy", "f1", "precision", "recall", "loss"}
BASELINES = {"majority", "tfidf", "probe", "untrained"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is brought from the Hub."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(params=range(5), ids=[f"{name['data']}-{name['model']}" for name in NAMES])
def system(request, world: World, project: Project, home: Path) -> tuple[int, Project]:
    """A project in which the system's command has run."""
    project.edit_yaml("params.yaml", data="headlines", model="minilm")
    for command in (("git", "init", "-q", "-b", "main"), ("git", "add", "-A"), ("git", "commit", "-qm", "code")):
        project.run(*command)
    command = COMMANDS[request.param]
    if not any("train.epochs" in change for change in command):
        command = [*command, "-S", "train.epochs=1"]
    project.run("dvc", "exp", "run", *command, environment=warm_python.environment(world.environment(home, {})))
    return request.param, project


def test_a_system_runs_from_its_hub_names_to_its_figures(system, world: World, home: Path):
    number, project = system
    params = project.read_yaml("params.yaml")
    assert {"data": params["data"], "model": params["model"]} == NAMES[number]

    trained = {"full", "lora-v1", "lora-v2", *params["train_peft"]["methods"]}
    assert {path.stem for path in (project.folder / "metrics").glob("*.json")} == {*BASELINES, *trained, "label_noise"}
    for method in trained:
        assert set(project.read_json(f"metrics/{method}.json")) == FIGURES
        assert project.read_json(f"metrics/cost/{method}.json")["eval_seconds"] > 0
        # The reloaded model's answers, compared with the trainer's.
        assert project.read_json(f"metrics/reload/{method}.json")["largest_logit_difference"] == 0
        # Evaluated after every epoch that was run: training may stop early.
        curves = pd.read_csv(project.folder / "plots/learning_curves/learning_curves.csv")
        assert len(curves[curves.method == method]) == project.read_json(f"metrics/validation/{method}.json")["epochs"]
    model = project.read_yaml(f"conf/model/{params['model']}.yaml")
    origin = project.read_json("models/full/config.json")["tunediff"]
    assert origin["pretrained"] == model["name"]
    assert origin["revision"] == world.commits[model["name"]]

    if params["data"] == "bbc-news":  # inference with the adapted against the original model
        arguments = ("--model", "models/lora-v1", "--compare", "The minister met the unions in Dublin.")
        done = world.run(project, home, "-m", "stages.predict", *arguments, HF_HUB_OFFLINE="1")
        assert done.returncode == 0, done.stderr
        assert {"predicted", "original", "p_politics", "original_p_politics"} <= set(done.stdout.split())

        # The model card names what is on the Hub by its id there, and its code finds it by that.
        card = ModelCard.load(project.folder / "models/lora-v1/README.md")
        assert (card.data.base_model, card.data.datasets) == (model["name"], ["SetFit/bbc-news"])
        code = re.search("```python\n(.*?)```", card.text, re.DOTALL)[1]
        done = world.run(project, home, "-c", code, HF_HUB_OFFLINE="1")
        assert done.returncode == 0, done.stderr
        assert re.search("tech|business|sport|entertainment|politics", done.stdout)


def test_each_system_has_its_command():
    assert [tuple(name.values()) for name in NAMES] == [
        ("twitter-financial", "distilbert-base-cased"),
        ("bbc-news", "bert-base-uncased"),
        ("amazon-polarity", "distilbert-base-uncased"),
        ("twitter-financial", "gpt2"),
        ("imdb", "gpt2"),
    ]

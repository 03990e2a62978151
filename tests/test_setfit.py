"""SetFit: which pairs it learns from, what that does to the states, and the model that people use."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Project, make_project
from datasets import Dataset
from huggingface_hub import ModelCard
from test_card import STAGES

from tunediff.baselines import setfit
from tunediff.baselines.settings import SetFit, WithoutFineTuning
from tunediff.core.errors import UserError
from tunediff.core.files import read_json
from tunediff.core.settings import read
from tunediff.models.saved import load_encoder
from tunediff.settings.study import load
from tunediff.tasks.classification import Classification
from tunediff.use import service_models
from tunediff.use.classifier_loading import Loader

pytestmark = pytest.mark.slow

LABELS = np.array([0, 1, 2, 0, 1, 0, 0, 1])
SWITCHES = {"iterations": 8, "pairs": 400, "batch_size": 8, "learning_rate": 5e-3, "C": 1}


def random() -> np.random.Generator:
    return np.random.default_rng(17)


# --- the pairs


def test_each_text_has_as_many_partners_of_its_label_as_of_others():
    first, second, alike = setfit.pairs(LABELS, SetFit(iterations=50, pairs=10_000), random())
    assert np.bincount(first).tolist() == [100] * len(LABELS)
    assert np.array_equal(LABELS[first] == LABELS[second], alike)
    assert np.bincount(first[alike]).tolist() == [50] * len(LABELS)
    assert np.array_equal(first[alike] == second[alike], LABELS[first[alike]] == 2)  # the one text of its label
    # Every partner that a text can have comes up.
    assert len(set(zip(first[~alike], second[~alike], strict=True))) == sum((label != LABELS).sum() for label in LABELS)
    assert alike[:20].any() and not alike[:20].all()


def test_the_number_of_pairs_is_bounded():
    labels = np.arange(3000) % 3
    first, second, alike = setfit.pairs(labels, SetFit(iterations=20, pairs=500), random())
    assert len(first) == len(second) == 500 and alike.sum() == 250


# --- the model that people use


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    """A project with the model."""
    made = make_project(tmp_path_factory.mktemp("setfit") / "project", tiny_model, tiny_texts)
    baseline = made.read_yaml("params.yaml")["baseline"]
    made.edit_yaml("params.yaml", baseline={**baseline, "more": ["setfit"], "setfit": SWITCHES})
    with pytest.MonkeyPatch.context() as patch:
        made.prepare_here(patch)
    run(made, "baseline_more", "--method setfit")
    run(made, "package_more", "--method setfit")
    return made


def run(project: Project, stage: str, option: str) -> str:
    """A stage as dvc.yaml runs it; gives what it wrote to stderr."""
    return project.run(*shlex.split(STAGES[stage]["cmd"].replace("${item}", option))).stderr


def settings_of(project: Project) -> WithoutFineTuning:
    return read(project.folder / "data/settings/baseline_more.json", WithoutFineTuning)


def test_texts_of_a_label_come_together_and_equal_runs_give_equal_weights(made: Project):
    train = Dataset.from_parquet(str(made.folder / "data/prepared/train.parquet")).select(range(24))
    task, settings = Classification.of(train.features), settings_of(made)
    labels = task.targets(train)
    alike = labels[:, None] == labels

    def apart(chosen: SetFit) -> tuple[float, np.ndarray]:
        """How much more alike the states of one label are than those of two."""
        fitted = setfit.Fitted(task, train, settings.model_copy(update={"setfit": chosen}))
        states = fitted.states(setfit.encode(fitted.tokenizer, train["text"]), "states")
        cosines = states @ states.T
        return cosines[alike].mean() - cosines[~alike].mean(), states

    learned, states = apart(settings.setfit)
    frozen, _ = apart(settings.setfit.model_copy(update={"learning_rate": 1e-12}))
    assert learned > frozen + 0.3
    assert np.array_equal(apart(settings.setfit)[1], states)


def test_the_model_answers_as_it_was_measured_from_the_folder_alone(made: Project, tiny_model: Path, monkeypatch):
    table = pd.read_parquet(made.folder / "data/predictions/setfit.parquet")
    monkeypatch.setattr("tunediff.models.loading.load_pretrained", None)  # the original is not needed
    probabilities = Loader().load(made.folder / "models/setfit").predict(table.text.tolist())
    assert np.array_equal(probabilities, table.filter(regex="^p_"))
    [served] = service_models.load([made.folder / "models/setfit"]).values()
    assert served.original is None and served.tuned.predict([table.text[0]]).shape == (1, 2)


def test_the_folder_runs_no_code_and_its_card_says_what_it_is(made: Project):
    folder = made.folder / "models/setfit"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {path for path in files if not path.endswith((".json", ".txt", ".jinja"))} == {
        *("README.md", "model.safetensors", "encoder/model.safetensors")
    }
    card = ModelCard.load(folder / "README.md")
    assert "on the states of the model in `encoder`, fine-tuned on pairs of texts" in card.text
    cost = made.read_json("metrics/cost/setfit.json")
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert cost["artifact_bytes"] == pytest.approx(weights, rel=0.1)
    assert cost["trainable_parameters"] == cost["total_parameters"] > 0


def test_an_encoder_that_is_torn_is_refused_in_one_line(made: Project, tmp_path: Path):
    folder = shutil.copytree(made.folder / "models/setfit", tmp_path / "setfit", copy_function=shutil.copyfile)
    setfit_weights = folder / "encoder/model.safetensors"
    (folder / "model.safetensors").replace(setfit_weights)
    with pytest.raises(UserError, match=r"encoder: the saved model cannot be loaded: .*missing") as refused:
        load_encoder(folder / "encoder")
    setfit_weights.unlink()
    with pytest.raises(UserError, match="encoder: the model folder has no weights") as missing:
        load_encoder(folder / "encoder")
    assert len(refused.value.lines) == len(missing.value.lines) == 1
    (folder / "encoder/adapter_config.json").write_text("{}")
    (folder / "encoder/adapter_model.safetensors").touch()
    with pytest.raises(UserError, match=r"encoder/adapter_config.json: an encoder has no adapter"):
        load_encoder(folder / "encoder")
    with pytest.raises(UserError, match="no trained model there"):  # and not the Hub's model of that name
        load_encoder(Path("someone/model"))


def test_a_rate_at_which_it_breaks_is_named(made: Project):
    train = Dataset.from_parquet(str(made.folder / "data/prepared/train.parquet"))
    chosen = SetFit(learning_rate=1e30)
    with pytest.raises(UserError, match=r"params.yaml: baseline.setfit.learning_rate: the loss is no number after"):
        setfit.Fitted(Classification.of(train.features), train, settings_of(made).model_copy(update={"setfit": chosen}))


# --- with few labels, and where it is not


def test_with_few_labels_it_stands_beside_the_others(made: Project, tmp_path: Path):
    project = Project(shutil.copytree(made.folder, tmp_path / "project", symlinks=True))
    rows = {"shares": [], "per_label": [4], "draws": 2, "methods": ["tfidf", "setfit"]}
    project.edit_yaml("params.yaml", training_rows=rows)
    project.run("python", "-m", "stages.settings", "--out", "data/settings")
    assert project.read_json("data/settings/report.json")["setfit_texts"] == 25
    said = run(project, "few_labels", "--number 4")
    assert "4 rows a label:   0%" in said and "| 4/4 [" in said  # each draw of each method moves the bar
    figures = project.read_json("metrics/few_labels/4.json")
    assert set(figures["setfit"]) == set(figures["tfidf"]) and figures["rows"] == 8
    assert np.load(project.folder / "data/predictions/few_labels/4.npz")["setfit"].shape[0] == 2


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("baseline", {"more": []}, "training_rows.methods: name setfit in baseline.more too, which trains"),
        ("export", {"methods": ["setfit"]}, "export.methods: setfit is not exported to ONNX: use models/setfit"),
        ("train_peft", {"entries": {"setfit": {"peft_type": "IA3", "learning_rate": 1}}}, "name of another method"),
        ("baseline", {"setfit": {"pairs": 0}}, "baseline.setfit.pairs: .* greater than or equal to 1, found 0"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(made: Project, tmp_path: Path, section: str, values: dict, message: str):
    project = Project(tmp_path)
    shutil.copytree(made.folder / "conf", tmp_path / "conf")
    params = made.read_yaml("params.yaml")
    params["training_rows"] |= {"methods": ["setfit"], "per_label": [4]}
    project.write_yaml("params.yaml", params | {section: params[section] | values})
    with pytest.raises(UserError, match=message) as refused:
        load(project.folder)
    assert len(refused.value.lines) == 1


def test_other_tasks_have_it_not(made: Project, tmp_path: Path):
    project = Project(tmp_path)
    shutil.copytree(made.folder / "conf", tmp_path / "conf")
    project.write_yaml("params.yaml", made.read_yaml("params.yaml"))
    project.edit_yaml("params.yaml", data="desk-topics")
    with pytest.raises(UserError, match=r"params.yaml: baseline.more: multilabel has no baseline 'setfit'; leave"):
        load(project.folder)


def test_its_settings_reach_its_own_file_alone(made: Project):
    assert "setfit" not in str(read_json(made.folder / "data/settings/baseline.json"))
    assert settings_of(made).setfit == SetFit(**SWITCHES)

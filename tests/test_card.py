"""The model card beside each trained model: what the Hub reads of it, what it says, and whether its code runs."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Project, make_project
from datasets import ClassLabel, Dataset, Features
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index

from tunediff.models.saved import load_saved
from tunediff.report import card

# Each kind of folder, with its library and its stage; `lora-v2` is of a model that comes in a Python package.
KINDS = {
    "full": ("transformers", "train_full"),
    "lora-v1": ("peft", "train_lora"),
    "lora-v2": ("peft", "train_lora"),
    "bitfit": ("tunediff", "train_peft"),
}
PACKAGES = "packages"
each = pytest.mark.parametrize("method", KINDS)


def train(project: Project, method: str) -> Path:
    """What dvc.yaml's command does, but in this process; return the card."""
    paths = {
        "splits": "data/prepared",
        "model": f"models/{method}",
        "validation": f"metrics/validation/{method}.json",
        "logits": f"data/logits/{method}.npy",
        "cost": f"metrics/cost/training/{method}.json",
        "curves": f"plots/curves/{method}",
    }
    stage = KINDS[method][1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.syspath_prepend(PACKAGES)
        patch.setattr(sys, "argv", [stage, *(part for key, path in paths.items() for part in (f"--{key}", path))])
        import_module(f"stages.{stage}").main()
    return project.folder / "models" / method / "README.md"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts) -> Project:
    """A project with a model of each kind."""
    made = make_project(tmp_path_factory.mktemp("cards") / "project", tiny_model, tiny_texts)
    made.edit_yaml("params.yaml", train={**made.read_yaml("params.yaml")["train"], "epochs": 2, "batch_size": 4})
    package = made.folder / PACKAGES / "tiny_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    metadata = package.with_name("tiny_package-1.0.dist-info")
    metadata.mkdir()
    (metadata / "RECORD").write_text("tiny_package/__init__.py,,\n")
    (package / "model").symlink_to(tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        made.prepare_here(patch)
    for method in KINDS:
        name = "package:tiny_package/model" if method == "lora-v2" else str(tiny_model)
        made.edit_yaml("conf/model/tiny.yaml", name=name)
        train(made, method)
    return made


@pytest.fixture
def readme(trained: Project, method: str) -> Path:
    return trained.folder / "models" / method / "README.md"


@each
def test_the_hub_can_read_it(trained: Project, readme: Path, method: str):
    data = ModelCard.load(readme).data
    assert (data.library_name, data.pipeline_tag, data.license) == (KINDS[method][0], "text-classification", "unknown")
    assert (data.base_model, data.datasets) == (None, None), "the Hub refuses what is no id of its own"
    assert eval_results_to_model_index(data.model_name, data.eval_results) == metadata_load(readme)["model-index"]
    best = trained.read_json(f"metrics/validation/{method}.json")
    figures = {result.metric_type: result.metric_value for result in data.eval_results}
    assert figures == {name: best[name] for name in ("accuracy", "f1", "loss")}


@each
def test_its_code_gives_the_models_answer(trained: Project, readme: Path, method: str, monkeypatch):
    """Not that of a model without its adapter or head; and calibrated or not, as the card says."""
    language, code = re.search(r"```(\w+)\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL).groups()
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
    environment = {**ENVIRONMENT, "PYTHONPATH": PACKAGES}
    done = subprocess.run(
        command, cwd=trained.folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr

    monkeypatch.chdir(trained.folder)
    monkeypatch.syspath_prepend(PACKAGES)
    model, tokenizer = load_saved(readme.parent)
    logits = model(**tokenizer("A text to label", return_tensors="pt")).logits[0]
    calibrated = logits / model.config.tunediff["temperature"]
    expected = (logits if language == "python" else calibrated).softmax(0).max().item()
    assert max(map(float, re.findall(r"0\.\d+", done.stdout))) == pytest.approx(expected, abs=1e-3)
    assert model.config.id2label[logits.argmax().item()] in done.stdout


@each
def test_it_has_no_text_of_the_data_and_no_path_of_this_machine(trained: Project, readme: Path, tiny_texts, method):
    written = readme.read_text(encoding="utf-8")
    assert not re.search(r"[\s`\"'(](/\w+/|[A-Z]:\\|~)", written)
    assert not [text for text, _ in tiny_texts if text in written]


def test_it_says_what_was_trained_on_what(trained: Project):
    written = (trained.folder / "models/lora-v1/README.md").read_text(encoding="utf-8")
    parameters = trained.read_json("metrics/cost/training/lora-v1.json")
    rows = trained.prepared().groupby(["name", "side"]).row.count()
    for fact in (
        "type LORA",
        "`r: 8`",
        "`target_modules: query, value`",
        f"Trained parameters: {parameters['trainable_parameters']:,} of {parameters['total_parameters']:,}\n",
        "a local folder named `tiny-model",
        "the first 16 tokens",
        "`data/raw/tiny.csv`",
        "Cleaning of the texts: none.",
        f"| bearish | {rows['bearish', 'train']} | {rows['bearish', 'validation']} |",
        "| peak learning rate | 0.01 |",
        "| texts per step | 4 |",
        "| seed | 17 |",
        f"divides the logits by {trained.read_json('models/lora-v1/config.json')['tunediff']['temperature']}, ",
        "`metrics/lora-v1.json`",
    ):
        assert fact in written, fact
    for method, origin in (("full", "every weight"), ("lora-v2", "`model` of the Python package `tiny_package`")):
        assert origin in (trained.folder / f"models/{method}/README.md").read_text(encoding="utf-8")


def test_equal_trainings_give_equal_cards(trained: Project, tiny_model: Path):
    trained.edit_yaml("conf/model/tiny.yaml", name=str(tiny_model))
    before = (trained.folder / "models/bitfit/README.md").read_bytes()
    assert train(trained, "bitfit").read_bytes() == before


def test_a_source_that_changes_and_gives_the_same_rows_changes_no_card(project: Project, monkeypatch):
    """Or every model would be trained again for a column that nothing reads."""
    read = [f"data/prepared/{name}" for name in ("source.json", "train.parquet", "validation.parquet")]
    project.prepare_here(monkeypatch)
    before = [(project.folder / path).read_bytes() for path in read]
    table = project.folder / "data/raw/tiny.csv"
    first, *rest = table.read_text().splitlines()
    table.write_text("\n".join([f"{first},note", *(f"{line},x" for line in rest)]))
    project.prepare_here(monkeypatch)
    assert [(project.folder / path).read_bytes() for path in read] == before


def test_ids_of_the_hub_are_told_to_the_hub():
    data = {"data": "news", "hub": True, "source": "acme/news", "revision": "main"}
    best = {"accuracy": 0.5, "f1": 0.4, "loss": 1.5}

    def result(**splits: object):
        base = card.pretrained("acme/bert", "1234")
        found = card.metadata("lora-v1", "peft", "LORA", base, {**data, "splits": splits}, best)
        assert (found.base_model, found.base_model_relation, found.datasets) == ("acme/bert", "adapter", ["acme/news"])
        return found.eval_results[0]

    assert result(validation="dev").dataset_split == "dev"
    assert result(validation=0.1).dataset_split is None  # a part of the source's train, which has not that name
    assert (result(validation="dev").dataset_type, result(validation="dev").dataset_revision) == ("acme/news", "main")


def test_a_label_of_any_name_stays_in_its_cell():
    features = Features({"label": ClassLabel(names=["a|b", "c"])})
    train, validation = (Dataset.from_dict({"label": labels}, features=features) for labels in ([0, 0, 1], [1]))
    assert card.rows(train, validation) == [(r"a\|b", 2, 0), ("c", 1, 1)]

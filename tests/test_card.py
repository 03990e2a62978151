"""The folder that people use of a trained model, and its card: what is in both, and whether the card's code runs."""

import ast
import html
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ENVIRONMENT, ROOT, Project, make_project
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index
from markdown_it import MarkdownIt

from tunediff.evidence import calibration
from tunediff.models.inference import probabilities
from tunediff.models.saved import load_saved
from tunediff.report import card, card_words
from tunediff.tasks.classification import Classification

pytestmark = pytest.mark.slow

# Each kind of folder, with its library and its stage; `lora-v2` is of a model that comes in a Python package.
KINDS = {
    "full": ("transformers", "train_full"),
    "lora-v1": ("peft", "train_lora"),
    "lora-v2": ("peft", "train_lora"),
    "bitfit": ("tunediff", "train_peft"),
}
SEEDS = {"full": [17, 4], "bitfit": [17, 4]}  # [17] for the others
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PACKAGES = "packages"
each = pytest.mark.parametrize("method", KINDS)


def run(project: Project, stage: str, method: str) -> None:
    """A stage as dvc.yaml runs it, but in this process."""
    command = STAGES[stage]["cmd"]
    values = {"method": method, "variant": method.removeprefix("lora-")}
    for key in STAGES[stage].get("matrix", {}):
        command = command.replace("${item}", f"--{key} {values[key]}")
    arguments = shlex.split(command)[3:]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.syspath_prepend(PACKAGES)
        patch.setattr(sys, "argv", [stage, *arguments])
        runpy.run_module(f"stages.{stage}", run_name="__main__")


def make(project: Project, method: str) -> None:
    """Train, evaluate and package the method."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGES)
        project.prepare_here(patch)
    for stage in (KINDS[method][1], "evaluate", "package"):
        run(project, stage, method)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts) -> Project:
    """A project with a model of each kind."""
    made = make_project(tmp_path_factory.mktemp("cards") / "project", tiny_model, tiny_texts)
    params = made.read_yaml("params.yaml")
    made.edit_yaml(
        "params.yaml",
        train={**params["train"], "epochs": 2, "batch_size": 4},
        train_peft={**params["train_peft"], "methods": ["bitfit"]},
    )
    package = made.folder / PACKAGES / "tiny_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    metadata = package.with_name("tiny_package-1.0.dist-info")
    metadata.mkdir()
    (metadata / "RECORD").write_text("tiny_package/__init__.py,,\n")
    (package / "model").symlink_to(tiny_model)
    for method in KINDS:
        name = "package:tiny_package/model" if method == "lora-v2" else str(tiny_model)
        made.edit_yaml("conf/model/tiny.yaml", name=name)
        made.edit_yaml("params.yaml", seeds=SEEDS.get(method, [17]))
        make(made, method)
    return made


def folders(project: Project, parent: str, method: str) -> dict[int, Path]:
    """That of each seed."""
    first, *others = SEEDS.get(method, [17])
    folder = project.folder / parent / method
    return {first: folder, **{seed: folder / f"seed-{seed}" for seed in others}}


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def readme(trained: Project, method: str) -> Path:
    return trained.folder / "models" / method / "README.md"


@each
def test_the_hub_can_read_it(trained: Project, readme: Path, method: str):
    data = ModelCard.load(readme).data
    assert (data.library_name, data.pipeline_tag, data.license) == (KINDS[method][0], "text-classification", "unknown")
    assert (data.base_model, data.datasets) == (None, None), "the Hub refuses what is no id of its own"
    assert eval_results_to_model_index(data.model_name, data.eval_results) == metadata_load(readme)["model-index"]
    figures = {result.metric_type: result.metric_value for result in data.eval_results}
    assert figures == trained.read_json(f"metrics/detail/{method}.json")["seeds"]["17"]
    if len(SEEDS.get(method, [17])) == 1:
        assert figures == trained.read_json(f"metrics/{method}.json")


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
    figures = trained.read_json("metrics/lora-v1.json")
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
        "| bearish | {train} | {validation} | {test} |".format(**rows["bearish"]),
        "| all | {train} | {validation} | {test} |".format(**(rows["bearish"] + rows["bullish"])),
        "| peak learning rate | 0.01 |",
        "| texts per step | 4 |",
        "| seed | 17 |",
        f"divides the logits by {trained.read_json('models/lora-v1/config.json')['tunediff']['temperature']}, ",
        f"| on {rows['bearish', 'test'] + rows['bullish', 'test']} test texts, which training did not read | |",
        *(f"| {figure.words} | {figures[name]:.4f} |" for name, figure in Classification.figures.items()),
        "`plots/report.md`",
    ):
        assert fact in written, fact
    assert "AutoPeftModel" not in written
    for method, origin in (
        ("full", "every weight"),
        ("lora-v2", "`model` of the Python package `tiny_package`"),
        ("lora-v2", "\n\n`AutoPeftModel` does not find the pretrained model by itself: "),
    ):
        assert origin in (trained.folder / f"models/{method}/README.md").read_text(encoding="utf-8")


def test_a_source_that_changes_and_gives_the_same_rows_changes_no_card(project: Project, monkeypatch):
    """Or every model would be trained again for a column that nothing reads."""
    read = [f"data/prepared/{name}" for name in ("source.json", "train.parquet", "validation.parquet")]

    def prepared() -> list[object]:
        project.prepare_here(monkeypatch)
        return [*((project.folder / path).read_bytes() for path in read), card_words.rows(project.profile())]

    before = prepared()
    table = project.folder / "data/raw/tiny.csv"
    first, *rest = table.read_text().splitlines()
    table.write_text("\n".join([f"{first},note", *(f"{line},x" for line in rest)]))
    assert prepared() == before


def test_ids_of_the_hub_are_told_to_the_hub():
    data = {"data": "news", "hub": True, "source": "acme/news", "revision": "main"}
    figures = {"accuracy": 0.5, "f1": 0.4, "loss": 1.5}

    def result(**splits: object):
        base = card.pretrained("acme/bert", "1234")
        told = card.metadata("lora-v1", "peft", "LORA", base, {**data, "splits": splits}, figures, Classification)
        assert (told.base_model, told.base_model_relation, told.datasets) == ("acme/bert", "adapter", ["acme/news"])
        return told.eval_results[0]

    assert result(test="dev").dataset_split == "dev"
    assert result(test=0.1).dataset_split is None  # a part of the source's train, which has not that name
    assert (result(test="dev").dataset_type, result(test="dev").dataset_revision) == ("acme/news", "main")
    assert result(test="dev").dataset_config is None
    data["config"] = "en-fr"
    assert result(test="dev").dataset_config == "en-fr"
    assert "(https://huggingface.co/datasets/acme/news), configuration `en-fr`, revision `main`" in card.where_from(
        data
    )


def test_a_label_of_any_name_stays_in_its_cell():
    counts = {"train": {"a|b": 2, "c": 1}, "validation": {"c": 1}, "test": {"a|b": 3}}
    profile = {"labels": ["a|b", "c"], "splits": {side: {"labels": labels} for side, labels in counts.items()}}
    assert card_words.rows(profile) == [(r"a\|b", 2, 0, 3), ("c", 1, 1, 0)]


@each
def test_a_name_of_any_characters_is_text(trained: Project, tmp_path: Path, method: str):
    """Of the data, of a file, of a split, of a label: no HTML, no picture, no control character, no other code."""
    hostile = '``<img src=x onerror=a()> <b>" ![x](https://example.com/x.png) `<i>`\0\x1b[2J'
    folder = shutil.copytree(trained.folder / "models" / method, tmp_path / method)
    source = trained.read_json("data/prepared/source.json")
    profile = trained.read_json("data/profile.json")
    splits = {side: {"rows": 1, "labels": {hostile: 1}} for side in ("train", "validation", "test")}
    results = card.Results(
        training=trained.read_json(f"data/trained/{method}/training.json"),
        source={**source, "data": hostile, "source": f"{hostile}.csv", "splits": dict.fromkeys(splits, hostile)},
        profile={**profile, "labels": [hostile], "splits": splits},
        detail=trained.read_json(f"metrics/detail/{method}.json"),
    )
    card.write(folder, folder, "17", results)
    written = ModelCard.load(folder / "README.md")
    assert written.data.model_name == f"{hostile}-{method}"
    assert not re.search(r"[\0-\x08\x0b-\x1f]", (folder / "README.md").read_text(encoding="utf-8"))
    rendered = MarkdownIt("commonmark").enable("table").render(written.text)
    assert not re.search("<(img|b|i)[ >]", rendered)
    assert rendered.count("&lt;img src=x onerror=a()&gt;") >= 7
    assert f"{html.escape(hostile[:20])}" in re.search("<h1>(.*)</h1>", rendered)[1]


@pytest.mark.parametrize("name", ["acme/bert", 'package:it/"; import os', "package:it`<b>/x"])
def test_the_name_of_a_pretrained_model_is_text_and_a_string_of_the_code(name: str):
    base = card.pretrained(name, 'main", evil="<b>`<i>`')
    assert not re.search("<(b|i)>", MarkdownIt("commonmark").render(base.words))
    [call] = ast.parse(f"load({base.code})").body
    constants = [
        node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    given = name.removeprefix("package:").split("/") if "package:" in name else [name, 'main", evil="<b>`<i>`']
    assert {constant.removeprefix("/") for constant in constants} == {*given}


# --- what else is in the folder


@each
def test_each_seeds_config_has_what_was_fitted_on_its_own_answers(trained: Project, method: str):
    detail = trained.read_json(f"metrics/detail/{method}.json")
    logits = np.load(trained.folder / f"data/logits/{method}.npy")
    actual = trained.prepared().query("side == 'validation'").label.to_numpy()
    temperatures = set()
    for (seed, folder), own in zip(folders(trained, "models", method).items(), logits, strict=True):
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))["tunediff"]
        assert told["seed"] == seed
        assert told["temperature"] == calibration.fit_temperature(own, actual)
        assert told["confidences"] == calibration.fit_confidences(probabilities(own / told["temperature"]), actual)
        assert {name: told[name] for name in detail["fitted"][str(seed)]} == detail["fitted"][str(seed)]
        assert load_saved_here(trained, folder)["temperature"] == told["temperature"]
        temperatures.add(told["temperature"])
    assert len(temperatures) == len(logits)


def load_saved_here(project: Project, folder: Path) -> dict:
    """What the loaded model's config says of its origin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.syspath_prepend(PACKAGES)
        return load_saved(folder)[0].config.tunediff


@each
def test_each_seeds_card_has_its_figures(trained: Project, method: str):
    seeds = trained.read_json(f"metrics/detail/{method}.json")["seeds"]
    for seed, folder in folders(trained, "models", method).items():
        written = (folder / "README.md").read_text(encoding="utf-8")
        assert f"| seed | {seed} |" in written
        told = ModelCard.load(folder / "README.md").data.eval_results
        assert {result.metric_type: result.metric_value for result in told} == seeds[str(seed)]


@each
def test_weights_are_those_of_the_training_which_stay_as_they_were(trained: Project, method: str):
    made, used = (content(trained.folder / parent / method) for parent in ("data/trained", "models"))
    cards = {name for name in used if Path(name).name == "README.md"}
    assert len(cards) == len(SEEDS.get(method, [17]))
    assert set(used) == set(made) - {"training.json"} | cards
    different = {name for name in set(made) & set(used) if made[name] != used[name]}
    assert {Path(name).name for name in different} == {"config.json"}
    assert any(name.endswith(".safetensors") for name in used)
    for name in different:
        config, fitted = (json.loads(content[name]) for content in (made, used))
        assert "temperature" not in config["tunediff"]
        added = {"temperature", "confidences", "threshold", "text", "label"}
        assert set(fitted["tunediff"]) - set(config["tunediff"]) == added
        assert fitted["tunediff"]["text"] == "text"  # the column that `predict --file` reads
        assert fitted["tunediff"]["label"] == "label"  # and that of `choose`
        assert {**fitted, "tunediff": config["tunediff"]} == config


@each
def test_two_packagings_give_the_same_bytes(trained: Project, method: str):
    before = content(trained.folder / "models" / method), content(trained.folder / "data/trained" / method)
    run(trained, "package", method)
    assert (content(trained.folder / "models" / method), content(trained.folder / "data/trained" / method)) == before


def test_equal_trainings_give_equal_folders(trained: Project, tiny_model: Path):
    """Also from the training on: the card has no date, and nothing else of the second one."""
    trained.edit_yaml("conf/model/tiny.yaml", name=str(tiny_model))
    trained.edit_yaml("params.yaml", seeds=SEEDS["bitfit"])
    before = content(trained.folder / "models/bitfit")
    make(trained, "bitfit")
    assert content(trained.folder / "models/bitfit") == before

"""TF-IDF and the probe as models that people use: the same answers as measured, in files without pickle."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_encoder_decoder
from conftest import ENVIRONMENT, ROOT, Project, make_project
from huggingface_hub import ModelCard
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from test_card import run

from tunediff.baselines import saved
from tunediff.baselines.classifiers import Answers
from tunediff.core.cost import folder_bytes
from tunediff.core.errors import UserError
from tunediff.core.files import read_json
from tunediff.models import inference
from tunediff.report.card import Results
from tunediff.report.packaging import package
from tunediff.tasks.classification import Classification
from tunediff.tasks.generation import Generation
from tunediff.use import job_models, service_models
from tunediff.use.classifier_loading import Loader

pytestmark = pytest.mark.slow

METHODS = ("tfidf", "probe")
each = pytest.mark.parametrize("method", METHODS)
TEXT = "shares rose on monday"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    """A project with the two models."""
    made = make_project(tmp_path_factory.mktemp("baselines") / "project", tiny_model, tiny_texts)
    with pytest.MonkeyPatch.context() as patch:
        made.prepare_here(patch)
    run(made, "baseline", "")
    for method in METHODS:
        run(made, "package", method)
    return made


def folder_of(project: Project, method: str) -> Path:
    return project.folder / "models" / method


def measured(project: Project, method: str) -> pd.DataFrame:
    return pd.read_parquet(project.folder / f"data/predictions/{method}.parquet")


@each
def test_the_model_answers_as_it_was_measured(made: Project, method: str):
    table = measured(made, method)
    probabilities = Loader().load(folder_of(made, method)).predict(table.text.tolist())
    assert np.array_equal(probabilities, table.filter(regex="^p_"))


def test_models_of_more_than_ten_labels_answer_as_they_were_measured(
    tmp_path: Path, tiny_model: Path, tiny_texts: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
):
    numbered = [(f"{text} number{place % 12}", f"label {place % 12}") for place, (text, _) in enumerate(tiny_texts)]
    project = make_project(tmp_path / "project", tiny_model, numbered)
    project.prepare_here(monkeypatch)
    run(project, "baseline", "")
    for method in METHODS:
        run(project, "package", method)
        table = measured(project, method)
        model = Loader().load(folder_of(project, method))
        answers = [model.names[place] for place in model.predict(table.text.tolist()).argmax(1)]
        assert answers == table.predicted.tolist() and len(model.names) == 12


def test_what_a_kept_model_costs_in_use(made: Project):
    """What is on the disk, not an estimate of it; methods without a model have no beginning."""
    costs = {method: made.read_json(f"metrics/cost/{method}.json") for method in (*METHODS, "majority", "untrained")}
    for method in METHODS:
        assert costs[method]["artifact_bytes"] == folder_bytes(made.folder / "data/trained" / method)
        assert 0 < costs[method]["start_seconds"] < 60
    assert not any("start_seconds" in costs[method] for method in ("majority", "untrained"))


def test_a_probe_of_an_encoder_with_languages_keeps_them(made: Project, tmp_path: Path):
    (tmp_path / "mbart").mkdir()
    test_encoder_decoder.mbart(tmp_path / "mbart").save_pretrained(tmp_path / "mbart")
    languages = {"source_language": "de_DE", "target_language": "en_XX"}  # the other way round than by default
    project = remade(made, tmp_path, model={"name": str(tmp_path / "mbart"), **languages})
    table = measured(project, "probe")
    assert np.array_equal(
        Loader().load(folder_of(project, "probe")).predict(table.text.tolist()), table.filter(regex="^p_")
    )
    kept = read_json(folder_of(project, "probe") / "config.json")["tunediff"]["linear"]
    assert {key: kept[key] for key in languages} == languages


def test_a_probe_in_bf16_answers_in_it_where_the_machine_is_fast_with_it(
    made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = remade(made, tmp_path, params={"precision": "bf16"})
    table = measured(project, "probe")
    answered = {}
    for precision in ("bf16", "fp32"):
        monkeypatch.setattr(inference, "choose_precision", lambda _, precision=precision: precision)
        answered[precision] = Loader().load(folder_of(project, "probe")).predict(table.text.tolist())
    assert np.array_equal(answered["bf16"], table.filter(regex="^p_"))
    assert not np.array_equal(answered["fp32"], answered["bf16"])
    assert np.abs(answered["fp32"] - answered["bf16"]).max() < 0.1


def remade(made: Project, folder: Path, model: dict | None = None, params: dict | None = None) -> Project:
    """The project with other settings, and its probe made by them."""
    project = Project(shutil.copytree(made.folder, folder / "project", copy_function=shutil.copyfile))
    project.edit_yaml("conf/model/tiny.yaml", **(model or {}))
    project.edit_yaml("params.yaml", **(params or {}))
    with pytest.MonkeyPatch.context() as patch:
        project.prepare_here(patch)
    run(project, "baseline", "")
    run(project, "package", "probe")
    return project


@each
def test_predict_answers_as_it_was_measured(made: Project, method: str, tmp_path: Path):
    table = measured(made, method)
    table[["text"]].to_csv(tmp_path / "test.csv", index=False)
    command = ("--model", f"models/{method}", "--file", str(tmp_path / "test.csv"), "--unsure", "0.8")
    made.run("python", "-m", "stages.predict", *command, "--out", str(tmp_path / "out.csv"))
    answers = pd.read_csv(tmp_path / "out.csv")
    assert answers.predicted.tolist() == table.predicted.tolist()
    assert np.array_equal(answers.filter(regex="^p_"), table.filter(regex="^p_"))
    least = read_json(folder_of(made, method) / "config.json")["tunediff"]["confidences"]["0.8"]
    assert answers.unsure.tolist() == (table.filter(regex="^p_").max(axis=1) < least).tolist()


@each
def test_the_folder_has_no_code_and_a_card_that_says_how_to_use_it(made: Project, method: str):
    folder = folder_of(made, method)
    own = {"vocabulary.json"} if method == "tfidf" else set()
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors", *own}
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "tunediff"
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert figures == made.read_json(f"metrics/{method}.json")
    assert ("states of a model that was not trained" in card.text) == (method == "probe")
    assert "temperature" not in card.text and "of epoch" not in card.text
    [line] = [line for line in card.text.splitlines() if line.startswith("python -m")]
    command = ["python", *shlex.split(line)[1:-1], TEXT]
    assert "bullish" in made.run(*command).stdout


def test_the_probe_says_which_model_it_reads_as_adapters_do(made: Project, tiny_model: Path):
    origin = read_json(folder_of(made, "probe") / "config.json")["tunediff"]
    assert origin["pretrained"] == str(tiny_model)
    assert {"revision", "sha256"} <= set(origin)


def test_tfidf_answers_without_pytorch(made: Project):
    code = (
        "import sys; from pathlib import Path; from tunediff.use.classifier_loading import Loader;"
        f"Loader().load(Path(sys.argv[1])).predict(['{TEXT}']); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(folder_of(made, "tfidf"))]
    assert subprocess.check_output(command, cwd=ROOT, env=ENVIRONMENT, text=True) == "False\n"


def test_they_are_served_and_have_no_original(made: Project, capsys: pytest.CaptureFixture):
    served = service_models.load([folder_of(made, method) for method in METHODS])
    for one in served.values():
        assert one.original is None and one.tuned.predict([TEXT]).shape == (1, 2)
    assert not capsys.readouterr().err
    with pytest.raises(UserError, match="tfidf: no model was trained for it, so there is no original: leave out --co"):
        job_models.load([folder_of(made, "tfidf")], compare=True, accuracy=None)


@pytest.mark.parametrize("method", METHODS)
def test_they_are_not_exported_and_one_line_says_what_to_use(made: Project, tmp_path: Path, method: str):
    project = Project(shutil.copytree(made.folder, tmp_path / "project"))
    project.edit_yaml("params.yaml", export={"methods": [method]})
    done = project.run("python", "-m", "stages.settings", "--out", "data/settings", check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: params.yaml: export.methods: ") and f"use models/{method}" in line


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded: No such file"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"torn"), "cannot be loaded"),
        (lambda folder: (folder / "vocabulary.json").write_text('["one"]'), "cannot be loaded"),
        (lambda folder: edited(folder, id2label={"0": "a", "1": "b", "2": "c"}), "do not belong together"),
        (lambda folder: numbers(folder, extra=np.ones(1)), "not those of such a model"),
        (lambda folder: numbers(folder, intercepts=np.array([np.nan])), "numbers that are none"),
        (lambda folder: edited(folder, tunediff=None), "config.json"),
        (lambda folder: edited(folder, tunediff={"task": "none", "seed": 1, "linear": None}), "no task 'none'"),
    ],
)
def test_a_folder_that_is_torn_is_refused_in_one_line(made: Project, tmp_path: Path, spoil, message: str):
    folder = shutil.copytree(folder_of(made, "tfidf"), tmp_path / "tfidf", copy_function=shutil.copyfile)
    spoil(folder)
    with pytest.raises(UserError, match=message) as refused:
        Loader().load(folder)
    assert len(refused.value.lines) == 1


def numbers(folder: Path, **changed: np.ndarray) -> None:
    save_file(load_file(folder / "model.safetensors") | changed, folder / "model.safetensors")


def edited(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


COST = {"trainable_parameters": 0, "total_parameters": 0}


def test_where_a_text_may_have_several_labels_each_has_its_own_regression(tmp_path: Path):
    """Also one that all rows have, and one that none has."""
    texts = ["rain and wind", "wind", "rain", "sun", "sun and wind"]
    targets = np.array([[word in text, word in text + " snow", True, False] for text in texts for word in ["rain"]])
    targets[:, 1] = ["wind" in text for text in texts]
    model = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(LogisticRegression()))
    with pytest.warns(UserWarning, match="present in all|not present in any"):
        model.fit(texts, targets.astype(int))
    reads = saved.Words(analyzer="word", ngrams=(1, 1))
    answers = Answers(np.empty(0), COST, model=saved.Linear(model, reads, encoder={}, hyperparameters={}))
    saved.save(tmp_path / "tfidf", "tfidf", Classification(["rain", "wind", "all", "none"]), 17, answers, {})
    assert np.array_equal(Loader().load(tmp_path / "tfidf").predict(texts), model.predict_proba(texts).round(6))


def test_where_no_model_is_kept_the_folder_and_the_message_say_so(made: Project, tmp_path: Path):
    """Of a text to be written, the method answers with one of the training split."""
    saved.save(tmp_path / "kept", "tfidf", Generation("Shorten."), 17, Answers(np.empty(0), COST), {})
    profile = made.profile()
    files = ("data/prepared/source.json", "metrics/detail/tfidf.json")
    source, detail = (made.read_json(file) for file in files)
    detail["seeds"] = {"17": {"rougeL": 0.5}}
    training = read_json(tmp_path / "kept/training.json")
    package(tmp_path / "kept", tmp_path / "tfidf", Results(training, source, profile, detail))
    assert "No model is kept" in (tmp_path / "tfidf/README.md").read_text()
    with pytest.raises(UserError, match="tfidf: no model is kept of this method for the task `generation`"):
        Loader().load(tmp_path / "tfidf")

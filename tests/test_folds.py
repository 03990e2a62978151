"""Every row as a test row: which fold tests which, what is put together of them, and the stages that do it."""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ENVIRONMENT, ROOT, Project, make_project
from datasets import ClassLabel, Dataset, Features, Value
from test_interruption import checkpoints, kill_all, stages_of, start, wait_for
from test_splitting import leaky_table

import stages.fold_label_noise
import stages.folds
from tunediff.baselines.of_task import of_task as baselines_of
from tunediff.core.errors import UserError
from tunediff.core.files import write_json
from tunediff.core.splits import load_split
from tunediff.evidence import folds as evidence_folds
from tunediff.evidence import growth
from tunediff.evidence.fold_training import answer
from tunediff.report import results
from tunediff.settings import resolve
from tunediff.settings.study import load
from tunediff.sources import folds
from tunediff.tasks.classification import Classification
from tunediff.tasks.interface import Task
from tunediff.tasks.multilabel import Multilabel
from tunediff.tasks.tagging import Tagging

FOLDS = ("--settings", "data/settings/folds.json", "--splits", "data/prepared", "--folds", "data/folds.parquet")


def sides_of(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=["split", "row"])


# --- which fold tests which row


@pytest.mark.parametrize("seed", range(5))
def test_each_row_is_tested_once_and_no_fold_divides_a_text_or_group(seed: int):
    table = leaky_table(seed).assign(split="all")
    sides = sides_of(folds.assign(table, 5, 0.2, seed))
    assert ((sides == "test").sum(axis=1) == 1).all()
    same_text = [" ".join(text.casefold().split()) for text in table.text]
    grouped = table.group != ""
    for side in sides:
        assert set(sides[side]) == {"train", "validation", "test"}
        assert (sides[side].astype(str).groupby(same_text).nunique() == 1).all()
        assert (sides[side][grouped].astype(str).groupby(table.group[grouped]).nunique() == 1).all()


def test_each_side_of_each_fold_has_the_labels_shares():
    labels = ["a"] * 700 + ["b"] * 200 + ["c"] * 100
    table = pd.DataFrame({"split": "all", "row": range(1000), "text": map(str, range(1000)), "group": ""})
    sides = sides_of(folds.assign(table.assign(stratum=labels), 5, 0.25, 17))
    for fold in sides:
        counts = pd.crosstab(sides[fold], pd.Series(labels))
        assert counts.loc["test"].tolist() == [140, 40, 20]
        assert counts.loc["validation"].tolist() == [140, 40, 20]
    again = sides_of(folds.assign(table.assign(stratum=labels), 5, 0.25, 17))
    other = sides_of(folds.assign(table.assign(stratum=labels), 5, 0.25, 18))
    assert again.equals(sides) and not other.equals(sides)


def test_a_label_that_a_fold_could_not_learn_is_refused():
    table = pd.DataFrame({"split": "all", "row": range(40), "text": map(str, range(40)), "group": ""})
    rare = np.arange(40) < 2
    one_group = table.assign(group=np.where(rare, "g", ""), stratum=np.where(rare, "rare", "a"))
    with pytest.raises(
        UserError, match=r"^params.yaml: folds: label 'rare' has 2 rows, too few to train on in each of"
    ):
        folds.check(folds.assign(one_group, 3, 0.2, 17), [("a", ~rare), ("rare", rare)])
    folds.check(folds.assign(one_group.assign(group=""), 3, 0.2, 17), [("a", ~rare), ("rare", rare)])
    folds.check(folds.assign(one_group, 3, 0.2, 17), [("a", ~rare), ("nowhere", rare & ~rare)])


def prepare_folds(project: Project, monkeypatch: pytest.MonkeyPatch, number: int) -> pd.DataFrame:
    project.edit_yaml("params.yaml", folds=[number])
    project.prepare_here(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["folds", *FOLDS, "--number", str(number)])
    stages.folds.main()
    return pd.read_parquet(project.folder / "data/folds.parquet")


def test_groups_of_the_source_stay_together(project: Project, monkeypatch: pytest.MonkeyPatch):
    path = project.folder / "data/raw/tiny.csv"
    table = pd.read_csv(path).assign(author=lambda rows: [f"author {place // 4}" for place in range(len(rows))])
    table.to_csv(path, index=False)
    project.edit_yaml("conf/data/tiny.yaml", group="author")
    found = prepare_folds(project, monkeypatch, 4)
    assert (found.groupby(table.author[found.row - 1].to_numpy())["1"].nunique() == 1).all()
    rows = pd.concat([load_split(project.folder / "data/prepared", side).to_pandas() for side in evidence_folds.SIDES])
    assert found.row.tolist() == rows.row.tolist()


# --- likely label noise


def list_noise(project: Project, monkeypatch: pytest.MonkeyPatch, task: str, table: pd.DataFrame) -> pd.DataFrame:
    """What the stage lists of these answers of a task's TF-IDF and probe."""
    monkeypatch.chdir(project.folder)
    folder, settings = Path("data/predictions/folds"), resolve.without_fine_tuning(load(), 17)
    write_json(Path("settings.json"), settings.model_copy(update={"task": task}).model_dump(mode="json"))
    folder.mkdir(parents=True)
    command = ["--settings", "settings.json", "--ranked", str(folder / "label_noise.csv")]
    for judge in ("tfidf", "probe"):
        table.to_parquet(folder / f"{judge}.parquet")
        command += [f"--{judge}", str(folder / f"{judge}.parquet")]
    monkeypatch.setattr(sys, "argv", ["fold_label_noise", *command, "--metrics", "noise.json", "--number", "2"])
    stages.fold_label_noise.main()
    return pd.read_csv(folder / "label_noise.csv")


def numbered(count: int) -> pd.DataFrame:
    return pd.DataFrame({"seed": 17, "split": "all", "row": range(1, count + 1), "text": "a text", "tokens": 3})


def test_of_several_labels_the_one_that_folds_doubt_most_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    has = np.array([[True, False], [False, True]] * 10)
    answers = np.where(has, 0.9, 0.1)
    has[4, 1] = True  # which no judge believes
    labels = [[name for name, there in zip("xy", row, strict=True) if there] for row in has]
    table = numbered(20).assign(actual=labels, predicted=labels, p_x=answers[:, 0], p_y=answers[:, 1])
    found = list_noise(project, monkeypatch, "multilabel", table)
    first = found.iloc[0]
    assert (first.row, first.label, first.suggested, first.doubtful) == (5, "x, y", "x", "y")
    assert found.suspected.tolist() == [True] + [False] * 19 and sorted(found.row) == list(range(1, 21))
    assert ": 1 labels are suspected; 0 not judged" in capsys.readouterr().out


def test_of_texts_all_rows_are_searched_for_numbers_that_no_source_has(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    table = numbered(3).assign(actual=["flat", "up 5%", "flat"], predicted="flat")
    found = list_noise(project, monkeypatch, "generation", table)
    assert found.row.tolist() == [2, 1, 3] and found.suspected.tolist() == [True, False, False]
    assert found.columns.tolist() == ["split", "row", "text", "label", "unread", "suspected"]


def test_of_spans_there_is_no_list_and_the_page_keeps_that_of_train(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    table = numbered(2).assign(
        actual=[[], []], predicted=[[], []], tags=[[0, 0]] * 2, types=pd.Categorical(["org"] * 2)
    )
    assert list_noise(project, monkeypatch, "tagging", table).empty
    said = "tagging: no list of all rows, since its predictions have no probabilities\n"
    assert capsys.readouterr().out.startswith(said) and json.loads(Path("noise.json").read_text())["not_judged"] == 2
    of_train = numbered(1).assign(suspected=True, label="NA")
    of_train.to_csv("train.csv")
    folders = argparse.Namespace(predictions=Path("data/predictions"), label_noise=Path("train.csv"))
    shown, all_rows = results.label_noise(argparse.Namespace(folds=2), folders)
    assert shown.label.tolist() == ["NA"] and not all_rows


# --- settings


def test_splits_of_the_source_have_no_folds(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project.folder)
    project.edit_yaml("params.yaml", folds=["5"])  # as `-S` may write it
    assert load().params.folds == [5]
    project.edit_yaml("conf/data/tiny.yaml", splits={"train": "a", "validation": 0.2, "test": "b"})
    with pytest.raises(UserError) as refused:
        load()
    assert refused.value.lines == (
        "params.yaml: folds: conf/data/tiny.yaml names splits of the source (train: a, test: b), and their rows stay "
        "there: give shares for validation and test, or set folds to []",
    )
    project.edit_yaml("conf/data/tiny.yaml", splits={"train": "a", "validation": 0.2, "test": 0.2})
    load()
    for wrong in ([5, 10], [1], 5):
        project.edit_yaml("params.yaml", folds=wrong)
        with pytest.raises(UserError, match=r"^params.yaml: folds"):
            load()


def test_without_folds_the_other_stages_settings_are_as_they_were(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project.folder)
    without = resolve.resolve(load())
    project.edit_yaml("params.yaml", folds=[2])
    given = resolve.resolve(load())
    methods = ("full", "lora-v1", "lora-v2")
    assert set(given) - set(without) == {"folds", *(f"folds/{method}" for method in methods)}
    assert {name for name in without if without[name] != given[name]} == {"report"}


# --- what is put together


TASK = Classification(["a", "b"])


def rows(first: int, labels: list[int]) -> Dataset:
    features = Features(
        {"split": Value("string"), "row": Value("int64"), "text": Value("string"), "tokens": Value("int64"),
         "label": ClassLabel(names=TASK.labels)}
    )  # fmt: skip
    numbers = range(first, first + len(labels))
    columns = {"split": ["all"] * len(labels), "row": [*numbers], "text": [f"text {i}" for i in numbers]}
    return Dataset.from_dict({**columns, "tokens": [3] * len(labels), "label": labels}, features)


def sure_of(answers: list[int], probability: float = 0.9) -> np.ndarray:
    return np.where(np.eye(2)[answers] == 1, probability, 1 - probability)


def test_figures_are_of_all_rows_and_seeds_stay_apart(tmp_path: Path):
    answered = {
        "1": evidence_folds.Answered(
            {"train": rows(5, [1, 1]), "test": rows(1, [0, 0, 0, 1])},
            {17: sure_of([0, 0, 0, 0]), 18: sure_of([0, 0, 0, 1])},
            {17: {}, 18: {"x": 2}},
        ),
        "2": evidence_folds.Answered(
            {"train": rows(1, [0, 0, 0, 1]), "test": rows(5, [1, 1])},
            {17: sure_of([1, 1], 0.6), 18: sure_of([0, 1])},
            {17: {}, 18: {}},
        ),
    }
    folders = argparse.Namespace(metrics=tmp_path / "m", detail=tmp_path / "d", predictions=tmp_path / "p")
    evidence_folds.write("one", TASK, answered, folders)

    figures = json.loads((folders.metrics / "one.json").read_text())
    assert figures["accuracy"] == pytest.approx(5 / 6)  # both seeds
    # From the sums of both folds: three `a` are right and one is too many, two of three `b` are right.
    assert figures["f1"] == pytest.approx(np.mean([np.mean([6 / 7, 4 / 5]), np.mean([6 / 7, 4 / 5])]), abs=1e-6)
    losses = [np.mean([-np.log(0.9)] * 3 + [-np.log(0.1)] + [-np.log(0.6)] * 2),
              np.mean([-np.log(0.9)] * 5 + [-np.log(0.1)])]  # fmt: skip
    assert figures["loss"] == pytest.approx(np.mean(losses), abs=1e-6)
    detail = json.loads((folders.detail / "one.json").read_text())
    assert detail["folds"]["1"]["18"]["accuracy"] == 1 and detail["fitted"]["1"]["18"] == {"x": 2}
    table = pd.read_parquet(folders.predictions / "one.parquet")
    assert table.seed.tolist() == [17] * 6 + [18] * 6
    assert table.row.tolist() == [1, 2, 3, 4, 5, 6] * 2 and table.fold.tolist() == [1, 1, 1, 1, 2, 2] * 2


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (TASK, [0, 1]),
        (Multilabel(["x", "y"]), [[0], [1]]),
        (Tagging(["org"]), [[{"start": 0, "end": 4, "label": 0}], []]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_words_of_a_share_answer_each_fold_of_every_task(task: Task, labels: list):
    def split(first: int, count: int) -> Dataset:
        numbers = range(first, first + count)
        texts = [("Acme rose", "wheat fell")[i % 2] for i in numbers]
        columns = {"split": ["all"] * count, "row": [*numbers], "text": texts, "tokens": [2] * count}
        features = Features({**{name: rows(1, [0]).features[name] for name in columns}, "label": task.feature()})
        return Dataset.from_dict({**columns, "label": [labels[i % 2] for i in numbers]}, features)

    settings = growth.Growth(
        task=task.name, seed=17, methods=["tfidf"], class_weights="none", baseline=load(ROOT).params.baseline,
        trainings={},
    )  # fmt: skip
    train = growth.take(split(1, 20), 0.5, 17, task)
    # Of another size each, so that nothing is taken for something else.
    answered = {
        fold: growth.answer_fold(
            "tfidf", {"train": train, "validation": split(21, 6), "test": split(first, size)}, task, settings, fold, []
        )
        for fold, first, size in (("1", 27, 8), ("2", 35, 4))
    }
    figures, by_fold, table = evidence_folds.scored(task, answered)
    assert (
        len(train) == 10 and len(table) == 12 and figures[task.headline[0]] == by_fold["2"][17][task.headline[0]] == 1
    )
    assert answered["1"].fitted[17].keys() == {
        "classification": {"confidences", "threshold"}, "multilabel": {"thresholds"}, "tagging": set(),
    }[task.name]  # fmt: skip


def with_other_labels(split: Dataset) -> Dataset:
    return Dataset.from_dict({**split.to_dict(), "label": [1 - label for label in split["label"]]}, split.features)


@pytest.mark.slow
def test_nothing_is_trained_or_fitted_on_what_is_tested(project: Project, monkeypatch: pytest.MonkeyPatch):
    """With other labels on the rows that a fold tests, all that it answers and has fitted is the same."""
    train = project.read_yaml("params.yaml")["train"]
    project.edit_yaml("params.yaml", train={**train, "epochs": 1})
    prepare_folds(project, monkeypatch, 2)
    study = load()
    splits = evidence_folds.folds_of(Path("data/prepared"), Path("data/folds.parquet"))["2"]
    changed = {**splits, "test": with_other_labels(splits["test"])}
    places = [set(zip(split["split"], split["row"], strict=True)) for split in splits.values()]
    assert sum(map(len, places)) == len(set.union(*places)) == 200

    task, settings = TASK.of(splits["train"].features), resolve.without_fine_tuning(study, 17)
    plain, other = (baselines_of(task).answers(each, task, settings) for each in (splits, changed))
    for method, answers in plain.items():
        assert np.array_equal(answers.test, other[method].test)
    growing = resolve.growth(study, {}).model_copy(update={"methods": ["tfidf"]})
    again = [growth.answer_fold("tfidf", each, task, growing, "2", []) for each in (splits, changed)]
    assert np.array_equal(again[0].answers[17], again[1].answers[17]) and again[0].fitted == again[1].fitted
    np.testing.assert_allclose(again[0].answers[17], plain["tfidf"].test, atol=1e-6)
    training = stages_settings(study)
    made = [answer(each, task, training, "2", []) for each in (splits, changed)]
    assert np.array_equal(made[0].answers[17], made[1].answers[17])
    assert np.allclose(made[0].answers[17].sum(1), 1)  # probabilities
    assert made[0].fitted == made[1].fitted and made[0].fitted[17]["temperature"] > 0
    # The labels of validation do count, so that this test can fail.
    changed = {**splits, "validation": with_other_labels(splits["validation"])}
    assert answer(changed, task, training, "2", []).fitted != made[0].fitted


def stages_settings(study):
    from tunediff.evidence.fold_training import FoldTraining

    return FoldTraining(training=resolve.training(study, "lora-v1"), evaluation=resolve.evaluation(study))


# --- the stages


FLIPPED = 8  # a row of the test split, whose label is wrong


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts) -> Project:
    """A project of which everything is up to date and committed: `full`, and one variant of LoRA, without folds."""
    texts = list(tiny_texts)
    text, label = texts[FLIPPED - 1]
    texts[FLIPPED - 1] = (text, {"bearish": "bullish", "bullish": "bearish"}[label])
    project = make_project(tmp_path_factory.mktemp("folds") / "project", tiny_model, texts)
    params = project.read_yaml("params.yaml")
    project.edit_yaml(
        "params.yaml",
        train={**params["train"], "epochs": 6, "batch_size": 4, "patience": 0},
        train_lora={"v1": params["train_lora"]["v1"]},
        evaluate={**params["evaluate"], "methods": ["full", "lora-v1"]},
        training_rows={"shares": [], "per_label": [], "methods": ["tfidf"]},
    )
    project.commit("code")
    project.run("dvc", "repro", "-q")
    project.commit("results")
    return project


def copy_of(made: Project, folder: Path) -> Project:
    return Project(shutil.copytree(made.folder, folder, symlinks=True))


def ran(output: str) -> list[str]:
    return re.findall(r"^Running stage '(.+)':$", output, re.MULTILINE)


def content(project: Project, *folders: str) -> dict[str, bytes]:
    files = (path for name in folders for path in (project.folder / name).rglob("*") if path.is_file())
    return {path.relative_to(project.folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_an_experiment_with_folds_runs_these_stages_alone(made: Project, tmp_path: Path):
    project = copy_of(made, tmp_path / "project")
    before = content(project, "metrics", "models", "plots/uncertainty")
    growing = ("-S", "training_rows.shares=[0.5]", "-S", "training_rows.methods=[tfidf,probe,lora-v1]")
    done = project.run("dvc", "exp", "run", "-S", "folds=[2]", *growing, "-n", "folds")
    assert sorted(ran(done.stdout)) == [
        *("fold_baseline@2", "fold_label_noise@2", "fold_train@2-full", "fold_train@2-lora-v1"),
        *("fold_training_rows@2-0.5", "folds@2", "report", "settings", "training_rows@0.5"),
    ]
    assert re.search(r"full: 2 folds with 1 training each answer 200 texts; \d+ cores: about \d+ min", done.stdout)
    after = content(project, "metrics", "models")
    assert {path: after[path] for path in before if path in after} == {
        path: value for path, value in before.items() if path in after
    }
    # All rows, each once, in one order; the page is of them.
    tables = {
        method: pd.read_parquet(project.folder / f"data/predictions/folds/{method}.parquet")
        for method in ("majority", "tfidf", "probe", "untrained", "full", "lora-v1")
    }
    for method, table in tables.items():
        assert sorted(table.row) == list(range(1, 201)) and table.row.tolist() == tables["full"].row.tolist()
        accuracy = (table.actual.astype(str) == table.predicted.astype(str)).mean()
        assert project.read_json(f"metrics/folds/{method}.json")["accuracy"] == pytest.approx(accuracy)
    assert set(project.read_json("metrics/detail/folds/full.json")["fitted"]) == {"1", "2"}
    page = (project.folder / "plots/report.md").read_text(encoding="utf-8")
    assert "Each of the 200 texts was answered by a training that had not seen it: one of 2 folds." in page
    assert "Chosen on all folds but one and judged on that one" in page and "folds=[" not in page
    # Likely label noise as well: of the test split too, in the form of the list of the training rows.
    noise, of_train = (
        pd.read_csv(project.folder / "data" / name) for name in ("predictions/folds/label_noise.csv", "label_noise.csv")
    )
    assert FLIPPED in set(project.prepared().query("side == 'test'").row) - set(of_train.row)
    assert sorted(noise.row) == list(range(1, 201)) and list(noise) == list(of_train) and set(noise.split) == {"all"}
    assert noise.row[0] == FLIPPED and noise.suspected[0] and noise.label[0] != noise.suggested[0]
    means = (tables["tfidf"].set_index("row").p_bearish + tables["probe"].set_index("row").p_bearish) / 2
    bearish = noise.p_label.where(noise.label == "bearish", 1 - noise.p_label)
    np.testing.assert_allclose(bearish, means[noise.row], atol=1e-4)
    assert f"expect another label for {noise.suspected.sum()} of all 200 texts" in page
    check_training_rows(project, page)
    intervals = pd.read_csv(project.folder / "plots/uncertainty/intervals.csv", index_col="method")
    assert intervals.accuracy["tfidf"] == project.read_json("metrics/folds/tfidf.json")["accuracy"]
    assert "up to date" in project.run("dvc", "status").stdout

    # And back.
    project.run("git", "checkout", "-q", "params.yaml", "dvc.lock")
    assert set(ran(project.run("dvc", "repro").stdout)) <= {"settings", "report"}
    assert {path: (project.folder / path).read_bytes() for path in before} == before


def check_training_rows(project: Project, page: str):
    """Half of each fold's training rows; and all of them, which give what the methods' own stages give."""
    half = project.read_json("metrics/folds/training_rows/0.5.json")
    sides = sides_of(pd.read_parquet(project.folder / "data/folds.parquet"))
    trained = (sides == "train").sum().mean()
    assert (half["rows"], half["all_rows"]) == (round(trained / 2), round(trained))
    command = project.read_yaml("dvc.yaml")["stages"]["fold_training_rows"]["cmd"].replace("{share}", "1.0").split()
    project.run(*command[:-1])
    every = project.read_json("metrics/folds/training_rows/1.0.json")
    assert every["rows"] == every["all_rows"] == half["all_rows"]
    for method in ("tfidf", "probe", "lora-v1"):
        assert every[method] == pytest.approx(project.read_json(f"metrics/folds/{method}.json"), abs=2e-6)
        assert half[method] != every[method] and set(half[method]) == set(every[method])
    curve = pd.read_csv(project.folder / "plots/learning_curves/training_rows.csv").set_index(["method", "rows"]).f1
    assert curve["lora-v1", half["rows"]] == half["lora-v1"]["f1"]
    assert curve["lora-v1", every["rows"]] == every["lora-v1"]["f1"] and len(curve) == 6
    assert "points of macro F1 on all 200 texts, each answered by one of 2 folds." in page
    assert "macro F1 on all texts" in page
    (project.folder / "metrics/folds/training_rows/1.0.json").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["fold_train@2-full", "fold_training_rows@2-0.5"])
def test_killed_in_the_second_fold_it_goes_on_there(
    stage: str, made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(ENVIRONMENT, "XDG_CACHE_HOME", str(tmp_path / "cache"))
    written = ("metrics/folds", "metrics/detail/folds", "data/predictions/folds")
    project = copy_of(made, tmp_path / "project")
    project.edit_yaml("params.yaml", folds=[2], training_rows={"shares": [0.5], "per_label": [], "methods": ["full"]})
    project.run("dvc", "repro", stage)
    expected = content(project, *written)
    for folder in written:
        shutil.rmtree(project.folder / folder, ignore_errors=True)  # of shares there are figures alone

    again = ("dvc", "repro", "--no-run-cache", "--force", "--single-item", stage)  # not from DVC's cache
    dvc = start(project, *again)
    wait_for(lambda: len({path.parent for path in checkpoints(project)}) == 2)  # of both folds
    kill_all(stages_of(dvc, stage.partition("@")[0]))
    dvc.wait()
    assert not content(project, *written)
    done = project.run(*again)
    assert len(re.findall("goes on after epoch", done.stderr)) == 2
    assert content(project, *written) == expected
    assert not checkpoints(project)

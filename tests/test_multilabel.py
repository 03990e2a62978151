"""Texts with any number of labels: read, split, scored as scikit-learn does, and from a file to a served model."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project, copy_of, make_project
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, precision_score, recall_score

from tunediff.core.errors import UserError
from tunediff.core.sampling import sample
from tunediff.core.splits import load_split
from tunediff.evidence import comparison, multilabel
from tunediff.report import multilabel as page
from tunediff.settings import study
from tunediff.sources import iterative, splitting
from tunediff.tasks.multilabel import Keys, Multilabel

NAMES = list("abcd")
TASK = Multilabel(NAMES)


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets with rows that have no label, and probabilities that have something to do with them."""
    random = np.random.default_rng(seed)
    targets = random.random((rows, 4)) < [0.6, 0.3, 0.2, 0.1]
    return targets, np.clip(0.25 + 0.4 * targets + random.normal(0, 0.25, targets.shape), 0.01, 0.99)


# --- figures


@pytest.mark.parametrize("fitted", [None, {"thresholds": {"a": 0.3, "b": 0.7, "c": 0.5, "d": 0.2}}])
def test_figures_are_sklearns(fitted: dict | None):
    targets, probabilities = drawn(300)
    answers = probabilities >= (list(fitted["thresholds"].values()) if fitted else 0.5)
    assert TASK.score(targets, probabilities, fitted) == pytest.approx(
        {
            "accuracy": accuracy_score(targets, answers),
            "f1": f1_score(targets, answers, average="macro", zero_division=0),
            "micro_f1": f1_score(targets, answers, average="micro"),
            "sample_f1": f1_score(targets, answers, average="samples", zero_division=1),
            "precision": precision_score(targets, answers, average="macro", zero_division=0),
            "recall": recall_score(targets, answers, average="macro"),
            "map": average_precision_score(targets, probabilities, average="macro"),
            "loss": np.mean([log_loss(targets[:, i], probabilities[:, i]) for i in range(4)]),
        }
    )


def test_figures_of_many_sums_are_those_of_each():
    """As a bootstrap asks for them."""
    targets, probabilities = drawn(60)
    counts = TASK.counts(targets, TASK.answers(probabilities))
    draws = np.random.default_rng(1).integers(60, size=(3, 2, 60))
    figures = TASK.figures_of(counts[draws].sum(-2))
    for place in np.ndindex(3, 2):
        each = {**TASK.score(targets[draws[place]], probabilities[draws[place]])}
        assert {name: value[place] for name, value in figures.items()} == pytest.approx(
            {name: each[name] for name in figures}
        )


def test_a_text_without_label_that_gets_none_is_right():
    figures = TASK.score(np.zeros((2, 4), bool), np.array([[0.1] * 4, [0.9, 0.1, 0.1, 0.1]]))
    assert (figures["accuracy"], figures["sample_f1"], figures["map"]) == (0.5, 0.5, 0)


def test_weights_make_a_rare_label_count_as_much_as_its_absence():
    from datasets import Dataset

    train = Dataset.from_dict({"label": [[0], [0, 1], [0], []]})
    task = Multilabel(["often", "rare"])
    logits, labels = torch.zeros(4, 2), torch.tensor(task.targets(train)).float()
    outputs = type("Outputs", (), {"logits": logits})
    plain, balanced = (task.loss(train, kind)(outputs, labels) for kind in ("none", "balanced"))
    assert plain.item() == pytest.approx(np.log(2))
    # 3 of 4 rows have the first label, each at 1/3; 1 of 4 the second, at 3: both sides of a label weigh the same.
    assert balanced.item() == pytest.approx(np.log(2) * ((3 * (1 / 3) + 1) + (3 + 3)) / 8)
    assert task.loss(train, "none")(outputs, labels, 16).item() == pytest.approx(np.log(2) / 2)


def test_thresholds_and_temperature_are_fitted_on_validation():
    targets, probabilities = drawn(400)
    logits = 3 * np.log(probabilities / (1 - probabilities))
    fitted = multilabel.fit_model(TASK, logits, targets, None)
    tempered = multilabel.final(TASK, logits, fitted)
    assert fitted["temperature"] > 1
    assert TASK.score(targets, tempered)["loss"] < TASK.score(targets, TASK.probabilities(logits))["loss"]
    for place, label in enumerate(NAMES):
        least = min(tempered[:, place].min(), 1)
        best = max(f1_score(targets[:, place], tempered[:, place] >= t) for t in (*tempered[:, place], least))
        reached = f1_score(targets[:, place], tempered[:, place] >= fitted["thresholds"][label])
        assert reached == pytest.approx(best)
    nobody = multilabel.fit_baseline(TASK, probabilities, targets & [True, True, True, False], None)
    assert nobody["thresholds"]["d"] == 0.5


def test_thresholds_are_those_of_the_highest_f1():
    """As the one of two labels, which scikit-learn's curve chooses."""
    from tunediff.evidence.calibration import fit_threshold

    targets, probabilities = drawn(400)
    probabilities = probabilities.round(2)  # some are equal
    found = TASK.thresholds(targets, probabilities)
    for place, label in enumerate(NAMES):
        other = fit_threshold(probabilities[:, place], targets[:, place])
        reached = [f1_score(targets[:, place], probabilities[:, place] >= at) for at in (found[label], other)]
        assert reached[0] == pytest.approx(reached[1])


def test_validation_judges_no_threshold_by_the_rows_that_chose_it():
    random = np.random.default_rng(0)
    targets, noise = random.random((100, 4)) < 0.1, random.random((100, 4)) * 0.4  # all below 0.5
    own = TASK.score(targets, noise, {"thresholds": TASK.thresholds(targets, noise)})
    assert TASK.score(targets, noise)["f1"] == 0 < TASK.validate(targets, noise)["f1"] < own["f1"]
    told = np.where(targets, 0.3, 0.2)
    assert TASK.validate(targets, told)["f1"] == 1


def test_what_is_written_is_read_again():
    targets, probabilities = drawn(9)
    rows = {"split": ["all"] * 9, "row": range(9), "text": list("abcdefghi"), "tokens": [3] * 9}
    table = pd.DataFrame(
        {
            **rows, "actual": multilabel.names(TASK, targets), "predicted": multilabel.names(TASK, probabilities > 0.5),
            **{f"p_{name}": probabilities[:, place] for place, name in enumerate(NAMES)},
        }
    )  # fmt: skip
    one = comparison.predictions_of(table, Multilabel)
    assert one.task.labels == NAMES
    assert (one.actual == targets).all() and (one.predicted[0] == (probabilities > 0.5)).all()
    assert one.right[0].tolist() == (targets == (probabilities > 0.5)).all(1).tolist()
    twice = comparison.predictions_of(pd.concat([table, table.assign(predicted=[[]] * 9)]), Multilabel)
    assert twice.predicted.shape == (2, 9, 4) and not twice.predicted[1].any()
    assert page.f1(one, 0) == pytest.approx(f1_score(targets[:, 0], probabilities[:, 0] > 0.5))


def test_what_is_mistaken_for_what():
    actual = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], bool)
    answers = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], bool)
    nothing = multilabel.NOTHING
    assert list(multilabel.confused(TASK, actual, answers)) == [
        *(("a", "a"), ("b", "c"), (nothing, "b"), ("a", nothing), ("d", "d"))
    ]


# --- rows of a source


def test_every_form_of_labels_is_read():
    lists, separated = Keys(label="topics"), Keys(label="topics", between=",")
    columns = Keys(labels=["toxic", "insult"])
    assert Multilabel.target({"topics": ["b", "a", "b"]}, lists) == '["b", "a"]'
    assert Multilabel.target({"topics": "a | b"}, lists) == '["a", "b"]'
    assert Multilabel.target({"topics": "4,27"}, separated) == '["4", "27"]'
    assert Multilabel.target({"topics": '["a", "b"]'}, lists) == '["a", "b"]'
    assert Multilabel.target({"topics": [4, 27]}, lists) == '["4", "27"]'
    for none in ([], "", None):
        assert Multilabel.target({"topics": none}, lists) == "[]"
    assert Multilabel.target({"toxic": "1", "insult": 0.0}, columns) == '["toxic"]'
    assert Multilabel.columns(columns) == {"labels.toxic": "toxic", "labels.insult": "insult"}


def test_numbers_of_a_hub_data_set_get_their_names():
    from datasets import ClassLabel, Features, List, Value

    from tunediff.sources.class_labels import with_label_names

    features = Features({"labels": List(ClassLabel(names=["joy", "anger"])), "text": Value("string")})
    records = [{"labels": [1, 0], "text": "a"}, {"labels": None, "text": "b"}, {"labels": [-1, 0, None], "text": "c"}]
    named = [record["labels"] for record in with_label_names(records, features)]
    assert named == [["anger", "joy"], [], [None, "joy", None]]
    features["spans"] = List({"start": Value("int64"), "label": ClassLabel(names=["org", "date"])})
    spans = [{"start": 0, "label": 1}, {"start": 5, "label": -1}]
    [record] = with_label_names([{**records[0], "spans": spans}], features)
    assert record["spans"] == [{"start": 0, "label": "date"}, {"start": 5, "label": None}]


@pytest.mark.parametrize(
    ("keys", "record", "said"),
    [
        ({"labels": ["toxic"]}, {"toxic": "2"}, "column 'toxic': expected 0 or 1, found '2'"),
        ({"label": "topics"}, {"topics": '["a"'}, "column 'topics': begins like a JSON list"),
        ({"label": "topics"}, {"topics": [["a"]]}, "expected text or a number, found list"),
    ],
)
def test_what_is_no_label(keys: dict, record: dict, said: str):
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        Multilabel.target(record, Keys(**keys))


def test_a_data_file_says_where_the_labels_are():
    with pytest.raises(ValueError, match="name the column of the labels"):
        Keys()


def checked(rows: list[list[str]], **keys: object) -> tuple[Multilabel, pd.DataFrame]:
    table = pd.DataFrame({"split": "all", "row": range(1, len(rows) + 1), "label": map(json.dumps, rows)})
    return Multilabel.check(table, Keys(label="topics", **keys), "conf.yaml", lambda row: f"row {row.row}")


def remarks(rows: list[list[str]]) -> list[str]:
    return Multilabel.remarks(pd.DataFrame({"label": map(json.dumps, rows)}), Keys(label="topics"), str)


def test_several_labels_in_one_are_said():
    said = remarks([["4,27"], ["4"], ["a"]])
    assert said == [
        "labels such as '4,27' look like several in one (rows: 1); `between` is '|': correct it if something else "
        "stands between labels"
    ]
    assert remarks([["4", "27"], ["a"]]) == []


def test_labels_are_named_and_ordered():
    task, table = checked([["2", "1"], []], labels={"1": "one", "2": "two"})
    assert task.labels == ["one", "two"]
    assert table.label.tolist() == ['["one", "two"]', "[]"] and table.stratum.tolist() == [("one", "two"), ()]
    assert task.encoded(table.label).tolist() == [[0, 1], []]
    assert task.describe(table.label) == {"labels": {"one": 1, "two": 1}, "without_label": 1}
    assert checked([["10", "9"], []])[0].labels == ["9", "10"]
    with pytest.raises(UserError, match="labels: row 2 has label '3', which is not in the list \\(1, 2\\)"):
        checked([["1"], ["3"]], labels=["1", "2"])
    with pytest.raises(UserError, match="column 'topics' has 1 label \\(a\\); multilabel needs at least 2"):
        checked([["a"], []])


# --- splits


def test_rows_are_dealt_out_label_by_label():
    random = np.random.default_rng(3)
    shares = {"train": 0.7, "validation": 0.15, "test": 0.15}
    has = random.random((1000, 6)) < [0.5, 0.3, 0.1, 0.05, 0.03, 0.02]
    strata = pd.Series([tuple(np.flatnonzero(row)) for row in has])
    side = iterative.assign(strata, np.arange(1000), shares, 17)
    assert (side == iterative.assign(strata, np.arange(1000), shares, 17)).all()
    for name, share in shares.items():
        assert (side == name).sum() == pytest.approx(1000 * share, abs=3)
        # Each label's own share, to the nearest row or two, which a random draw does not give.
        assert np.abs(has[side == name].sum(0) - share * has.sum(0)).max() <= 2


@pytest.mark.parametrize("rare", [3, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_a_label_with_three_rows_is_in_each_split(rare: int, seed: int):
    random = np.random.default_rng(seed)
    has = random.random((200, 6)) < 0.3
    has[:, 3:] = False
    for label in (3, 4, 5):
        has[random.choice(200, rare, replace=False), label] = True
    strata = pd.Series([tuple(np.flatnonzero(row)) for row in has])
    side = iterative.assign(strata, np.arange(200), {"train": 0.7, "validation": 0.15, "test": 0.15}, seed)
    for label in range(6):
        assert set(side[has[:, label]]) == {"train", "validation", "test"}


def test_what_is_said_of_a_rare_label_is_true():
    """Of four rows with one text, and of two rows that are all there are."""
    texts = [f"text {number}" for number in range(20)] + ["same"] * 4 + ["one", "other"]
    table = pd.DataFrame(
        {"text": texts, "group": "", "stratum": [("a",)] * 20 + [("a", "b")] * 4 + [("a", "c")] * 2, "label": "x"}
    )
    names = ["train", "validation", "test"]
    table["side"] = splitting.assign(table, dict(zip(names, (0.7, 0.15, 0.15), strict=True)), 1)
    assert splitting.rare(table, names) == {"b": "4 rows of the same texts or groups", "c": "2 rows"}
    # Rows that have nothing in common are not said to have it.
    table["text"] = [f"text {number}" for number in range(26)]
    assert splitting.rare(table.assign(side="train"), names)["b"] == "4 rows"


def test_a_sample_has_each_label_at_its_share():
    random = np.random.default_rng(3)
    has = random.random((3000, 12)) < [0.3, 0.2, *[0.08] * 9, 0.001]
    table = pd.DataFrame({"stratum": [tuple(np.flatnonzero(row)) for row in has]})
    part = sample(table, 300, 17)
    assert len(part) == 300
    counts = has[part.index].sum(0)
    assert counts.sum() / 300 == pytest.approx(has.mean(0).sum(), rel=0.08)
    assert (counts > 0).all()
    assert np.abs(counts / 300 - has.mean(0)).max() < 0.05
    assert set(sample(table, 100, 17).index) < set(part.index)


def test_rows_of_a_unit_stay_together():
    strata = pd.Series([("a",), ("a", "b"), (), ("b",)] * 25)
    unit = np.repeat(np.arange(25), 4)
    side = iterative.assign(strata, unit, {"train": 0.6, "test": 0.4}, 1)
    assert all(len(set(side[unit == number])) == 1 for number in range(25))
    assert (side == "train").sum() == 60


# --- the whole way


SUBJECTS = {"metals": ["copper", "gold", "zinc"], "rates": ["bonds", "bills", "loans"]}
VERBS = {"up": ["rose", "jumped", "climbed"], "down": ["fell", "sank", "slid"]}


def project_of(folder: Path, model: Path, texts: list[tuple[str, str]]) -> Project:
    """A project whose tiny texts have a subject's label, a verb's, both or none."""
    made = make_project(folder, model, texts)
    rows = [
        {"text": f"{subject} {verb} {end}", "topics": [label for label in (one, other) if label]}
        for (one, subjects), (other, verbs) in itertools.product(
            [*SUBJECTS.items(), ("", ["shares", "wheat"])], [*VERBS.items(), ("", ["closed", "stayed"])]
        )
        for subject, verb, end in itertools.product(subjects, verbs, ["on monday", "after the report"])
    ]
    lines = (json.dumps(row) + "\n" for row in rows)
    (made.folder / "data/raw/topics.jsonl").write_text("".join(lines), encoding="utf-8")
    data = {"task": "multilabel", "source": "data/raw/topics.jsonl", "text": "text", "label": "topics"}
    made.write_yaml("conf/data/tiny.yaml", data)
    return made


def test_prepare_keeps_texts_without_label(tmp_path: Path, tiny_model: Path, tiny_texts, monkeypatch):
    made = project_of(tmp_path / "project", tiny_model, tiny_texts)
    made.prepare_here(monkeypatch)
    splits = {name: load_split(made.folder / "data/prepared", name) for name in ("train", "validation", "test")}
    task = Multilabel.of(splits["train"].features)
    assert task.labels == ["down", "metals", "rates", "up"]
    assert all((~task.targets(split)).all(1).any() for split in splits.values())
    assert made.profile()["splits"]["train"]["without_label"] > 0
    encoded_as = [task.strata(split) for split in splits.values()]
    assert max(map(len, itertools.chain(*encoded_as))) == 2


def test_rare_labels_are_dropped_or_kept_in_train(tmp_path: Path, tiny_model: Path, tiny_texts, monkeypatch):
    made = project_of(tmp_path / "project", tiny_model, tiny_texts)
    rows = [{"text": "tin rose", "topics": ["up", "tin"]}, {"text": "tin stood", "topics": ["tin"]}]
    with (made.folder / "data/raw/topics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in [*rows, {"text": "bonds sank again", "topics": ["Rates"]}])
    made.prepare_here(monkeypatch)
    profile = made.profile()
    assert profile["labels"] == ["down", "metals", "rates", "up"] and profile["rows"]["dropped"] == 3
    assert profile["rare_labels"] == {"Rates": "1 row", "tin": "2 rows"}
    assert "labels that are likely the same: 'rates' (48), 'Rates' (1)" in profile["remarks"][0]
    made.edit_yaml("conf/data/tiny.yaml", rare="keep")
    made.prepare_here(monkeypatch)
    assert made.profile()["labels"] == ["Rates", "down", "metals", "rates", "tin", "up"]
    assert [part["labels"].get("tin") for part in made.profile()["splits"].values()] == [2, None, None]
    made.edit_yaml("conf/data/tiny.yaml", rare={"merge": "other"})
    with pytest.raises(UserError, match=r"tiny.yaml: rare: Input should be 'drop' or 'keep'"):
        study.load(made.folder)


@pytest.mark.slow
def test_a_language_model_is_asked(tmp_path: Path, tiny_model: Path, tiny_decoder: Path, tiny_texts, monkeypatch):
    made = project_of(tmp_path / "project", tiny_model, tiny_texts)
    made.write_yaml("conf/model/tiny-decoder.yaml", {"name": str(tiny_decoder), "max_length": 64})
    entries = {"asked": {"shots": 2, "examples": "nearest"}}
    prompts = {"model": "tiny-decoder", "methods": ["asked"], "validation_rows": 20, "entries": entries}
    made.edit_yaml("params.yaml", prompts=prompts)
    made.prepare_here(monkeypatch)
    command = made.read_yaml("dvc.yaml")["stages"]["prompt"]["cmd"].replace("${item}", "--method asked")
    made.run(*command.split())
    assert set(made.read_json("metrics/asked.json")) == set(Multilabel.figures)
    detail = made.read_json("metrics/detail/asked.json")
    asked = detail["prompt"]
    assert "Which of these labels fit the text: down, metals, rates, up?" in asked["instruction"]
    assert asked["calibrations"][asked["calibration"]] == max(asked["calibrations"].values())
    # The answers are those of the thresholds that validation chose, at the temperature that it chose.
    table = pd.read_parquet(made.folder / "data/predictions/asked.parquet")
    thresholds = detail["fitted"]["17"]["thresholds"]
    for row in table.to_dict("records"):
        assert list(row["predicted"]) == [name for name in thresholds if row[f"p_{name}"] >= thresholds[name]]


def test_training_begins_at_how_rare_the_labels_are(tmp_path: Path, tiny_model: Path, tiny_texts, monkeypatch):
    from tunediff.settings import resolve
    from tunediff.training import methods

    made = project_of(tmp_path / "project", tiny_model, tiny_texts)
    made.prepare_here(monkeypatch)
    train = load_split(made.folder / "data/prepared", "train")
    task = Multilabel.of(train.features)
    shares = 1 / (1 + np.exp(-task.prior(train, "none")))
    assert shares == pytest.approx(task.targets(train).mean(0), abs=0.01)
    assert task.prior(train, "balanced") is None
    monkeypatch.setattr("tunediff.training.loop.fit", lambda model, *rest: model)
    training = resolve.training(study.load(made.folder), "full")
    model = methods.train(methods.full, training, train, train, 17, None)
    assert model.classifier.bias.tolist() == pytest.approx(task.prior(train, "none").tolist(), abs=1e-6)


def test_examples_have_all_their_labels_once(tmp_path: Path, tiny_model: Path, tiny_texts, monkeypatch):
    from tunediff.prompting.examples import Seeded

    made = project_of(tmp_path / "project", tiny_model, tiny_texts)
    made.prepare_here(monkeypatch)
    train = load_split(made.folder / "data/prepared", "train")
    task = Multilabel.of(train.features)
    ((*examples,),) = Seeded(train, task, 1000, 5).of(["one"], "test")
    assert len(examples) == task.targets(train).any(1).sum() == len({each.text for each in examples})
    known = {row["text"]: {task.labels[label] for label in row["label"]} for row in train}
    assert all(set(each.label.split(", ")) == known[each.text] for each in examples)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts) -> Project:
    """After `dvc repro` with the methods `full` and `lora-v1`, and with an exported model."""
    made = project_of(tmp_path_factory.mktemp("multilabel") / "project", tiny_model, tiny_texts)
    params = made.read_yaml("params.yaml")
    made.edit_yaml(
        "params.yaml",
        train={**params["train"], "epochs": 3},
        train_lora={"v1": params["train_lora"]["v1"]},
        evaluate={**params["evaluate"], "methods": ["full", "lora-v1"]},
        training_rows={"shares": [0.5], "per_label": [], "methods": ["tfidf", "full"]},
        export={"methods": ["lora-v1"]},
    )
    made.commit("code")
    made.run("dvc", "repro", "-q")
    return made


@pytest.mark.slow
def test_every_stage_does_several_labels(finished: Project):
    for method in ("majority", "tfidf", "probe", "untrained", "full", "lora-v1"):
        figures = finished.read_json(f"metrics/{method}.json")
        assert set(figures) == set(Multilabel.figures)
        detail = finished.read_json(f"metrics/detail/{method}.json")
        assert detail["labels"]["up"].keys() >= {"precision", "recall", "f1", "support", "threshold"}
    assert finished.read_json("metrics/tfidf.json")["f1"] > 0.7 > finished.read_json("metrics/majority.json")["f1"]
    assert finished.read_json("metrics/full.json")["f1"] > finished.read_json("metrics/untrained.json")["f1"]
    # The figures of the file are those of the answers in it.
    table = pd.read_parquet(finished.folder / "data/predictions/full.parquet")
    one = comparison.predictions_of(table, Multilabel)
    written = finished.read_json("metrics/full.json")
    assert one.figures("micro_f1")(one.counts.sum(1)).item() == pytest.approx(written["micro_f1"], abs=1e-6)
    noise = pd.read_csv(finished.folder / "data/label_noise.csv")
    assert set(noise.doubtful) <= {"up", "down", "metals", "rates"} and len(noise) > 50
    assert set(finished.read_json("metrics/training_rows/0.5.json")) == {"rows", "tfidf", "full"}


@pytest.mark.slow
def test_the_page_and_the_card_say_what_there_is(finished: Project):
    report = (finished.folder / "plots/report.md").read_text(encoding="utf-8")
    for heading in ("Label by label", "Labels", "Labels that go together"):
        assert f"## {heading}\n" in report
    noise = pd.read_csv(finished.folder / "data/label_noise.csv")
    assert ("## Likely label noise\n" in report) == noise.suspected.any()
    errors = pd.read_csv(finished.folder / "plots/errors.csv", keep_default_na=False)
    assert list(errors) == ["text", "labels", "method", "answer", "off by", "split", "row"]
    accuracy = finished.read_json("metrics/full.json")["accuracy"]
    rows = finished.profile()["splits"]["test"]["rows"]
    assert (errors.method == "full").sum() == round((1 - accuracy) * rows)
    card = (finished.folder / "models/full/README.md").read_text(encoding="utf-8")
    assert "Gives a text any of 4 labels, or none: down, metals, rates, up." in card
    assert "top_k=None" in card and "| all |" not in card


@pytest.mark.slow
def test_predict_answers_the_labels_above_their_thresholds(finished: Project):
    from tunediff.use.job_models import load

    folder = finished.folder / "models/full"
    fitted = json.loads((folder / "config.json").read_text())["tunediff"]
    texts = ["copper rose on monday", "wheat closed after the report"]
    for path in (folder, finished.folder / "models/lora-v1", finished.folder / "models/lora-v1-exported"):
        rows = load([path], compare=False, accuracy=None).answer(texts)
        thresholds = json.loads((path / "config.json").read_text())["tunediff"]["thresholds"]
        for row in rows:
            assert row["predicted"] == [name for name in thresholds if row[f"p_{name}"] >= thresholds[name]]
    done = finished.run("python", "-m", "stages.predict", "--model", "models/full", "--compare", *texts)
    assert "original_p_up" in done.stdout
    with pytest.raises(UserError, match="--unsure is for texts with one label each"):
        load([folder], compare=False, accuracy=0.9)
    # transformers' own pipeline gives the same logits, before the temperature.
    from transformers import pipeline

    scores = pipeline("text-classification", str(folder))(texts, top_k=None)
    raw = {each["label"]: each["score"] for each in scores[0]}
    row = load([folder], compare=False, accuracy=None).answer(texts)[0]
    for name, score in raw.items():
        tempered = 1 / (1 + np.exp(-np.log(score / (1 - score)) / fitted["temperature"]))
        assert row[f"p_{name}"] == pytest.approx(tempered, abs=1e-4)


@pytest.mark.slow
def test_the_service_answers_with_labels(finished: Project):
    import asyncio

    import httpx

    from tunediff.use import service_app, service_models
    from tunediff.use.service_hosts import Hosts

    async def ask() -> list[httpx.Response]:
        served = service_models.load([finished.folder / "models/lora-v1"])
        app = service_app.make_app(served, 8, Hosts("test"))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.app.router.lifespan_context(app.app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as http,
        ):
            predicted = await http.post("/predict", json={"texts": ["copper rose"], "compare": True})
            return [predicted, await http.post("/explain", json={"text": "copper rose"})]

    predicted, explained = asyncio.run(ask())
    answer = predicted.json()["answers"][0]
    assert set(answer) == {"labels", "probabilities"} and set(answer["probabilities"]) == {
        "down",
        "metals",
        "rates",
        "up",
    }
    assert explained.json()["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


@pytest.mark.slow
def test_what_cannot_be_is_said_in_one_line(finished: Project, tmp_path: Path):
    project = copy_of(finished, tmp_path / "copy")
    project.edit_yaml("params.yaml", report={**project.read_yaml("params.yaml")["report"], "figure": "map"})
    done = project.run("dvc", "repro", "settings", check=False)
    assert "report.figure: multilabel has no such figure: expected accuracy, f1, micro_f1, sample_f1" in done.stderr

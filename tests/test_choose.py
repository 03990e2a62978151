"""Which texts are chosen to be labelled, and the files that they are written to."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import save_as_trained

from benchmarks import choosing as benchmark
from benchmarks import ways_to_choose
from stages import choose as command
from tunediff.core.errors import UserError
from tunediff.models.settings import ModelConf
from tunediff.use import choosing, job_input
from tunediff.use.choosing import Candidates, choose, digest
from tunediff.use.classification_answers import uncertainty

LABELS = ["bearish", "bullish", "neutral"]
TOPICS = ("copper mine output ore", "bank loan interest deposit", "airline flight pilot fuel")


def texts_of(topic: str, number: int) -> list[str]:
    """Texts with words of a topic, each with one of its own."""
    return [f"{topic} {' '.join(topic.split()[i % 4 :])} own{topic[:2]}{i}" for i in range(number)]


# --- which


def test_two_equally_probable_labels_are_least_sure():
    assert uncertainty(np.array([[0.5, 0.5, 0], [0.9, 0.1, 0], [0.4, 0.3, 0.3]])).round(3).tolist() == [1, 0.2, 0.9]


def test_the_least_sure_texts_are_held_each_once_and_no_more():
    held = Candidates(2, labelled=["Known  TEXT"])
    texts = ["known text", "one", "ONE ", "two", "three", "", "four"]
    held.add(texts, np.array([1, 0.3, 0.9, 0.5, 0.4, 1, 0.1]), range(7))
    assert len(held._heap) == len(held._held) == 2
    # `ONE ` is that text again, so its own uncertainty does not count; three is less sure than the first.
    assert {row for _, row in held.chosen(2)} == {3, 4}
    held.labelled.add(digest("Two"))  # which stands further down the file with its label
    assert [row for _, row in held.chosen(2)] == [4]


def test_chosen_texts_are_of_all_kinds_though_one_kind_is_least_sure():
    texts = [text for topic in TOPICS for text in texts_of(topic, 10)]
    unsure = np.repeat([0.9, 0.5, 0.4], 10) + np.arange(30) / 1000
    assert [place // 10 for place in choose(texts, unsure, 3)] == [0, 1, 2]
    assert [place % 10 for place in choose(texts, unsure, 3)] == [9, 9, 9]  # the least sure one of each kind


def test_many_texts_are_divided_some_at_a_time_and_few_all_at_once(monkeypatch: pytest.MonkeyPatch):
    texts = [text for topic in TOPICS for text in texts_of(topic, 40)]
    unsure = np.repeat([0.9, 0.5, 0.4], 40) + np.arange(120) / 1000
    monkeypatch.setattr(choosing, "MANY", 3)
    few = choose(texts, unsure, 3)
    monkeypatch.setattr("sklearn.cluster.KMeans", lambda *_, **__: pytest.fail("not for many"))
    chosen = choose(texts, unsure, 4)
    assert few == [39, 79, 119] and len(set(chosen)) == 4 and {place // 40 for place in chosen} == {0, 1, 2}


def test_what_nearly_repeats_a_chosen_text_is_not_chosen():
    texts = ["Shares of Acme rose five percent on Monday", "shares of Acme rose five percent on Monday!", *TOPICS]
    assert 1 not in choose(texts, np.array([1, 0.99, 0.3, 0.2, 0.1]), 4)
    assert sorted(choose(texts, np.array([1, 0.99, 0.3, 0.2, 0.1]), 5)) == [0, 2, 3, 4]
    assert choose([], np.array([]), 3) == []


# --- the files


def rows_of(file: str) -> list[dict[str, str]]:
    with Path(file).open(newline="", encoding="utf-8-sig") as opened:
        return [json.loads(line) for line in opened] if file.endswith(".jsonl") else list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    conf = ModelConf(name=str(tiny_model), max_length=16, head=["pooler"])
    return save_as_trained(conf, LABELS, tmp_path_factory.mktemp("models") / "full", seed=3)


@pytest.fixture
def run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The command in this process, on pool.csv in the working directory; its last texts have labels."""
    monkeypatch.chdir(tmp_path)
    texts = ["=1+1 rose", *(text for topic in TOPICS for text in texts_of(topic, 4))]
    rows = [{"id": number, "text": text, "label": ""} for number, text in enumerate(texts)]
    rows += [{"id": 99, "text": "profit fell", "label": "bearish"}, {"id": 100, "text": TOPICS[0], "label": "neutral"}]
    with Path("pool.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(job_input, "CHUNK", 5)

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["choose", "--model", str(model), "--file", "pool.csv", *map(str, arguments)])
        command.main()

    return run


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_rows_to_label_keep_their_columns_and_have_an_empty_label(run: Callable[..., None], ending: str):
    run("--rows", 5, "--out", f"out.{ending}")
    rows = rows_of(f"out.{ending}")
    assert len({row["text"] for row in rows}) == len(rows) == 5
    for row in rows:
        assert list(row) == ["id", "text", "label", "predicted", "uncertainty"]
        assert row["label"] == "" and row["predicted"] in LABELS and 0 < float(row["uncertainty"]) <= 1
    assert not {"99", "100"} & {row["id"] for row in rows}


def test_another_column_for_the_labels_is_added_and_labelled_texts_are_left_out(run: Callable[..., None]):
    run("--rows", 15, "--out", "first.csv", "--label", "topic")
    first = rows_of("first.csv")
    assert list(first[0]) == ["id", "text", "label", "predicted", "uncertainty", "topic"]
    chosen = first[:3]
    Path("done.csv").write_text("text,topic\n" + "".join(f"{row['text']},x\n" for row in chosen), encoding="utf-8")
    run("--rows", 15, "--out", "second.csv", "--labelled", "done.csv", "--label", "topic")
    second = {row["text"] for row in rows_of("second.csv")}
    assert second and not second & {row["text"] for row in chosen}


def test_columns_of_texts_and_labels_are_those_trained_on(run: Callable[..., None], model: Path, tmp_path: Path):
    trained = tmp_path / "trained"
    shutil.copytree(model, trained)
    config = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    config["tunediff"] |= {"text": "headline", "label": "sentiment"}
    (trained / "config.json").write_text(json.dumps(config), encoding="utf-8")
    Path("pool.csv").write_text("headline,sentiment\nprofit fell,bearish\nprofit rose,\n", encoding="utf-8")
    run("--out", "out.csv", "--model", trained)
    (row,) = rows_of("out.csv")
    assert (row["headline"], row["sentiment"]) == ("profit rose", "") and "label" not in row


def test_a_csv_is_for_a_spreadsheet_and_is_read_again(run: Callable[..., None]):
    run("--rows", 15, "--out", "first.csv")
    assert Path("first.csv").read_bytes().startswith(b"\xef\xbb\xbfid,text,")
    texts = {row["text"] for row in rows_of("first.csv")}
    assert "'=1+1 rose" in texts and "=1+1 rose" not in texts
    Path("pool.csv").write_text("text\n=1+1 rose\nanother\n", encoding="utf-8")
    run("--rows", 15, "--out", "second.csv", "--labelled", "first.csv")
    assert [row["text"] for row in rows_of("second.csv")] == ["another"]
    run("--rows", 15, "--out", "third.jsonl")
    assert {row["text"] for row in rows_of("third.jsonl")} == {"=1+1 rose", "another"}


def test_label_studio_gets_tasks_and_an_interface_that_fit_each_other(run: Callable[..., None]):
    run("--rows", 4, "--out", "tasks.json")
    tasks = json.loads(Path("tasks.json").read_text(encoding="utf-8"))
    view = ElementTree.fromstring(Path("tasks.xml").read_text(encoding="utf-8"))
    text, choices = view
    assert (text.tag, text.get("name"), text.get("value")) == ("Text", "text", "$text")
    assert (choices.tag, choices.get("name"), choices.get("toName")) == ("Choices", "label", "text")
    assert [choice.get("value") for choice in choices] == LABELS
    assert len(tasks) == 4
    for task in tasks:
        assert set(task["data"]) == {"id", "text", "uncertainty"}
        (suggestion,) = task["predictions"]
        assert suggestion["model_version"] == "full"
        (result,) = suggestion["result"]
        assert (result["from_name"], result["to_name"], result["type"]) == ("label", "text", "choices")
        assert result["value"]["choices"][0] in LABELS


def test_a_number_that_is_none_is_null_in_the_tasks(run: Callable[..., None]):
    columns = {"text": ["profit fell", "profit rose"], "price": [float("nan"), 2.5], "all": [[float("inf"), 1.0], []]}
    pq.write_table(pa.table(columns), "pool.parquet")
    run("--file", "pool.parquet", "--out", "tasks.json")
    tasks = json.loads(Path("tasks.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert {task["data"]["text"]: (task["data"]["price"], task["data"]["all"]) for task in tasks} == {
        "profit fell": (None, [None, 1.0]),
        "profit rose": (2.5, []),
    }


def test_mistakes_are_named_before_the_model_is_loaded(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "Loader", lambda: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=r"^--out out.tsv: the name ends in none of .csv, .jsonl, .json"):
        run("--out", "out.tsv")
    Path("tasks.xml").mkdir()
    for out in ("pool.csv", "tasks.json"):
        with pytest.raises(UserError, match=rf"^--out {out}: .* is a folder or an input; name another file"):
            run("--out", out)
    with pytest.raises(UserError, match=r"^--label uncertainty: is the name of another new column"):
        run("--out", "out.csv", "--label", "uncertainty")
    with pytest.raises(UserError, match=r"^--label text: is the column of texts; name the one of labels"):
        run("--out", "out.csv", "--label", "text")
    with pytest.raises(UserError, match=r"^--rows: expected 1 or more, found 0"):
        run("--out", "out.csv", "--rows", 0)
    with pytest.raises(UserError, match=r"^pool.csv: no column 'body'; it has: id, text, label"):
        run("--out", "out.csv", "--text", "body")
    pool = Path("pool.csv").read_text(encoding="utf-8")
    Path("pool.csv").write_text(pool.replace("id,", "predicted,", 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"^pool.csv: the column predicted is there already; rename it"):
        run("--out", "out.csv")


def test_a_file_in_which_all_has_a_label_is_refused(run: Callable[..., None]):
    Path("pool.csv").write_text("text,label\nprofit fell,bearish\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^pool.csv: every text has a label already; add texts without one"):
        run("--out", "out.csv")


# --- what it gains


def test_labels_saved_are_those_that_random_ones_need_more():
    labels, random = np.array([100, 200, 300]), np.array([0.5, 0.6, 0.58])
    assert benchmark.saved(labels, random, 150, 0.55) == "0"
    assert benchmark.saved(labels, random, 100, 0.6) == "100"
    assert benchmark.saved(labels, random, 200, 0.7) == "over 100"


def test_a_gain_is_paired_by_draw():
    random = np.array([[0.5, 0.6], [0.6, 0.7], [0.7, 0.8]])
    better = random + np.array([0, 0.1])
    scores = np.stack([random, random, better], axis=1)  # draws, ways, points
    text = benchmark.gains(scores, ["random", "least sure", "stages.choose"], first=48, step=50)
    assert "+0.0 (0.0 to 0.0)" in text and "+10.0 (10.0 to 10.0)" in text


@pytest.mark.parametrize("way", ways_to_choose.WAYS)
def test_each_way_chooses_new_texts_each_once(way: str):
    random = np.random.default_rng(3)
    states = random.standard_normal((60, 8))
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    texts = [f"word{row % 7} word{row % 5} number{row}" for row in range(60)]
    pool = ways_to_choose.Pool(texts, states, np.arange(10), random.dirichlet(np.ones(3), 60), random)
    new = ways_to_choose.WAYS[way](pool, 12)
    assert len(new) == len(set(new.tolist())) == 12
    assert new.min() >= 10


def test_typical_texts_are_in_the_middle_of_clusters_without_a_label():
    angles = np.radians([0, 1, 2, 3, 4, 90, 91, 92, 93, 94])  # two groups, of which one has a label
    states = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pool = ways_to_choose.Pool(["text"] * 10, states, np.array([0]), np.full((10, 2), 0.5), np.random.default_rng(3))
    assert ways_to_choose.typical(pool, 1).tolist() == [7]


def test_badge_takes_the_least_right_text_first_and_then_another_kind():
    states = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [0.6, 0.4]])
    pool = ways_to_choose.Pool(["text"] * 4, states, np.array([], int), probabilities, np.random.default_rng(3))
    new = ways_to_choose.badge(pool, 2).tolist()
    assert new[0] in (0, 1) and new[1] in (2, 3)

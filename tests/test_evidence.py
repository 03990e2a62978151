"""Tables of what the test texts say of the methods: right for known answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tunediff.core.splits import load_split, save_split
from tunediff.evidence import comparison, uncertainty
from tunediff.evidence.comparison import Predictions
from tunediff.evidence.of_task import of_task
from tunediff.evidence.settings import Report
from tunediff.tasks.classification import Classification
from tunediff.tasks.generation import Answers, Generation
from tunediff.tasks.multilabel import Multilabel
from tunediff.tasks.tagging import Tagging

NAMES = ["a", "b"]


def answered(predicted: list[int], actual: list[int], tokens: list[int] | None = None) -> Predictions:
    """One training, of which each answer has a probability of 0.8."""
    chances = np.where(np.eye(2)[predicted] == 1, 0.8, 0.2)
    table = pd.DataFrame(
        {
            "split": "all",
            "row": range(1, len(actual) + 1),
            "text": [f"text {i}" for i in range(len(actual))],
            "tokens": tokens or [7] * len(actual),
            "actual": pd.Categorical.from_codes(actual, NAMES),
            "predicted": pd.Categorical.from_codes(predicted, NAMES),
            "p_a": chances[:, 0],
            "p_b": chances[:, 1],
        }
    )
    return comparison.predictions_of(table)


ACTUAL = [0, 0, 0, 0, 1, 1, 1, 1] * 5
PREDICTIONS = {
    "tfidf": answered([0, 0, 1, 1, 1, 1, 0, 0] * 5, ACTUAL),
    "full": answered([0, 0, 0, 1, 1, 1, 1, 0] * 5, ACTUAL),
    "lora-v1": answered([0, 0, 0, 1, 1, 1, 1, 1] * 5, ACTUAL),
}


def compared(others: list[str], predictions: dict[str, Predictions], figure: str = "accuracy") -> pd.DataFrame:
    return comparison.differences_to(others, predictions, comparison.by_figure(predictions, figure), 0.95, 17)


# --- several trainings of one method


def test_trainings_are_told_apart_and_the_first_is_read():
    first, second = PREDICTIONS["full"], PREDICTIONS["tfidf"]
    both = comparison.predictions_of(pd.concat([first.table, second.table], ignore_index=True))
    assert both.predicted.tolist() == [first.predicted[0].tolist(), second.predicted[0].tolist()]
    assert both.table.equals(first.table)
    other = PREDICTIONS["lora-v1"]
    # A figure is the mean, and p is of the same means; the texts are the first training's.
    intervals = comparison.intervals_of({"full": both}, 0.95)
    assert intervals.accuracy["full"] == pytest.approx((6 / 8 + 4 / 8) / 2)
    found = compared(["lora-v1"], {"full": both, "lora-v1": other})
    assert found.accuracy.item() == pytest.approx((6 / 8 + 4 / 8) / 2 - 7 / 8)
    p = uncertainty.permuted(both.figures("accuracy"), both.counts, other.counts, 17)["accuracy"]
    assert found.p.item() == p < 0.01
    alone = compared(["lora-v1"], {"full": first, "lora-v1": other})
    assert alone.p.item() == uncertainty.mcnemar(first.right[0], other.right[0])


# --- differences


def test_each_pair_is_compared_once_and_corrected_for_all():
    found = compared(["lora-v1", "full", "tfidf"], PREDICTIONS)
    assert list(zip(found.method, found.other, strict=True)) == [
        ("tfidf", "lora-v1"),
        ("full", "lora-v1"),
        ("tfidf", "full"),
    ]
    assert found.accuracy.tolist() == pytest.approx([-3 / 8, -1 / 8, -2 / 8])
    # 15, 5 and 10 texts that only the second gets right, and none that only the first does.
    assert found.p.tolist() == pytest.approx([2 / 2**15, 2 / 2**5, 2 / 2**10])
    assert found.p_holm.tolist() == pytest.approx([3 * 2 / 2**15, 2 / 2**5, 2 * 2 / 2**10])


def test_p_is_of_the_figure_that_decides():
    actual = [0] * 60 + [1] * 20
    one, other = answered([0] * 80, actual), answered([1] * 20 + [0] * 40 + [1] * 20, actual)
    found = compared(["full"], {"tfidf": one, "full": other}, "f1")
    assert found.p.item() == uncertainty.permuted(one.figures("f1"), one.counts, other.counts, 17)["f1"] < 0.01
    # They are right equally often.
    assert compared(["full"], {"tfidf": one, "full": other}).p.item() == 1


def test_the_best_may_be_a_baseline():
    found = compared(["tfidf", "full", "tfidf"], PREDICTIONS)
    assert len(found) == 3 and not found.duplicated(["method", "other"]).any()


# --- rows that belong together


def test_every_part_of_the_evidence_takes_a_group_as_one():
    """Each text stands four times: all that is said of them is what is said of them once."""
    first = {
        "tfidf": answered([0, 0, 1, 1, 1, 1, 0, 0] * 5, ACTUAL),
        "full": answered([0, 0, 0, 1, 1, 1, 0, 0] * 5, ACTUAL),
    }
    repeated, rows = {}, {}
    for name, one in first.items():
        table = pd.concat([one.table] * 4, ignore_index=True).assign(row=range(1, 161))
        rows[name] = comparison.predictions_of(table)
        repeated[name] = comparison.predictions_of(table.assign(group=[f"text {row % 40}" for row in range(160)]))
    assert repeated["full"].grouped and not rows["full"].grouped
    report = Report(figure="accuracy", margin=0.02, confidence=0.95, cost_order=["train_seconds"])
    costs = pd.DataFrame({"method": [*first], "trainable_parameters": [1, 2], "train_seconds": [1.0, 9.0]})

    def found(predictions: dict[str, Predictions]) -> comparison.Evidence:
        return comparison.weigh(costs, ["full"], predictions, report, 128, 17)

    once, often, apart = map(found, (first, repeated, rows))
    pd.testing.assert_frame_equal(often.intervals, once.intervals)
    numbers = ["accuracy", "accuracy_low", "accuracy_high", "f1", "f1_low", "f1_high"]
    pd.testing.assert_frame_equal(often.differences[numbers], once.differences[numbers])
    p = uncertainty.permuted(first["full"].figures("accuracy"), first["full"].counts, first["tfidf"].counts, 17)
    assert often.differences.p.item() == pytest.approx(p["accuracy"], abs=0.02)
    pd.testing.assert_frame_equal(often.slices.drop(columns="rows"), once.slices.drop(columns="rows"))
    assert often.decision.probabilities == pytest.approx(once.decision.probabilities, abs=0.02)
    assert often.decision.rows == 160
    # Taken for texts of their own, they make everything look twice as sure.
    width = often.intervals.accuracy_high - often.intervals.accuracy_low
    assert (apart.intervals.accuracy_high - apart.intervals.accuracy_low < 0.65 * width).all()
    assert apart.differences.p.item() < often.differences.p.item() / 2


TASKS = {
    "classification": ("a", Classification(NAMES), np.array([[0.9, 0.1], [0.2, 0.8]])),
    "multilabel": ('["a"]', Multilabel(NAMES), np.array([[0.9, 0.1], [0.2, 0.8]])),
    "tagging": ("[]", Tagging(NAMES), [Tagging(NAMES).of_tags([0])] * 2),
    "generation": ("a", Generation(), Answers(["a", "b"])),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_carries_groups_from_the_splits_to_the_evidence(tmp_path: Path, name: str):
    target, task, given = TASKS[name]
    rows = pd.DataFrame({"split": "all", "row": [1, 2], "text": ["x", "y"], "tokens": 3, "group": "both"})
    rows["label"] = task.encoded(pd.Series([target, target]))
    for grouped, file in ((True, tmp_path / "grouped.parquet"), (False, tmp_path / "plain.parquet")):
        save_split(rows if grouped else rows.drop(columns="group"), task.feature(), file)
        split = load_split(tmp_path, file.stem)
        assert ("group" in split.column_names) == grouped
        table = of_task(task).predictions(task, split, 17, given, None, split)
        found = comparison.predictions_of(table, type(task))
        assert found.counts.shape[1] == 2 and found.sums.shape[1] == (1 if grouped else 2)
        assert found.sums.sum(1).tolist() == found.counts.sum(1, dtype=float).tolist()


# --- cost


def test_the_front_has_what_nothing_else_beats_in_both():
    table = pd.DataFrame(
        [
            ("cheapest", 0.4, 0),
            ("worse", 0.3, 0),
            ("good", 0.7, 100),
            ("as good", 0.7, 100),
            ("as good for more", 0.7, 101),
            ("dear and worse", 0.6, 5000),
            ("best", 0.8, 900),
        ],
        columns=["method", "accuracy", "cost"],
    )
    assert table.method[comparison.on_front(table, "accuracy", "cost")].tolist() == [
        "cheapest",
        "good",
        "as good",
        "best",
    ]


# --- parts of the test texts


def test_slices_are_quarters_by_length_what_is_cut_and_labels():
    actual = [0] * 5 + [1] * 3
    tokens = [10, 20, 30, 40, 50, 60, 70, 80]
    methods = {
        "tfidf": answered([0, 0, 0, 0, 1, 0, 1, 1], actual, tokens),
        "majority": answered([0] * 8, actual, tokens),
    }
    found = comparison.slices_of(methods, 60, 0.9)
    assert set(found.method) == {"tfidf"}  # the majority class learns nothing: where it fails is known
    assert list(zip(found.kind, found.slice, found.rows, found.accuracy, strict=True)) == [
        ("all", "all texts", 8, 6 / 8),
        ("length", "10 to 20 tokens", 2, 1),
        ("length", "30 to 40 tokens", 2, 1),
        ("length", "50 to 60 tokens", 2, 0),
        ("length", "70 to 80 tokens", 2, 1),
        ("cut", "whole texts", 6, 4 / 6),
        ("cut", "cut texts", 2, 1),
        ("label", "a", 5, 4 / 5),
        ("label", "b", 3, 2 / 3),
    ]
    tfidf = methods["tfidf"]
    expected = uncertainty.intervals(tfidf.figures("accuracy"), tfidf.counts, 0.9)["accuracy"]
    assert (found.accuracy_low[0], found.accuracy_high[0]) == pytest.approx((expected.low, expected.high), abs=1 / 8)
    # Two texts, both wrong: the exact upper limit.
    assert found.accuracy_high[3] == pytest.approx(1 - 0.05 ** (1 / 2))
    assert np.isnan(found.p[0]) and found.p_holm.tolist()[1:] == pytest.approx(uncertainty.holm(found.p.tolist()[1:]))


def test_texts_of_one_length_have_no_slices_by_length():
    found = comparison.slices_of({"tfidf": PREDICTIONS["tfidf"]}, 60, 0.95)
    assert found.kind.tolist() == ["all", "label", "label"]


def test_of_many_labels_the_worst_are_shown(monkeypatch):
    monkeypatch.setattr(comparison, "LABELS", 1)
    slices = pd.DataFrame(
        {
            "kind": ["all", "label", "label"] * 2,
            "slice": ["all texts", "a", "b"] * 2,
            "method": ["full"] * 3 + ["tfidf"] * 3,
            "accuracy": [0.8, 0.9, 0.6, 0.8, 0.7, 0.8],
        }
    )
    assert comparison.worst_labels(slices, "accuracy").slice.tolist() == ["all texts", "b"] * 2


def with_errors(on_whole: int, on_cut: int, whole: int = 200, cut: int = 100) -> Predictions:
    """That many errors on the whole texts and on the cut ones."""
    wrong = [1] * on_whole + [0] * (whole - on_whole) + [1] * on_cut + [0] * (cut - on_cut)
    return answered(wrong, [0] * (whole + cut), [10] * whole + [300] * cut)


def test_cutting_costs_what_tfidf_does_not_lose_too():
    methods = {"tfidf": with_errors(20, 20), "full": with_errors(10, 35), "probe": with_errors(40, 30)}
    found = comparison.cutting_costs({**methods, "majority": with_errors(0, 0)}, 256, 0.95).set_index("method")
    assert found.index.tolist() == ["full", "probe"]
    assert found.loc["full", ["whole", "cut", "change", "tfidf_change", "beyond"]].tolist() == pytest.approx(
        [0.95, 0.65, -0.3, -0.1, -0.2]
    )
    assert found.beyond_low["full"] < -0.2 < found.beyond_high["full"] < 0
    # As much as TF-IDF: the longer texts are harder, and nothing says that it is for the cutting.
    assert found.beyond["probe"] == pytest.approx(0)
    assert found.beyond_low["probe"] < 0 < found.beyond_high["probe"]


@pytest.mark.parametrize(("whole", "cut"), [(200, 29), (29, 200), (200, 0)])
def test_too_few_texts_say_nothing_of_cutting(whole: int, cut: int):
    methods = {"tfidf": with_errors(0, 0, whole, cut), "full": with_errors(0, 0, whole, cut)}
    assert comparison.cutting_costs(methods, 256, 0.95).empty

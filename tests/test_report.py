"""The recommendation and the page that it heads: right for known figures, and safe for any text."""

import argparse
import dataclasses
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_evidence import ACTUAL, PREDICTIONS, answered, with_errors

from tunediff.evidence import comparison
from tunediff.evidence.comparison import Evidence, Predictions, intervals_of, predictions_of
from tunediff.evidence.recommendation import by_cost, recommend
from tunediff.evidence.settings import Report
from tunediff.evidence.uncertainty import Interval
from tunediff.report import classification, folders, page, plots, sections
from tunediff.tasks.classification import Classification

ACCURACY, F1 = HEADLINE = [Classification.figures[name] for name in Classification.headline]
ORDER = ["majority", "tfidf", "untrained", "probe", "lora-v1", "full"]
# Far below the best, and sure to be.
POOR = Interval(-0.3, -0.35, -0.25)


def advice(
    values: dict[str, float], to_best: dict[str, Interval], margin: float = 0.02, confidence: float = 0.95
) -> tuple[str, str]:
    intervals = {method: Interval(values.get(method, 0.4), 0.35, 0.45) for method in ORDER}
    best = max(ORDER, key=lambda method: intervals[method].value)
    differences = {method: POOR for method in ORDER if method != best} | to_best
    report = Report(figure="f1", margin=margin, confidence=confidence)
    return recommend(ORDER, best, intervals, differences, report, F1, 300)


def test_the_cheapest_comes_first_whatever_the_seconds():
    table = pd.DataFrame(
        {
            "method": ["full", "probe", "lora-v1", "tfidf", "majority", "untrained"],
            "trainable_parameters": [22_000_000, 1_155, 200_000, 77_000, 0, 0],
        }
    )
    assert by_cost(table) == ORDER


def test_the_best_is_recommended_if_all_cheaper_ones_are_worse():
    choice, text = advice({"full": 0.9}, {})
    assert choice == "full"
    assert "Use `full`" in text and "the best of all" in text
    assert (
        "`majority`, `tfidf`, `untrained`, `probe` and `lora-v1` would be cheaper and are worse by more than 2 po"
        in text
    )
    assert "cannot tell" not in text


def test_a_cheaper_one_is_recommended_if_the_margin_is_ruled_out():
    choice, text = advice({"full": 0.9, "lora-v1": 0.895}, {"lora-v1": Interval(-0.005, -0.015, 0.004)})
    assert choice == "lora-v1"
    assert "the best, `full`, has 90.0%" in text
    assert "is ruled out at 95% confidence (difference -1.5 to +0.4)" in text
    # A smaller margin is not ruled out.
    choice, text = advice({"full": 0.9, "lora-v1": 0.895}, {"lora-v1": Interval(-0.005, -0.015, 0.004)}, margin=0.01)
    assert choice == "full" and "cannot tell whether the cheaper `lora-v1` would do" in text


def test_it_says_when_the_data_cannot_tell_and_how_many_texts_could():
    choice, text = advice({"full": 0.9, "lora-v1": 0.89}, {"lora-v1": Interval(-0.01, -0.05, 0.03)})
    assert choice == "full"
    assert (
        "The data cannot tell whether the cheaper `lora-v1` would do: `lora-v1` differs by -5.0 to +3.0 points" in text
    )
    # The interval reaches 4 points down where 1 would do: 16 times the 300 texts.
    assert "about 4,800 test texts" in text


def test_of_many_that_may_do_the_closest_are_told():
    unclear = {method: Interval(-0.01 * (i + 1), -0.1, 0.1) for i, method in enumerate(ORDER[:5])}
    _, text = advice({"full": 0.9}, unclear)
    assert "whether the cheaper `majority`, `tfidf`, `untrained`, `probe` and `lora-v1` would do: `majority` di" in text
    assert re.findall("`([a-z0-9-]+)` differs", text) == ["majority", "tfidf", "untrained"]


def test_no_number_of_texts_is_promised_for_a_difference_beyond_the_margin():
    _, text = advice({"full": 0.9}, {"lora-v1": Interval(-0.03, -0.07, 0.01)})
    assert "cannot tell" in text and "would settle" not in text


def test_tfidf_is_enough():
    choice, text = advice({"full": 0.9, "tfidf": 0.899}, {"tfidf": Interval(-0.001, -0.01, 0.01)})
    assert choice == "tfidf" and text.startswith("TF-IDF is enough, no pretrained model is needed")


def test_no_method_is_worth_its_cost():
    choice, text = advice({"majority": 0.4, "full": 0.4}, {})
    assert choice == "majority" and text.startswith("No method is worth its cost")


# --- what the page says


FOLDERS = argparse.Namespace(
    comparison=Path("cost"), uncertainty=Path("uncertainty"), slices=Path("slices"), confusion=Path("confusion"),
    calibration=Path("calibration"), learning_curves=Path("curves"),
)  # fmt: skip


def weigh(predictions: dict[str, Predictions], **given: float | str) -> Evidence:
    """The evidence of these methods, the last of which is trained, and costs the most."""
    table = pd.DataFrame(
        {
            "method": list(predictions),
            "accuracy": [one.right.mean() for one in predictions.values()],
            "f1": 0.5,
            "trainable_parameters": range(len(predictions)),
            "train_seconds": 1.0,
            "artifact_bytes": 0,
            "front_parameters": True,
            "front_time": False,
        }
    )
    report = Report(**{"figure": "accuracy", "margin": 0.02, "confidence": 0.95, **given})
    return comparison.weigh(table, [list(predictions)[-1]], predictions, report, max_length=256, seed=17)


def cut_texts(tfidf: Predictions, full: Predictions) -> str:
    return sections.cut_texts(weigh({"majority": tfidf, "untrained": tfidf, "tfidf": tfidf, "full": full})).text


def test_what_cutting_costs_is_said():
    text = cut_texts(with_errors(20, 20), with_errors(2, 35))
    assert text.startswith(
        "100 of 300 test texts (33.3%) are longer than `max_length`, 256 tokens, and are cut: `full`"
    )
    assert "right on 65.0% of them and on 99.0% of the others, -34.0 points." in text
    assert (
        "TF-IDF, which reads whole texts, changes by -10.0. Between the two are -24.0 points (95% interval -3" in text
    )
    assert text.endswith("which is what cutting seems to cost on these texts.")


@pytest.mark.parametrize(
    ("tfidf", "full", "said"),
    [
        (with_errors(20, 10), with_errors(10, 6), "so the data cannot tell whether cutting costs anything."),
        (with_errors(0, 40), with_errors(10, 5), "so there is no sign that cutting costs anything."),
        (
            with_errors(9, 0, cut=0),
            with_errors(2, 0, cut=0),
            "is longer than `max_length`, 256 tokens: nothing is cut.",
        ),
        (with_errors(9, 2, cut=29), with_errors(2, 9, cut=29), "too few are cut to tell what that costs."),
        (with_errors(9, 2, whole=29), with_errors(2, 9, whole=29), "too few are whole to tell what that costs."),
    ],
)
def test_what_cutting_costs_is_not_said_where_it_is_not_known(tfidf: Predictions, full: Predictions, said: str):
    assert cut_texts(tfidf, full).endswith(said)


MIXED = [0, 1] * 100
NONE_LEARNS_BUT_FULL = {
    "majority": answered([0] * 200, MIXED),
    "untrained": answered([0, 0, 1, 1] * 50, MIXED),
    "tfidf": answered([0, 0, 0, 1] * 50, MIXED),
    "lora-v1": answered([0] * 200, MIXED),
    "full": answered([0, 1, 0, 1, 0, 1, 0, 0] * 25, MIXED),
}


def test_a_method_that_learned_nothing_is_named():
    found = weigh(NONE_LEARNS_BUT_FULL)
    assert sections.nothing_learned(found) == (
        "The accuracy of `lora-v1` is not above that of one answer for all (50.0%), at 95% confidence: it may have "
        "learned nothing."
    )
    assert sections.nothing_learned(found) in sections.methods(found, FOLDERS).text
    # With more confidence asked for, 75% is not above 50% either, once it is of few texts.
    few = {method: answered(list(one.predicted[0][:20]), MIXED[:20]) for method, one in NONE_LEARNS_BUT_FULL.items()}
    assert "`tfidf`" not in sections.nothing_learned(weigh(few, confidence=0.9))
    assert "`tfidf`" in sections.nothing_learned(weigh(few, confidence=0.99))


def test_where_it_fails_names_the_weakest_parts():
    found = weigh(NONE_LEARNS_BUT_FULL)
    section = sections.where_it_fails(found, FOLDERS)
    assert section.text.startswith(
        "`full` is right on 87.5% of the test texts, and surely less often on these: label `b`"
    )
    assert [row[:2] for row in section.table[1:]] == [["all texts", "200"], ["label a", "100"], ["label b", "100"]]
    assert section.table[0] == ["accuracy on", "texts", "full", "tfidf"]
    assert section.table[3][2].startswith("75.0% (6")


def test_the_verdict_on_a_difference_is_at_the_given_confidence():
    half = {method: answered(list(one.predicted[0][:40]), MIXED[:40]) for method, one in NONE_LEARNS_BUT_FULL.items()}
    for confidence, verdict in ((0.6, "worse"), (0.8, "")):
        section = sections.differences(weigh(half, confidence=confidence))
        row = next(row for row in section.table if row[:2] == ["tfidf", "full"])
        assert (row[4], row[5]) == ("0.3", verdict)
        assert f"at {100 * confidence:g}% confidence, " in section.text


def test_no_interval_is_of_another_confidence_than_the_given(monkeypatch: pytest.MonkeyPatch):
    found = weigh(NONE_LEARNS_BUT_FULL, confidence=0.9)
    said = [found.advice, *(str(section) for section in sections.sections(found, GROWTH, 300, NOISE, {}, FOLDERS))]
    figures = drawn(monkeypatch, lambda: plots.intervals(found.intervals.reset_index(), HEADLINE, 0.9, Path()))
    said += [axes.get_xlabel() for axes in figures[0].axes]
    confidences = {share for text in said for share in re.findall(r"([\d.]+)% (?:interval|confidence)", text)}
    assert confidences == {"90"}
    assert len([text for text in said if "90% " in text]) == 6


def test_methods_have_deviations_where_there_are_several_trainings():
    one, other = NONE_LEARNS_BUT_FULL["full"], NONE_LEARNS_BUT_FULL["lora-v1"]
    twice = predictions_of(pd.concat([one.table, other.table]))
    found = weigh({**NONE_LEARNS_BUT_FULL, "full": twice})
    table = found.methods.assign(accuracy_deviation=found.methods.method.map({"full": 0.2652}))
    section = sections.methods(dataclasses.replace(found, methods=table), FOLDERS)
    cells = {row[0]: row[1] for row in section.table}
    assert cells["full"].startswith("68.8% ± 26.5 (") and cells["tfidf"].startswith("75.0% (")
    assert "Figures are means over up to 2 trainings" in section.text
    # What is read of it, text by text, is the first training.
    assert classification.surest_errors("full", twice).text == "Of `full`, which errs on 25 of 200 test texts."


def test_texts_that_all_get_wrong_alike():
    section = classification.wrong_for_all([PREDICTIONS["full"], PREDICTIONS["lora-v1"]])
    assert section.text.startswith("5 of 40 test texts")
    assert [row[0] for row in section.table[1:]] == [f"text {i}" for i in range(3, 40, 8)]
    assert section.table[1][1:] == ["a", "b", "0.80"]


def test_surest_errors_come_first():
    table = PREDICTIONS["full"].table.copy()
    table.loc[7, ["p_a", "p_b"]] = [0.99, 0.01]
    section = classification.surest_errors("full", predictions_of(table))
    assert section.text == "Of `full`, which errs on 10 of 40 test texts."
    assert section.table[1] == ["text 7", "b", "a", "0.99"]
    assert len(section.table) == 1 + 10


def test_a_method_without_errors_has_none_to_read():
    right = answered(ACTUAL, ACTUAL)
    assert classification.surest_errors("full", right).table[1:] == []
    assert classification.wrong_for_all([right, PREDICTIONS["full"]]).table[1:] == []


def test_a_label_without_a_test_text_is_named():
    """It counts 0 in macro figures, or they would rise where a label goes missing."""
    codes = pd.CategoricalDtype(["a", "b", "rare"])

    def with_rare(one: Predictions) -> Predictions:
        return predictions_of(one.table.astype({"actual": codes, "predicted": codes}))

    evidence = weigh({method: with_rare(one) for method, one in NONE_LEARNS_BUT_FULL.items()})
    text = sections.methods(evidence, FOLDERS).text
    assert "No test text has the label `rare`: macro figures are over all labels and count 0 for it." in text
    two = weigh(NONE_LEARNS_BUT_FULL).intervals.f1["full"]
    assert evidence.intervals.f1["full"] == pytest.approx(two * 2 / 3)
    assert "No test text has" not in sections.methods(weigh(NONE_LEARNS_BUT_FULL), FOLDERS).text


# --- pictures


def test_each_method_has_its_confusion_and_each_table_its_picture(tmp_path: Path):
    evidence = weigh(NONE_LEARNS_BUT_FULL)
    written = argparse.Namespace(**{name: tmp_path / path for name, path in vars(FOLDERS).items()})
    curves = pd.DataFrame({"method": ["full"] * 2, "epoch": [1, 2]}).assign(
        train_loss=0.5, validation_loss=0.6, validation_f1=0.7, validation_accuracy=0.8
    )
    folders.write(evidence, curves, GROWTH, written)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert names == {
        *(f"confusion/{method}.png" for method in evidence.predictions),
        *("curves/learning_curves.png", "curves/training_rows.png", "cost/comparison.png"),
        *("uncertainty/intervals.png", "slices/slices.png", "calibration/reliability.png"),
    }
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)
    all_sections = sections.sections(evidence, GROWTH, 300, NOISE, {}, written)
    shown = {path for section in all_sections for path in section.pictures}
    assert {path.relative_to(tmp_path).as_posix() for path in shown} == names


def drawn(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], None]) -> list[Figure]:
    """What `draw` would have saved."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    draw()
    return figures


def test_the_front_is_joined_and_named(monkeypatch: pytest.MonkeyPatch):
    table = pd.DataFrame(
        [
            ("majority", 0.4, 0, True),
            ("tfidf", 0.7, 100, True),
            ("lora-v1", 0.69, 500, False),
            ("full", 0.8, 9000, True),
        ],
        columns=["method", "accuracy", "trainable_parameters", "front_parameters"],
    ).assign(train_seconds=[0, 1, 2, 3], front_time=False)
    (figure,) = drawn(monkeypatch, lambda: plots.quality_against_cost(table, ACCURACY, Path()))
    left, right = figure.axes
    line = left.get_lines()[0]
    assert line.get_xdata()[:3].tolist() == [0, 100, 9000] and line.get_ydata()[:3].tolist() == [0.4, 0.7, 0.8]
    # The majority class lies below what is shown, and nothing is on the other front.
    assert [text.get_text() for text in left.texts] == ["tfidf", "full"]
    assert [text.get_text() for text in right.texts] == []


def test_names_on_the_front_do_not_lie_on_each_other(monkeypatch: pytest.MonkeyPatch):
    table = pd.DataFrame(
        {"method": [f"prefix-tuning-{i}" for i in range(7)], "accuracy": [0.6, 0.7, 0.701, 0.702, 0.703, 0.71, 0.8]}
    )
    table = table.assign(trainable_parameters=range(100, 107), train_seconds=1, front_parameters=True, front_time=False)
    (figure,) = drawn(monkeypatch, lambda: plots.quality_against_cost(table, ACCURACY, Path()))
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without the line to the point
    assert len(boxes) == 7
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_a_slice_is_bold_where_it_surely_differs(monkeypatch: pytest.MonkeyPatch):
    found = weigh(NONE_LEARNS_BUT_FULL)
    (figure,) = drawn(monkeypatch, lambda: plots.slices(found.slices, ACCURACY, Path()))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["full", "tfidf", "lora-v1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["all texts\n(200)", "a\n(100)", "b\n(100)"]
    cells = {text.get_text().split("\n")[0]: text.get_fontweight() for text in axes.texts[:3]}
    assert cells == {"87.5": "normal", "100.0": "bold", "75.0": "bold"}


# --- the training rows


def growth(*f1: float) -> pd.DataFrame:
    """Of `full`, with 100 rows, 200, 400; `tfidf` has less. Accuracy does not grow."""
    rows = [100 * 2**i for i in range(len(f1))]
    return pd.concat(
        pd.DataFrame({"method": method, "rows": rows, "accuracy": 0.9, "f1": np.array(f1) - less})
        for method, less in (("full", 0), ("tfidf", 0.1))
    )


GROWTH = growth(0.5, 0.6, 0.8)
NOISE = pd.DataFrame(
    {
        "suspected": [True, True, False],
        "text": ["one", "two", "three"],
        "label": ["a", "b", "a"],
        "suggested": ["b", "a", "a"],
        "p_label": [0.1, 0.2, 0.9],
    }
)


@pytest.mark.parametrize("f1", [(0.5, 0.6, 0.8), (0.79, 0.8)])
def test_what_more_labels_would_give(f1):
    """The gain as it is: whether it is chance, two figures of one training each cannot say."""
    section = sections.more_labels(weigh(NONE_LEARNS_BUT_FULL, figure="f1"), growth(*f1), 300, FOLDERS)
    assert f"`full` gains {100 * (f1[-1] - f1[-2]):+.1f} points of macro F1 on 300 validation rows" in section.text
    assert "How much of that is chance is not computed" in section.text
    assert section.table[1] == ["full", *(f"{value:.1%}" for value in f1)]


def test_what_more_labels_would_give_is_said_of_the_decisive_figure():
    text = sections.more_labels(weigh(NONE_LEARNS_BUT_FULL, figure="accuracy"), GROWTH, 300, FOLDERS).text
    assert "`full` gains +0.0 points of accuracy" in text


def test_suspected_labels_are_shown_and_no_others():
    section = classification.label_noise(NOISE)
    assert section.text.startswith("2 of 3 training labels look wrong")
    assert section.table[1:] == [["one", "a", "b", "0.10"], ["two", "b", "a", "0.20"]]


# --- the page


def test_a_page_holds_any_text_as_text(tmp_path: Path):
    hostile = "<script>alert(1)</script> | [x](http://example.com) `&amp;` *b*\n# no heading"
    picture = tmp_path / "one.png"
    plots.intervals(intervals_of(PREDICTIONS, 0.95, 17).reset_index(), HEADLINE, 0.95, picture)
    section = page.Section("Errors", "Of `full`.", [["text", "label"], [hostile, "<b>"]], [picture])
    page.write("A title", "Use `full`: it is best of all.", [section], tmp_path / "page.html", tmp_path / "page.md")

    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in html and "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | [x]" in html
    assert "<strong>Use <code>full</code></strong>It is best of all." in html
    # Nothing is fetched: the only sources are in the page.
    assert re.findall(r'(?:src|href)="(.{7})', html) == ["#errors", "data:im"]

    lines = (tmp_path / "page.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if "script" in line)
    assert (
        row == r"| \<script\>alert(1)\</script\> \| \[x\](http://example.com) \`\&amp;\` \*b\* \# no heading | \<b\> |"
    )
    assert lines[0] == "# A title" and "## Errors" in lines

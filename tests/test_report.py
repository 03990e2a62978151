"""The recommendation and the page that it heads: right for known figures, and safe for any text."""

import argparse
import dataclasses
import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_evidence import ACTUAL, PREDICTIONS, answered, with_errors

from tunediff.core.files import write_json
from tunediff.evidence import comparison
from tunediff.evidence.comparison import Evidence, Predictions, intervals_of, predictions_of
from tunediff.evidence.settings import Report
from tunediff.report import (
    charts,
    choice_sections,
    classification,
    error_list,
    folders,
    model_sections,
    page,
    plots,
    results,
    sections,
)
from tunediff.report.colours import palette
from tunediff.report.page import Tile, Verdict
from tunediff.report.results import About
from tunediff.report.verdict import tiles, undecided, verdict
from tunediff.tasks.classification import Classification

ACCURACY, F1 = HEADLINE = [Classification.figures[name] for name in Classification.headline]
# --- what the page says


FOLDERS = argparse.Namespace(
    comparison=Path("cost"), uncertainty=Path("uncertainty"), slices=Path("slices"), confusion=Path("confusion"),
    calibration=Path("calibration"), learning_curves=Path("curves"), errors=Path("errors.csv"),
)  # fmt: skip


def weigh(predictions: dict[str, Predictions], costs: np.ndarray | None = None, **given: float | str) -> Evidence:
    """The evidence of these methods, the last of which is trained, and costs the most."""
    table = pd.DataFrame(
        {
            "method": list(predictions),
            "accuracy": [one.right.mean() for one in predictions.values()],
            "f1": 0.5,
            "trainable_parameters": range(len(predictions)),
            "train_seconds": 1.0,
            "artifact_bytes": 1000 * 10 ** np.arange(len(predictions)),
            "loaded_bytes": 10**9,
            "answer_money": 0.0,
            "answer_seconds": 2.0,
            "start_seconds": [np.nan] * (len(predictions) - 1) + [1.5],
            "answer_memory_bytes": [np.nan] * (len(predictions) - 1) + [7e8],
            "front_parameters": True,
            "front_time": False,
        }
    )
    report = Report(**{"figure": "accuracy", "margin": 0.02, "confidence": 0.95, **given})
    return comparison.weigh(table, [list(predictions)[-1]], predictions, report, 256, 17, costs)


def cut_texts(tfidf: Predictions, full: Predictions) -> str:
    section = sections.cut_texts(weigh({"majority": tfidf, "untrained": tfidf, "tfidf": tfidf, "full": full}))
    return section.text if section else ""


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
            "",
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


def test_a_training_that_learned_nothing_is_named():
    right = answered([0, 1, 0, 1, 0, 1, 0, 0] * 25, MIXED)
    twice = dataclasses.replace(right, predicted=[right.predicted[0], np.zeros_like(right.predicted[0])])
    assert sections.lost_trainings(weigh({**NONE_LEARNS_BUT_FULL, "full": twice})) == (
        "1 of 2 trainings of `full` learned nothing (accuracy 50.0%): its learning rate may be too high."
    )
    assert sections.lost_trainings(weigh(NONE_LEARNS_BUT_FULL)) == ""


def test_a_method_that_learned_nothing_is_named():
    found = weigh(NONE_LEARNS_BUT_FULL)
    assert sections.nothing_learned(found, []) == (
        "The accuracy of `lora-v1` is not above that of one answer for all (50.0%), at 95% confidence: it may have "
        "learned nothing."
    )
    assert (
        sections.nothing_learned(found, [])
        in choice_sections.methods(found, [sections.nothing_learned(found, [])]).text
    )
    # With more confidence asked for, 75% is not above 50% either, once it is of few texts.
    few = {method: answered(list(one.predicted[0][:20]), MIXED[:20]) for method, one in NONE_LEARNS_BUT_FULL.items()}
    assert "`tfidf`" not in sections.nothing_learned(weigh(few, confidence=0.9), [])
    assert "`tfidf`" in sections.nothing_learned(weigh(few, confidence=0.99), [])
    # By macro F1, answers of both labels are above those of one, though as often right.
    both = {**NONE_LEARNS_BUT_FULL, "lora-v1": answered([0, 0, 1, 1] * 50, MIXED)}
    assert "`lora-v1`" in sections.nothing_learned(weigh(both), [])
    assert not sections.nothing_learned(weigh(both, figure="f1"), [])


def test_where_it_fails_names_the_weakest_parts():
    found = weigh(NONE_LEARNS_BUT_FULL)
    section = sections.where_it_fails(found)
    assert section.text.startswith(
        "`full` is right on 87.5% of the test texts, and surely less often on these: label `b`"
    )
    assert [row[:2] for row in section.table[1:]] == [["all texts", "200"], ["label a", "100"], ["label b", "100"]]
    assert section.table[0] == ["accuracy on", "texts", "full", "tfidf"]
    assert section.table[3][2].startswith("75.0% (6")


def test_the_verdict_on_a_difference_is_at_the_given_confidence():
    half = {method: answered(list(one.predicted[0][:40]), MIXED[:40]) for method, one in NONE_LEARNS_BUT_FULL.items()}
    for confidence, said in ((0.6, "worse"), (0.8, "")):
        section = sections.differences(weigh(half, confidence=confidence, assurance=0.55))
        row = next(row for row in section.table if row[:2] == ["tfidf", "full"])
        assert (row[4], row[5]) == ("0.3", said)
        assert f"at {100 * confidence:g}% confidence, " in section.text


def test_no_interval_is_of_another_confidence_than_the_given(monkeypatch: pytest.MonkeyPatch):
    found = weigh(NONE_LEARNS_BUT_FULL, confidence=0.9)
    advice = verdict(found)
    said = [*(str(section) for section in sections.sections(found, {}, ABOUT)), advice.sure, advice.next]
    said += [tile.note for tile in advice.tiles]
    figures = drawn(monkeypatch, lambda: plots.intervals(found.intervals.reset_index(), HEADLINE, 0.9, Path()))
    said += [axes.get_xlabel() for axes in figures[0].axes]
    confidences = {share for text in said for share in re.findall(r"([\d.]+)% (?:interval|confidence)", text)}
    assert confidences == {"90"}
    assert len([text for text in said if "90% " in text]) == 7


def test_methods_have_deviations_where_there_are_several_trainings():
    one, other = NONE_LEARNS_BUT_FULL["full"], NONE_LEARNS_BUT_FULL["lora-v1"]
    twice = predictions_of(pd.concat([one.table, other.table]))
    found = weigh({**NONE_LEARNS_BUT_FULL, "full": twice})
    table = found.methods.assign(accuracy_deviation=found.methods.method.map({"full": 0.2652}))
    section = choice_sections.methods(dataclasses.replace(found, methods=table), [sections.several(found)])
    cells = {row[0]: row[1] for row in section.table}
    assert cells["full"].startswith("68.8% ± 26.5 (") and cells["tfidf"].startswith("75.0% (")
    assert "Figures are means over up to 2 trainings" in section.text
    assert "seeds=" not in verdict(found).next  # they are there
    # What is read of it, text by text, is the first training.
    errors = error_list.errors({"full": twice})
    assert len(errors) == 25


def test_texts_that_all_get_wrong_alike():
    section = classification.wrong_for_all([PREDICTIONS["full"], PREDICTIONS["lora-v1"]])
    assert section.text.startswith("5 of 40 test texts")
    assert [row[0] for row in section.table[1:]] == [f"text {i}" for i in range(3, 40, 8)]
    assert section.table[1][1:] == ["a", "b", "0.80"]


def test_surest_errors_come_first():
    table = PREDICTIONS["full"].table.copy()
    table.loc[7, ["p_a", "p_b"]] = [0.99, 0.01]
    errors = error_list.errors({"majority": PREDICTIONS["full"], "full": predictions_of(table)})
    assert errors.iloc[0][["text", "label", "answer", "method"]].tolist() == ["text 7", "b", "a", "full"]
    assert len(errors) == 10  # of no method that learns nothing


def test_of_many_errors_the_page_has_those_of_the_choice_and_the_surest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(error_list, "EMBEDDED", 12)
    found = weigh({"majority": PREDICTIONS["tfidf"], "untrained": PREDICTIONS["tfidf"], **PREDICTIONS})
    section = sections.all_errors(found)
    methods = [row[2] for row in section.records["rows"]]
    assert len(methods) == 12 and methods == sorted(methods, key=lambda method: method != found.choice)
    own = len(error_list.errors({found.choice: PREDICTIONS[found.choice]}))
    assert methods.count(found.choice) == own == 5
    assert section.text.startswith("35 errors") and "Here are 12: those of the recommended one" in section.text


def test_a_method_without_errors_has_none_to_read():
    right = answered(ACTUAL, ACTUAL)
    assert error_list.errors({"full": right}).empty
    assert classification.wrong_for_all([right, PREDICTIONS["full"]]) is None
    assert sections.all_errors(weigh({"majority": right, "untrained": right, "tfidf": right, "full": right})) is None


def test_a_label_without_a_test_text_is_named():
    """It counts 0 in macro figures, or they would rise where a label goes missing."""
    codes = pd.CategoricalDtype(["a", "b", "rare"])

    def with_rare(one: Predictions) -> Predictions:
        return predictions_of(one.table.astype({"actual": codes, "predicted": codes}))

    evidence = weigh({method: with_rare(one) for method, one in NONE_LEARNS_BUT_FULL.items()})
    text = sections.missing_labels(evidence)
    assert "No test text has the label `rare`: macro figures are over all labels and count 0 for it." in text
    two = weigh(NONE_LEARNS_BUT_FULL).intervals.f1["full"]
    assert evidence.intervals.f1["full"] == pytest.approx(two * 2 / 3)
    assert sections.missing_labels(weigh(NONE_LEARNS_BUT_FULL)) == ""


# --- pictures


def test_each_method_has_its_confusion_and_each_table_its_picture(tmp_path: Path):
    evidence = weigh(NONE_LEARNS_BUT_FULL)
    written = argparse.Namespace(**{name: tmp_path / path for name, path in vars(FOLDERS).items()})
    folders.write(evidence, CURVES, GROWTH, written)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert names == {
        *(f"confusion/{method}.png" for method in evidence.predictions),
        *("curves/learning_curves.png", "curves/training_rows.png", "cost/comparison.png"),
        *("uncertainty/intervals.png", "slices/slices.png", "calibration/reliability.png"),
    }
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)
    errors = pd.read_csv(tmp_path / "errors.csv")
    assert len(errors) == len(error_list.errors(evidence.predictions))


def test_a_task_may_have_no_probabilities_and_no_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """As one whose answers are written texts."""
    nothing = {"choice": lambda *_: [], "answers": lambda *_: [], "label_noise": lambda *_: None}
    errors = classification.errors
    nothing["errors"] = lambda one: errors(one).iloc[:0]
    for name, function in nothing.items():
        monkeypatch.setattr(classification, name, function)
    monkeypatch.setattr("tunediff.evidence.classification.confidence", lambda *_: (np.zeros(0), np.zeros(0, bool)))
    monkeypatch.setattr(Classification, "each_epoch", ("loss",))
    found = weigh(NONE_LEARNS_BUT_FULL)
    shown = [section.title for section in sections.sections(found, {}, ABOUT)]
    assert shown == [
        *("Methods", "What each method is", "Quality against cost", "How sure this is", "Confusion", "Differences"),
        *("Where it fails", "Learning curves", "Would more labels help?", "Where it comes from"),
    ]
    assert len(model_sections.learning_curves(found, CURVES).charts) == 2  # of the loss alone
    written = argparse.Namespace(**{name: tmp_path / path for name, path in vars(FOLDERS).items()})
    folders.write(found, CURVES, GROWTH, written)
    assert pd.read_csv(tmp_path / "errors.csv").empty and not (tmp_path / "calibration/reliability.png").exists()


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
    (figure,) = drawn(monkeypatch, lambda: plots.quality_against_cost(table, ACCURACY, palette(table.method), Path()))
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
    (figure,) = drawn(monkeypatch, lambda: plots.quality_against_cost(table, ACCURACY, palette(table.method), Path()))
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


# --- costs


def test_what_is_loaded_weighs_a_quantized_base_as_training_says(tmp_path: Path):
    costs = {
        "full": {"artifact_bytes": 4000, "trainable_parameters": 1000, "total_parameters": 1000},
        "floats": {"artifact_bytes": 400, "trainable_parameters": 100, "total_parameters": 1100},
        "nf4": {"artifact_bytes": 400, "trainable_parameters": 100, "total_parameters": 1100, "frozen_bytes": 520},
        "asked": {"artifact_bytes": 0, "trainable_parameters": 0},  # on a server
    }
    figures = {"accuracy": 0.5, "train_seconds": 1.0, "samples_per_second": 1.0}
    for method, cost in costs.items():
        write_json(tmp_path / f"{method}.json", {**figures, **cost})
    table = results.methods_table([*costs], tmp_path, tmp_path, "accuracy")
    assert table.set_index("method").loaded_bytes.to_dict() == {"full": 4000, "floats": 4400, "nf4": 920, "asked": 0}


# --- language models


def test_what_prompting_takes_says_what_a_server_refused_cut_and_did_not_count():
    methods = pd.DataFrame(
        {"method": ["cut", "fine", "local", "full"], "seconds_per_1000": 2.0, "no_valid_answer": [0.25, 0, 0, np.nan],
         "input_tokens_per_1000": [0, 900, 800, np.nan], "output_tokens_per_1000": [0, 30, 0, np.nan]}
    )  # fmt: skip
    details = {"cut": {"prompt": {"refused": {"validation": 0, "test": 3}, "cut": {"validation": 1, "test": 1234}}}}
    prompted = dict.fromkeys(["local", "fine", "cut"], "a model")
    bare = {method: {} for method in prompted}
    about = dataclasses.replace(ABOUT, prompted=prompted, details=bare | details)
    section = sections.prompted(methods, about, "the text counts as wrong")
    assert section.table == [
        ["method", "seconds", "tokens read", "tokens written", "money", "no valid answer", "refused", "cut"],
        ["local", "2.0", "800", "0", "", "0.0%", "0", "0"],
        ["fine", "2.0", "900", "30", "", "0.0%", "0", "0"],
        ["cut", "2.0", "not said", "not said", "", "25.0%", "3", "1,234"],
    ]
    assert "Refused are test texts" in section.text and "Cut are test answers" in section.text
    plain = sections.prompted(methods, dataclasses.replace(about, details=bare), "the text counts as wrong")
    assert plain.table[0][-1] == "no valid answer" and "efused" not in plain.text and "Cut" not in plain.text


# --- the training rows


def growth(*f1: float) -> pd.DataFrame:
    """Of `full`, with 100 rows, 200, 400; `tfidf` has less. Accuracy does not grow."""
    rows = [100 * 2**i for i in range(len(f1))]
    return pd.concat(
        pd.DataFrame({"method": method, "rows": rows, "accuracy": 0.9, "f1": np.array(f1) - less})
        for method, less in (("full", 0), ("tfidf", 0.1))
    )


GROWTH = growth(0.5, 0.6, 0.8)
CURVES = pd.DataFrame({"method": ["full"] * 2, "epoch": [1, 2]}).assign(
    train_loss=0.5, validation_loss=[0.6, 0.5], validation_f1=0.7, validation_accuracy=0.8
)
NOISE = pd.DataFrame(
    {
        "suspected": [True, True, False],
        "text": ["one", "two", "three"],
        "label": ["a", "b", "a"],
        "suggested": ["b", "a", "a"],
        "p_label": [0.1, 0.2, 0.9],
    }
)
ABOUT = About(
    details={method: {} for method in NONE_LEARNS_BUT_FULL},
    validation={"tfidf": {"accuracy": 0.9}, "full": {"accuracy": 0.85}},
    validated=300,
    adapters={"lora-v1": "LoRA of rank 8"},
    prompted={},
    machine="",
    curves=CURVES,
    growth=GROWTH,
    noise=NOISE,
)


@pytest.mark.parametrize("f1", [(0.5, 0.6, 0.8), (0.79, 0.8)])
def test_what_more_labels_would_give(f1):
    """The gain as it is: whether it is chance, two figures of one training each cannot say."""
    section = sections.more_labels(weigh(NONE_LEARNS_BUT_FULL, figure="f1"), growth(*f1), 300)
    assert f"`full` gains {100 * (f1[-1] - f1[-2]):+.1f} points of macro F1 on 300 validation rows" in section.text
    assert "How much of that is chance is not computed" in section.text
    assert section.table[1] == ["full", *(f"{value:.1%}" for value in f1)]


def test_with_folds_more_labels_are_judged_on_all_texts():
    found = weigh({name: folded(one) for name, one in NONE_LEARNS_BUT_FULL.items()})
    section = sections.more_labels(found, GROWTH, 300)
    assert "on all 200 texts, each answered by one of 2 folds." in section.text and "validation" not in section.text
    assert section.table[0][0] == "accuracy on all texts" and "on all texts" in section.charts[0]


def test_what_more_labels_would_give_where_validation_has_not_the_figure():
    found = weigh(NONE_LEARNS_BUT_FULL, figure="precision")
    assert "points of accuracy on" in sections.more_labels(found, growth(0.5, 0.6), 300).text


def test_what_more_labels_would_give_is_said_of_the_decisive_figure():
    text = sections.more_labels(weigh(NONE_LEARNS_BUT_FULL, figure="accuracy"), GROWTH, 300).text
    assert "`full` gains +0.0 points of accuracy" in text


def test_suspected_labels_are_shown_and_no_others():
    section = classification.label_noise(NOISE, all_rows=False)
    assert section.text.startswith(
        "Simple models, which did not see these rows, expect another label for 2 of 3 training texts."
    )
    assert section.table[1:] == [["one", "a", "b", "0.10"], ["two", "b", "a", "0.20"]]
    assert "new texts" not in section.text
    said = classification.label_noise(NOISE, all_rows=True).text
    assert "another label for 2 of all 3 texts." in said and "a test text of some fold: correct all wrong" in said


# --- the page


HOSTILE = "<script>alert(1)</script> | [x](http://example.com) `&amp;` *b*\n# no heading"


def test_a_page_holds_any_text_as_text(tmp_path: Path):
    picture = tmp_path / "one.png"
    plots.intervals(intervals_of(PREDICTIONS, 0.95).reset_index(), HEADLINE, 0.95, picture)
    section = page.Section("Errors", "Of `full`.", [["text", "label"], [HOSTILE, "<b>"]], [picture])
    advice = Verdict("Use `full`", "It is <best>.", [Tile("f<1", "76%", "of `x`")], next="`dvc repro`")
    page.write("A title", advice, [section], tmp_path / "page.html", tmp_path / "page.md")

    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in html and "<b><" not in html and "<best>" not in html and "f<1" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | [x]" in html
    assert "<strong>Use <code>full</code></strong>" in html and "<code>dvc repro</code>" in html
    # Nothing is fetched: the only sources are in the page.
    assert re.findall(r'(?:src|href)="(.{7})', html) == ["#errors", "data:im"]

    lines = (tmp_path / "page.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if "script" in line)
    assert (
        row == r"| \<script\>alert(1)\</script\> \| \[x\](http://example.com) \`\&amp;\` \*b\* \# no heading | \<b\> |"
    )
    assert lines[0] == "# A title" and "## Errors" in lines


def test_no_label_method_or_text_gets_out_of_a_chart_or_the_errors(tmp_path: Path):
    names = pd.CategoricalDtype([HOSTILE, "</script><i>"])

    def hostile(one: Predictions) -> Predictions:
        table = one.table.rename(columns={"p_a": f"p_{HOSTILE}", "p_b": "p_</script><i>"}).assign(text=HOSTILE)
        for column in ("actual", "predicted"):
            table[column] = pd.Categorical.from_codes(table[column].cat.codes, dtype=names)
        return predictions_of(table)

    found = weigh({method: hostile(one) for method, one in NONE_LEARNS_BUT_FULL.items()})
    shown = sections.sections(found, {}, dataclasses.replace(ABOUT, growth=GROWTH.iloc[:0], noise=NOISE.iloc[2:]))
    page.write(HOSTILE, verdict(found), shown, tmp_path / "page.html", tmp_path / "page.md")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("<script") == html.count("</script>") == 2 and "alert(1)<" not in html and "<i>" not in html
    titles = [section.title for section in shown]
    assert "Cut texts" not in titles and "Likely label noise" not in titles and "Would more labels help?" not in titles


def test_many_labels_have_their_most_frequent_confusions_instead_of_a_matrix():
    names = [f"label {number}" for number in range(model_sections.LABELS + 1)]
    codes = np.arange(len(names)).repeat(3)
    predicted = np.where(codes == 4, 5, codes)
    table = pd.DataFrame({"split": "all", "row": range(len(codes)), "text": "t", "tokens": 1})
    for column, values in (("actual", codes), ("predicted", predicted)):
        table[column] = pd.Categorical.from_codes(values, names)
    drawn = model_sections.matrix("full", predictions_of(table), 0)
    assert re.findall("<tr><th>(label 4)</th><th>(label 5)</th><th>(3)</th></tr>", drawn) == [
        ("label 4", "label 5", "3")
    ]
    assert "label 6" not in drawn


def test_those_far_from_the_best_do_not_stretch_the_scale():
    rows = [
        charts.Dot(name, 0, value, value - 5, value + 5, name) for name, value in (("a", 80), ("b", 70), ("far", 20))
    ]
    found = charts.dots(rows, "{:g}".format)
    assert found.count("class=dot") == 2 and found.count("◂") == 1
    assert re.findall(r'<i style="left:[0-9.]+%">(.*?)</i>', found) == ["65", "70", "75", "80", "85"]
    # Costs: lower is better, and far off is at the right.
    rows = [
        charts.Dot(name, 0, value, value - 5, value + 5, name) for name, value in (("a", 80), ("b", 90), ("far", 300))
    ]
    found = charts.dots(rows, "{:g}".format)
    assert found.count("class=dot") == 2 and found.count("▸") == 1


# --- the verdict


def test_the_verdict_says_what_why_how_sure_and_what_next():
    found = weigh({**NONE_LEARNS_BUT_FULL, "full": answered([0, 1, 0, 1, 0, 1, 0, 0] * 25, MIXED)})
    said = verdict(found)
    assert said.headline == "Use `full`"
    assert said.reason == (
        "Its accuracy is the best (87.5%), and nothing cheaper is likely to be as good. `tfidf`, which needs no "
        "pretrained model, reaches 75.0%: 12.5 points less (95% interval of this pair alone "
        "4.1 to 20.7)."
    )
    assert [tile.value for tile in said.tiles] == ["87.5%", "1.0 GB", "2.0 s"]
    assert said.tiles[1].note == "a further version adds 10.0 MB: the rest is the pretrained model"
    assert said.sure == "Over 99% sure that it is within 2 points of the best, which counts as proven (from 95% on)."
    assert "label more" not in said.next and "`dvc exp run -S 'seeds=[17,18,19]'`, about 3.0 s of training" in said.next


def test_the_verdict_on_a_tie_names_the_gains():
    nearly = answered([0, 1, 0, 1, 0, 1, 0, 0] * 24 + [0, 1, 0, 1, 0, 0, 0, 0], MIXED)
    said = verdict(weigh({**NONE_LEARNS_BUT_FULL, "lora-v1": nearly}))
    assert said.headline == "Use `lora-v1`"
    assert said.reason == (
        "Its accuracy (87.0%) is about as good as the best one, that of `full` (87.5%), and it is cheaper: each "
        "further version takes 1.0 MB instead of 10.0 MB (the first 1.0 GB). `tfidf`, which needs no pretrained model, "
        "reaches 75.0%: 12.0 points less (95% interval of this pair alone 3.6 to 20.2)."
    )
    tied = weigh({**NONE_LEARNS_BUT_FULL, "lora-v1": answered([0, 1, 0, 1, 0, 0, 0, 1] * 25, MIXED)})
    assert verdict(tied).sure == (
        "73% sure (the bar: 70%) that it is within 2 points of the best. At 95%, 200 test texts leave open which of "
        "`lora-v1` and `full` are that near; the other 3 are not."
    )
    assert "To prove it at 95%, label more texts" in verdict(tied).next
    decision = dataclasses.replace(tied.decision, rows_to_prove=None, folds=5)
    said = verdict(dataclasses.replace(tied, decision=decision)).next
    assert "More test texts alone would not prove it" in said and "'seeds=[17,18,19]'" in said


def test_the_tiles_say_what_the_figure_is_and_what_is_loaded():
    found = weigh({**NONE_LEARNS_BUT_FULL, "full": answered([0, 1, 0, 1, 0, 1, 0, 0] * 25, MIXED)}, figure="f1")
    quality, size, _ = verdict(found).tiles
    assert quality.title == "Macro F1 (each label counts alike)"
    assert quality.note == "81.9 to 91.3 at 95% confidence, on 200 texts; accuracy 87.5%"
    assert (size.value, size.note) == ("1.0 GB", "a further version adds 10.0 MB: the rest is the pretrained model")
    cost = {"artifact_bytes": 0, "answer_seconds": 1.0, "train_seconds": 0.0}
    asked = tiles(found, {**cost, "loaded_bytes": 9e7})[1]
    assert (asked.value, asked.note) == ("90.0 MB", "a further version adds nothing: the rest is the pretrained model")
    assert tiles(found, {**cost, "loaded_bytes": 0})[1].note == "it is on a server"
    full = {**cost, "artifact_bytes": 9e7, "loaded_bytes": 9e7}
    assert tiles(found, full)[1].note == "a further version takes as much again"


@pytest.mark.parametrize(
    ("near", "said"),
    [
        ({"full": 0.9}, "200 test texts are too few for 95%."),
        (
            {"full": 0.9, "tfidf": 0.3},
            "At 95%, 200 test texts leave open which of `full` and `tfidf` are that near; the other 3 are not.",
        ),
        (
            {"full": 0.9, "tfidf": 0.3, "lora-v1": 0.4, "untrained": 0.06},
            "At 95%, 200 test texts leave open which of `full`, `lora-v1`, `tfidf` and `untrained` are that near.",
        ),
    ],
)
def test_what_the_texts_leave_open(near: dict[str, float], said: str):
    found = weigh(NONE_LEARNS_BUT_FULL)
    probabilities = dict.fromkeys(NONE_LEARNS_BUT_FULL, 0.0) | near
    decision = dataclasses.replace(found.decision, choice="full", probabilities=probabilities)
    assert undecided(dataclasses.replace(found, decision=decision), "95%") == said


def test_the_verdict_is_beside_the_best_that_needs_no_model():
    crf = answered([0, 1, 0, 1, 0, 1, 0, 0] * 20 + [0, 0, 0, 0, 0, 0, 0, 0] * 5, MIXED)
    right = answered(MIXED, MIXED)
    reason = verdict(weigh({"crf": crf, **NONE_LEARNS_BUT_FULL, "full": right})).reason
    assert "`crf`, which needs no pretrained model, reaches 80.0%: 20.0 points less (95% interval" in reason
    assert "tfidf" not in reason
    # Where the choice is neither the best one, nor full, nor tfidf.
    nearly = answered([0, 1, 0, 1, 0, 1, 0, 1] * 24 + [0, 1, 0, 1, 0, 1, 0, 0] * 1, MIXED)
    found = weigh({"crf": crf, **NONE_LEARNS_BUT_FULL, "lora-v1": nearly, "full": right})
    assert found.choice == "lora-v1" and found.best == "full"
    assert "`crf`, which needs no pretrained model, reaches 80.0%: 19.5 points less" in verdict(found).reason


def test_a_cheaper_method_that_is_too_unlikely_is_named():
    nearly = answered([0, 1, 0, 1, 0, 1, 0, 0] * 23 + [0, 1, 0, 1, 0, 0, 0, 0] * 2, MIXED)
    found = weigh({**NONE_LEARNS_BUT_FULL, "lora-v1": nearly})
    probabilities = found.decision.probabilities | {"lora-v1": 0.4}
    decision = dataclasses.replace(found.decision, choice="full", probabilities=probabilities)
    assert verdict(dataclasses.replace(found, decision=decision)).reason.startswith(
        "Its accuracy is the best (87.5%). Of what is cheaper, `lora-v1` has the best chance to be within 2 points of "
        "the best: 40%, too little. "
    )


def test_the_verdict_offers_folds_with_their_time():
    tied = weigh({**NONE_LEARNS_BUT_FULL, "lora-v1": answered([0, 1, 0, 1, 0, 0, 0, 1] * 25, MIXED)})
    assert tied.decision.proven != tied.choice
    about = dataclasses.replace(ABOUT, texts=1400, machine="Linux, 2 cores")
    said = verdict(tied, about).next
    # Five methods, each of five trainings of a second and 1,400 answers of 2 ms.
    assert (
        "let all 1,400 texts be answered by trainings that did not see them: `dvc exp run -S 'folds=[5]'`, about 39 s "
        "on the machine that trained (Linux, 2 cores), `training_rows.shares` not counted. That counts the luck of a "
        "training, too, which the figures above do not."
    ) in said
    assert said.startswith("You can use it now, if this quality is enough for you. To know more, ")
    priced = dataclasses.replace(tied, methods=tied.methods.assign(answer_money=[0, 0, 0, 0, 2.5]))
    assert (
        "`training_rows.shares` not counted, and at least 3.5 in the currency of `price`."
        in verdict(priced, about).next
    )
    head, *rows = choice_sections.costs(priced)
    assert head[1] == "money, 1,000 answers" and {row[1] for row in rows} == {"0", "2.5"}
    assert verdict(tied, about).reason.startswith(
        "An adapter (LoRA of rank 8) and the head are trained; the pretrained model stays as it is. Its accuracy is "
    )
    assert "seeds=" not in said
    assert "label more texts" in verdict(tied, dataclasses.replace(about, texts=0)).next  # splits of its own
    proven = weigh({**NONE_LEARNS_BUT_FULL, "full": answered([0, 1, 0, 1, 0, 1, 0, 0] * 25, MIXED)})
    assert "folds=" not in verdict(proven, about).next and "seeds=" in verdict(proven, about).next


def folded(one: Predictions) -> Predictions:
    return predictions_of(one.table.assign(fold=np.arange(len(one.table)) // 100 + 1))


def test_with_folds_the_page_says_so():
    methods = {**NONE_LEARNS_BUT_FULL, "lora-v1": answered([0, 1, 0, 1, 0, 0, 0, 1] * 25, MIXED)}
    found = weigh({name: folded(one) for name, one in methods.items()})
    assert found.decision.folds == 2 and found.nested is not None
    about = dataclasses.replace(ABOUT, texts=200, folds=2)
    said = verdict(found, about).next
    assert "folds=" not in said and "seeds=" not in said and "test split" not in said
    assert sections.folded(found).startswith("Each of the 200 texts was answered by a training that had not seen it")
    text = choice_sections.how_sure(found, ABOUT).text
    assert f"in turn, the accuracy of the choice is {found.nested:.1%}." in text
    assert sections.folded(weigh(methods)) == "" and weigh(methods).nested is None


@pytest.mark.parametrize(
    ("best", "headline"),
    [
        ("majority", "No method is worth its cost: answer the most frequent label"),
        ("tfidf", "Use `tfidf`: no pretrained model is needed"),
        ("untrained", "Use `untrained`: the model needs no training"),
        ("setfit", "Use `setfit`"),
    ],
)
def test_the_headline_of_a_baseline(best: str, headline: str):
    right = answered(MIXED, MIXED)
    assert verdict(weigh({**NONE_LEARNS_BUT_FULL, best: right})).headline == headline


def test_no_clear_choice_is_called_one():
    methods = {name: one for name, one in NONE_LEARNS_BUT_FULL.items() if name != "full"}
    even, odd = (
        [
            wrong if place % 10 == left else right
            for place, (right, wrong) in enumerate(zip(MIXED, MIXED[::-1], strict=True))
        ]
        for left in (1, 2)
    )
    found = weigh({**methods, "lora-v1": answered(even, MIXED), "full": answered(odd, MIXED)}, margin=0.0)
    assert verdict(found).headline.startswith("No clear choice yet: `")
    assert not found.decision.assured


def test_costs_of_errors_decide_where_the_data_file_has_them():
    costs = np.array([[0.0, 1.0], [9.0, 0.0]])
    careful = answered([1, 1, 1, 1, 0, 1, 1, 1] * 25, MIXED)  # often wrong, and seldom on the dear side
    methods = {**NONE_LEARNS_BUT_FULL, "lora-v1": careful}
    assert weigh(methods).best == "full"
    found = weigh(methods, costs)
    assert found.best == found.choice == "lora-v1"
    said = verdict(found)
    assert said.tiles[0].title == "Cost of errors, 1,000 texts" and said.tiles[0].value == "375"
    assert said.reason.startswith("Its cost of errors is the best (375)")
    assert (
        "`tfidf`, which needs no pretrained model, reaches " in said.reason
        and " dearer (95% interval of" in said.reason
    )
    head, *rows = sections.differences(found).table
    assert head[2].startswith("cost of errors, 1,000 texts") and {row[-1] for row in rows} == {"worse"}
    section = choice_sections.methods(found, [])
    assert section.table[1][1].startswith("375 (") and section.table[0][1].startswith("cost of errors, 1,000 texts")


def test_what_a_method_costs_in_use_stands_in_the_table_of_costs():
    found = weigh(NONE_LEARNS_BUT_FULL)
    section = choice_sections.quality_against_cost(found, True)
    head, *rows = section.table
    cells = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(cells) == found.decision.order
    assert (cells["full"]["memory"], cells["full"]["start"]) == ("700.0 MB", "1.5 s")
    assert (cells["tfidf"]["memory"], cells["tfidf"]["start"]) == ("-", "-")  # not measured
    assert "Memory is the most that the process held" in section.text and "An adapter stores little" in section.text


def test_a_figure_and_its_interval_may_stand_below_each_other():
    assert "<span>75.0%</span> <span>(68.5 to 80.4)</span>" in page._two_lines("75.0% (68.5 to 80.4)")
    assert "<span>68.8% ± 26.5</span> <span>(1.0 to 2.0)</span>" in page._two_lines("68.8% ± 26.5 (1.0 to 2.0)")
    assert page._two_lines("<b> (as it is)") == "&lt;b&gt; (as it is)"


@pytest.mark.slow
def test_a_table_of_six_figures_with_intervals_needs_no_scrolling(tmp_path: Path):
    """At 1,280 pixels, with means of several trainings; a task of several labels has as many."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    head = ["method", *(f"average precision {number} (95% interval)" for number in range(6)), "near the best"]
    rows = [[method, *["70.4% ± 1.3 (68.5 to 76.3)"] * 6, "over 99%"] for method in ("lora-v1", "prefix-tuning")]
    section = page.Section("Methods", table=[head, *rows], chosen="lora-v1")
    page.write("A title", Verdict("Use `full`"), [section], tmp_path / "page.html", tmp_path / "page.md")
    script = """<script>addEventListener("load", () => { const wide = document.querySelector(".wide");
        const parts = document.querySelectorAll("td > span > span").length;
        document.title = [wide.scrollWidth - wide.clientWidth, parts]; })</script>"""
    html = (tmp_path / "page.html").read_text(encoding="utf-8").replace("</body>", f"{script}</body>")
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900", f"--user-data-dir={tmp_path}")
    command = [browser, *options, "--dump-dom", f"file://{tmp_path}/page.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert re.search("<title>(.*)</title>", done.stdout)[1] == "0,24"


def test_the_choice_of_validation_has_its_figure_on_test():
    found = weigh(NONE_LEARNS_BUT_FULL)
    worse = {method: {"accuracy": 0.8} for method in found.predictions}
    all_known = dataclasses.replace(ABOUT, validation=worse | ABOUT.validation)
    text = choice_sections.how_sure(found, all_known).text
    assert "Validation alone would choose `tfidf`: 90.0% there, and 75.0% on test texts that did not choose it" in text
    # Of texts out, trained methods have no such figure there: the best of the others would not be validation's choice.
    text = choice_sections.how_sure(found, ABOUT).text
    assert "This choice used the test texts" in text and "Validation alone" not in text


def test_those_surest_are_chosen_by_the_probabilities_that_predict_gives():
    found = weigh(NONE_LEARNS_BUT_FULL)
    fitted = dataclasses.replace(ABOUT, details=ABOUT.details | {"full": {"fitted": {"17": {"temperature": 2.0}}}})
    raw, corrected = (classification.only_if_sure(found, about) for about in (ABOUT, fitted))
    odds = 0.8 / 0.2
    assert raw.table[1][3] == "0.800"
    assert corrected.table[1][3] == f"{odds**0.5 / (1 + odds**0.5):.3f}"
    twice = predictions_of(pd.concat([PREDICTIONS["full"].table] * 2))
    text = classification.only_if_sure(
        weigh({"majority": twice, "untrained": twice, "tfidf": twice, "full": twice}), ABOUT
    )
    assert "The first training of `" in text.text


def test_two_labels_have_a_table_of_thresholds():
    found = weigh(NONE_LEARNS_BUT_FULL)
    assert classification.thresholds(found, ABOUT) is None  # none was fitted
    fitted = {"17": {"temperature": 2.0, "threshold": {"label": "b", "value": 0.6}}}
    about = dataclasses.replace(ABOUT, details={**ABOUT.details, "full": {"fitted": fitted}})
    section = classification.thresholds(found, about)
    assert section.chosen == "0.6 (validation's)" and section.chosen in [row[0] for row in section.table]
    # 0.8 is 0.667 with a temperature of 2: above 0.6 and below 0.7.
    answered_b = {row[0]: row[1] for row in section.table[1:]}
    assert (answered_b["0.6 (validation's)"], answered_b["0.7"]) == ("37.5%", "0.0%")


def test_with_folds_a_threshold_is_each_folds_own():
    found = weigh({name: folded(one) for name, one in NONE_LEARNS_BUT_FULL.items()})
    fits = {
        fold: {"temperature": temperature, "threshold": {"label": "b", "value": value}}
        for fold, temperature, value in ((1, 1.0, 0.45), (2, 2.0, 0.6))
    }
    about = dataclasses.replace(ABOUT, details={**ABOUT.details, "full": {"fitted": {}, "folds": fits}})
    section = classification.thresholds(found, about)
    assert "Validation chose 0.45 to 0.6." in section.text
    # 0.8 is 0.667 with the second fold's temperature, and stays 0.8 in the first.
    answered_b = {row[0]: row[1] for row in section.table[1:]}
    assert answered_b["0.6"] == "37.5%" and 0 < float(answered_b["0.7"].rstrip("%")) < 37.5
    assert not [row for row in section.table if "validation" in row[0]]

"""From probabilities to figures, pictures and files, and what a user sees of a mistake."""

import argparse
import itertools
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ENVIRONMENT, ROOT
from datasets import ClassLabel, Dataset, Features, Value
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
)

from tunediff.core import files
from tunediff.core.cost import folder_bytes
from tunediff.core.process import run
from tunediff.evidence import classification, comparison, scoring
from tunediff.models import inference
from tunediff.report import colours, plots
from tunediff.tasks.classification import Classification

# Three labels, of which the last is never predicted. By hand:
#   precision 2/3, 1/2, 0;  recall 2/2, 1/2, 0/1;  F1 4/5, 1/2, 0;  3 of 5 rows right.
ACTUAL = np.array([0, 0, 1, 1, 2])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.7, 0.2, 0.1], [0.1, 0.5, 0.4]])
TASK = Classification(["b", "a", "c"])
NAMES = ("actual", "answered")
ROUNDED = 0.6 * 10**-files.DECIMALS
BY_HAND = {
    "accuracy": 3 / 5,
    "precision": (2 / 3 + 1 / 2 + 0) / 3,
    "recall": (1 + 1 / 2 + 0) / 3,
    "f1": (4 / 5 + 1 / 2 + 0) / 3,
    "loss": -np.log([0.8, 0.5, 0.6, 0.2, 0.4]).mean(),
}


# --- figures


def test_score_by_hand():
    assert scoring.score(TASK, ACTUAL, PROBABILITIES) == pytest.approx(BY_HAND, abs=1e-12)


def test_score_says_nothing_of_a_class_that_is_never_predicted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scoring.score(TASK, ACTUAL, PROBABILITIES)["precision"] < 1


def test_a_class_without_a_row_counts_as_zero():
    """As DVC compares runs over the same labels, the mean is over all of them, not over those that a split has."""
    probabilities = np.eye(3)[[0, 1]] * 0.7 + 0.1
    figures = scoring.score(TASK, np.array([0, 1]), probabilities)
    assert figures == pytest.approx(
        {"accuracy": 1, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "loss": -np.log(0.8)}
    )


@pytest.mark.parametrize("labels", [2, 5])
def test_score_is_sklearns(labels):
    random = np.random.default_rng(labels)
    actual = random.integers(labels, size=200)
    probabilities = random.dirichlet(np.ones(labels), size=200)
    predicted = probabilities.argmax(1)
    expected = {
        "accuracy": accuracy_score(actual, predicted),
        "precision": precision_score(actual, predicted, average="macro"),
        "recall": recall_score(actual, predicted, average="macro"),
        "f1": f1_score(actual, predicted, average="macro"),
        "loss": log_loss(actual, probabilities),
    }
    task = Classification([f"label {i}" for i in range(labels)])
    assert scoring.score(task, actual, probabilities) == pytest.approx(expected, abs=1e-12)
    assert task.score(actual, probabilities) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("without", ["actual", "answered", "either"])
def test_figures_of_sums_are_sklearns_over_all_labels(without: str):
    """Also where no row has a label, where none is answered with it, and where neither is."""
    random = np.random.default_rng(len(without))
    actual, predicted = (random.integers(3 if without in (name, "either") else 4, size=150) for name in NAMES)
    task = Classification(list("abcd"))
    figures = task.figures_of(task.counts(actual, predicted).sum(0, dtype=int))
    options = {"labels": range(4), "average": "macro", "zero_division": 0}
    expected = {
        "accuracy": accuracy_score(actual, predicted),
        "f1": f1_score(actual, predicted, **options),
        "precision": precision_score(actual, predicted, **options),
        "recall": recall_score(actual, predicted, **options),
    }
    assert figures == pytest.approx(expected, abs=1e-12)


def test_figures_of_many_sums_are_those_of_each():
    """As a bootstrap asks for them: one figure for each of its draws."""
    random = np.random.default_rng(0)
    actual, predicted = random.integers(3, size=(2, 40))
    counts = TASK.counts(actual, predicted)
    draws = random.integers(40, size=(5, 2, 40))
    figures = TASK.figures_of(counts[draws].sum(-2, dtype=int))
    for place in np.ndindex(5, 2):
        rows = draws[place]
        f1 = f1_score(actual[rows], predicted[rows], labels=range(3), average="macro", zero_division=0)
        assert figures["f1"][place] == pytest.approx(f1)
        assert figures["accuracy"][place] == pytest.approx(accuracy_score(actual[rows], predicted[rows]))


# --- files of a method


@pytest.fixture
def written(tmp_path: Path) -> argparse.Namespace:
    """The folders after `scoring.write` of a method `mine`, whose label `c` has one row that is never predicted."""
    folders = argparse.Namespace(
        metrics=tmp_path / "metrics", detail=tmp_path / "detail", cost=tmp_path / "cost",
        predictions=tmp_path / "predictions", confusion=tmp_path / "confusion",
    )  # fmt: skip
    cost = {"eval_seconds": 2.0, "artifact_bytes": 10}
    more = {"with_temperature": {"temperature": 1.5}}
    scoring.write("mine", TASK, five_rows(), {17: PROBABILITIES}, cost, folders, more)
    return folders


def five_rows(names: list[str] = TASK.labels) -> Dataset:
    columns = {"split": ["all"] * 5, "row": [9, 7, 5, 3, 1], "text": list("vwxyz"), "tokens": [3, 3, 4, 3, 300]}
    kinds = {"split": Value("string"), "row": Value("int64"), "text": Value("string"), "tokens": Value("int64")}
    features = Features({**kinds, "label": ClassLabel(names=names)})
    return Dataset.from_dict({**columns, "label": ACTUAL.tolist()}, features=features)


def test_write_figures_and_cost(written):
    assert files.read_json(written.metrics / "mine.json") == pytest.approx(BY_HAND, abs=ROUNDED)
    cost = files.read_json(written.cost / "mine.json")
    assert cost == {"eval_seconds": 2.0, "artifact_bytes": 10, "samples_per_second": 2.5}


def test_write_predictions(written):
    table = pd.read_parquet(written.predictions / "mine.parquet")
    assert list(table) == ["seed", "split", "row", "text", "tokens", "actual", "predicted", "p_b", "p_a", "p_c"]
    assert table.row.tolist() == [9, 7, 5, 3, 1]
    assert table.tokens.tolist() == [3, 3, 4, 3, 300]
    assert table.actual.tolist() == ["b", "b", "a", "a", "c"]
    assert table.predicted.tolist() == ["b", "b", "a", "b", "a"]
    assert table[["p_b", "p_a", "p_c"]].to_numpy() == pytest.approx(PROBABILITIES)


def test_write_details(written):
    detail = files.read_json(written.detail / "mine.json")
    assert detail["labels"]["a"] == pytest.approx({"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "support": 2})
    assert list(detail["labels"]) == ["b", "a", "c"]
    assert detail["balanced_accuracy"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert detail["log_loss"] == pytest.approx(BY_HAND["loss"])
    assert detail["brier"] == pytest.approx(np.mean(np.sum((PROBABILITIES - np.eye(3)[ACTUAL]) ** 2, axis=1)))
    assert detail["with_temperature"] == {"temperature": 1.5}
    # Of the pairs of a row with the label and one without, how many give the first the higher probability of it.
    by_label = [5 / 6, 4 / 6, 4 / 4]
    assert detail["roc_auc"] == pytest.approx(np.mean(by_label))


def test_details_are_sklearns():
    random = np.random.default_rng(0)
    actual, probabilities = random.integers(4, size=300), random.dirichlet(np.ones(4), size=300)
    detail = classification.detail(Classification(list("abcd")), actual, probabilities)
    assert detail["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(actual, probabilities.argmax(1)))
    assert detail["mcc"] == pytest.approx(matthews_corrcoef(actual, probabilities.argmax(1)))
    assert detail["roc_auc"] == pytest.approx(roc_auc_score(actual, probabilities, multi_class="ovr"))
    assert detail["average_precision"] == pytest.approx(average_precision_score(actual, probabilities))


def test_a_label_that_no_row_has_is_left_out_of_the_ranking():
    actual = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.6, 0.2, 0.2], [0.3, 0.5, 0.2], [0.2, 0.6, 0.2], [0.1, 0.8, 0.1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detail = classification.detail(TASK, actual, probabilities)
        alone = classification.detail(TASK, np.zeros(4, dtype=int), probabilities)
    assert detail["roc_auc"] == pytest.approx(np.mean([3 / 4, 3 / 4]))
    assert detail["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert "roc_auc" not in alone


def test_write_confusion(written):
    lines = (written.confusion / "mine.csv").read_text().splitlines()
    assert lines == ["actual,predicted", "b,b", "b,b", "a,a", "a,b", "c,a"]
    assert [path.name for path in written.confusion.iterdir()] == ["mine.csv"]  # the report draws it


def test_several_seeds_have_a_mean_a_deviation_and_each_ones_figures(tmp_path: Path):
    folders = argparse.Namespace(
        **{name: tmp_path / name for name in ("metrics", "detail", "cost", "predictions", "confusion")}
    )
    turned = PROBABILITIES[:, [1, 0, 2]]  # right on 1 of 5 rows, where PROBABILITIES is on 3
    scoring.write("mine", TASK, five_rows(), {17: PROBABILITIES, 4: turned}, {"eval_seconds": 2.0}, folders)
    figures = files.read_json(folders.metrics / "mine.json")
    assert set(figures) == {*BY_HAND, "accuracy_deviation", "f1_deviation"}
    assert figures["accuracy"] == pytest.approx((3 / 5 + 1 / 5) / 2)
    assert figures["accuracy_deviation"] == pytest.approx(np.sqrt(2 * (1 / 5) ** 2), abs=ROUNDED)
    detail = files.read_json(folders.detail / "mine.json")
    assert detail["seeds"]["17"] == pytest.approx(BY_HAND)
    assert detail["seeds"]["4"]["accuracy"] == 1 / 5
    assert detail["labels"]["a"]["recall"] == 1 / 2  # of the first seed
    table = pd.read_parquet(folders.predictions / "mine.parquet")
    assert table.seed.tolist() == [17] * 5 + [4] * 5 and table.row.tolist() == [9, 7, 5, 3, 1] * 2


def test_a_threshold_by_hand():
    actual = np.array([1, 1, 0, 0, 0])
    rare = np.array([0.9, 0.3, 0.4, 0.1, 0.2])
    found = classification.at_threshold(
        actual, np.column_stack([1 - rare, rare]), ["usual", "rare"], {"label": "rare", "value": 0.3}
    )
    figures = {"label": "rare", "value": 0.3, "precision": 2 / 3, "recall": 1, "f1": 0.8}
    # By rank: right, wrong, right.
    assert found == pytest.approx({**figures, "average_precision": (1 / 1 + 2 / 3) / 2})


# --- pictures

CURVES = pd.DataFrame(
    {
        "method": ["full", "full", "lora-v1"],
        "epoch": [1, 2, 1],
        "train_loss": [1.0, 0.5, 0.9],
        "validation_loss": [0.9, 0.6, 0.8],
        "validation_f1": [0.4, 0.7, 0.5],
    }
)
COSTS = pd.DataFrame(
    {
        "method": ["majority", "full"],
        "accuracy": [0.4, 0.8],
        "trainable_parameters": [0, 22_000_000],
        "train_seconds": [0.0, 600.0],
        "front_parameters": [True, True],
        "front_time": [False, True],
    }
)
SLICES = pd.DataFrame(
    {
        "kind": ["all", "label"],
        "slice": ["all texts", "$_$ " * 20],
        "rows": [9, 4],
        "method": ["full", "full"],
        "accuracy": [0.8, 0.7],
        "accuracy_low": [0.7, 0.1],
        "accuracy_high": [0.9, 0.75],
    }
)
PALETTE = colours.palette(["majority", "full", "lora-v1"])
F1, ACCURACY = (Classification.figures[name] for name in ("f1", "accuracy"))


def confusion(path: Path, names: list[str] = TASK.labels) -> None:
    """Draw that of the five rows, with labels of other names, of which there may be more."""
    answered = np.pad(PROBABILITIES, [(0, 0), (0, len(names) - 3)])
    table = classification.predictions(Classification(names), five_rows(names), 17, answered)
    plots.confusion("mine", comparison.predictions_of(table), path)


PICTURES = {
    "confusion": confusion,
    "learning_curves": lambda path: plots.learning_curves(CURVES, F1, PALETTE, path),
    "quality_against_cost": lambda path: plots.quality_against_cost(COSTS, ACCURACY, PALETTE, path),
    "slices": lambda path: plots.slices(SLICES, ACCURACY, path),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_has_the_same_bytes_for_the_same_figures(tmp_path, picture):
    for name in ("one", "two"):
        PICTURES[picture](tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one == two
    assert one.startswith(b"\x89PNG")
    assert b"Software" not in one and b"Creation Time" not in one  # would differ with matplotlib's version and the date


def test_other_figures_give_another_picture(tmp_path):
    plots.learning_curves(CURVES, F1, PALETTE, tmp_path / "one")
    plots.learning_curves(CURVES.assign(validation_f1=0.5), F1, PALETTE, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("names", [["$_$", "a^b", "c"], [f"label {i}" for i in range(21)]], ids=["symbols", "many"])
def test_confusion_draws_any_labels(tmp_path, names):
    confusion(tmp_path / "one", names)
    assert (tmp_path / "one").read_bytes().startswith(b"\x89PNG")


# --- precision


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
def test_a_precision_asked_for_is_taken(wanted):
    assert inference.choose_precision(wanted) == wanted


@pytest.mark.parametrize(("avx512", "amx"), itertools.product([False, True], repeat=2))
def test_auto_on_a_cpu_is_bf16_where_it_has_instructions_for_it(monkeypatch, avx512, amx):
    monkeypatch.setattr(inference, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert inference.choose_precision("auto") == ("bf16" if avx512 or amx else "fp32")


@pytest.mark.parametrize(("in_hardware", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_cuda(monkeypatch, in_hardware, expected):
    monkeypatch.setattr(inference, "device", lambda: torch.device("cuda"))
    # By default torch says yes where it merely emulates.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or in_hardware
    )
    assert inference.choose_precision("auto") == expected


def test_auto_elsewhere_is_fp32(monkeypatch):
    monkeypatch.setattr(inference, "device", lambda: torch.device("mps"))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert inference.choose_precision("auto") == "fp32"


# --- files


def test_folder_bytes_are_those_of_the_files_in_it(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"123")
    (tmp_path / "seed-18").mkdir()
    (tmp_path / "seed-18/a").write_bytes(b"12345")
    assert folder_bytes(tmp_path) == 8


def fill(path: Path, kind: str, content: str) -> None:
    if kind == "file":
        path.write_text(content)
    else:
        path.mkdir()
        (path / content).write_text(content)


def held(path: Path) -> str | list[str]:
    return path.read_text() if path.is_file() else sorted(inner.name for inner in path.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_atomic_replaces_what_was_there(tmp_path, kind):
    path = tmp_path / "below" / "output"
    for content in ("old", "new"):
        with files.atomic(path) as partial:
            fill(partial, kind, content)
            assert not path.exists() or held(path) in ("old", ["old"])
    assert held(path) == {"file": "new", "folder": ["new"]}[kind]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_leaves_the_old_one_after_an_error(tmp_path, kind, error):
    path = tmp_path / "output"
    fill(path, kind, "old")
    with pytest.raises(error), files.atomic(path) as partial:
        fill(partial, kind, "new")
        raise error
    assert held(path) == {"file": "old", "folder": ["old"]}[kind]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_atomic_leaves_the_old_one_if_nothing_was_written(tmp_path, kind):
    path = tmp_path / "output"
    fill(path, kind, "old")
    with pytest.raises(FileNotFoundError), files.atomic(path):
        pass
    assert held(path) == {"file": "old", "folder": ["old"]}[kind]


def test_atomic_does_not_write_through_a_link(tmp_path):
    """With `cache.type symlink` an output is a link into DVC's cache."""
    cached, path = tmp_path / "cached", tmp_path / "output"
    cached.write_text("old")
    path.symlink_to(cached)
    files.write_json(path, {"a": "é"})
    assert cached.read_text() == "old"
    assert files.read_json(path) == {"a": "é"}


def test_json_is_for_people_to_read(tmp_path):
    files.write_json(tmp_path / "a.json", {"label": "né", "n": [1]})
    assert (tmp_path / "a.json").read_bytes().decode("utf-8") == '{\n  "label": "né",\n  "n": [\n    1\n  ]\n}\n'


def test_figures_in_files_have_six_decimals(tmp_path):
    """Whatever is around them; the last digits of a sum differ from machine to machine."""
    figures = {"f1": 0.1 + 0.2, "rows": 3, "labels": {"a": {"recall": 2 / 3}}, "shares": [1 / 3, None, "0.1234567"]}
    files.write_figures(tmp_path / "a.json", figures)
    expected = {"f1": 0.3, "rows": 3, "labels": {"a": {"recall": 0.666667}}, "shares": [0.333333, None, "0.1234567"]}
    assert files.read_json(tmp_path / "a.json") == expected


# --- errors


@pytest.mark.parametrize(
    ("raised", "printed"),
    [("UserError('a.yaml: seed: bad')", "error: a.yaml: seed: bad\n"), ("KeyboardInterrupt", "interrupted\n")],
)
def test_run_prints_one_line_and_exits_1(raised, printed):
    imports = "from tunediff.core.errors import UserError\nfrom tunediff.core.process import run"
    code = f"{imports}\ndef main(): raise {raised}\nrun(main)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", printed)


def test_run_leaves_other_errors_their_traceback():
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main)


def test_run_lets_a_stage_finish():
    called = []
    run(lambda: called.append(1))
    assert called == [1]

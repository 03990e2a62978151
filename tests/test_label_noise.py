"""Likely label noise: how much of it is found, and what a user gets to read."""

import csv
import re
import shutil
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project

from stages import label_noise as stage
from tunediff.baselines import label_noise
from tunediff.baselines.linear import on_states
from tunediff.core.errors import UserError
from tunediff.core.files import write_json
from tunediff.core.splits import load_split, save_split
from tunediff.settings import resolve
from tunediff.settings.study import load
from tunediff.tasks.classification import Classification

COMMAND = (
    *("--settings", "data/settings/label_noise.json", "--splits", "data/prepared"),
    *("--ranked", "data/label_noise.csv", "--metrics", "metrics/label_noise.json"),
)


def labelled(labels: list[str]) -> pd.DataFrame:
    """Rows as the stage has them: columns split, row, text, label."""
    rows = np.arange(1, len(labels) + 1)
    return pd.DataFrame({"split": "all", "row": rows, "text": "a text", "label": pd.Categorical(labels)})


# --- how much is found


@pytest.mark.slow
def test_half_of_the_flipped_labels_are_in_the_first_fifth(project: Project, monkeypatch: pytest.MonkeyPatch):
    """On the shipped data and model, 15% of the training labels flipped. Prints the figures of docs/evidence.md."""
    shutil.copy(ROOT / "data/raw/headlines.csv", project.folder / "data/raw/headlines.csv")
    project.edit_yaml("params.yaml", data="headlines", model="minilm")
    project.prepare_here(monkeypatch)
    study = load()
    settings = resolve.without_fine_tuning(study, study.params.seed)
    train = load_split(project.folder / "data/prepared", "train")
    names = Classification.of(train.features).labels
    table = train.to_pandas().assign(label=pd.Categorical.from_codes(train["label"][:], names))
    judges, true = (
        label_noise.judges(table.text.tolist(), Classification(names), settings),
        table.label.cat.codes.to_numpy(),
    )

    caught, suspected = [], []
    for seed in range(5):
        random = np.random.default_rng(seed)
        flipped = random.choice(len(true), round(0.15 * len(true)), replace=False)
        labels = true.copy()
        labels[flipped] = (labels[flipped] + random.integers(1, 3, len(flipped))) % 3
        noisy = table.assign(label=pd.Categorical.from_codes(labels, table.label.cat.categories))
        bad = set(table.row[flipped])
        found = {name: label_noise.out_of_fold({name: judge}, labels, settings.seed) for name, judge in judges.items()}
        found["both"] = sum(found.values()) / 2
        lists = {name: label_noise.rank(noisy, probabilities) for name, probabilities in found.items()}
        lists["random order"] = noisy.sample(frac=1, random_state=seed)
        first = round(0.2 * len(true))
        caught.append({name: rows.row.head(first).isin(bad).sum() / len(bad) for name, rows in lists.items()})
        both = lists["both"][lists["both"].suspected]
        suspected.append({"rows": len(both), "flipped": both.row.isin(bad).mean()})

    np.testing.assert_allclose(label_noise.out_of_fold(judges, labels, settings.seed), found["both"])
    caught = pd.DataFrame(caught)
    print(caught.agg(["mean", "min", "max"]).T.to_string(float_format="{:.1%}".format))
    print("suspected: {rows:.0f} rows, {flipped:.1%} of them flipped".format(**pd.DataFrame(suspected).mean()))
    assert caught.both.min() >= 0.5
    assert caught.both.mean() > caught[["TF-IDF", "probe"]].mean().max() + 0.03
    assert caught["random order"].mean() < 0.25


# --- what a user gets to read


@pytest.mark.slow
def test_the_stage_finds_flipped_labels_and_repeats_itself(project: Project):
    source = project.folder / "data/raw/tiny.csv"
    table = pd.read_csv(source)
    flipped = table.index[::25]
    other = {"bearish": "bullish", "bullish": "bearish"}
    table.loc[flipped, "label"] = table.label[flipped].map(other)
    table.loc[1, "text"] = "=shares fell\r@on monday"
    table.to_csv(source, index=False, quoting=csv.QUOTE_ALL)
    project.edit_yaml("conf/data/tiny.yaml", splits={"train": 0.8, "validation": 0.1, "test": 0.1})
    project.prepare()
    train = project.prepared().query("side == 'train'")
    assert 2 in set(train.row)
    wrong = train[train.row.isin(flipped + 1)]

    out = project.folder / "data/label_noise.csv"
    done = project.run("python", "-m", "stages.label_noise", *COMMAND)
    assert "label noise: probe: 100%" in done.stderr
    ranked = pd.read_csv(out)
    first = ranked.head(len(wrong)).set_index("row")
    assert set(first.index) == set(wrong.row)
    assert first.suspected.mean() > 0.8 and not ranked.suspected.tail(100).any()
    assert first.suggested.to_dict() == {row: other[label] for row, label in zip(wrong.row, wrong.name, strict=True)}
    assert sorted(ranked.row) == sorted(train.row)

    figures = project.read_json("metrics/label_noise.json")
    assert figures["rows"] == len(train) and figures["not_judged"] == 0
    assert figures["suspected"] == ranked.suspected.sum() == sum(x["suspected"] for x in figures["labels"].values())
    assert {label: found["rows"] for label, found in figures["labels"].items()} == train.name.value_counts().to_dict()

    written = out.read_bytes()
    assert written.startswith(b'\xef\xbb\xbf"rank",')
    assert b'"\'=shares fell\r@on monday"' in written
    project.run("python", "-m", "stages.label_noise", *COMMAND)
    assert out.read_bytes() == written


def test_suspected_rows_come_first_and_the_least_probable_of_them():
    """Of a rare label every row is improbable; confident learning expects no more of it."""
    table = labelled(["often"] * 10 + ["rare"] * 3)
    own = np.array([0.9] * 8 + [0.4, 0.2] + [0.3, 0.3, 0.01])
    often = np.where(table.label == "often", own, 1 - own)
    ranked = label_noise.rank(table, np.column_stack([often, 1 - often]))
    assert ranked.row.tolist()[:3] == [13, 10, 9]
    assert ranked.suspected.tolist() == [True] * 3 + [False] * 10
    assert ranked.suggested[:3].tolist() == ["often", "rare", "rare"]
    assert ranked.p_suggested[:3].tolist() == pytest.approx([0.99, 0.8, 0.6])
    assert ranked["rank"].tolist() == list(range(1, 14))
    assert ranked.p_label[3:].is_monotonic_increasing


@pytest.mark.parametrize("sizes", [[30, 30, 2], [3, 3, 2], [2, 2, 2]])
def test_labels_with_fewer_rows_than_folds_are_judged(sizes: list[int]):
    labels = np.repeat(np.arange(3), sizes)
    inputs = np.eye(3)[labels] + np.random.default_rng(0).normal(scale=0.1, size=(len(labels), 3))
    judges = {"probe": (on_states(load(ROOT).params.baseline, "none"), inputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = label_noise.out_of_fold(judges, labels, seed=0)
        label_noise.rank(labelled(["abc"[i] for i in labels]), found)
    assert found.sum(1) == pytest.approx(1)
    assert (found > 0).all()


def test_a_row_whose_label_no_other_has_is_not_judged():
    kept, alone = label_noise.judgeable(labelled(["a", "a", "b", "c", "c", "c"]))
    assert kept.label.tolist() == ["a", "a", "c", "c", "c"] and alone == 1
    assert kept.label.cat.categories.tolist() == ["a", "c"]


def test_one_label_alone_cannot_be_judged(project: Project, monkeypatch: pytest.MonkeyPatch):
    (project.folder / "data/prepared").mkdir()
    rows = labelled(["a"] * 5 + ["b"]).assign(tokens=3, label=[0] * 5 + [1])
    save_split(rows, Classification(["a", "b"]).feature(), project.folder / "data/prepared/train.parquet")
    study = load(project.folder)
    settings = resolve.without_fine_tuning(study, study.params.seed)
    write_json(project.folder / "data/settings/label_noise.json", settings.model_dump(mode="json"))
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", ["label_noise", *COMMAND])
    with pytest.raises(UserError, match=re.escape("train.parquet: fewer than two labels have two rows or more")):
        stage.main()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, f"'{text}") for text in ("=1+1", "+cmd|'calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1")),
        *((text, text) for text in ("-1", "+0.5", "a = b", "3-1", "'=1", "", "–3% on the day")),
    ],
)
def test_no_cell_is_a_formula(text: str, expected: str):
    table = labelled(["a"]).assign(suggested="a")
    cells = [label_noise.without_formulas(table.assign(**{name: text}))[name][0] for name in ("text", "label")]
    assert cells == [expected] * 2

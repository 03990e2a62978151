"""Which training labels are likely wrong, by simple models that did not see them."""

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from tqdm import tqdm

from tunediff.baselines.linear import on_states, on_tfidf
from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core.csv_cells import harmless
from tunediff.core.files import atomic, write_figures
from tunediff.models import trial
from tunediff.models.inference import choose_precision, embed
from tunediff.models.loading import load_pretrained, load_tokenizer
from tunediff.tasks.features import encode
from tunediff.tasks.interface import Task

FOLDS = 5


def judgeable(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows whose label (a category) another row has too, and how many others there are."""
    kept = table[table.groupby("label").label.transform("size") > 1].reset_index(drop=True)
    return kept.assign(label=kept.label.cat.remove_unused_categories()), len(table) - len(kept)


def judges(
    texts: list[str], task: Task, settings: WithoutFineTuning, several: bool = False
) -> dict[str, tuple[Pipeline, np.ndarray]]:
    """By name: a classifier, and what it reads of each row, which may have `several` labels.

    They err on different texts: one sees the words, the other what the pretrained model makes of them.
    """
    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_pretrained(settings.model, settings.model_path, tokenizer, task, settings.seed)
    trial.check(model, tokenizer, settings.model, settings.model_path, states=True)
    encoded = encode(tokenizer, texts)
    precision = choose_precision(settings.precision)
    states = embed(model, tokenizer, encoded, settings.batch_size, precision, "label noise: states")
    return {
        "TF-IDF": (on_tfidf(settings.baseline, settings.class_weights, texts, several), np.array(texts, object)),
        "probe": (on_states(settings.baseline, settings.class_weights, several), states),
    }


def out_of_fold(judges: dict[str, tuple[Pipeline, np.ndarray]], labels: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities [rows, labels], the mean of the judges', each row's from those fitted without its fold.

    `labels` are class numbers, of which each has two rows or more.
    """
    folds = StratifiedKFold(min(FOLDS, np.bincount(labels).max()), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Two rows are enough: they are in two folds, so that each time some row of the label is fitted.
        warnings.filterwarnings("ignore", message="The least populated class")
        splits = list(folds.split(labels, labels))
    return left_out(judges, labels, splits, labels.max() + 1)


def left_out(
    judges: dict[str, tuple[Pipeline, np.ndarray]],
    targets: np.ndarray,
    splits: list[tuple[np.ndarray, np.ndarray]],
    labels: int,
) -> np.ndarray:
    """Probabilities [rows, labels], the mean of the judges'; `splits` has the rows to be fitted and those left out."""
    probabilities = np.zeros((len(targets), labels))
    for name, (model, inputs) in judges.items():
        for fitted, rest in tqdm(splits, desc=f"label noise: {name}", unit="fold"):
            model.fit(inputs[fitted], targets[fitted])
            probabilities[rest] += model.predict_proba(inputs[rest]) / len(judges)
    return probabilities


def rank(table: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    """All rows, those first that confident learning suspects, and of these and the others the least probable first.

    `table` has columns split, row, text, label (a category); `probabilities`, shape [rows, labels], are out of fold.
    Confident learning (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068) takes a row to be of another label if
    that is at least as probable as on average for the rows which have it; suspected are rows on which its two ways of
    pruning agree.
    """
    from cleanlab.filter import find_label_issues  # here, because the stage `baseline` has no use for it

    labels = table.label.cat.codes.to_numpy()
    ranked = pd.DataFrame(
        {
            "suspected": find_label_issues(labels, probabilities, filter_by="both", n_jobs=1),
            **table[["split", "row", "text", "label"]],
            "suggested": pd.Categorical.from_codes(probabilities.argmax(1), table.label.cat.categories),
            "p_label": probabilities[np.arange(len(labels)), labels],
            "p_suggested": probabilities.max(1),
        }
    ).sort_values(["suspected", "p_label"], ascending=[False, True], kind="stable", ignore_index=True)
    ranked.insert(0, "rank", ranked.index + 1)
    return ranked


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """An apostrophe before each text that a spreadsheet would take for a formula."""
    texts = {name: table[name].astype(str) for name in ("split", "text", "label", "suggested")}
    return table.assign(**{name: column.map(harmless) for name, column in texts.items()})


def count(ranked: pd.DataFrame) -> dict[str, float | dict]:
    """How many rows there are and how many are suspected: in all and for each label."""

    def of(rows: pd.DataFrame) -> dict[str, float]:
        return {"rows": len(rows), "suspected": int(rows.suspected.sum()), "share": float(rows.suspected.mean())}

    return {**of(ranked), "labels": {label: of(rows) for label, rows in ranked.groupby("label")}}


def write(ranked: pd.DataFrame, figures: dict[str, Any], file: Path, metrics: Path) -> None:
    """Write the list as CSV and its figures as JSON; both are what `of_task.TaskBaselines.label_noise` gives."""
    with atomic(file) as partial:
        # All in quotes: without, a lone carriage return in a text would begin a row. Excel needs the mark to see UTF-8.
        ranked.round(4).to_csv(partial, index=False, quoting=csv.QUOTE_NONNUMERIC, encoding="utf-8-sig")
    write_figures(metrics, figures)
    print(f"{file}: {figures['suspected']} labels are suspected; {figures['not_judged']} not judged")

"""Which training labels are likely wrong: the training rows, those to read again first.

dvc repro label_noise
"""

import argparse
import csv
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from tqdm import tqdm

from tunediff.baselines.linear import on_states, on_tfidf
from tunediff.core import devices
from tunediff.core.errors import UserError
from tunediff.core.files import atomic, write_json
from tunediff.core.process import run
from tunediff.core.splits import encode, label_names, load_split
from tunediff.core.spreadsheets import harmless
from tunediff.models.inference import choose_precision, embed
from tunediff.models.loading import load_classifier, load_tokenizer
from tunediff.settings.params import Settings, load

FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=Path, required=True, help="folder with train.parquet")
    parser.add_argument("--ranked", type=Path, required=True, help="CSV file for the rows, the likeliest noise first")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file: how many rows are suspected, by label")
    args = parser.parse_args()
    settings = load()
    devices.take()

    train = load_split(args.splits, "train")
    table = train.to_pandas()
    table["label"] = pd.Categorical.from_codes(table.label, label_names(train))
    table, alone = judgeable(table)
    if table.label.nunique() < 2:
        raise UserError(
            f"{args.splits / 'train.parquet'}: fewer than two labels have two rows or more, and a label is judged by "
            "other rows of it; add rows to the source, or merge labels"
        )

    labels = table.label.cat.codes.to_numpy()
    ranked = rank(table, out_of_fold(judges(table, settings), labels, settings.params.seed))

    with atomic(args.ranked) as partial:
        # All in quotes: without, a lone carriage return in a text would begin a row.
        without_formulas(ranked).round(4).to_csv(partial, index=False, quoting=csv.QUOTE_NONNUMERIC)
    write_json(args.metrics, {"not_judged": alone, **count(ranked)})
    print(f"{args.ranked}: {ranked.suspected.sum()} of {len(ranked)} training labels are suspected; {alone} not judged")


def judgeable(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows whose label (a category) another row has too, and how many others there are."""
    kept = table[table.groupby("label").label.transform("size") > 1].reset_index(drop=True)
    return kept.assign(label=kept.label.cat.remove_unused_categories()), len(table) - len(kept)


def judges(table: pd.DataFrame, settings: Settings) -> dict[str, tuple[Pipeline, np.ndarray]]:
    """By name: a classifier, and what it reads of each row.

    They err on different texts: one sees the words, the other what the pretrained model makes of them.
    """
    params = settings.params
    tokenizer = load_tokenizer(settings.model, settings.model_path)
    names = table.label.cat.categories.tolist()
    model = load_classifier(settings.model, settings.model_path, tokenizer, names, params.seed)
    encoded, precision = encode(tokenizer, table.text.tolist()), choose_precision(params.precision)
    states = embed(model, tokenizer, encoded, params.evaluate.batch_size, precision, "label noise: states")
    return {
        "TF-IDF": (on_tfidf(params.baseline, params.train.class_weights), table.text.to_numpy()),
        "probe": (on_states(params.baseline, params.train.class_weights), states),
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
    found = np.zeros((len(labels), labels.max() + 1))
    for name, (model, inputs) in judges.items():
        for fitted, left_out in tqdm(splits, desc=f"label noise: {name}", unit="fold"):
            found[left_out] += model.fit(inputs[fitted], labels[fitted]).predict_proba(inputs[left_out]) / len(judges)
    return found


def rank(table: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    """All rows, those first that confident learning suspects, and of these and the others the least probable first.

    `table` has columns split, row, text, label (a category); `probabilities`, shape [rows, labels], are out of fold.
    Confident learning (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068) takes a row to be of another label if
    that is at least as probable as on average for the rows which have it; suspected are rows on which its two ways of
    pruning agree.
    """
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
    """Rows, and how many are suspected: in all and for each label that they have."""

    def of(rows: pd.DataFrame) -> dict[str, float]:
        return {"rows": len(rows), "suspected": int(rows.suspected.sum()), "share": float(rows.suspected.mean())}

    return {**of(ranked), "labels": {label: of(rows) for label, rows in ranked.groupby("label")}}


if __name__ == "__main__":
    run(main)

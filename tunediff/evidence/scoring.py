"""From probabilities on the test split to files: figures, predictions text by text, confusion matrix.

Only `baseline` and `evaluate` import this, so that editing it trains nothing again.
"""

import argparse
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.metrics import (
    average_precision_score,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

from tunediff.core.files import atomic, write_json
from tunediff.core.seeds import summary
from tunediff.core.spreadsheets import harmless
from tunediff.evidence import calibration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders that hold one file per method."""
    parser.add_argument(
        "--metrics", type=Path, required=True, help="folder for METHOD.json: accuracy, f1, precision, recall, loss"
    )
    parser.add_argument(
        "--detail",
        type=Path,
        required=True,
        help="folder for METHOD.json: figures by label, of ranking, of calibration",
    )
    parser.add_argument(
        "--cost", type=Path, required=True, help="folder for METHOD.json: time, memory, parameters, size"
    )
    parser.add_argument(
        "--predictions", type=Path, required=True, help="folder for METHOD.parquet: each test text with its prediction"
    )
    parser.add_argument("--confusion", type=Path, required=True, help="folder for METHOD.csv and METHOD.png")


def score(actual: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Headline figures. `actual` has class numbers, shape [rows]; `probabilities` has shape [rows, labels]."""
    classes = list(range(probabilities.shape[1]))
    metric = evaluate.load(str(Path(__file__).with_name("classification.py")), keep_in_memory=True)
    figures = metric.compute(predictions=probabilities.argmax(1), references=actual, labels=classes)
    return {**figures, "loss": float(log_loss(actual, probabilities, labels=classes))}


def validation_figures(validation: Dataset, probabilities: np.ndarray) -> dict[str, float]:
    """Those that training stages have of validation too; shape of `probabilities` as for `score`."""
    figures = score(np.array(validation["label"][:]), probabilities)
    return {name: figures[name] for name in ("accuracy", "f1", "loss")}


def detail(actual: np.ndarray, probabilities: np.ndarray, names: list[str]) -> dict[str, float | dict]:
    """Beyond the headline; shapes as for `score`, `names` are the labels'.

    ROC AUC and average precision (each label against the rest) are means over the labels that some test rows have and
    some have not; they are left out if there is none.
    """
    predicted, one_hot = probabilities.argmax(1), np.eye(len(names), dtype=int)[actual]
    told_apart = (one_hot.sum(0) > 0) & (one_hot.sum(0) < len(actual))
    ranking = {}
    if told_apart.any():
        each = one_hot[:, told_apart], probabilities[:, told_apart]
        ranking = {"roc_auc": float(roc_auc_score(*each)), "average_precision": float(average_precision_score(*each))}
    by_label = precision_recall_fscore_support(actual, predicted, labels=range(len(names)), zero_division=0)
    return {
        "balanced_accuracy": float(np.mean(by_label[1][one_hot.any(0)])),
        "mcc": float(matthews_corrcoef(actual, predicted)),
        **ranking,
        **calibrated(actual, probabilities),
        "labels": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
            for name, p, r, f, support in zip(names, *by_label, strict=True)
        },
    }


def calibrated(actual: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """How far the probabilities can be believed; shapes as for `score`."""
    return {
        "log_loss": float(log_loss(actual, probabilities, labels=range(probabilities.shape[1]))),
        "calibration_error": calibration.calibration_error(actual, probabilities),
        "brier": calibration.brier(actual, probabilities),
    }


def at_threshold(
    actual: np.ndarray, probabilities: np.ndarray, names: list[str], threshold: dict[str, str | float]
) -> dict[str, str | float]:
    """`threshold` (`label`, `value`), and how well answering that label from that probability on does.

    Beside it the label's average precision, over all thresholds. Shapes as for `score`.
    """
    place = names.index(threshold["label"])
    ranked = float(average_precision_score(actual == place, probabilities[:, place]))
    precision, recall, f1, _ = precision_recall_fscore_support(
        actual == place, probabilities[:, place] >= threshold["value"], average="binary", zero_division=0
    )
    found = {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
    return {**threshold, **found, "average_precision": ranked}


def write(
    method: str,
    test: Dataset,
    answers: dict[int, np.ndarray],
    cost: dict[str, float],
    folders: argparse.Namespace,
    more: dict[str, Any] | None = None,
) -> None:
    """Write the six files of one method.

    `answers` has probabilities, shape [rows, labels], by the seed that the method was trained with. Details are those
    of the first; `more` is added to them.
    """
    from tunediff.report import plots  # here: `training_rows` draws nothing

    names = test.features["label"].names
    actual = np.array(test["label"][:])
    each = {seed: score(actual, probabilities) for seed, probabilities in answers.items()}
    figures = summary(list(each.values()))
    write_json(folders.metrics / f"{method}.json", figures)
    details = detail(actual, next(iter(answers.values())), names)
    write_json(folders.detail / f"{method}.json", {**details, "seeds": each, **(more or {})})
    write_json(folders.cost / f"{method}.json", {**cost, "samples_per_second": len(test) / cost["eval_seconds"]})

    table = pd.concat(predictions(test, seed, probabilities) for seed, probabilities in answers.items())
    with atomic(folders.predictions / f"{method}.parquet") as partial:
        table.to_parquet(partial, index=False)
    with atomic(folders.confusion / f"{method}.csv") as partial:
        table[["actual", "predicted"]].map(harmless).to_csv(partial, index=False)
    title = f"{method}: accuracy {figures['accuracy']:.1%}" + f", {len(answers)} seeds" * (len(answers) > 1)
    with atomic(folders.confusion / f"{method}.png") as partial:
        plots.confusion(table.actual.cat.codes, table.predicted.cat.codes, names, title, partial)
    print(f"{method}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))


def predictions(test: Dataset, seed: int, probabilities: np.ndarray) -> pd.DataFrame:
    """Text by text: columns seed, split, row, text, tokens, actual, predicted, and p_LABEL for each label."""
    names = test.features["label"].names
    table = pd.DataFrame({"seed": seed, **{name: test[name][:] for name in ("split", "row", "text", "tokens")}})
    for column, codes in (("actual", test["label"][:]), ("predicted", probabilities.argmax(1))):
        table[column] = pd.Categorical.from_codes(codes, names)
    return table.assign(**{f"p_{name}": probabilities[:, place] for place, name in enumerate(names)})

"""From probabilities on the test split to files: figures, predictions text by text, confusion matrix.

Only `baseline`, `evaluate` and `report` import this, so that editing it trains nothing again.
"""

import argparse
from pathlib import Path

import evaluate
import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.metrics import log_loss

from stages.common import plots
from stages.common.files import whole, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders that hold one file per method."""
    parser.add_argument(
        "--metrics", type=Path, required=True, help="folder for METHOD.json: accuracy, f1, precision, recall, loss"
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


def write(
    method: str, test: Dataset, probabilities: np.ndarray, cost: dict[str, float], folders: argparse.Namespace
) -> dict[str, float]:
    """Write the five files of one method, and return its headline figures. `probabilities` has shape [rows, labels]."""
    names = test.features["label"].names
    actual = np.array(test["label"][:])
    predicted = probabilities.argmax(1)
    figures = score(actual, probabilities)
    write_json(folders.metrics / f"{method}.json", figures)
    write_json(folders.cost / f"{method}.json", {**cost, "samples_per_second": len(test) / cost["eval_seconds"]})

    table = pd.DataFrame({"split": test["split"][:], "row": test["row"][:], "text": test["text"][:]})
    table["actual"], table["predicted"] = (pd.Categorical.from_codes(codes, names) for codes in (actual, predicted))
    for i, name in enumerate(names):
        table[f"p_{name}"] = probabilities[:, i]
    with whole(folders.predictions / f"{method}.parquet") as partial:
        table.to_parquet(partial, index=False)

    with whole(folders.confusion / f"{method}.csv") as partial:
        table[["actual", "predicted"]].to_csv(partial, index=False)
    with whole(folders.confusion / f"{method}.png") as partial:
        plots.confusion(actual, predicted, names, f"{method}: accuracy {figures['accuracy']:.1%}", partial)
    print(f"{method}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    return figures

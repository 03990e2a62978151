"""From probabilities on the test split to files: figures, details, cost, predictions text by text, confusion."""

import argparse
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pandas as pd
from datasets import Dataset

from tunediff.core.csv_cells import harmless
from tunediff.core.files import atomic, output, rounded, write_figures, write_json
from tunediff.core.seeds import summary
from tunediff.evidence.details import detail, predictions
from tunediff.tasks.classification import Classification


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders that hold one file per method."""
    parser.add_argument("--metrics", type=output, required=True, help="folder for METHOD.json: the task's figures")
    parser.add_argument("--detail", type=output, required=True, help="folder for METHOD.json: by label, of calibration")
    parser.add_argument("--cost", type=output, required=True, help="folder for METHOD.json: time, memory, parameters")
    parser.add_argument("--predictions", type=output, required=True, help="folder for METHOD.parquet: text by text")
    parser.add_argument("--confusion", type=output, required=True, help="folder for METHOD.csv: labels and answers")


def score(task: Classification, actual: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The task's figures. `actual` has class numbers, shape [rows]; `probabilities` has shape [rows, labels]."""
    metric = evaluate.load(str(Path(__file__).with_name("metric.py")), keep_in_memory=True)
    figures = metric.compute(predictions=task.answers(probabilities), references=actual, labels=task.labels)
    return {**figures, "loss": task.score(actual, probabilities)["loss"]}


def write(
    method: str,
    task: Classification,
    test: Dataset,
    answers: dict[int, np.ndarray],
    cost: dict[str, Any],
    folders: argparse.Namespace,
    more: dict[str, Any] | None = None,
) -> None:
    """Write the five files of one method.

    `answers` has probabilities, shape [rows, labels], by the seed that the method was trained with. Details are those
    of the first; `more` is added to them.
    """
    actual = task.targets(test)
    each = {seed: score(task, actual, probabilities) for seed, probabilities in answers.items()}
    figures = summary(list(each.values()), task.headline)
    write_figures(folders.metrics / f"{method}.json", figures)
    details = detail(actual, next(iter(answers.values())), task.labels)
    write_json(folders.detail / f"{method}.json", rounded({**details, "seeds": each, **(more or {})}))
    write_json(folders.cost / f"{method}.json", {**cost, "samples_per_second": len(test) / cost["eval_seconds"]})

    table = pd.concat(predictions(test, seed, probabilities) for seed, probabilities in answers.items())
    with atomic(folders.predictions / f"{method}.parquet") as partial:
        table.to_parquet(partial, index=False)
    with atomic(folders.confusion / f"{method}.csv") as partial:
        table[["actual", "predicted"]].map(harmless).to_csv(partial, index=False)
    print(f"{method}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))

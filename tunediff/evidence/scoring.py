"""From probabilities on the test split to files: figures, details, cost, predictions text by text, confusion."""

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tunediff.core.csv_cells import harmless
from tunediff.core.files import atomic, output, rounded, write_figures, write_json
from tunediff.core.seeds import summary
from tunediff.evidence.of_task import of_task
from tunediff.tasks.interface import Task

if TYPE_CHECKING:
    from datasets import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders that hold one file per method."""
    parser.add_argument("--metrics", type=output, required=True, help="folder for METHOD.json: the task's figures")
    parser.add_argument("--detail", type=output, required=True, help="folder for METHOD.json: by label, of calibration")
    parser.add_argument("--cost", type=output, required=True, help="folder for METHOD.json: time, memory, parameters")
    parser.add_argument("--predictions", type=output, required=True, help="folder for METHOD.parquet: text by text")
    parser.add_argument("--confusion", type=output, required=True, help="folder for METHOD.csv: labels and answers")


def score(task: Task, actual: Any, probabilities: np.ndarray, fitted: dict[str, Any] | None = None) -> dict[str, float]:
    """The task's figures; see `of_task.TaskEvidence`."""
    return of_task(task).score(task, actual, probabilities, fitted)


def write(
    method: str,
    task: Task,
    test: "Dataset",
    answers: dict[int, np.ndarray],
    cost: dict[str, Any],
    folders: argparse.Namespace,
    more: dict[str, Any] | None = None,
    fitted: dict[int, dict[str, Any]] | None = None,
    train: "Dataset | None" = None,
) -> None:
    """Write the five files of one method.

    `answers` has probabilities by the seed that the method was trained with, `fitted` what was fitted on validation.
    Details are those of the first; `more` is added to them. `train` is what the method was trained on.
    """
    actual = task.targets(test)
    fitted = fitted or dict.fromkeys(answers)
    evidence = of_task(task)
    each = {seed: score(task, actual, probabilities, fitted[seed]) for seed, probabilities in answers.items()}
    figures = summary(list(each.values()), task.headline)
    write_figures(folders.metrics / f"{method}.json", figures)
    first = next(iter(answers))
    details = evidence.detail(task, actual, answers[first], fitted[first])
    write_json(folders.detail / f"{method}.json", rounded({**details, "seeds": each, **(more or {})}))
    write_json(folders.cost / f"{method}.json", {**cost, "samples_per_second": len(test) / cost["eval_seconds"]})

    table = pd.concat(
        evidence.predictions(task, test, seed, probabilities, fitted[seed], train)
        for seed, probabilities in answers.items()
    )
    with atomic(folders.predictions / f"{method}.parquet") as partial:
        table.to_parquet(partial, index=False)
    with atomic(folders.confusion / f"{method}.csv") as partial:
        confused = [
            pair
            for seed, probabilities in answers.items()
            for pair in evidence.confused(task, actual, task.answers(probabilities, fitted[seed]))
        ]
        pd.DataFrame(confused, columns=["actual", "predicted"]).map(harmless).to_csv(partial, index=False)
    told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    print(f"{method}: {told} ({folders.metrics / method}.json)")

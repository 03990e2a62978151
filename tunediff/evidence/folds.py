"""Every row as a test row: what a method answers on the rows that each fold tests, put together and scored."""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets

from tunediff.core.files import atomic, output, read_json, rounded, write_figures, write_json
from tunediff.core.seeds import summary
from tunediff.core.splits import load_split
from tunediff.evidence import scoring
from tunediff.evidence.comparison import predictions_of
from tunediff.evidence.of_task import of_task
from tunediff.tasks.interface import Task

SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Answered:
    """What a method answers on the rows that one fold tests, by the seed of its training."""

    splits: dict[str, Dataset]
    """The fold's rows."""
    answers: dict[int, Any]
    """Probabilities, as the task has them."""
    fitted: dict[int, dict[str, Any]]
    """What was fitted on the fold's validation."""


def reading_parser(description: str) -> argparse.ArgumentParser:
    """The arguments that each stage takes which reads folds."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with SPLIT.parquet")
    parser.add_argument("--folds", type=Path, required=True, help="Parquet file: the side of each row in each fold")
    parser.add_argument("--number", help="of folds, which the file of folds has")
    return parser


def parser_of(description: str) -> argparse.ArgumentParser:
    """The arguments that each stage takes which writes a method's answers by folds."""
    parser = reading_parser(description)
    parser.add_argument("--metrics", type=output, required=True, help="folder for METHOD.json: figures of all rows")
    parser.add_argument("--detail", type=output, required=True, help="folder for METHOD.json: of each fold")
    parser.add_argument("--predictions", type=output, required=True, help="folder for METHOD.parquet: text by text")
    return parser


def folds_of(splits: Path, file: Path) -> dict[str, dict[str, Dataset]]:
    """The train, validation and test rows of each fold, by its number; their order is the same for every method."""
    rows = concatenate_datasets([load_split(splits, side) for side in SIDES])
    sides = pd.read_parquet(file).drop(columns=["split", "row"])
    return {fold: {side: rows.select(np.flatnonzero(sides[fold] == side)) for side in SIDES} for fold in sides.columns}


def announce(method: str, folds: dict[str, dict[str, Dataset]], measured: Path, trainings: int) -> None:
    """Say about how long it will take, by what the method's own stage took: training, or if it has none answers."""
    cost, rows = read_json(measured), sum(len(fold["test"]) for fold in folds.values())
    seconds = len(folds) * trainings * cost["train_seconds"] or rows / cost["samples_per_second"]
    print(
        f"{method}: {len(folds)} folds with {trainings} training{'s'[: trainings != 1]} each answer {rows:,} texts; "
        f"{os.cpu_count()} cores: about {max(1, round(seconds / 60))} min, if this machine is as fast as the last one",
        flush=True,
    )


def write(method: str, task: Task, folds: dict[str, Answered], folders: argparse.Namespace) -> None:
    """Write figures of all rows, what each fold reached and fitted, and the answers text by text."""
    figures, of_folds, table = scored(task, folds)
    write_figures(folders.metrics / f"{method}.json", figures)
    fitted = {name: fold.fitted for name, fold in folds.items()}
    write_json(folders.detail / f"{method}.json", rounded({"folds": of_folds, "fitted": fitted}))
    with atomic(folders.predictions / f"{method}.parquet") as partial:
        table.to_parquet(partial, index=False)
    print(f"{method}, all rows: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))


def scored(
    task: Task, folds: dict[str, Answered]
) -> tuple[dict[str, float], dict[str, dict[int, dict[str, float]]], pd.DataFrame]:
    """Figures of all rows, those of each fold by the seed, and the answers text by text."""
    table = pd.concat(_predictions(task, folds), ignore_index=True)
    of_folds = {
        name: {
            seed: scoring.score(task, task.targets(fold.splits["test"]), answers, fold.fitted[seed])
            for seed, answers in fold.answers.items()
        }
        for name, fold in folds.items()
    }
    return summary(_pooled(task, table, list(of_folds.values())), task.headline), of_folds, table


def _pooled(task: Task, table: pd.DataFrame, of_folds: list[dict[int, dict[str, float]]]) -> list[dict[str, float]]:
    """The figures of each seed on all rows, from the sum of their counts.

    What is no function of counts, as the loss, is the mean of the folds' own figures over rows. `of_folds` has these by
    the seed.
    """
    counts = predictions_of(table, type(task)).counts.sum(1, dtype=float)
    rows = table[table.seed == table.seed[0]].fold.value_counts(sort=False)
    return [
        {
            name: float(
                pooled[name] if name in pooled else np.average([each[seed][name] for each in of_folds], None, rows)
            )
            for name in of_folds[0][seed]
        }
        for seed, pooled in zip(of_folds[0], map(task.figures_of, counts), strict=True)
    ]


def _predictions(task: Task, folds: dict[str, Answered]) -> Iterator[pd.DataFrame]:
    """Those of the first seed, fold by fold, then those of the next one, with a column `fold`."""
    for seed in next(iter(folds.values())).answers:
        for name, fold in folds.items():
            parts = (fold.splits["test"], seed, fold.answers[seed], fold.fitted[seed], fold.splits["train"])
            yield of_task(task).predictions(task, *parts).assign(fold=int(name))

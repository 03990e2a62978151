"""What the training stages share: their arguments, one training per seed, their outputs."""

import argparse
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tunediff.core import devices
from tunediff.core.arguments import parse
from tunediff.core.files import atomic, output, rounded, write_figures, write_json
from tunediff.core.seeds import folder, summary
from tunediff.core.settings import read
from tunediff.core.splits import load_split
from tunediff.models import saving
from tunediff.tasks import TASKS
from tunediff.training import record, written
from tunediff.training.methods import Method, train
from tunediff.training.ranks import leave, ranks
from tunediff.training.settings import Training

if TYPE_CHECKING:
    from tunediff.training.loop import Fit


def arguments(description: str, item: str | None) -> argparse.Namespace:
    """The paths that every training stage takes from dvc.yaml."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with train.parquet and validation.parquet")
    parser.add_argument("--trained", type=output, required=True, help="folder for weights, config and training.json")
    parser.add_argument("--validation", type=output, required=True, help="JSON file: figures of the best epoch")
    parser.add_argument("--logits", type=output, required=True, help=".npy file: logits on validation")
    parser.add_argument("--cost", type=output, required=True, help="JSON file: time, memory, parameters, machine")
    parser.add_argument("--curves", type=output, required=True, help="folder for DVCLive's learning curves")
    return parse(parser, item) if item else parser.parse_args()


def main(description: str, method: Method, item: str | None = None) -> None:
    """Train the method, once per seed, and write the outputs of its stage; `item` is what `arguments.parse` takes."""
    args = arguments(description, item)
    training = read(args.settings, Training)
    devices.take()
    splits = [load_split(args.splits, name) for name in ("train", "validation")]

    def trained(seed: int) -> "Fit | None":
        fit = train(method, training, *splits, seed, folder(args.curves, seed, training.seeds))
        return fit and replace(fit, best=fit.best | written.figures(fit, training, splits[1]))

    save(map(trained, training.seeds), training, args)
    leave()


def told(fit: "Fit", training: Training, trained: Path) -> str:
    """What a training made, in a line."""
    best, last = fit.best["best_epoch"], training.train.epochs
    figure = training.train.select_by
    line = f"{trained}: epoch {best} of {fit.best['epochs']} is the best: validation {figure} {fit.best[figure]:.4f}"
    if best == last > 1:
        line += f"; it is the last one, so more epochs may give more: -S train.epochs={2 * last}"
    return line


def save(fits: "Iterable[Fit | None]", training: Training, args: argparse.Namespace) -> None:
    """Write the outputs of a training stage, one training after the other; the learning curves are there already.

    `fits` has one for each seed, and may make each when it is asked for it: no two models are held at once.
    """
    if not ranks().is_main_process:
        for _ in fits:  # takes part in each
            pass
        return
    logits, costs, checkpoints = [], [], []
    seeds: dict[int, dict[str, float]] = {}
    with atomic(args.trained) as trained:
        for fit in fits:
            saving.save(fit.model, fit.tokenizer, folder(trained, fit.seed, training.seeds))
            logits.append(fit.validation_logits)
            seeds[fit.seed] = fit.best
            print(told(fit, training, folder(args.trained, fit.seed, training.seeds)))
            costs.append({"train_seconds": fit.train_seconds, "peak_memory_bytes": fit.peak_memory_bytes})
            checkpoints.append(fit.checkpoints)
            made = {
                "method": training.method,
                "task": training.task,
                "adapter": record.adapter(fit.model),
                "hyperparameters": fit.hyperparameters,
                "parameters": fit.parameters,
                "versions": record.versions(),
            }
            del fit  # before the next model is made
        write_json(trained / "training.json", made | {"seeds": rounded(seeds)})
    with atomic(args.logits) as partial, partial.open("wb") as file:
        np.save(file, np.stack(logits))
    write_figures(args.validation, summary(list(seeds.values()), TASKS[training.task].headline))
    cost = {
        "train_seconds": statistics.fmean(cost["train_seconds"] for cost in costs),
        "peak_memory_bytes": max(cost["peak_memory_bytes"] for cost in costs),
        **made["parameters"],
    }
    write_json(args.cost, cost | {"machine": machine()})
    for each in checkpoints:
        each.remove()


def machine() -> str:
    """The machine that trains, for a reader."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"

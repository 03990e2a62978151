"""Reload a trained model from disk, check that it answers as it did in training, and score it on the test split.

dvc repro evaluate@full
"""

import argparse
from pathlib import Path

import numpy as np

from tunediff.core import arguments, devices
from tunediff.core.cost import folder_bytes
from tunediff.core.files import output, read_json, write_figures
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.core.splits import load_split
from tunediff.evidence import scoring
from tunediff.evidence.reloading import evaluate
from tunediff.evidence.settings import Evaluation
from tunediff.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with SPLIT.parquet")
    parser.add_argument("--trained", type=Path, required=True, help="folder of the trained model, named as the method")
    parser.add_argument("--logits", type=Path, required=True, help=".npy file: the trainer's logits on validation")
    parser.add_argument("--training-cost", type=Path, required=True, help="JSON file that the training stage wrote")
    parser.add_argument("--reload", type=output, required=True, help="JSON file: how the reloaded model differs")
    scoring.add_arguments(parser)
    args = arguments.parse(parser, "method")
    settings = read(args.settings, Evaluation)
    devices.take()
    splits = {name: load_split(args.splits, name) for name in ("train", "validation", "test")}
    task = TASKS[settings.task].of(splits["train"].features)
    trainer_logits = np.load(args.logits)

    evaluated = evaluate(args.trained, trainer_logits, splits, task, settings)

    write_figures(args.reload, {"largest_logit_difference": evaluated.difference, "rows": len(splits["validation"])})
    training_cost = read_json(args.training_cost)
    training_cost.pop("machine")
    cost = {
        "eval_seconds": evaluated.seconds,
        "artifact_bytes": folder_bytes(args.trained),
        **evaluated.in_use,
        **training_cost,
    }
    parts = (evaluated.answers, cost, args, evaluated.detail, evaluated.fitted, splits["train"])
    scoring.write(args.trained.name, task, splits["test"], *parts)


if __name__ == "__main__":
    run(main)

"""Which training labels are likely wrong: the training rows, those to read again first.

dvc repro label_noise
"""

import argparse
from pathlib import Path

from tunediff.baselines import label_noise
from tunediff.baselines.of_task import of_task
from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core import devices
from tunediff.core.files import output
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.core.splits import load_split
from tunediff.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with train.parquet")
    parser.add_argument("--ranked", type=output, required=True, help="CSV file for the rows, the likeliest noise first")
    parser.add_argument("--metrics", type=output, required=True, help="JSON file: how many are suspected, by label")
    args = parser.parse_args()
    settings = read(args.settings, WithoutFineTuning)
    devices.take()

    train = load_split(args.splits, "train")
    task = TASKS[settings.task].of(train.features)
    ranked, figures = of_task(task).label_noise(train, task, settings, args.splits / "train.parquet")
    label_noise.write(ranked, figures, args.ranked, args.metrics)


if __name__ == "__main__":
    run(main)

"""Would more labels help? Train some methods on a share of the training rows, for figures on validation.

dvc exp run -S 'training_rows.shares=[0.25,0.5]'
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from tunediff.core import arguments, devices
from tunediff.core.files import output, write_figures
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.core.splits import load_split
from tunediff.evidence.growth import Growth, take, validate
from tunediff.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with train.parquet and validation.parquet")
    parser.add_argument("--metrics", type=output, required=True, help="SHARE.json, for rows and each method's figures")
    args = arguments.parse(parser, "share")
    settings = read(args.settings, Growth)
    devices.take()
    train, validation = (load_split(args.splits, name) for name in ("train", "validation"))
    task = TASKS[settings.task].of(train.features)
    part = take(train, float(args.metrics.stem), settings.seed, task)

    figures, checkpoints = {"rows": len(part)}, []
    for method in tqdm(settings.methods, desc=f"{len(part)} rows", unit="method"):
        figures[method] = validate(method, task, part, validation, settings, checkpoints)
    write_figures(args.metrics, figures)
    print(f"{args.metrics}: {len(part)} of {len(train)} rows, {', '.join(settings.methods)}")
    for each in checkpoints:
        each.remove()


if __name__ == "__main__":
    run(main)

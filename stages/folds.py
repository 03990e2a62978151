"""Give every row one fold that tests it; the other rows of a fold are its train and validation.

dvc exp run -S 'folds=[5]'
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from tunediff.core import arguments
from tunediff.core.files import atomic, output, read_json
from tunediff.core.process import run
from tunediff.core.splits import load_split
from tunediff.core.values import rows_of
from tunediff.sources import folds
from tunediff.sources.settings import SPLITS
from tunediff.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with SPLIT.parquet")
    parser.add_argument("--folds", type=output, required=True, help="Parquet file: the side of each row in each fold")
    args = arguments.parse(parser, "number")
    settings = read_json(args.settings)
    splits = [load_split(args.splits, side) for side in SPLITS]
    task = TASKS[settings["task"]].of(splits[0].features)

    tables = [pd.DataFrame({"group": "", **rows_of(split), "stratum": list(task.strata(split))}) for split in splits]
    table = pd.concat(tables, ignore_index=True)
    train, validation = len(splits[0]), len(splits[1])
    sides = folds.assign(table, settings["number"], validation / (train + validation), settings["seed"])
    parts = zip(*(task.parts(task.targets(split)) for split in splits), strict=True)
    folds.check(sides, ((each[0][0], np.concatenate([rows for _, rows in each])) for each in parts))
    with atomic(args.folds) as partial:
        sides.to_parquet(partial, index=False)
    print(f"{args.folds}: {len(sides):,} rows, each tested by one of {settings['number']} folds")


if __name__ == "__main__":
    run(main)

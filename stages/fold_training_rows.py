"""Would more labels help? Train some methods on a share of each fold's training rows, for figures of all rows.

dvc exp run -S 'folds=[5]' -S 'training_rows.shares=[0.25,0.5]'
"""

import numpy as np
from tqdm import tqdm

from tunediff.core import arguments, devices
from tunediff.core.files import output, write_figures
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.evidence import folds
from tunediff.evidence.growth import Growth, answer_fold, take
from tunediff.tasks import TASKS


def main() -> None:
    parser = folds.reading_parser(__doc__)
    parser.add_argument("--metrics", type=output, required=True, help="SHARE.json, for rows and each method's figures")
    args = arguments.parse(parser, "share")
    settings = read(args.settings, Growth)
    devices.take()
    full_folds = folds.folds_of(args.splits, args.folds)
    task = TASKS[settings.task].of(full_folds["1"]["train"].features)
    share = float(args.metrics.stem)
    reduced_folds = {
        fold: {**splits, "train": take(splits["train"], share, settings.seed, task)}
        for fold, splits in full_folds.items()
    }

    # Rows that a training has, in the mean over the folds: these, and those of the methods' own stages.
    rows, all_rows = (
        round(np.mean([len(fold["train"]) for fold in parts.values()])) for parts in (reduced_folds, full_folds)
    )
    figures = {"rows": rows, "all_rows": all_rows}
    checkpoints = []
    with tqdm(total=len(settings.methods) * len(reduced_folds), desc=f"{rows} rows", unit="fold") as bar:
        for method in settings.methods:
            answered = {}
            for fold, splits in reduced_folds.items():
                answered[fold] = answer_fold(method, splits, task, settings, fold, checkpoints)
                bar.update()
            figures[method], *_ = folds.scored(task, answered)
    write_figures(args.metrics, figures)
    print(f"{args.metrics}: {rows} of {all_rows} rows in each fold, {', '.join(settings.methods)}")
    for each in checkpoints:
        each.remove()


if __name__ == "__main__":
    run(main)

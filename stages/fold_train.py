"""Train a method once per fold, so that every row is a test row.

dvc exp run -S 'folds=[5]'
"""

from pathlib import Path

from tunediff.core import arguments, devices
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.evidence import folds
from tunediff.evidence.fold_training import FoldTraining, answer
from tunediff.tasks import TASKS
from tunediff.training.ranks import leave, ranks


def main() -> None:
    parser = folds.parser_of(__doc__)
    parser.add_argument("--measured", type=Path, required=True, help="JSON file: what the method's training took")
    args = arguments.parse(parser, "method")
    settings = read(args.settings, FoldTraining)
    devices.take()
    parts = folds.folds_of(args.splits, args.folds)
    task = TASKS[settings.training.task].of(parts["1"]["train"].features)

    if ranks().is_main_process:
        folds.announce(settings.training.method, parts, args.measured, len(settings.training.seeds))
    checkpoints = []
    answered = {fold: answer(splits, task, settings, fold, checkpoints) for fold, splits in parts.items()}
    if ranks().is_main_process:
        folds.write(settings.training.method, task, answered, args)
        for each in checkpoints:
            each.remove()
    leave()


if __name__ == "__main__":
    run(main)

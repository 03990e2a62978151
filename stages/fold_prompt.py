"""Ask a language model once per fold, with examples and calibration of its own, so that every row is a test row.

dvc exp run -S 'folds=[5]' -S 'prompts.methods=[few-shot]'
"""

from pathlib import Path

from tunediff.core import arguments, devices
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.evidence import folds
from tunediff.prompting.method import ask
from tunediff.prompting.settings import Prompting
from tunediff.tasks import TASKS


def main() -> None:
    parser = folds.parser_of(__doc__)
    parser.add_argument("--measured", type=Path, required=True, help="JSON file: what the method's answers took")
    args = arguments.parse(parser, "method")
    settings = read(args.settings, Prompting)
    devices.take()
    parts = folds.folds_of(args.splits, args.folds)
    task = TASKS[settings.task].of(parts["1"]["train"].features)

    folds.announce(settings.method, parts, args.measured, trainings=1)
    answered = {}
    for fold, splits in parts.items():
        answers = ask(splits, task, settings)
        answered[fold] = folds.Answered(splits, {settings.seed: answers.test}, {settings.seed: answers.fitted})
    folds.write(settings.method, task, answered, args)


if __name__ == "__main__":
    run(main)

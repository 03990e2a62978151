"""Ask a language model for the labels, zero-shot or with a few examples, and score its answers on the test split.

dvc exp run -S 'prompts.methods=[zero-shot,few-shot]'
"""

import argparse
from pathlib import Path

from tunediff.core import arguments, devices
from tunediff.core.files import output, write_figures
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.core.splits import load_split
from tunediff.evidence import scoring
from tunediff.evidence.details import fit, with_temperature
from tunediff.models.inference import probabilities
from tunediff.prompting.method import ask
from tunediff.prompting.settings import Prompting
from tunediff.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with SPLIT.parquet")
    parser.add_argument("--validation", type=output, required=True, help="JSON file: figures on validation")
    scoring.add_arguments(parser)
    args = arguments.parse(parser, "method")
    settings = read(args.settings, Prompting)
    devices.take()
    splits = {name: load_split(args.splits, name) for name in ("train", "validation", "test")}
    task = TASKS[settings.task].of(splits["train"].features)

    answers = ask(splits, task, settings)

    figures = scoring.score(task, answers.targets, probabilities(answers.validation))
    write_figures(args.validation, {name: figures[name] for name in task.each_epoch})
    fitted = fit(task, answers.validation, answers.targets, task.rarer(splits["train"]))
    tempered = with_temperature(task.targets(splits["test"]), answers.test, task.labels, fitted)
    detail = {"prompt": answers.detail, "fitted": {settings.seed: fitted}, "with_temperature": tempered}
    answered = {settings.seed: probabilities(answers.test)}
    scoring.write(settings.method, task, splits["test"], answered, answers.cost, args, detail)


if __name__ == "__main__":
    run(main)

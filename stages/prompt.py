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
from tunediff.evidence.of_task import of_task
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

    evidence = of_task(task)
    figures = task.validate(answers.targets, task.probabilities(answers.validation))
    write_figures(args.validation, {name: figures[name] for name in task.each_epoch})
    fitted = evidence.fit_model(task, answers.validation, answers.targets, splits["train"])
    tried = evidence.try_model(task, task.targets(splits["test"]), answers.test, fitted)
    answered = {settings.seed: evidence.final(task, answers.test, fitted)}
    detail = {"prompt": answers.detail, "fitted": {settings.seed: fitted}, **tried}
    parts = (answered, answers.cost, args, detail, {settings.seed: fitted}, splits["train"])
    scoring.write(settings.method, task, splits["test"], *parts)


if __name__ == "__main__":
    run(main)

"""Ask a language model for the answers, zero-shot or with a few examples, and score them on the test split.

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

    names = [name for name in task.each_epoch if name in answers.validation] or task.headline
    write_figures(args.validation, {name: answers.validation[name] for name in names})
    fitted = {settings.seed: answers.fitted}
    detail = {**answers.detail, "fitted": fitted}
    parts = ({settings.seed: answers.test}, answers.cost, args, detail, fitted, splits["train"])
    scoring.write(settings.method, task, splits["test"], *parts)


if __name__ == "__main__":
    run(main)

"""What there is without fine-tuning: majority class, TF-IDF, linear probe, the pretrained model with a new head.

dvc repro baseline
"""

import argparse
from pathlib import Path

from tunediff.baselines import kept, saved
from tunediff.baselines.of_task import answers_of
from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core import arguments, devices
from tunediff.core.files import output, write_figures
from tunediff.core.methods import KEPT_BASELINES
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.core.splits import load_split
from tunediff.evidence import scoring
from tunediff.evidence.of_task import of_task as evidence_of
from tunediff.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with SPLIT.parquet")
    parser.add_argument("--validation", type=output, required=True, help="folder for METHOD.json, to choose C by")
    parser.add_argument("--trained", type=output, help="folder for METHOD: the models of those that learn")
    scoring.add_arguments(parser)
    args = arguments.parse(parser, "method")
    settings = read(args.settings, WithoutFineTuning)
    devices.take()
    splits = {name: load_split(args.splits, name) for name in ("train", "validation", "test")}
    task = TASKS[settings.task].of(splits["train"].features)

    evidence = evidence_of(task)
    for method, answers in answers_of(args.method, splits, task, settings).items():
        fitted, more = answers.fitted, answers.detail
        if answers.validation is not None:
            targets = task.targets(splits["validation"])
            figures = task.validate(targets, answers.validation)
            names = [name for name in task.each_epoch if name in figures] or task.headline
            write_figures(args.validation / f"{method}.json", {name: figures[name] for name in names})
            fitted = evidence.fit_baseline(task, answers.validation, targets, splits["train"])
            more |= evidence.try_baseline(task, task.targets(splits["test"]), answers.test, fitted)
        if args.trained and method in KEPT_BASELINES:
            saved.save(args.trained / method, method, task, settings.seed, answers, fitted)
            if answers.model:
                answers.cost.update(kept.in_use(args.trained / method, splits["test"]["text"][0]))
        parts = ({settings.seed: answers.test}, answers.cost, args, more, {settings.seed: fitted}, splits["train"])
        scoring.write(method, task, splits["test"], *parts)


if __name__ == "__main__":
    run(main)

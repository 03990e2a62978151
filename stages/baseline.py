"""What there is without fine-tuning: majority class, TF-IDF, linear probe, the pretrained model with a new head.

dvc repro baseline
"""

import argparse
from pathlib import Path

from tunediff.baselines.classifiers import majority, pretrained, tfidf
from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core import devices
from tunediff.core.files import output, write_figures
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.core.splits import load_split
from tunediff.evidence import scoring
from tunediff.evidence.calibration import fit_threshold
from tunediff.evidence.details import at_threshold
from tunediff.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with SPLIT.parquet")
    parser.add_argument("--validation", type=output, required=True, help="folder for METHOD.json, to choose C by")
    scoring.add_arguments(parser)
    args = parser.parse_args()
    settings = read(args.settings, WithoutFineTuning)
    devices.take()
    splits = {name: load_split(args.splits, name) for name in ("train", "validation", "test")}
    task = TASKS[settings.task].of(splits["train"].features)

    # From the lightest to the heaviest: the peak memory of each is that of the process so far.
    methods = {"majority": majority(splits, task), "tfidf": tfidf(splits, settings)}
    for method, answers in {**methods, **pretrained(splits, task, settings)}.items():
        more = {}
        if answers.validation is not None:
            targets = task.targets(splits["validation"])
            figures = scoring.score(task, targets, answers.validation)
            write_figures(args.validation / f"{method}.json", {name: figures[name] for name in task.each_epoch})
            if (rarer := task.rarer(splits["train"])) is not None:
                value = fit_threshold(answers.validation[:, rarer], targets == rarer)
                threshold = {"label": task.labels[rarer], "value": value}
                more["threshold"] = at_threshold(task.targets(splits["test"]), answers.test, task.labels, threshold)
        scoring.write(method, task, splits["test"], {settings.seed: answers.test}, answers.cost, args, more)


if __name__ == "__main__":
    run(main)

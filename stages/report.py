"""Set all methods side by side, recommend one, and write a page that says why.

dvc repro report
"""

import argparse
from pathlib import Path

from tunediff.core.files import output, read_json
from tunediff.core.methods import BASELINES
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.evidence import costs
from tunediff.evidence.comparison import weigh
from tunediff.report import folders, page, results
from tunediff.report.provenance import provenance
from tunediff.report.sections import sections
from tunediff.report.settings import Reporting
from tunediff.report.verdict import verdict
from tunediff.tasks import TASKS

READ = ("settings", "profile", "metrics", "detail", "cost", "predictions", "curves", "label-noise")
PAGES = ("errors", "html", "markdown")
WRITTEN = ("learning-curves", "comparison", "uncertainty", "slices", "calibration", "confusion", *PAGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in (*READ, *WRITTEN):
        parser.add_argument(f"--{name}", type=output if name in WRITTEN else Path, required=True)
    args = parser.parse_args()
    settings = read(args.settings, Reporting)
    task = TASKS[settings.task]

    # Read, by name: an earlier run of other methods may have left its files.
    names = sorted([*BASELINES, *(settings.more or ()), *settings.trained, *settings.prompted])
    answered = "folds" if settings.folds else ""
    methods = results.methods_table(names, args.metrics / answered, args.cost, quality=task.headline[0])
    predictions = results.predictions(methods.method, args.predictions / answered, task)
    about = results.about(settings, names, args, predictions)
    shown = methods[["method", *task.headline, "train_seconds", "trainable_parameters"]]
    print(shown.to_string(index=False, float_format="{:.4g}".format))

    # Compare, and recommend.
    errors = costs.matrix(predictions["majority"].task, settings.costs, f"conf/data/{settings.data}.yaml")
    compared = (methods, settings.trained, predictions, settings.report, settings.max_length, settings.seed, errors)
    evidence = weigh(*compared)
    advice = verdict(evidence, about)
    print(" ".join([f"{advice.headline}.", advice.reason, advice.sure, advice.next]))

    # Write.
    folders.write(evidence, about.curves, about.growth, args, about.few, about.kept)
    parts = sections(evidence, provenance(read_json(args.profile), settings.model, about), about)
    title = f"{settings.data} with {settings.model}: fine-tune, adapt, or neither?"
    page.write(title, advice, parts, args.html, args.markdown)
    print(f"open {args.html}, or read {args.markdown}")


if __name__ == "__main__":
    run(main)

"""Set all methods side by side, recommend one, and write a page that says why.

dvc repro report
"""

import argparse
from pathlib import Path

import pandas as pd

from tunediff.core.files import output, read_json
from tunediff.core.methods import BASELINES
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.evidence.comparison import predictions_of, weigh
from tunediff.report import folders, page, results
from tunediff.report.provenance import provenance
from tunediff.report.sections import sections
from tunediff.report.settings import Reporting
from tunediff.tasks import TASKS

READ = ("settings", "profile", "metrics", "detail", "cost", "predictions", "curves", "label-noise")
WRITTEN = ("learning-curves", "comparison", "uncertainty", "slices", "calibration", "confusion", "html", "markdown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in (*READ, *WRITTEN):
        parser.add_argument(f"--{name}", type=output if name in WRITTEN else Path, required=True)
    args = parser.parse_args()
    settings = read(args.settings, Reporting)
    task = TASKS[settings.task]

    # Read, by name: an earlier run of other methods may have left its files.
    names = sorted([*BASELINES, *(settings.more or ()), *settings.trained])
    methods = results.methods_table(names, args.metrics, args.cost, quality=task.headline[0])
    tables = {method: pd.read_parquet(args.predictions / f"{method}.parquet") for method in methods.method}
    predictions = {method: predictions_of(table, task) for method, table in tables.items()}
    curves = pd.concat(results.learning_curves(args.curves / method) for method in sorted(settings.trained))
    profile = read_json(args.profile)
    growth = results.growth_with_rows(settings, args.metrics, profile["splits"]["train"]["rows"], task.each_epoch)
    # Labels such as 007 or NA are text.
    noise = pd.read_csv(args.label_noise, dtype={"label": str, "suggested": str}, keep_default_na=False)
    print(methods.to_string(index=False, float_format=lambda value: f"{value:.4g}"))

    # Compare, and recommend.
    evidence = weigh(methods, settings.trained, predictions, settings.report, settings.max_length, settings.seed)
    print(evidence.advice)

    # Write.
    folders.write(evidence, curves, growth, args)
    made_from = provenance(profile, settings.model, read_json(args.detail / f"{settings.trained[0]}.json")["model"])
    title = f"{settings.data} with {settings.model}: fine-tune, adapt, or neither?"
    shown = sections(evidence, growth, profile["splits"]["validation"]["rows"], noise, made_from, args)
    page.write(title, evidence.advice, shown, args.html, args.markdown)


if __name__ == "__main__":
    run(main)

"""Which labels are likely wrong: all rows, those to read again first, by what the folds answered that did not see them.

dvc exp run -S 'folds=[5]'
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from tunediff.baselines import label_noise
from tunediff.baselines.of_task import of_task
from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core import arguments
from tunediff.core.files import output
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.evidence.comparison import predictions_of
from tunediff.tasks import TASKS

NONE = pd.DataFrame(columns=["rank", "suspected", "split", "row", "text", "label"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--tfidf", type=Path, required=True, help="Parquet file: TF-IDF's answers of all folds")
    parser.add_argument("--probe", type=Path, required=True, help="Parquet file: the probe's")
    parser.add_argument("--ranked", type=output, required=True, help="CSV file for the rows, the likeliest noise first")
    parser.add_argument("--metrics", type=output, required=True, help="JSON file: how many are suspected, by label")
    args = arguments.parse(parser, "number")
    settings = read(args.settings, WithoutFineTuning)

    tables = [pd.read_parquet(judge) for judge in (args.tfidf, args.probe)]
    one = predictions_of(tables[0], TASKS[settings.task])
    baselines = of_task(one.task)
    if hasattr(baselines, "ranked_noise"):
        probabilities = np.mean([table.filter(regex="^p_") for table in tables], axis=0)
        ranked, figures = baselines.ranked_noise(one.table, one.task, one.actual, probabilities)
    else:
        print(f"{settings.task}: no list of all rows, since its predictions have no probabilities")
        ranked, figures = NONE, {"not_judged": len(one.table), "rows": 0, "suspected": 0}
    label_noise.write(ranked, figures, args.ranked, args.metrics)


if __name__ == "__main__":
    run(main)

"""Set all methods side by side: a table, learning curves, and quality against cost.

dvc repro report
"""

import argparse
from pathlib import Path

import pandas as pd

from stages.common import plots, scoring
from stages.common.errors import run
from stages.common.files import read_json, whole
from stages.common.params import BASELINES, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=Path, required=True, help="folder with METHOD.parquet")
    parser.add_argument("--cost", type=Path, required=True, help="folder with METHOD.json")
    parser.add_argument("--curves", type=Path, required=True, help="folder with DVCLive's folder of each method")
    parser.add_argument("--learning-curves", type=Path, required=True, help="folder for learning_curves.csv and .png")
    parser.add_argument("--comparison", type=Path, required=True, help="folder for comparison.csv and .png")
    args = parser.parse_args()

    # By name: an earlier run of other methods may have left its files.
    params = load().params
    trained = [*params.evaluate.methods, *params.train_peft.methods]

    curves = pd.concat(learning_curves(args.curves / method) for method in sorted(trained))
    with whole(args.learning_curves) as folder:
        folder.mkdir()
        curves.to_csv(folder / "learning_curves.csv", index=False)
        plots.learning_curves(curves, folder / "learning_curves.png")

    rows = [compare(args.predictions / f"{method}.parquet", args.cost) for method in sorted([*BASELINES, *trained])]
    table = pd.DataFrame(rows).sort_values("accuracy")
    with whole(args.comparison) as folder:
        folder.mkdir()
        table.to_csv(folder / "comparison.csv", index=False)
        plots.quality_against_cost(table, folder / "comparison.png")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))


def learning_curves(folder: Path) -> pd.DataFrame:
    """One method's curves from DVCLive: columns method, epoch, train_loss, validation_loss and so on."""
    files = sorted(folder.glob("plots/metrics/*/*.tsv"))
    series = {
        f"{path.parent.name}_{path.stem}": pd.read_csv(path, sep="\t", index_col="step")[path.stem] for path in files
    }
    return pd.DataFrame(series).rename_axis("epoch").reset_index().assign(method=folder.name)


def compare(predictions: Path, cost: Path) -> dict[str, float | str]:
    """One row of the table: headline figures from the predictions, and cost."""
    table = pd.read_parquet(predictions)
    figures = scoring.score(table.actual.cat.codes.to_numpy(), table.filter(regex="^p_").to_numpy())
    return {"method": predictions.stem, **figures, **read_json(cost / f"{predictions.stem}.json")}


if __name__ == "__main__":
    run(main)

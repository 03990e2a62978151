"""Set all methods side by side, recommend one, and write a page that says why.

dvc repro report
"""

import argparse
from pathlib import Path

import pandas as pd

from tunediff.baselines.settings import BASELINES
from tunediff.core.files import atomic, read_json
from tunediff.core.process import run
from tunediff.core.spreadsheets import harmless
from tunediff.evidence.calibration import reliability
from tunediff.evidence.comparison import (
    Evidence,
    Predictions,
    cutting_costs,
    differences_to,
    intervals_of,
    on_front,
    predictions_of,
    slices_of,
    worst_labels,
)
from tunediff.evidence.recommendation import by_cost, recommend
from tunediff.evidence.uncertainty import Interval
from tunediff.report import page, plots
from tunediff.report.provenance import provenance
from tunediff.report.sections import sections
from tunediff.settings.params import Params, Settings, load


def main() -> None:
    args = arguments()
    settings = load()
    params = settings.params

    # Read, by name: an earlier run of other methods may have left its files.
    trained = [*params.evaluate.methods, *params.train_peft.methods]
    methods = methods_table(sorted([*BASELINES, *trained]), args.metrics, args.cost)
    predictions = {
        method: predictions_of(pd.read_parquet(args.predictions / f"{method}.parquet")) for method in methods.method
    }
    curves = pd.concat(learning_curves(args.curves / method) for method in sorted(trained))
    profile = read_json(args.profile)
    growth = growth_with_rows(params, args.metrics, profile["splits"]["train"]["rows"])
    # Labels such as 007 or NA are text.
    noise = pd.read_csv(args.label_noise, dtype={"label": str, "suggested": str}, keep_default_na=False)
    print(methods.to_string(index=False, float_format=lambda value: f"{value:.4g}"))

    # Compare, and recommend.
    found = weigh(methods, trained, predictions, settings)
    print(found.advice)

    # Write.
    write_folders(found, curves, growth, args)
    origin = read_json(args.detail / f"{trained[0]}.json")["model"]
    made_from = provenance(profile, params.model, origin)
    title = f"{params.data} with {params.model}: fine-tune, adapt, or neither?"
    validated = profile["splits"]["validation"]["rows"]
    shown = sections(found, growth, validated, noise, made_from, args)
    page.write(title, found.advice, shown, args.html, args.markdown)


def arguments() -> argparse.Namespace:
    """The paths that dvc.yaml gives: what is read, then what is written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path, required=True, help="JSON file that prepare wrote of the data")
    parser.add_argument("--metrics", type=Path, required=True, help="folder with METHOD.json")
    parser.add_argument("--detail", type=Path, required=True, help="folder with METHOD.json")
    parser.add_argument("--cost", type=Path, required=True, help="folder with METHOD.json")
    parser.add_argument("--predictions", type=Path, required=True, help="folder with METHOD.parquet")
    parser.add_argument("--confusion", type=Path, required=True, help="folder with METHOD.png")
    parser.add_argument("--curves", type=Path, required=True, help="folder with DVCLive's folder of each method")
    parser.add_argument("--label-noise", type=Path, required=True, help="CSV file that label_noise wrote")
    parser.add_argument("--learning-curves", type=Path, required=True, help="folder for learning_curves.csv and .png")
    parser.add_argument("--comparison", type=Path, required=True, help="folder for comparison.csv and .png")
    parser.add_argument(
        "--uncertainty", type=Path, required=True, help="folder for intervals.csv, differences.csv and intervals.png"
    )
    parser.add_argument(
        "--slices", type=Path, required=True, help="folder for slices.csv, slices.png and cut_texts.csv"
    )
    parser.add_argument("--calibration", type=Path, required=True, help="folder for reliability.csv and .png")
    parser.add_argument("--html", type=Path, required=True, help="the page")
    parser.add_argument("--markdown", type=Path, required=True, help="the same without pictures")
    return parser.parse_args()


def methods_table(methods: list[str], metrics: Path, cost: Path) -> pd.DataFrame:
    """Figures and cost of each, and whether it is on the front of accuracy and a cost; the least accurate first."""
    rows = [
        {"method": method, **read_json(metrics / f"{method}.json"), **read_json(cost / f"{method}.json")}
        for method in methods
    ]
    table = pd.DataFrame(rows).sort_values("accuracy")
    return table.assign(
        front_parameters=on_front(table, "trainable_parameters"), front_time=on_front(table, "train_seconds")
    )


def growth_with_rows(params: Params, metrics: Path, all_rows: int) -> pd.DataFrame:
    """Figures on validation by training rows: columns method, rows, accuracy, f1, loss; empty if none was asked for.

    `all_rows` is how many there are: what the methods' own stages trained on.
    """
    found = {}
    for share in sorted(params.training_rows.shares):
        part = read_json(metrics / "training_rows" / f"{share}.json")
        found |= {(method, part["rows"]): part[method] for method in params.training_rows.methods}
    if found:
        own = {method: read_json(metrics / "validation" / f"{method}.json") for method in params.training_rows.methods}
        found |= {(method, all_rows): figures for method, figures in own.items()}
    rows = [{"method": method, "rows": rows, **figures} for (method, rows), figures in found.items()]
    return pd.DataFrame(rows, columns=["method", "rows", "accuracy", "f1", "loss"])


def weigh(
    methods: pd.DataFrame, trained: list[str], predictions: dict[str, Predictions], settings: Settings
) -> Evidence:
    """All that the test texts say of the methods, and which one to use."""
    report, seed, max_length = settings.params.report, settings.params.seed, settings.model.max_length
    options = {"confidence": report.confidence, "seed": seed}
    intervals = intervals_of(predictions, **options)
    order = by_cost(methods)
    best = max(order, key=lambda method: intervals.loc[method, report.figure])
    differences = differences_to([best, "full", "tfidf"], predictions, **options)
    to_best = differences[differences.other == best].set_index("method")
    choice, advice = recommend(
        order,
        best,
        {method: interval(intervals.loc[method], report.figure) for method in order},
        {method: interval(to_best.loc[method], report.figure) for method in to_best.index},
        report,
        len(predictions[best].table),
    )
    return Evidence(
        methods=methods,
        trained=trained,
        predictions=predictions,
        intervals=intervals,
        differences=differences,
        slices=slices_of(predictions, max_length, **options),
        cutting=cutting_costs(predictions, max_length, **options),
        max_length=max_length,
        report=report,
        best=best,
        choice=choice,
        advice=advice,
    )


def interval(row: pd.Series, figure: str) -> Interval:
    return Interval(row[figure], row[f"{figure}_low"], row[f"{figure}_high"])


def write_folders(found: Evidence, curves: pd.DataFrame, growth: pd.DataFrame, args: argparse.Namespace) -> None:
    """Tables as CSV, with their pictures."""
    with atomic(args.learning_curves) as folder:
        folder.mkdir()
        curves.to_csv(folder / "learning_curves.csv", index=False)
        plots.learning_curves(curves, folder / "learning_curves.png")
        if not growth.empty:
            growth.to_csv(folder / "training_rows.csv", index=False)
            plots.training_rows(growth, folder / "training_rows.png")
    with atomic(args.comparison) as folder:
        folder.mkdir()
        found.methods.to_csv(folder / "comparison.csv", index=False)
        plots.quality_against_cost(found.methods, folder / "comparison.png")
    with atomic(args.uncertainty) as folder:
        folder.mkdir()
        found.intervals.to_csv(folder / "intervals.csv")
        found.differences.to_csv(folder / "differences.csv", index=False)
        plots.intervals(found.intervals.reset_index(), found.report.confidence, folder / "intervals.png")
    with atomic(args.slices) as folder:
        folder.mkdir()
        found.slices.assign(slice=found.slices.slice.map(harmless)).to_csv(folder / "slices.csv", index=False)
        found.cutting.to_csv(folder / "cut_texts.csv", index=False)
        plots.slices(worst_labels(found.slices), folder / "slices.png")
    with atomic(args.calibration) as folder:
        folder.mkdir()
        bins = pd.concat(
            reliability(one.actual, one.table.filter(regex="^p_").to_numpy()).assign(method=method)
            for method, one in reversed(found.predictions.items())
        )
        bins.to_csv(folder / "reliability.csv", index=False)
        plots.reliability(bins, folder / "reliability.png")


def learning_curves(folder: Path) -> pd.DataFrame:
    """One method's curves from DVCLive: columns method, epoch, train_loss, validation_loss and so on.

    Those of its first seed: what further ones wrote is in folders of their own.
    """
    files = sorted(folder.glob("plots/metrics/*/*.tsv"))
    series = {
        f"{path.parent.name}_{path.stem}": pd.read_csv(path, sep="\t", index_col="step")[path.stem] for path in files
    }
    return pd.DataFrame(series).rename_axis("epoch").reset_index().assign(method=folder.name)


if __name__ == "__main__":
    run(main)

"""Set all methods side by side, recommend one, and write a page that says why.

dvc repro report
"""

import argparse
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.common import page, plots, uncertainty
from stages.common.calibration import reliability
from stages.common.errors import run
from stages.common.files import read_json, whole
from stages.common.params import BASELINES, load
from stages.common.provenance import provenance
from stages.common.recommendation import by_cost, recommend
from stages.common.uncertainty import Interval

SHOWN = 10  # texts in each table of errors


def main() -> None:
    args = arguments()
    params = load().params

    # By name: an earlier run of other methods may have left its files.
    trained = [*params.evaluate.methods, *params.train_peft.methods]
    curves = pd.concat(learning_curves(args.curves / method) for method in sorted(trained))
    with whole(args.learning_curves) as folder:
        folder.mkdir()
        curves.to_csv(folder / "learning_curves.csv", index=False)
        plots.learning_curves(curves, folder / "learning_curves.png")

    rows = [
        {"method": method, **read_json(args.metrics / f"{method}.json"), **read_json(args.cost / f"{method}.json")}
        for method in sorted([*BASELINES, *trained])
    ]
    table = pd.DataFrame(rows).sort_values("accuracy")
    with whole(args.comparison) as folder:
        folder.mkdir()
        table.to_csv(folder / "comparison.csv", index=False)
        plots.quality_against_cost(table, folder / "comparison.png")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))

    predictions = {method: pd.read_parquet(args.predictions / f"{method}.parquet") for method in table.method}
    figure, order = params.report.figure, by_cost(table)
    intervals = intervals_of(predictions, params.seed)
    best = max(order, key=lambda method: intervals.loc[method, figure])
    differences = differences_to([best, "full", "tfidf"], predictions, params.seed)
    with whole(args.uncertainty) as folder:
        folder.mkdir()
        intervals.to_csv(folder / "intervals.csv")
        differences.to_csv(folder / "differences.csv", index=False)
        plots.intervals(intervals.reset_index(), folder / "intervals.png")

    bins = pd.concat(
        reliability(answers.actual.cat.codes.to_numpy(), answers.filter(regex="^p_").to_numpy()).assign(method=method)
        for method, answers in predictions.items()
    )
    with whole(args.calibration) as folder:
        folder.mkdir()
        bins.to_csv(folder / "reliability.csv", index=False)
        plots.reliability(bins, folder / "reliability.png")

    to_best = differences[differences.other == best].set_index("method")
    choice, advice = recommend(
        order,
        {method: interval(intervals.loc[method], figure) for method in order},
        {method: interval(to_best.loc[method], figure) for method in to_best.index},
        figure,
        params.report.margin,
        len(predictions[best]),
    )
    print(advice)

    origin = read_json(args.detail / f"{trained[0]}.json")["model"]
    made_from = provenance(read_json(args.profile), params.model, origin)
    page.write(
        f"{params.data} with {params.model}: fine-tune, adapt, or neither?",
        advice,
        [
            page.Section(
                "Methods", table=methods_table(table, intervals), pictures=[args.uncertainty / "intervals.png"]
            ),
            page.Section("Quality against cost", pictures=[args.comparison / "comparison.png"]),
            page.Section(
                "Differences",
                "Paired on the same test texts, in points. p is that of McNemar's exact test, after Holm's correction "
                f"for all {len(differences)}.",
                table=differences_table(differences),
            ),
            page.Section("Confusion", pictures=[args.confusion / f"{method}.png" for method in table.method[::-1]]),
            page.Section("Calibration", pictures=[args.calibration / "reliability.png"]),
            page.Section("Learning curves", pictures=[args.learning_curves / "learning_curves.png"]),
            wrong_for_all([predictions[method] for method in trained]),
            surest_errors(choice, predictions[choice]),
            page.Section("Where it comes from", table=[["what", "which"], *map(list, made_from.items())]),
        ],
        args.html,
        args.markdown,
    )


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
    parser.add_argument("--learning-curves", type=Path, required=True, help="folder for learning_curves.csv and .png")
    parser.add_argument("--comparison", type=Path, required=True, help="folder for comparison.csv and .png")
    parser.add_argument(
        "--uncertainty", type=Path, required=True, help="folder for intervals.csv, differences.csv and intervals.png"
    )
    parser.add_argument("--calibration", type=Path, required=True, help="folder for reliability.csv and .png")
    parser.add_argument("--html", type=Path, required=True, help="the page")
    parser.add_argument("--markdown", type=Path, required=True, help="the same without pictures")
    return parser.parse_args()


def learning_curves(folder: Path) -> pd.DataFrame:
    """One method's curves from DVCLive: columns method, epoch, train_loss, validation_loss and so on."""
    files = sorted(folder.glob("plots/metrics/*/*.tsv"))
    series = {
        f"{path.parent.name}_{path.stem}": pd.read_csv(path, sep="\t", index_col="step")[path.stem] for path in files
    }
    return pd.DataFrame(series).rename_axis("epoch").reset_index().assign(method=folder.name)


# --- uncertainty; `predictions` holds what `scoring.write` wrote of each method


def intervals_of(predictions: dict[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """Indexed by method; for each figure of `uncertainty.FIGURES` its value, and columns with `_low` and `_high`."""
    found = {
        method: flat(uncertainty.intervals(*codes(table), seed))
        for method, table in tqdm(predictions.items(), desc="intervals")
    }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("method")


def differences_to(others: list[str], predictions: dict[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """Of each method to each of `others`, once for a pair: columns method, other, figures as above, p and p_holm."""
    pairs = []
    for other in others:
        pairs += [(method, other) for method in predictions if method != other and (other, method) not in pairs]
    rows = []
    for method, other in tqdm(dict.fromkeys(pairs), desc="differences"):
        actual, guess, labels = codes(predictions[method])
        _, against, _ = codes(predictions[other])
        found = uncertainty.differences(actual, guess, against, labels, seed)
        p = uncertainty.mcnemar(actual, guess[0], against[0])
        rows.append({"method": method, "other": other, **flat(found), "p": p})
    return pd.DataFrame(rows).assign(p_holm=uncertainty.holm([row["p"] for row in rows]))


def codes(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, int]:
    """Class numbers of the labels [rows] and of the answers [1, rows], and the number of labels."""
    return (
        table.actual.cat.codes.to_numpy(),
        table.predicted.cat.codes.to_numpy()[None],
        len(table.actual.cat.categories),
    )


def flat(found: dict[str, Interval]) -> dict[str, float]:
    return {
        f"{figure}{suffix}": value
        for figure, interval in found.items()
        for suffix, value in (("", interval.value), ("_low", interval.low), ("_high", interval.high))
    }


def interval(row: pd.Series, figure: str) -> Interval:
    return Interval(row[figure], row[f"{figure}_low"], row[f"{figure}_high"])


# --- the page


def methods_table(table: pd.DataFrame, intervals: pd.DataFrame) -> list[list[str]]:
    head = ["method", "accuracy", "95% interval", "macro F1", "95% interval", "trainable parameters", "saved, MB"]
    rows = []
    for row in table[::-1].itertuples():
        accuracy, f1 = (between(intervals.loc[row.method], figure) for figure in uncertainty.FIGURES)
        rows.append(
            [
                row.method,
                *(f"{row.accuracy:.1%}", accuracy, f"{row.f1:.1%}", f1),
                f"{row.trainable_parameters:,}",
                f"{row.artifact_bytes / 1e6:.1f}" if row.artifact_bytes else "",
            ]
        )
    return [head, *rows]


def differences_table(differences: pd.DataFrame) -> list[list[str]]:
    head = ["method", "less", "accuracy", "95% interval", "macro F1", "95% interval", "p"]
    return [
        head,
        *(
            [
                row.method,
                row.other,
                *(f"{100 * row.accuracy:+.1f}", between(row, "accuracy", "+")),
                *(f"{100 * row.f1:+.1f}", between(row, "f1", "+")),
                f"{row.p_holm:.2g}",
            ]
            for _, row in differences.iterrows()
        ),
    ]


def between(row: pd.Series, figure: str, sign: str = "") -> str:
    """The figure's interval in points."""
    return f"{100 * row[f'{figure}_low']:{sign}.1f} to {100 * row[f'{figure}_high']:{sign}.1f}"


def wrong_for_all(tables: list[pd.DataFrame]) -> page.Section:
    """Texts to which every table gives one and the same wrong label, the surest first."""
    first = tables[0]
    alike = first.predicted != first.actual
    for table in tables[1:]:
        alike &= table.predicted == first.predicted
    sureness = sum(table.filter(regex="^p_").max(axis=1) for table in tables) / len(tables)
    found = first.assign(sureness=sureness)[alike]
    said = f"{len(found)} of {len(first)} test texts get the same wrong label from every trained method: read theirs."
    return page.Section("Wrong for every method", said, errors_table(found))


def surest_errors(method: str, table: pd.DataFrame) -> page.Section:
    found = table.assign(sureness=table.filter(regex="^p_").max(axis=1))[table.predicted != table.actual]
    said = f"Of `{method}`, which errs on {len(found)} of {len(table)} test texts."
    return page.Section("Surest errors", said, errors_table(found))


def errors_table(errors: pd.DataFrame) -> list[list[str]]:
    """The surest first; `errors` has columns text, actual, predicted, sureness."""
    surest = errors.sort_values("sureness", ascending=False, kind="stable")
    rows = [
        [textwrap.shorten(row.text, 300), row.actual, row.predicted, f"{row.sureness:.2f}"]
        for row in surest.head(SHOWN).itertuples()
    ]
    return [["text", "label", "predicted", "probability"], *rows]


if __name__ == "__main__":
    run(main)

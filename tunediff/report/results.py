"""What the stages wrote of all methods, read for the report."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tunediff.core.files import read_json
from tunediff.evidence import rules
from tunediff.evidence.comparison import Predictions, on_front, predictions_of
from tunediff.evidence.growth_curve import Curves, curves
from tunediff.report.settings import Reporting
from tunediff.tasks import TASKS
from tunediff.tasks.interface import Task

IN_USE = ("start_seconds", "answer_memory_bytes")  # of methods that are loaded from the disk
BYTES = 4  # of a weight of a pretrained model in floats
COEFFICIENT = 8  # bytes of a weight of scikit-learn's, where no model is kept that could be weighed


@dataclass(frozen=True)
class About:
    """What the stages wrote of the methods, beside their figures and answers on test."""

    details: dict[str, dict[str, Any]]
    """metrics/detail/METHOD.json of each method."""
    validation: dict[str, dict[str, float]]
    """Figures on validation of those that have some."""
    validated: int
    """Validation rows."""
    adapters: dict[str, str]
    """Those that are adapters, in a few words."""
    prompted: dict[str, str]
    """The language model of each method that asked one."""
    machine: str
    """That trained."""
    curves: pd.DataFrame
    """See `learning_curves`; of all trained methods."""
    growth: pd.DataFrame
    """See `growth_with_rows`."""
    noise: pd.DataFrame
    """See `label_noise`."""
    all_judged: bool = False
    """Whether it is a list of all rows."""
    texts: int = 0
    """Rows of all splits, if folds could make each of them a test row."""
    folds: int | None = None
    """How many have done so."""
    few: Curves | None = None
    """See `few_labels`."""
    setfit_texts: int | None = None
    """See `report.settings.Reporting`."""
    kept: pd.DataFrame | None = None
    """See `evidence.rules.kept`, if the data file has rules."""


def about(
    settings: Reporting, methods: list[str], folders: argparse.Namespace, answers: dict[str, Predictions]
) -> About:
    """`folders` has metrics, detail, cost, curves, and the files profile and label_noise."""
    rows = {side: split["rows"] for side, split in read_json(folders.profile)["splits"].items()}
    figures = TASKS[settings.task].each_epoch
    keeping = (answers, settings.rules, settings.report.confidence, f"conf/data/{settings.data}.yaml")
    noise, all_judged = label_noise(settings, folders)
    validation = {method: folders.metrics / "validation" / f"{method}.json" for method in methods}
    return About(
        details={method: details(method, folders.detail, settings.folds) for method in methods},
        validation={method: read_json(path) for method, path in validation.items() if path.exists()},
        validated=rows["validation"],
        adapters=settings.adapters,
        prompted=settings.prompted,
        machine=read_json(folders.cost / "training" / f"{settings.trained[0]}.json")["machine"],
        curves=pd.concat(learning_curves(folders.curves / method) for method in sorted(settings.trained)),
        growth=growth_with_rows(settings, folders.metrics, rows["train"], figures),
        noise=noise,
        all_judged=all_judged,
        texts=sum(rows.values()) if settings.foldable else 0,
        folds=settings.folds,
        few=few_labels(settings, folders, rows["train"]) if settings.per_label else None,
        setfit_texts=settings.setfit_texts,
        kept=rules.kept(*keeping) if settings.rules else None,
    )


def details(method: str, folder: Path, folds: int | None) -> dict[str, Any]:
    """metrics/detail/METHOD.json; with `folds`, what was fitted in each of them, by its number, of the first seed."""
    found = read_json(folder / f"{method}.json")
    if folds:
        fitted = read_json(folder / "folds" / f"{method}.json")["fitted"]
        found["folds"] = {int(fold): next(iter(seeds.values())) or {} for fold, seeds in fitted.items()}
    return found


def methods_table(methods: list[str], metrics: Path, cost: Path, quality: str) -> pd.DataFrame:
    """Figures and cost of each method, and whether it is on the front of `quality` and a cost; the worst first.

    Costs as `evidence.settings.Cost` names them. What is loaded to answer is what is stored of a version, and for an
    adapter, a probe or a prompt the pretrained model, which others share; nothing, if that is on a server.
    """
    rows = [
        {"method": method, **read_json(metrics / f"{method}.json"), **read_json(cost / f"{method}.json")}
        for method in methods
    ]
    table = pd.DataFrame(rows).sort_values(quality)
    stored = table.artifact_bytes.where(table.artifact_bytes > 0, COEFFICIENT * table.trainable_parameters)
    floats = BYTES * (table.total_parameters.fillna(0) - table.trainable_parameters)
    shared = table.get("frozen_bytes", floats).fillna(floats)  # of quantized weights, training says it
    return table.assign(
        artifact_bytes=stored,
        loaded_bytes=(stored + shared).round().astype(int),
        answer_money=table.get("money_per_1000", pd.Series(0.0, table.index)).fillna(0.0),
        answer_seconds=1000 / table.samples_per_second,
        **{name: table.get(name, pd.Series(np.nan, table.index)) for name in IN_USE},
        front_parameters=on_front(table, quality, "trainable_parameters"),
        front_time=on_front(table, quality, "train_seconds"),
    )


def predictions(methods: Iterable[str], folder: Path, task: type[Task]) -> dict[str, Predictions]:
    """What each method answers on test, in the order of `methods`."""
    return {method: predictions_of(pd.read_parquet(folder / f"{method}.parquet"), task) for method in methods}


def growth_with_rows(settings: Reporting, metrics: Path, all_rows: int, figures: tuple[str, ...]) -> pd.DataFrame:
    """Figures by training rows: columns method, rows and `figures`; empty if none was asked for.

    They are on validation, or with folds of all rows. `all_rows` is how many rows the methods' own stages trained on.
    """
    results = {}
    folder = metrics / "folds" if settings.folds else metrics
    for share in settings.shares:
        part = read_json(folder / "training_rows" / f"{share}.json")
        results |= {(method, part["rows"]): part[method] for method in settings.growing}
        all_rows = part.get("all_rows", all_rows)
    if results:
        on_all = folder if settings.folds else metrics / "validation"
        own = {method: read_json(on_all / f"{method}.json") for method in settings.growing}
        results |= {(method, all_rows): values for method, values in own.items()}
    rows = [{"method": method, "rows": rows, **values} for (method, rows), values in results.items()]
    return pd.DataFrame(rows, columns=["method", "rows", *figures])


def label_noise(settings: Reporting, folders: argparse.Namespace) -> tuple[pd.DataFrame, bool]:
    """The list of likely wrong labels, and whether it has all rows: with folds, but for spans."""
    options = {
        "dtype": {"label": str, "suggested": str},  # labels such as 007 or NA are text
        "keep_default_na": False,
        "encoding": "utf-8-sig",
    }
    every = folders.predictions / "folds" / "label_noise.csv"
    if settings.folds and len(table := pd.read_csv(every, **options)):
        return table, True
    return pd.read_csv(folders.label_noise, **options), False


def few_labels(settings: Reporting, folders: argparse.Namespace, all_rows: int) -> Curves:
    """The decisive figure on test by the number of training rows for each label; `all_rows` is how many there are."""
    own = predictions(settings.growing, folders.predictions, TASKS[settings.task])
    files = [folders.predictions / "few_labels" / f"{number}.npz" for number in settings.per_label]
    drawn = [np.load(file) for file in files]
    some = own[settings.growing[0]]
    counts = {
        method: [*(some.by_group(one[method])[0] for one in drawn), own[method].sums] for method in settings.growing
    }
    figures = [read_json(folders.metrics / "few_labels" / f"{number}.json") for number in settings.per_label]
    return curves(
        some.figures(settings.report.figure),
        [*settings.per_label, figures[-1]["per_label_of_all"]],
        [*(each["rows"] for each in figures), all_rows],
        counts,
        settings.report.confidence,
        settings.seed,
    )


def learning_curves(folder: Path) -> pd.DataFrame:
    """One method's curves from DVCLive: columns method, epoch, train_loss, validation_loss and so on.

    Those of its first seed: what further ones wrote is in folders of their own.
    """
    files = sorted(folder.glob("plots/metrics/*/*.tsv"))
    series = {
        f"{path.parent.name}_{path.stem}": pd.read_csv(path, sep="\t", index_col="step")[path.stem] for path in files
    }
    return pd.DataFrame(series).rename_axis("epoch").reset_index().assign(method=folder.name)

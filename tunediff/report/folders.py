"""The report's tables as CSV, each with its picture."""

import argparse

import pandas as pd

from tunediff.core.csv_cells import harmless
from tunediff.core.files import atomic
from tunediff.evidence.calibration import reliability
from tunediff.evidence.comparison import Evidence, worst_labels
from tunediff.evidence.growth_curve import Curves
from tunediff.report import error_list, plots
from tunediff.report.colours import palette
from tunediff.report.of_task import of_task
from tunediff.report.words import grown_on


def write(
    evidence: Evidence,
    curves: pd.DataFrame,
    growth: pd.DataFrame,
    folders: argparse.Namespace,
    few: Curves | None = None,
    kept: pd.DataFrame | None = None,
) -> None:
    """Write the folders that `folders` names; `curves`, `growth`, `few` and `kept` are those of `results.About`."""
    with atomic(folders.errors) as partial:
        errors = error_list.errors(evidence.predictions)
        errors.map(lambda value: harmless(value) if isinstance(value, str) else value).to_csv(partial, index=False)
    decisive = evidence.task.figures[evidence.report.figure]
    colours = palette(evidence.methods.method.tolist())
    shown = [evidence.task.figures[name] for name in evidence.task.headline]
    with atomic(folders.learning_curves) as folder:
        folder.mkdir()
        curves.to_csv(folder / "learning_curves.csv", index=False)
        plots.learning_curves(curves, evidence.by_epoch, colours, folder / "learning_curves.png")
        if not growth.empty:
            growth.to_csv(folder / "training_rows.csv", index=False)
            on = grown_on(evidence.decision.folds)
            figure = evidence.by_rows
            values, title = growth.rename(columns={figure.name: "value"}), f"{figure.title} on {on}"
            picture = folder / "training_rows.png"
            plots.by_rows(values, "rows", "training rows", title, figure, colours, picture)
        if few:
            few.points.to_csv(folder / "few_labels.csv", index=False)
            title, picture = f"{decisive.title} on test", folder / "few_labels.png"
            across = "training rows for each label"
            plots.by_rows(few.points, "per_label", across, title, decisive, colours, picture)
    with atomic(folders.comparison) as folder:
        folder.mkdir()
        evidence.methods.to_csv(folder / "comparison.csv", index=False)
        plots.quality_against_cost(evidence.methods, evidence.main, colours, folder / "comparison.png")
    with atomic(folders.uncertainty) as folder:
        folder.mkdir()
        evidence.intervals.to_csv(folder / "intervals.csv")
        evidence.differences.to_csv(folder / "differences.csv", index=False)
        if kept is not None:
            kept.assign(rule=kept.rule.map(harmless)).to_csv(folder / "rules.csv", index=False)
        plots.intervals(evidence.intervals.reset_index(), shown, evidence.report.confidence, folder / "intervals.png")
    with atomic(folders.slices) as folder:
        folder.mkdir()
        evidence.slices.assign(slice=evidence.slices.slice.map(harmless)).to_csv(folder / "slices.csv", index=False)
        evidence.cutting.to_csv(folder / "cut_texts.csv", index=False)
        plots.slices(worst_labels(evidence.slices, evidence.main.name), evidence.main, folder / "slices.png")
    with atomic(folders.calibration) as folder:
        folder.mkdir()
        bins = pd.concat(
            reliability(*one.confidence).assign(method=method) for method, one in reversed(evidence.predictions.items())
        )
        bins.to_csv(folder / "reliability.csv", index=False)
        if not bins.empty:
            words = of_task(evidence.task)
            plots.reliability(bins, words.CONFIDENCE, words.OFTEN, folder / "reliability.png")
    with atomic(folders.confusion) as folder:
        folder.mkdir()
        for method, one in evidence.predictions.items():
            plots.confusion(method, one, folder / f"{method}.png")

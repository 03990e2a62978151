"""The report's tables as CSV, each with its picture."""

import argparse

import pandas as pd

from tunediff.core.csv_cells import harmless
from tunediff.core.files import atomic
from tunediff.evidence.calibration import reliability
from tunediff.evidence.comparison import Evidence, worst_labels
from tunediff.report import error_list, plots
from tunediff.report.colours import palette
from tunediff.report.of_task import of_task


def write(evidence: Evidence, curves: pd.DataFrame, growth: pd.DataFrame, folders: argparse.Namespace) -> None:
    """Write the folders that `folders` names; `curves` and `growth` are those of `results`."""
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
            plots.training_rows(growth, decisive, colours, folder / "training_rows.png")
    with atomic(folders.comparison) as folder:
        folder.mkdir()
        evidence.methods.to_csv(folder / "comparison.csv", index=False)
        plots.quality_against_cost(evidence.methods, evidence.main, colours, folder / "comparison.png")
    with atomic(folders.uncertainty) as folder:
        folder.mkdir()
        evidence.intervals.to_csv(folder / "intervals.csv")
        evidence.differences.to_csv(folder / "differences.csv", index=False)
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

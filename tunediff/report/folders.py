"""The report's tables as CSV, each with its picture."""

import argparse

import pandas as pd

from tunediff.core.csv_cells import harmless
from tunediff.core.files import atomic
from tunediff.evidence.calibration import reliability
from tunediff.evidence.comparison import Evidence, worst_labels
from tunediff.report import plots
from tunediff.report.of_task import of_task


def write(evidence: Evidence, curves: pd.DataFrame, growth: pd.DataFrame, folders: argparse.Namespace) -> None:
    """Write the folders that `folders` names; `curves` and `growth` are those of `results`."""
    decisive = evidence.task.figures[evidence.report.figure]
    shown = [evidence.task.figures[name] for name in evidence.task.headline]
    with atomic(folders.learning_curves) as folder:
        folder.mkdir()
        curves.to_csv(folder / "learning_curves.csv", index=False)
        # Where the figure takes too long for each epoch, the last one that does not.
        each = evidence.task.each_epoch
        by_epoch = decisive if decisive.name in each else evidence.task.figures[each[-1]]
        plots.learning_curves(curves, by_epoch, folder / "learning_curves.png")
        if not growth.empty:
            growth.to_csv(folder / "training_rows.csv", index=False)
            plots.training_rows(growth, decisive, folder / "training_rows.png")
    with atomic(folders.comparison) as folder:
        folder.mkdir()
        evidence.methods.to_csv(folder / "comparison.csv", index=False)
        plots.quality_against_cost(evidence.methods, evidence.main, folder / "comparison.png")
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
        words = of_task(evidence.task)
        if not bins.empty:
            plots.reliability(bins, words.CONFIDENCE, words.OFTEN, folder / "reliability.png")
    with atomic(folders.confusion) as folder:
        folder.mkdir()
        for method, one in evidence.predictions.items():
            plots.confusion(method, one, folder / f"{method}.png")

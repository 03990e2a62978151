"""The pictures of a sweep and of the leaderboard."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tunediff.report.colours import COLOURS
from tunediff.report.plots import MARKERS, axis_limits, save, write_below
from tunediff.tasks import FIGURES
from tunediff.tasks.interface import Figure as Quality

COST_NAMES = {
    "train_seconds": "training time, seconds",
    "trainable_parameters": "trainable parameters",
    "peak_memory_bytes": "peak memory, bytes",
}


def leaderboard(table: pd.DataFrame, order: list[str], quality: Quality, path: Path) -> None:
    """Draw a figure on test: a panel for each data set and model, the methods of `order` from top to bottom.

    `table` has a row for each run: columns data, model, method, the figure's name, the same with `_deviation` (NaN for
    a single training), and chosen, which is true for one run of each method in a panel.
    """
    figure_name = quality.name
    panels = list(table[table[figure_name].notna()].groupby(["data", "model"]))
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.5 + 3 * columns, rows * (1.2 + 0.26 * len(order))), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (names, runs) in zip(grid.flat, panels, strict=False):
        _leaderboard_panel(axes, runs, order, figure_name)
        axes.set(title="\n".join(names))
    figure.supxlabel(f"{quality.words} on test")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    save(figure, path)


def _leaderboard_panel(axes: Axes, runs: pd.DataFrame, order: list[str], figure_name: str) -> None:
    row = runs.method.map(order.index)
    best = runs[runs.chosen]
    others = runs[~runs.chosen]
    dots = {"xerr": best[f"{figure_name}_deviation"], "fmt": "o", "color": COLOURS[0]}
    ticks = {"s": 60, "marker": "|", "color": COLOURS[1], "zorder": 3}
    axes.errorbar(best[figure_name], row[best.index], label="best on validation", **dots)
    axes.scatter(others[figure_name], row[others.index], label="other runs", **ticks)
    limits = axis_limits(runs, figure_name, figure_name)
    write_below(axes, limits[0], best[figure_name], row[best.index])
    axes.set(xlim=limits, ylim=(len(order) - 0.5, -0.5))
    axes.set_yticks(range(len(order)), order)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)


def sweep_history(trials: pd.DataFrame, quality: str, path: Path) -> None:
    """Draw the quality of each trial and the best so far, a panel for each method.

    `trials` has columns method, trial, state, and the quality of the trials that are complete. The first trial of each
    method has the defaults.
    """
    methods = list(trials.groupby("method", sort=False))
    figure = Figure(figsize=(1 + 4.5 * len(methods), 3.8), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False).flat
    limits = _limits_of_better_half(trials[quality], quality)
    labels = {}
    for axes, (method, rows) in zip(panels, methods, strict=True):
        _history_panel(axes, rows, quality, limits)
        axes.set(title=method)
        handles, names = axes.get_legend_handles_labels()
        labels |= dict(zip(names, handles, strict=True))
    figure.axes[0].set_ylabel(f"{FIGURES[quality].words} on validation")
    figure.legend(labels.values(), labels, loc="outside upper center", ncols=5, frameon=False)
    save(figure, path)


def _history_panel(axes: Axes, rows: pd.DataFrame, quality: str, limits: tuple[float, float]) -> None:
    best_so_far = FIGURES[quality].sign * (FIGURES[quality].sign * rows[quality]).cummax()
    axes.axhline(rows[quality].iloc[0], color="grey", linestyle=":", label="the defaults")
    axes.step(rows.trial, best_so_far.ffill(), where="post", color=COLOURS[0], label="best so far")
    axes.scatter(rows.trial, rows[quality], color=COLOURS[0], zorder=3, label="complete")
    axes.set_ylim(limits)
    _write_outside(axes, rows.trial, rows[quality])
    for state, colour, marker in (("pruned", COLOURS[1], "x"), ("failed", COLOURS[6], "v")):
        ended = rows.trial[rows.state == state]
        if len(ended):
            style = {"color": colour, "marker": marker, "label": state}
            axes.scatter(ended, [0.03] * len(ended), transform=axes.get_xaxis_transform(), **style)
    axes.set(xlabel="trial")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


def sweep_importance(importances: pd.DataFrame, path: Path) -> None:
    """Draw a panel for each method and objective.

    `importances` has columns method, objective, hyperparameter, importance.
    """
    panels = list(importances.groupby(["method", "objective"], sort=False))
    most = max(len(rows) for _, rows in panels)
    figure = Figure(figsize=(1 + 4.5 * len(panels), 1.2 + 0.4 * most), layout="constrained")
    for axes, (names, rows) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        bars = axes.barh(rows.hyperparameter.str.rpartition(":")[2], rows.importance, height=0.7, color=COLOURS[0])
        axes.bar_label(bars, fmt="{:.0%}", padding=3)
        axes.set(title=" for ".join(names), xlim=(0, 1.15), ylim=(most - 0.5, -0.5), xlabel="importance")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3, axis="x")
        axes.set_axisbelow(True)
    save(figure, path)


def sweep_pareto(trials: pd.DataFrame, front: pd.DataFrame, quality: str, cost: str, path: Path) -> None:
    """Draw quality against cost for the complete trials of all methods; those of `front` are joined.

    Both tables have columns method, trial, and the two figures; `front` has some rows of `trials`.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    ordered = front.sort_values(cost)
    axes.step(ordered[cost], ordered[quality], where="post", color="grey", zorder=1, label="Pareto front")
    for i, (method, rows) in enumerate(trials.groupby("method", sort=False)):
        style = {"s": 60, "color": COLOURS[i % 8], "marker": MARKERS[i % 8], "zorder": 3}
        edges = np.where(rows.index.isin(front.index), "black", "white")
        axes.scatter(rows[cost], rows[quality], edgecolors=edges, **style)
        axes.scatter([], [], label=method, **style)
        default = rows[rows.trial == 0]
        axes.scatter(default[cost], default[quality], s=220, facecolors="none", edgecolors=COLOURS[i % 8])
    axes.scatter([], [], s=220, facecolors="none", edgecolors="grey", label="with the defaults")
    axes.margins(0.08)
    limits = _limits_of_better_half(trials[quality], quality)
    axes.set(xlabel=COST_NAMES[cost], ylabel=f"{FIGURES[quality].words} on validation", ylim=limits)
    _write_outside(axes, trials[cost], trials[quality])
    for row in ordered[ordered[quality].between(*axes.get_ylim())].to_dict("records"):
        axes.annotate(
            f"{row['method']} {row['trial']}",
            (row[cost], row[quality]),
            (-9, 7),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    save(figure, path)


def _limits_of_better_half(values: pd.Series, quality: str) -> tuple[float, float]:
    """Ends of an axis that shows the better half and twice as far again; trials that collapsed do not stretch it."""
    sign = FIGURES[quality].sign
    best = (sign * values).max()
    median = (sign * values).median()
    worst = max((sign * values).min(), best - 3 * max(best - median, 0.005))
    margin = max(0.1 * (best - worst), 0.005)
    low, high = sorted((sign * (worst - margin), sign * (best + margin)))
    return low, high


def _write_outside(axes: Axes, x: pd.Series, y: pd.Series) -> None:
    """Write the values of points above or below the axes at the edge that is next to them."""
    low, high = axes.get_ylim()
    for position, value in zip(x, y, strict=True):
        if value < low:
            axes.text(position, 0.07, f"▾{value:.2f}", ha="center", fontsize=8, transform=axes.get_xaxis_transform())
        elif value > high:
            axes.text(position, 0.94, f"▴{value:.2f}", ha="center", fontsize=8, transform=axes.get_xaxis_transform())

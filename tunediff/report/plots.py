"""Pictures, drawn without a screen and with the same bytes for the same figures."""

import textwrap
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import Predictions

# Okabe and Ito's colours, which colour-blind readers tell apart too.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
MARKERS = "osD^v<>p"
COST_NAMES = {
    "train_seconds": "training time, seconds",
    "trainable_parameters": "trainable parameters",
    "peak_memory_bytes": "peak memory, bytes",
}


def _limits(table: pd.DataFrame, low: str, high: str) -> tuple[float, float]:
    """Of an axis that shows these columns. Those of WITHOUT_LEARNING, far below as a rule, do not stretch it."""
    shown = table[~table.method.isin(WITHOUT_LEARNING)]
    least, most = shown[low].min(), shown[high].max()
    margin = max(0.1 * (most - least), 0.005)
    return least - margin, most + margin


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})


def confusion(method: str, predictions: Predictions, path: Path) -> None:
    """Rows: the label a text has; columns: the one it was given; colour: share of the row."""
    names = predictions.task.labels
    trainings = len(predictions.predicted)
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (np.tile(predictions.actual, trainings), predictions.predicted.ravel()), 1)
    accuracy = predictions.right.mean()
    title = f"{method}: accuracy {accuracy:.1%}" + f", {trainings} seeds" * (trainings > 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.6 * min(len(names), 20)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the actual label", shrink=0.8)
    axes.set(title=title, xlabel="predicted", ylabel="actual")
    if len(names) <= 20:  # more would not be legible
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        for (row, column), count in np.ndenumerate(counts):
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.5 else "black",
            )
    _save(figure, path)


def learning_curves(curves: pd.DataFrame, path: Path) -> None:
    """`curves` has columns method, epoch, train_loss, validation_loss, validation_f1."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, f1 = figure.subplots(1, 2)
    for colour, (method, rows) in zip(cycle(COLOURS), curves.groupby("method", sort=False), strict=False):
        loss.plot(rows.epoch, rows.validation_loss, color=colour, marker="o", markersize=3, label=method)
        loss.plot(rows.epoch, rows.train_loss, color=colour, linestyle=":", alpha=0.8)
        f1.plot(rows.epoch, rows.validation_f1, color=colour, marker="o", markersize=3, label=method)
    loss.set(title="Loss (solid: validation, dotted: training)", xlabel="epoch", ylabel="cross-entropy")
    f1.set(title="Macro F1 on validation", xlabel="epoch", ylabel="F1")
    f1.legend(loc="lower right")
    for axes in (loss, f1):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def training_rows(growth: pd.DataFrame, path: Path) -> None:
    """`growth` has columns method, rows, f1; one row for each method and number of training rows."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for colour, (method, table) in zip(cycle(COLOURS), growth.groupby("method", sort=False), strict=False):
        axes.plot(table.rows, table.f1, color=colour, marker="o", markersize=4, label=method)
    ticks = sorted(growth.rows.unique())
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{rows:,}" for rows in ticks])
    axes.minorticks_off()
    axes.set(title="Macro F1 on validation", xlabel="training rows (each doubling as wide)", ylabel="F1")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    _save(figure, path)


def intervals(table: pd.DataFrame, confidence: float, path: Path) -> None:
    """`table` has columns method, accuracy, f1, and for both `_low` and `_high`; one row per method."""
    table = table.sort_values("accuracy")
    figure = Figure(figsize=(10, 1.2 + 0.28 * len(table)), layout="constrained")
    for axes, figure_name, title in zip(
        figure.subplots(1, 2, sharey=True), ("accuracy", "f1"), ("accuracy on test", "macro F1 on test"), strict=True
    ):
        value, low, high = (table[f"{figure_name}{suffix}"] for suffix in ("", "_low", "_high"))
        axes.errorbar(value, table.method, xerr=[value - low, high - value], fmt="o", color=COLOURS[0], capsize=3)
        limits = _limits(table, f"{figure_name}_low", f"{figure_name}_high")
        for place in np.flatnonzero(value < limits[0]):
            axes.text(0.01, place, f"◂ {value.iloc[place]:.1%}", transform=axes.get_yaxis_transform(), va="center")
        axes.set(xlabel=f"{title}, {100 * confidence:g}% interval", xlim=limits)
        axes.locator_params(axis="x", nbins=6)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
    _save(figure, path)


def reliability(bins: pd.DataFrame, path: Path) -> None:
    """`bins` is what `calibration.reliability` gives, with a column method."""
    methods = list(bins.groupby("method", sort=False))
    columns = min(4, len(methods))
    rows = -(-len(methods) // columns)
    figure = Figure(figsize=(2.8 * columns, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(methods) :]:
        axes.set_visible(False)
    for axes, (method, table) in zip(grid.flat, methods, strict=False):
        shades = [to_rgba(COLOURS[0], 0.15 + 0.85 * share) for share in table.rows / table.rows.max()]
        axes.bar(table.low, table.accuracy, table.high - table.low, align="edge", color=shades, edgecolor="white")
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
        error = np.average((table.confidence - table.accuracy).abs(), weights=table.rows)
        axes.set(title=f"{method}: off by {error:.1%}", xlim=(0, 1), ylim=(0, 1))
        axes.grid(alpha=0.3)
    figure.supxlabel("confidence: the largest probability (the darker, the more texts)")
    figure.supylabel("accuracy on test")
    _save(figure, path)


def slices(table: pd.DataFrame, path: Path) -> None:
    """Rows: methods; columns: parts of the test texts; colour: how far the accuracy is from the method's own on all.

    `table` is what `evidence.slices_of` gives, with the kind `all` among the others.
    """
    columns = table.drop_duplicates(["kind", "slice"])
    value, low, high = (
        table.pivot(index="method", columns=["kind", "slice"], values=f"accuracy{suffix}")[
            list(zip(columns.kind, columns.slice, strict=True))
        ]
        for suffix in ("", "_low", "_high")
    )
    order = value.iloc[:, 0].sort_values(ascending=False, kind="stable").index
    value, low, high = (one.loc[order].to_numpy() for one in (value, low, high))
    beyond = value - value[:, :1]
    most = max(0.1, np.abs(beyond).max())

    figure = Figure(figsize=(2 + 0.82 * len(columns), 1.7 + 0.42 * len(order)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * beyond, cmap="RdBu", vmin=-100 * most, vmax=100 * most, aspect="auto")
    figure.colorbar(image, ax=axes, label="points above or below all texts", pad=0.01)
    for row, column in np.ndindex(*value.shape):
        sure = low[row, column] > value[row, 0] or high[row, column] < value[row, 0]
        axes.text(
            column,
            row,
            f"{100 * value[row, column]:.1f}\n{100 * low[row, column]:.0f} to {100 * high[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold" if sure else "normal",
            color="white" if abs(beyond[row, column]) > 0.6 * most else "black",
        )
    names = [
        f"{textwrap.fill(row.slice, 13, max_lines=3, placeholder='…')}\n({row.rows:,})" for row in columns.itertuples()
    ]
    axes.set_xticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(order)), order)
    axes.tick_params(length=0)
    for place in np.flatnonzero(columns.kind.to_numpy()[1:] != columns.kind.to_numpy()[:-1]):
        axes.axvline(place + 0.5, color="white", linewidth=6)
    _save(figure, path)


def quality_against_cost(table: pd.DataFrame, path: Path) -> None:
    """Methods on the Pareto front stand out, are joined by the line of what a cost can buy, and are named.

    `table` has columns method, accuracy, trainable_parameters, train_seconds, and whether each is on the front of
    accuracy and one of these: front_parameters, front_time; one row per method.
    """
    table = table.sort_values("accuracy", ascending=False)
    figure = Figure(figsize=(12, max(5, 0.6 + 0.26 * len(table))), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    limits = _limits(table, "accuracy", "accuracy")
    # Zero has no place on a logarithm, and the cheap baselines have it: below `linear` the scale is linear.
    for axes, column, front, name, linear in (
        (left, "trainable_parameters", "front_parameters", "trainable parameters", 1000),
        (right, "train_seconds", "front_time", "training time, seconds", 1),
    ):
        for i, row in enumerate(table.to_dict("records")):
            # Every eight methods the marker changes, so that no two look the same.
            look = {"color": COLOURS[i % 8], "marker": MARKERS[i // 8 % len(MARKERS)]}
            look |= {"s": 90, "edgecolors": "black"} if row[front] else {"s": 50, "edgecolors": "white", "alpha": 0.6}
            label = f"{row['method']}  {row['accuracy']:.1%}{' (below)' if row['accuracy'] < limits[0] else ''}"
            axes.scatter(row[column], row["accuracy"], label=label, zorder=3, **look)
        axes.set_xscale("symlog", linthresh=linear, linscale=0.4)
        most = table[column].max()
        axes.set_xticks([0, *(linear * 10.0**power for power in range(9) if linear * 10.0 ** (power - 1) < most)])
        axes.margins(x=0.08)
        axes.set(xlabel=name, ylim=limits)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
        _front(axes, table[table[front]].sort_values([column, "accuracy"]), column)
    left.set(ylabel="accuracy on test")
    title = "Black edges and line: the Pareto front, where no other method is both as cheap and as accurate"
    figure.suptitle(title, fontsize=10)
    for handle in right.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False).legend_handles:
        handle.set(sizes=[70], edgecolor="white", alpha=1)  # a name is not on one of the fronts, or both
    _save(figure, path)


def _front(axes: Axes, front: pd.DataFrame, column: str) -> None:
    """The best accuracy that each cost buys, as a staircase, with the names of the methods that make it.

    `front` has these methods, the cheapest first.
    """
    axes.set_xlim(axes.get_xlim())
    axes.step([*front[column], axes.get_xlim()[1]], [*front.accuracy, front.accuracy.max()], where="post", color="grey")
    # No point lies above and left of one on the front: there is room for its name, but for the one before.
    bottom, top = axes.get_ylim()
    points = 72 * 0.85 * axes.figure.get_figheight() / (top - bottom)
    lowest = -np.inf
    for row in front[front.accuracy >= bottom].to_dict("records"):
        place = points * row["accuracy"]
        lowest = max(place + 5, lowest + 11)
        axes.annotate(
            row["method"],
            (row[column], row["accuracy"]),
            (-9, lowest - place),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.6} if lowest > place + 5 else None,
        )


def leaderboard(table: pd.DataFrame, order: list[str], path: Path) -> None:
    """A panel for each data set and model, the methods of `order` from top to bottom.

    `table` has a row for each run: data, model, method, accuracy, accuracy_deviation (NaN for a single training) and
    chosen, which is true for one run of each method in a panel.
    """
    panels = list(table[table.accuracy.notna()].groupby(["data", "model"]))
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.5 + 3 * columns, rows * (1.2 + 0.26 * len(order))), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (names, runs) in zip(grid.flat, panels, strict=False):
        place = runs.method.map(order.index)
        best, others = runs[runs.chosen], runs[~runs.chosen]
        dots = {"xerr": best.accuracy_deviation, "fmt": "o", "color": COLOURS[0]}
        ticks = {"s": 60, "marker": "|", "color": COLOURS[1], "zorder": 3}
        axes.errorbar(best.accuracy, place[best.index], label="best on validation", **dots)
        axes.scatter(others.accuracy, place[others.index], label="other runs", **ticks)
        limits = _limits(runs, "accuracy", "accuracy")
        for method, accuracy in zip(best.method, best.accuracy, strict=True):
            if accuracy < limits[0]:
                here = {"transform": axes.get_yaxis_transform(), "va": "center"}
                axes.text(0.01, order.index(method), f"◂ {accuracy:.1%}", **here)
        axes.set(title="\n".join(names), xlim=limits, ylim=(len(order) - 0.5, -0.5))
        axes.set_yticks(range(len(order)), order)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
    figure.supxlabel("accuracy on test")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    _save(figure, path)


def _limits_of_good(values: pd.Series, quality: str) -> tuple[float, float]:
    """Of an axis that shows the better half and twice as far again below: trials that collapsed do not stretch it."""
    sign = -1 if quality == "loss" else 1
    best, median, worst = (sign * values).max(), (sign * values).median(), (sign * values).min()
    worst = max(worst, best - 3 * max(best - median, 0.005))
    margin = max(0.1 * (best - worst), 0.005)
    low, high = sorted((sign * (worst - margin), sign * (best + margin)))
    return low, high


def _beyond(axes: Axes, x: pd.Series, y: pd.Series) -> None:
    """Write the figures of points outside the axes to the edge that is next to them."""
    low, high = axes.get_ylim()
    for place, value in zip(x, y, strict=True):
        if value < low:
            axes.text(place, 0.07, f"▾{value:.2f}", ha="center", fontsize=8, transform=axes.get_xaxis_transform())
        elif value > high:
            axes.text(place, 0.94, f"▴{value:.2f}", ha="center", fontsize=8, transform=axes.get_xaxis_transform())


def sweep_history(trials: pd.DataFrame, quality: str, path: Path) -> None:
    """A panel for each method. `trials` has columns method, trial, state, and the quality of those that are complete.

    The first trial of each method has the defaults.
    """
    methods = list(trials.groupby("method", sort=False))
    figure = Figure(figsize=(1 + 4.5 * len(methods), 3.8), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False).flat
    labels = {}
    for axes, (method, rows) in zip(panels, methods, strict=True):
        so_far = rows[quality].cummin() if quality == "loss" else rows[quality].cummax()
        axes.axhline(rows[quality].iloc[0], color="grey", linestyle=":", label="the defaults")
        axes.step(rows.trial, so_far.ffill(), where="post", color=COLOURS[0], label="best so far")
        axes.scatter(rows.trial, rows[quality], color=COLOURS[0], zorder=3, label="complete")
        axes.set_ylim(_limits_of_good(trials[quality], quality))
        _beyond(axes, rows.trial, rows[quality])
        for state, colour, marker in (("pruned", COLOURS[1], "x"), ("failed", COLOURS[6], "v")):
            ended = rows.trial[rows.state == state]
            if len(ended):
                look = {"color": colour, "marker": marker, "label": state}
                axes.scatter(ended, [0.03] * len(ended), transform=axes.get_xaxis_transform(), **look)
        axes.set(title=method, xlabel="trial")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        handles, names = axes.get_legend_handles_labels()
        labels |= dict(zip(names, handles, strict=True))
    figure.axes[0].set_ylabel(f"{quality} on validation")
    figure.legend(labels.values(), labels, loc="outside upper center", ncols=5, frameon=False)
    _save(figure, path)


def sweep_importance(shares: pd.DataFrame, path: Path) -> None:
    """A panel for each method and objective. `shares` has columns method, objective, hyperparameter, importance."""
    panels = list(shares.groupby(["method", "objective"], sort=False))
    most = max(len(rows) for _, rows in panels)
    figure = Figure(figsize=(1 + 4.5 * len(panels), 1.2 + 0.4 * most), layout="constrained")
    for axes, (names, rows) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        bars = axes.barh(rows.hyperparameter.str.rpartition(":")[2], rows.importance, height=0.7, color=COLOURS[0])
        axes.bar_label(bars, fmt="{:.0%}", padding=3)
        axes.set(title=" for ".join(names), xlim=(0, 1.15), ylim=(most - 0.5, -0.5), xlabel="importance")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3, axis="x")
        axes.set_axisbelow(True)
    _save(figure, path)


def sweep_pareto(trials: pd.DataFrame, front: pd.DataFrame, quality: str, cost: str, path: Path) -> None:
    """Complete trials of all methods; those of `front` are joined. Columns method, trial, and the two figures."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    ordered = front.sort_values(cost)
    axes.step(ordered[cost], ordered[quality], where="post", color="grey", zorder=1, label="Pareto front")
    for i, (method, rows) in enumerate(trials.groupby("method", sort=False)):
        look = {"s": 60, "color": COLOURS[i % 8], "marker": MARKERS[i % 8], "zorder": 3}
        edges = np.where(rows.index.isin(front.index), "black", "white")
        axes.scatter(rows[cost], rows[quality], edgecolors=edges, **look)
        axes.scatter([], [], label=method, **look)
        default = rows[rows.trial == 0]
        axes.scatter(default[cost], default[quality], s=220, facecolors="none", edgecolors=COLOURS[i % 8])
    axes.scatter([], [], s=220, facecolors="none", edgecolors="grey", label="with the defaults")
    axes.margins(0.08)
    axes.set(xlabel=COST_NAMES[cost], ylabel=f"{quality} on validation", ylim=_limits_of_good(trials[quality], quality))
    _beyond(axes, trials[cost], trials[quality])
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
    _save(figure, path)

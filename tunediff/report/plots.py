"""Pictures, drawn without a screen and with the same bytes for the same figures."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.report.colours import COLOURS, colour
from tunediff.tasks.interface import Figure as Quality

if TYPE_CHECKING:
    from tunediff.evidence.comparison import Predictions

MARKERS = "osD^v<>p"
Palette = dict[str, int | None]
"""What `colours.palette` gives."""


def axis_limits(table: pd.DataFrame, low: str, high: str) -> tuple[float, float]:
    """Ends of an axis that shows the columns `low` to `high`. `table` has a column method, too.

    The methods of WITHOUT_LEARNING, far below as a rule, do not stretch the axis.
    """
    shown = table[~table.method.isin(WITHOUT_LEARNING)]
    least = shown[low].min()
    most = shown[high].max()
    margin = max(0.1 * (most - least), 0.005)
    return least - margin, most + margin


def write_below(axes: Axes, limit: float, values: pd.Series, rows: Iterable[int]) -> None:
    """Write each value below `limit`, the left end of the axis, at the left edge of its row."""
    for value, row in zip(values, rows, strict=True):
        if value < limit:
            axes.text(0.01, row, f"◂ {value:.1%}", transform=axes.get_yaxis_transform(), va="center")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without anything that differs from one machine to the next."""
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})


def confusion(method: str, predictions: "Predictions", path: Path) -> None:
    """Draw a matrix of counts: rows are the labels that texts have, columns those they were given.

    The colour is a count's share of its row.
    """
    names, counts = predictions.confusion.index, predictions.confusion.to_numpy()
    trainings = len(predictions.predicted)
    main = predictions.task.figures[predictions.task.headline[0]]
    value = predictions.mean(main.name, np.ones(len(predictions.table), bool))
    title = f"{method}: {main.words} {value:.1%}" + f", {trainings} seeds" * (trainings > 1)
    of_row = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.6 * min(len(names), 20)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(of_row, cmap="Blues", vmin=0, vmax=1)
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
                color="white" if of_row[row, column] > 0.5 else "black",
            )
    save(figure, path)


def learning_curves(curves: pd.DataFrame, quality: Quality, palette: Palette, path: Path) -> None:
    """Draw the loss and another figure by epoch.

    `curves` has columns method, epoch, train_loss, validation_loss, and validation_NAME for the figure's name.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, other = figure.subplots(1, 2)
    for method, rows in curves.groupby("method", sort=False):
        own = colour(palette[method])
        loss.plot(rows.epoch, rows.validation_loss, color=own, marker="o", markersize=3, label=method)
        loss.plot(rows.epoch, rows.train_loss, color=own, linestyle=":", alpha=0.8)
        values = rows[f"validation_{quality.name}"]
        other.plot(rows.epoch, values, color=own, marker="o", markersize=3, label=method)
    loss.set(title="Loss (solid: validation, dotted: training)", xlabel="epoch", ylabel="cross-entropy")
    other.set(title=f"{quality.title} on validation", xlabel="epoch", ylabel=quality.words)
    other.legend(loc="lower right")
    for axes in (loss, other):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    save(figure, path)


def by_rows(
    points: pd.DataFrame, number: str, across: str, title: str, quality: Quality, palette: Palette, path: Path
) -> None:
    """Draw the column `value`, a figure, by the column `number` of training rows, with bands low to high if there are.

    `points` also has a column method; one row for each point.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method, table in points.groupby("method", sort=False):
        own = colour(palette[method])
        axes.plot(table[number], table.value, color=own, marker="o", markersize=4, label=method)
        if "low" in table:
            axes.fill_between(table[number], table.low, table.high, color=own, alpha=0.15, linewidth=0)
    ticks = sorted(points[number].unique())
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{rows:,.0f}" for rows in ticks])
    axes.minorticks_off()
    axes.set(title=title, xlabel=f"{across} (each doubling as wide)")
    axes.set(ylabel=quality.words)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    save(figure, path)


def intervals(table: pd.DataFrame, qualities: list[Quality], confidence: float, path: Path) -> None:
    """Draw some figures of each method on test, with their intervals.

    `table` has one row per method: columns method, and for each figure its name, and the same with `_low` and `_high`.
    The first figure sorts the methods. `confidence` is that of the intervals, between 0 and 1.
    """
    table = table.sort_values(qualities[0].name)
    figure = Figure(figsize=(5 * len(qualities), 1.2 + 0.28 * len(table)), layout="constrained")
    panels = figure.subplots(1, len(qualities), sharey=True, squeeze=False).flat
    for axes, quality in zip(panels, qualities, strict=True):
        value, low, high = (table[f"{quality.name}{suffix}"] for suffix in ("", "_low", "_high"))
        axes.errorbar(value, table.method, xerr=[value - low, high - value], fmt="o", color=COLOURS[0], capsize=3)
        limits = axis_limits(table, f"{quality.name}_low", f"{quality.name}_high")
        write_below(axes, limits[0], value, range(len(table)))
        axes.set(xlabel=f"{quality.words} on test, {100 * confidence:g}% interval", xlim=limits)
        axes.locator_params(axis="x", nbins=6)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
    save(figure, path)


def reliability(bins: pd.DataFrame, confidence: str, often: str, path: Path) -> None:
    """Draw how often answers are right by their probability, a panel for each method.

    `bins` is what `calibration.reliability` gives, with a column method; the axes are titled `confidence` and `often`.
    """
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
    figure.supxlabel(f"{confidence} (the darker, the more of them)")
    figure.supylabel(often)
    save(figure, path)


def slices(table: pd.DataFrame, quality: Quality, path: Path) -> None:
    """Draw a figure of each method (rows) on parts of the test texts (columns).

    The colour is how far it is from the method's figure on all texts.

    `table` is what `evidence.slices_of` gives, with the kind `all` among the others.
    """
    columns = table.drop_duplicates(["kind", "slice"])
    value, low, high = (
        table.pivot(index="method", columns=["kind", "slice"], values=f"{quality.name}{suffix}")[
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
    for last in np.flatnonzero(columns.kind.to_numpy()[1:] != columns.kind.to_numpy()[:-1]):
        axes.axvline(last + 0.5, color="white", linewidth=6)
    save(figure, path)


def quality_against_cost(table: pd.DataFrame, quality: Quality, palette: Palette, path: Path) -> None:
    """Draw a figure by trainable parameters, and by training time.

    Methods on the Pareto front stand out, are joined by the line of what a cost can buy, and are named.

    `table` has one row per method: columns method, the figure's name, trainable_parameters, train_seconds, and whether
    the method is on the front of the figure and one of these: front_parameters, front_time.
    """
    name = quality.name
    table = table.sort_values(name, ascending=False)
    figure = Figure(figsize=(12, max(5, 0.6 + 0.26 * len(table))), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    limits = axis_limits(table, name, name)
    # Zero has no place on a logarithm, and the cheap baselines have it: below `linear` the scale is linear.
    for axes, column, front, words, linear in (
        (left, "trainable_parameters", "front_parameters", "trainable parameters", 1000),
        (right, "train_seconds", "front_time", "training time, seconds", 1),
    ):
        for i, row in enumerate(table.to_dict("records")):
            # The marker changes from one to the next: of more than eight methods, some have the same colour.
            look = {"color": colour(palette[row["method"]]), "marker": MARKERS[i % len(MARKERS)]}
            look |= {"s": 90, "edgecolors": "black"} if row[front] else {"s": 50, "edgecolors": "white", "alpha": 0.6}
            label = f"{row['method']}  {quality.show(row[name])}{' (below)' if row[name] < limits[0] else ''}"
            axes.scatter(row[column], row[name], label=label, zorder=3, **look)
        axes.set_xscale("symlog", linthresh=linear, linscale=0.4)
        most = table[column].max()
        axes.set_xticks([0, *(linear * 10.0**power for power in range(9) if linear * 10.0 ** (power - 1) < most)])
        axes.margins(x=0.08)
        axes.set(xlabel=words, ylim=limits)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
        _front(axes, table[table[front]].sort_values([column, name]), column, name)
    left.set(ylabel=f"{quality.words} on test")
    title = "Black edges and line: the Pareto front, where no other method is both as cheap and as good"
    figure.suptitle(title, fontsize=10)
    for handle in right.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False).legend_handles:
        handle.set(sizes=[70], edgecolor="white", alpha=1)  # a name is not on one of the fronts, or both
    save(figure, path)


def _front(axes: Axes, front: pd.DataFrame, column: str, quality: str) -> None:
    """Draw the best `quality` that each cost buys, as a staircase, with the names of the methods that make it.

    `front` has these methods, the cheapest first, with the columns `column`, a cost, and `quality`, a figure.
    """
    axes.set_xlim(axes.get_xlim())
    axes.step([*front[column], axes.get_xlim()[1]], [*front[quality], front[quality].max()], where="post", color="grey")
    # No point lies above and left of one on the front: there is room for its name, but for the one before.
    bottom, top = axes.get_ylim()
    points = 72 * 0.85 * axes.figure.get_figheight() / (top - bottom)
    lowest = -np.inf
    for row in front[front[quality] >= bottom].to_dict("records"):
        height = points * row[quality]
        lowest = max(height + 5, lowest + 11)
        axes.annotate(
            row["method"],
            (row[column], row[quality]),
            (-9, lowest - height),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.6} if lowest > height + 5 else None,
        )

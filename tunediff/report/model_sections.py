"""Sections of the page with a chart for each model: confusion, calibration, training. Those of the choice are open."""

import numpy as np
import pandas as pd
from markupsafe import Markup

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.calibration import reliability
from tunediff.evidence.comparison import Evidence, Predictions
from tunediff.report.charts import Axis, Series, chart, style
from tunediff.report.colours import palette
from tunediff.report.of_task import of_task
from tunediff.report.page import Fold, Section

LABELS = 12  # of more, the page names the most frequent confusions instead of a matrix
PAIRS = 12
FEW = 5  # answers: how often fewer come true is not drawn


def confusion(evidence: Evidence) -> Section:
    considered = list(dict.fromkeys([evidence.choice, evidence.best]))
    colours = palette(evidence.methods.method.tolist())
    matrices = {name: matrix(name, one, colours[name]) for name, one in evidence.predictions.items()}
    others = [name for name in evidence.methods.method[::-1] if name not in (*considered, *WITHOUT_LEARNING)]
    return Section(
        "Confusion",
        "Rows are the labels that texts have, columns the answers they got. The darker, the larger a part of the row.",
        charts=[matrices[name] for name in considered],
        folds=[Fold(name, matrices[name]) for name in others],
    )


def matrix(method: str, one: Predictions, colour: int | None) -> Markup:
    """Counts of labels and answers, over all trainings."""
    names, counts = one.confusion.index, one.confusion.to_numpy()
    if len(names) > LABELS:
        wrong = counts * (1 - np.eye(len(names), dtype=int))
        pairs = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]]
        head = ["label", "answer", "times"]
        rows = [[(names[a], None), (names[b], None), (f"{wrong[a, b]:,}", None)] for a, b in pairs if wrong[a, b]]
    else:
        head = ["", *names]
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        rows = [
            [(name, None), *((f"{count:,}", share) for count, share in zip(row, share_row, strict=True))]
            for name, row, share_row in zip(names, counts, shares, strict=True)
        ]
    cells = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup("<th>{}</th>").format(value)
                if share is None
                else Markup('<td style="--share:{:.0f}%">{}</td>').format(60 * share, value)
                for value, share in row
            )
        )
        for row in rows
    )
    top = Markup("").join(Markup("<th>{}</th>").format(name) for name in head)
    main = one.task.figures[one.task.headline[0]]
    value = main.show(one.mean(main.name, np.ones(len(one.table), bool)))
    reached = f"right on {value}" if main.of_right else f"{main.words} {value}"
    return Markup(
        '<figure style="{}"><figcaption>{}: {}</figcaption><div class=wide><table class=matrix>'
        "<tr>{}</tr>{}</table></div></figure>"
    ).format(style(colour), method, reached, top, cells)


def calibration(evidence: Evidence) -> Section | None:
    """How often probabilities come true; a method that is right as often as it is sure lies on the dashed line.

    Nothing if the task's answers have no probabilities.
    """
    words = of_task(evidence.task)
    colours = palette(evidence.methods.method.tolist())
    diagonal = Series("as sure as right", None, [(0, 0), (1, 1)], dashed=True)

    def picture(shown: list[str]) -> Markup:
        series = [diagonal]
        for method in shown:
            bins = reliability(*evidence.predictions[method].confidence)
            bins = bins[bins.rows >= FEW]
            series.append(Series(method, colours[method], list(zip(bins.confidence, bins.accuracy, strict=True))))
        across, up = Axis(words.CONFIDENCE, limits=(0, 1)), Axis("", limits=(0, 1))
        return chart(series, across, up, f"{words.OFTEN[0].upper()}{words.OFTEN[1:]} by confidence")

    sure = {name for name, one in evidence.predictions.items() if len(one.confidence[0])}
    if not sure:
        return None
    sure -= set(WITHOUT_LEARNING)
    considered = [name for name in dict.fromkeys([evidence.choice, evidence.best]) if name in sure]
    others = [name for name in evidence.methods.method[::-1] if name in sure and name not in considered]
    return Section(
        "Calibration",
        f"Below the dashed line a method is surer than it is right. {words.PROBABILITIES}",
        charts=[picture(considered)] if considered else [],
        folds=[Fold(name, picture([name])) for name in others],
    )


def learning_curves(evidence: Evidence, curves: pd.DataFrame) -> Section:
    figure = evidence.by_epoch
    colours = palette(evidence.methods.method.tolist())
    by_method = list(curves.groupby("method", sort=False))
    epochs = sorted(curves.epoch.unique())
    across = Axis("epoch", "{:.0f}".format, (epochs[0] - 0.2, epochs[-1] + 0.2), epochs if len(epochs) < 12 else None)

    def panel(column: str, up: Axis, title: str) -> Markup:
        series = [
            Series(method, colours[method], list(rows[["epoch", column]].dropna().itertuples(index=False, name=None)))
            for method, rows in by_method
        ]
        return chart(series, across, up, title)

    return Section(
        "Learning curves",
        charts=[
            *(
                [panel(f"validation_{figure.name}", Axis(""), f"{figure.title} on validation")]
                if figure.percent
                else []
            ),
            panel("validation_loss", Axis("", "{:.2f}".format), "Loss on validation"),
            panel("train_loss", Axis("", "{:.2f}".format), "Loss on training rows"),
        ],
    )


def by_rows(evidence: Evidence, points: pd.DataFrame, number: str, across: str, title: str) -> Markup:
    """The column `value` by the column `number` of training rows, each doubling as wide; with bands low to high."""
    colours = palette(evidence.methods.method.tolist())
    points = points.assign(place=np.log2(points[number]))
    series = [
        Series(
            method,
            colours[method],
            list(zip(rows.place, rows.value, strict=True)),
            list(zip(rows.place, rows.low, rows.high, strict=True)) if "low" in rows else (),
        )
        for method, rows in points.groupby("method", sort=False)
    ]
    ticks = sorted(points.place.unique().tolist())
    axis = Axis(across, lambda power: f"{2**power:,.0f}", (ticks[0] - 0.1, ticks[-1] + 0.1), ticks)
    return chart(series, axis, Axis(""), title)

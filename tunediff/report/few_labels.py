"""What the page says of methods with few labels."""

import math
from typing import Any

import pandas as pd

from tunediff.evidence.comparison import Evidence
from tunediff.evidence.growth_curve import MORE, Crossing, Curves
from tunediff.report import model_sections
from tunediff.report.page import Section


def section(evidence: Evidence, few: Curves, setfit_texts: int | None = None) -> Section:
    """The curve of the decisive figure on the test texts by training rows for each label, and what it says.

    From `setfit_texts` on more of them gave SetFit no more pairs.
    """
    figure, sure = evidence.task.figures[evidence.report.figure], f"{100 * evidence.report.confidence:g}%"
    points = few.points
    first = points[points.per_label == points.per_label.min()].sort_values("value").method.iloc[-1]
    said = [f"`{first}` is best with {points.per_label.min():,.0f} training texts for each label"]
    said += [
        f"from about {one.value:,.0f} on `{one.after}` is ({sure} interval: {_range(one)})" for one in few.crossings
    ]
    words = ", ".join(said) + (", and stays so. " if not few.crossings else ". ")
    if few.next:
        words += (
            f"By a power law through the points of `{few.next.method}`, the next {MORE} labels bring "
            f"{100 * few.next.gain:+.1f} points of {figure.words} ({100 * few.next.low:.1f} to "
            f"{100 * few.next.high:.1f}), if they are like those that there are. "
        )
    else:
        words += f"What the next {MORE} labels bring is not said: a power law through the points is not supported. "
    words += (
        "A figure is the mean over draws of the training rows, ± the deviation of one draw. The last number is that of "
        f"all rows. Bands and intervals ({sure}) are for other training rows and other test texts."
    )
    if setfit_texts and points.rows.max() > setfit_texts:
        words += f" With more than {setfit_texts:,} texts `setfit` had no more pairs (`baseline.setfit.pairs`)."
    by_method = points.groupby("method", sort=False)
    rows = [[method, *(_mean(row) for row in table.itertuples())] for method, table in by_method]
    # All rows may be as many of each label as the largest number, so that this stands there twice.
    numbers = points.per_label[points.method == points.method.iloc[0]]
    head = [f"{figure.words} on test", *(f"{number:,.0f} a label" for number in numbers)]
    picture = model_sections.by_rows(
        evidence, points, "per_label", "training texts for each label", f"{figure.title} on test"
    )
    return Section("How many labels?", words, [head, *rows], charts=[picture])


def _mean(point: Any) -> str:
    return f"{point.value:.1%}" + (f" ± {100 * point.deviation:.1f}" if pd.notna(point.deviation) else "")


def _range(one: Crossing) -> str:
    """The interval of a crossing in words."""
    if one.high == math.inf:
        return f"above {one.low:,.0f}, or never" if one.low else "anywhere, or never"
    return f"{one.low:,.0f} to {one.high:,.0f}" if one.low else f"up to {one.high:,.0f}"

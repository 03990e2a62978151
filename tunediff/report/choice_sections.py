"""Sections of the page about the choice: what each method is, does and costs, how sure it is, what it can bear."""

from math import log10
from typing import Any

import numpy as np
import pandas as pd

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence import coverage
from tunediff.evidence.comparison import Evidence, Predictions
from tunediff.report.charts import Axis, Dot, Series, chart, dots
from tunediff.report.colours import palette
from tunediff.report.page import Section
from tunediff.report.results import About
from tunediff.report.verdict import duration, percent, quality, size, within


def methods(evidence: Evidence, adapters: bool, words: list[str]) -> Section:
    """All methods, the best first; `adapters` says whether some are, and `words` are sentences for its text."""
    figures = [evidence.task.figures[name] for name in evidence.task.headline]
    deciding, sure = evidence.deciding, f"({100 * evidence.report.confidence:g}% interval)"
    colours = palette(evidence.methods.method.tolist())
    table, rows = evidence.methods.set_index("method"), []
    span = " ({})" if evidence.costs is None else ""  # one column of intervals, or the table is too wide
    order = sorted(table.index, key=lambda name: -deciding.sign * evidence.intervals.loc[name, deciding.name])
    for method in order:
        own, limits = table.loc[method], evidence.intervals.loc[method]
        rows.append(
            [
                method,
                *([cost_of_errors(evidence, method)] if evidence.costs is not None else []),
                *(f"{mean(own, one.name)}{span.format(between(limits, one.name))}" for one in figures),
                percent(evidence.decision.probabilities[method]),
                size(own.artifact_bytes),
                size(own.loaded_bytes),
                duration(own.answer_seconds),
                duration(own.train_seconds),
            ]
        )
    head = [
        "method",
        *([f"cost of errors, 1,000 texts {sure}"] if evidence.costs is not None else []),
        *(one.words if evidence.costs is not None else f"{one.words} {sure}" for one in figures),
        *("good enough", "stored a version", "loaded to answer", "1,000 answers", "training"),
    ]
    picture = dots(
        [
            Dot(
                method,
                colours[method],
                *(evidence.intervals.loc[method, f"{deciding.name}{end}"] for end in ("", "_low", "_high")),
                f"{quality(evidence, method)} ({limits_of(evidence, method)})",
                method == evidence.choice,
            )
            for method in order
        ]
    )
    said = (
        f"The chart has the {deciding.words} on test with its {100 * evidence.report.confidence:g}% interval. Good "
        f"enough is how probable it is that a method is {within(evidence)}."
    )
    if adapters:
        said += (
            " An adapter stores little of each version, and loads the pretrained model with it, which versions share. "
            "Merged into it, a LoRA answers as fast as `full`."
        )
    return Section("Methods", " ".join([said, *words]), [head, *rows], charts=[picture], chosen=evidence.choice)


def what_each_is(evidence: Evidence, about: About) -> Section:
    sizes = evidence.methods.set_index("method")
    fixed = {
        "majority": "Answers the most frequent label, whatever the text says. What it reaches needs no model.",
        "tfidf": "Counts words and runs of words and weighs them by logistic regression. It knows no pretrained model.",
        "probe": "The pretrained model reads the text as it is. Only a logistic regression of its states is trained.",
        "untrained": "The pretrained model with a new head that nothing has trained: where training starts.",
        "full": "Every weight of the pretrained model is fine-tuned. Each version is a whole model.",
    }
    rows = []
    for method in evidence.methods.method[::-1]:
        words = fixed.get(method, "")
        if method in about.adapters:
            words = (
                f"An adapter ({about.adapters[method]}) and the head are trained; the pretrained model stays as it is."
            )
        if method not in WITHOUT_LEARNING:
            words = f"{words} {sizes.trainable_parameters[method]:,} trained weights.".strip()
        rows.append([method, words])
    return Section("What each method is", table=[["method", "what it is"], *rows], chosen=evidence.choice, prose=True)


def quality_against_cost(evidence: Evidence) -> Section:
    figure, colours = evidence.deciding, palette(evidence.methods.method.tolist())
    shown = evidence.methods[~evidence.methods.method.isin(WITHOUT_LEARNING)]
    unit = 1 if evidence.costs is not None else 100

    def panel(column: str, title: str, words: str, least: float) -> Any:
        series = [
            Series(
                row.method,
                colours[row.method],
                [(log10(max(getattr(row, column), least)), unit * evidence.intervals.loc[row.method, figure.name])],
            )
            for row in shown.itertuples()
        ]
        values = [one.points[0][0] for one in series]
        ticks = range(int(np.floor(min(values))), int(np.ceil(max(values))) + 1)
        show = size if column.endswith("bytes") else "{:,g} s".format
        across = Axis(
            title, lambda power: show(10**power).replace(".0 ", " "), (ticks[0] - 0.1, ticks[-1] + 0.1), list(ticks)
        )
        return chart(
            series,
            across,
            Axis("", lambda value: f"{value:.0f}{'%' if unit == 100 else ''}"),
            f"{figure.title}, by {words}",
            named=True,
        )

    best = "top" if figure.higher_is_better else "bottom"
    return Section(
        "Quality against cost",
        f"The best place is at the {best} left: good and cheap. Each step to the right costs ten times as much.",
        charts=[
            panel("artifact_bytes", "stored of a version", "size", 1000),
            panel("answer_seconds", "for 1,000 answers", "time to answer", 0.01),
            panel("train_seconds", "of training", "time to train", 0.1),
        ],
    )


def how_sure(evidence: Evidence, about: About) -> Section:
    decision, report = evidence.decision, evidence.report
    noise = "test texts and trainings are" if decision.trainings > 1 else "test texts are"
    said = (
        f"Good enough is {within(evidence)}, which is whichever method is best in each of 10,000 draws: {noise} drawn "
        f"again and again. The recommendation is the cheapest method that is good enough with a probability of "
        f"{100 * report.assurance:g}% (`report.assurance`); proven is one with {100 * report.confidence:g}%. "
    )
    known = {method: figures for method, figures in about.validation.items() if report.figure in figures}
    if known and evidence.costs is None:
        figure = evidence.task.figures[report.figure]
        chosen = max(known, key=lambda method: figure.sign * known[method][figure.name])
        said += (
            f"This choice used the test texts, so the figure of `{decision.choice}` is slightly flattered. Validation "
            f"alone would choose `{chosen}`: {figure.show(known[chosen][figure.name])} there, and "
            f"{figure.show(evidence.intervals.loc[chosen, figure.name])} on test texts that did not choose it."
        )
    head = ["method, the cheapest first", "good enough", "verdict"]
    verdicts = {decision.choice: "recommended", decision.proven: "proven"}
    if decision.proven == decision.choice:
        verdicts[decision.choice] = "recommended, proven"
    rows = [[name, percent(decision.probabilities[name]), verdicts.get(name, "")] for name in decision.order]
    return Section("How sure this is", said, [head, *rows], chosen=decision.choice)


# --- what the choice can bear


def only_if_sure(evidence: Evidence) -> Section:
    figure, colours = evidence.main, palette(evidence.methods.method.tolist())
    shown = list(dict.fromkeys([evidence.choice, evidence.best, "tfidf"]))
    shown = [method for method in shown if method not in WITHOUT_LEARNING]
    tables = {
        method: coverage.by_coverage(
            one.figures(figure.name), one.counts[:1], confidences(one), evidence.report.confidence
        )
        for method in shown
        for one in [evidence.predictions[method]]
    }
    series = [
        Series(
            method,
            colours[method],
            list(zip(table.coverage, table.value, strict=True)),
            list(zip(table.coverage, table.low, table.high, strict=True)) if method == shown[0] else (),
        )
        for method, table in tables.items()
    ]
    own = tables[shown[0]]
    half = own[own.coverage == 0.5].iloc[0]
    said = (
        f"`{shown[0]}` has an {figure.words} of {figure.show(own.value.iloc[0])} if it answers every text, and "
        f"{figure.show(half.value)} ({between(half, '')}) on the half of which it is surest. Others could go to a "
        "person: `python -m stages.predict --unsure`."
    )
    head = ["share of texts answered", "texts", figure.words, "surer than"]
    rows = [
        [
            *(f"{row['coverage']:.0%}", f"{row['rows']:,}"),
            f"{figure.show(row['value'])} ({between(row, '')})",
            f"{row['least']:.2f}",
        ]
        for row in own.to_dict("records")
    ]
    picture = chart(
        series,
        Axis("share of texts answered, the surest first", limits=(0.08, 1.0)),
        Axis(""),
        f"{figure.title} of the surest answers",
    )
    return Section("Answer only if sure", said, [head, *rows], charts=[picture], closed=True)


def by_label(evidence: Evidence) -> Section:
    one = evidence.predictions[evidence.choice]
    table = coverage.by_label(evidence.task, one.counts, evidence.report.confidence)
    head = ["label", "test texts", "precision", "recall", "F1"]
    rows = [
        [
            row["label"],
            f"{row['texts']:,}",
            *(f"{row[name]:.1%} ({between(row, name)})" for name in ("precision", "recall", "f1")),
        ]
        for row in table.to_dict("records")
    ]
    said = (
        f"Of `{evidence.choice}`. Precision: of the texts that get the label, how many have it. Recall: of the texts "
        "that have it, how many get it."
    )
    return Section("Label by label", said, [head, *rows])


def thresholds(evidence: Evidence, about: About) -> Section | None:
    """For two labels: what each threshold gives; nothing if there are more, or if none was fitted."""
    detail = about.details[evidence.choice]
    fitted = next(iter(detail.get("fitted", {}).values()), {})
    threshold = fitted.get("threshold") or detail.get("threshold")
    if len(evidence.task.labels) != 2 or not threshold:
        return None
    one, label = evidence.predictions[evidence.choice], threshold["label"]
    place = evidence.task.labels.index(label)
    chances = one.table[f"p_{label}"].to_numpy(float).clip(1e-9, 1 - 1e-9)
    # Predictions are without the temperature; the threshold is for probabilities with it.
    chances = 1 / (1 + ((1 - chances) / chances) ** (1 / fitted.get("temperature", 1)))
    costs = evidence.costs if evidence.costs is not None else 1 - np.eye(2)
    missed, alarm = costs[place, 1 - place], costs[1 - place, place]
    table = coverage.by_threshold(chances, one.actual == place, threshold["value"], np.array([missed, alarm]))
    rows = [
        [
            f"{row.threshold:.3g}" + " (validation's)" * row.fitted,
            *(f"{value:.1%}" for value in (row.answered, row.precision, row.recall, row.f1)),
            f"{row.cost:,.0f}",
        ]
        for row in table.itertuples()
    ]
    said = (
        f"`{evidence.choice}` answers `{label}` from a probability on. Validation chose {threshold['value']:.3g}. The "
        "others are on test, to read and not to choose by."
    )
    head = ["from probability", f"{label} answered", "precision", "recall", "F1", "cost of errors, 1,000 texts"]
    return Section("Where to draw the line", said, [head, *rows], chosen=f"{threshold['value']:.3g} (validation's)")


# --- figures


def confidences(one: Predictions) -> np.ndarray:
    """The largest probability of each text, shape [rows]."""
    return one.table.filter(regex="^p_").to_numpy().max(1)


def cost_of_errors(evidence: Evidence, method: str) -> str:
    return f"{quality(evidence, method)} ({limits_of(evidence, method)})"


def limits_of(evidence: Evidence, method: str) -> str:
    row, name = evidence.intervals.loc[method], evidence.deciding.name
    if evidence.costs is not None:
        return f"{row[f'{name}_low']:.0f} to {row[f'{name}_high']:.0f}"
    return between(row, name)


def mean(row: pd.Series, figure: str) -> str:
    """The figure in percent, with its deviation over the trainings if there are several."""
    deviation = row.get(f"{figure}_deviation")
    return f"{row[figure]:.1%}" + (f" ± {100 * deviation:.1f}" if pd.notna(deviation) else "")


def between(row: pd.Series | dict, figure: str, sign: str = "") -> str:
    """The figure's interval in points."""
    low, high = (row[f"{figure}_{end}".lstrip("_")] for end in ("low", "high"))
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"

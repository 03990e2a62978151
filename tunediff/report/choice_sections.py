"""Sections of the page about the choice: what each method is, does and costs, how sure it is, what it can bear."""

from math import log10
from typing import Any

import numpy as np

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import Evidence
from tunediff.report.charts import Axis, Dot, Series, chart, dots
from tunediff.report.colours import palette
from tunediff.report.page import Section
from tunediff.report.results import About
from tunediff.report.verdict import quality, what_it_is, within
from tunediff.report.words import between, duration, mean, percent, size


def methods(evidence: Evidence, words: list[str]) -> Section:
    """All methods, the best first; `words` are sentences for its text."""
    figures = [evidence.task.figures[name] for name in evidence.task.headline]
    deciding, sure = evidence.deciding, f"({100 * evidence.report.confidence:g}% interval)"
    colours = palette(evidence.methods.method.tolist())
    table, rows = evidence.methods.set_index("method"), []
    span = " ({})" if evidence.costs is None else ""  # one column of intervals, or the table is too wide
    order = best_first(evidence)
    for method in order:
        own, limits = table.loc[method], evidence.intervals.loc[method]
        rows.append(
            [
                method,
                *([cost_of_errors(evidence, method)] if evidence.costs is not None else []),
                *(f"{mean(own, one.name)}{span.format(between(limits, one.name))}" for one in figures),
                percent(evidence.decision.probabilities[method]),
            ]
        )
    head = [
        "method",
        *([f"cost of errors, 1,000 texts {sure}"] if evidence.costs is not None else []),
        *(one.words if evidence.costs is not None else f"{one.words} {sure}" for one in figures),
        "near the best",
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
        ],
        lambda value: f"{100 * value:.4g}%" if evidence.costs is None and deciding.percent else f"{value:.4g}",
    )
    said = (
        f"The chart has the {deciding.words} on test with its {100 * evidence.report.confidence:g}% interval. "
        f"Near the best is how probable it is that a method is {within(evidence)}. The texts may leave open which "
        "method is the best, so several can be near it."
    )
    return Section("Methods", " ".join([said, *words]), [head, *rows], charts=[picture], chosen=evidence.choice)


def best_first(evidence: Evidence) -> list[str]:
    figure = evidence.deciding
    return sorted(evidence.methods.method, key=lambda name: -figure.sign * evidence.intervals.loc[name, figure.name])


def what_each_is(evidence: Evidence, about: About) -> Section:
    sizes = evidence.methods.set_index("method")
    rows = []
    for method in best_first(evidence):
        words = what_it_is(method, evidence, about)
        if method not in (*WITHOUT_LEARNING, *about.prompted):
            words = f"{words} {sizes.trainable_parameters[method]:,} trained weights.".strip()
        rows.append([method, words])
    return Section("What each method is", table=[["method", "what it is"], *rows], chosen=evidence.choice, prose=True)


def quality_against_cost(evidence: Evidence, adapters: bool) -> Section:
    """What each method costs; `adapters` says whether some are."""
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
    said = (
        f"The best place is at the {best} left: good and cheap. Each step to the right costs ten times as much. Memory "
        "is the most that the process held that answered the test texts, with its libraries; start is from the model's "
        "folder to its first answer, libraries loaded. Where there is a dash, it was not measured."
    )
    if adapters:
        said += (
            " An adapter stores little of each version, and loads the pretrained model with it, which versions share. "
            "Merged into it, a LoRA answers as fast as `full`."
        )
    return Section(
        "Quality against cost",
        said,
        costs(evidence),
        charts=[
            panel("artifact_bytes", "stored of a version", "size", 1000),
            panel("answer_seconds", "for 1,000 answers", "time to answer", 0.01),
            panel("train_seconds", "of training", "time to train", 0.1),
        ],
        chosen=evidence.choice,
    )


def costs(evidence: Evidence) -> list[list[str]]:
    """A table's head, and the rows of all methods, the cheapest first."""
    table = evidence.methods.set_index("method")
    asked = {"money, 1,000 answers": (table.answer_money, "{:,.4g}".format)} if table.answer_money.any() else {}
    columns = {
        **asked,
        "stored a version": (table.artifact_bytes, size),
        "loaded to answer": (table.loaded_bytes, size),
        "memory": (table.answer_memory_bytes, size),
        "start": (table.start_seconds, duration),
        "1,000 answers": (table.answer_seconds, duration),
        "training": (table.train_seconds, duration),
    }
    rows = [
        [method, *("-" if np.isnan(values[method]) else words(values[method]) for values, words in columns.values())]
        for method in evidence.decision.order
    ]
    return [["method", *columns], *rows]


def how_sure(evidence: Evidence, about: About) -> Section:
    decision, report = evidence.decision, evidence.report
    noise = "test texts and trainings are" if evidence.several else "test texts are"
    again = ", with what folds differ by beyond that" if decision.folds else ""
    corrected = ""
    if decision.to_prove > report.confidence:
        corrected = f", which is {100 * report.confidence:g}% corrected for the methods that may be near the best"
    said = (
        f"Near the best is {within(evidence)}, which is whichever method is best in each of 10,000 draws: {noise} "
        f"drawn again and again{again}. The recommendation is the cheapest method that is near the best with a "
        f"probability of {100 * report.assurance:g}% (`report.assurance`); proven is one with "
        f"{100 * decision.to_prove:.4g}%{corrected}. "
    )
    said += f"This choice used the test texts, so the figure of `{decision.choice}` is slightly flattered. "
    learning = [method for method in evidence.predictions if method not in WITHOUT_LEARNING]
    known = [method for method in learning if report.figure in about.validation.get(method, {})]
    if evidence.nested is not None:
        figure = evidence.deciding
        shown = f"{evidence.nested:.0f}" if evidence.costs is not None else figure.show(evidence.nested)
        said += (
            f"Chosen on all folds but one and judged on that one, in turn, the {figure.words} of the choice is "
            f"{shown}. Learning rates and other settings that were searched on validation rows saw some of these texts."
        )
    elif known == learning and evidence.costs is None:
        figure = evidence.task.figures[report.figure]
        values = {method: about.validation[method][figure.name] for method in known}
        chosen = max(known, key=lambda method: figure.sign * values[method])
        said += (
            f"Validation alone would choose `{chosen}`: {figure.show(values[chosen])} there, and "
            f"{figure.show(evidence.intervals.loc[chosen, figure.name])} on test texts that did not choose it."
        )
    head = ["method, the cheapest first", "near the best", "verdict"]
    verdicts = {decision.choice: "recommended", decision.proven: "proven"}
    if decision.proven == decision.choice:
        verdicts[decision.choice] = "recommended, proven"
    rows = [[name, percent(decision.probabilities[name]), verdicts.get(name, "")] for name in decision.order]
    return Section("How sure this is", said, [head, *rows], chosen=decision.choice)


# --- figures


def cost_of_errors(evidence: Evidence, method: str) -> str:
    return f"{quality(evidence, method)} ({limits_of(evidence, method)})"


def limits_of(evidence: Evidence, method: str) -> str:
    row, name = evidence.intervals.loc[method], evidence.deciding.name
    if evidence.costs is not None:
        return f"{row[f'{name}_low']:.0f} to {row[f'{name}_high']:.0f}"
    return between(row, name)

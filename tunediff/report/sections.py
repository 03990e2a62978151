"""What the page of the report says, section by section."""

import argparse

import pandas as pd

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import FEW, Evidence, worst_labels
from tunediff.report.of_task import of_task
from tunediff.report.page import Section
from tunediff.tasks.interface import Figure

SHOWN = 10  # parts of the test texts that a sentence names


def sections(
    evidence: Evidence,
    growth: pd.DataFrame,
    validated: int,
    noise: pd.DataFrame,
    made_from: dict[str, str],
    folders: argparse.Namespace,
) -> list[Section]:
    """All of them in order.

    `growth` is what `report.growth_with_rows` gives of `validated` validation rows, `noise` what `label_noise` wrote,
    `made_from` what `provenance` gives; `folders` are those with the pictures.
    """
    by_accuracy = evidence.methods.method[::-1]
    return [
        methods(evidence, folders),
        Section("Quality against cost", pictures=[folders.comparison / "comparison.png"]),
        differences(evidence),
        where_it_fails(evidence, folders),
        *([cut_texts(evidence)] if evidence.task.cuts else []),
        Section("Confusion", pictures=[folders.confusion / f"{method}.png" for method in by_accuracy]),
        Section("Calibration", pictures=[folders.calibration / "reliability.png"]),
        Section("Learning curves", pictures=[folders.learning_curves / "learning_curves.png"]),
        *([] if growth.empty else [more_labels(evidence, growth, validated, folders)]),
        *of_task(evidence.task).answers(evidence, folders),
        of_task(evidence.task).label_noise(noise),
        Section("Where it comes from", table=[["what", "which"], *map(list, made_from.items())], prose=True),
    ]


# --- all methods


def methods(evidence: Evidence, folders: argparse.Namespace) -> Section:
    sure = f"({100 * evidence.report.confidence:g}% interval)"
    fronts = {(True, True): "both", (True, False): "parameters", (False, True): "time", (False, False): ""}
    head = [
        "method",
        *(f"{evidence.task.figures[name].words} {sure}" for name in evidence.task.headline),
        "trainable parameters",
        "training, s",
        "saved, MB",
        "Pareto front",
    ]
    rows = []
    for row in evidence.methods[::-1].to_dict("records"):
        intervals = evidence.intervals.loc[row["method"]]
        rows.append(
            [
                row["method"],
                *(f"{_mean(row, figure)} ({_between(intervals, figure)})" for figure in evidence.task.headline),
                f"{row['trainable_parameters']:,}",
                f"{row['train_seconds']:,.1f}",
                f"{row['artifact_bytes'] / 1e6:.1f}" if row["artifact_bytes"] else "",
                fronts[row["front_parameters"], row["front_time"]],
            ]
        )
    said = (
        "A method is on the Pareto front if no other is both as accurate and as cheap, in trainable parameters or in "
        "training time."
    )
    if (trainings := max(len(one.predicted) for one in evidence.predictions.values())) > 1:
        said += f" Figures are means over up to {trainings} trainings, ± their standard deviation."
    said = " ".join(filter(None, [said, missing_labels(evidence), nothing_learned(evidence)]))
    return Section("Methods", said, [head, *rows], [folders.uncertainty / "intervals.png"], chosen=evidence.choice)


def missing_labels(evidence: Evidence) -> str:
    """A sentence if a label has no test text, or nothing."""
    actual = evidence.predictions["majority"].actual
    if not (missing := [label for label, rows in evidence.task.parts(actual) if not rows.any()]):
        return ""
    return (
        f"No test text has the label {', '.join(f'`{label}`' for label in missing)}: macro figures are over all labels "
        "and count 0 for it."
    )


def nothing_learned(evidence: Evidence) -> str:
    """A sentence for each method that learns and is not above the majority class by its interval, or nothing."""
    main = evidence.main
    floor = evidence.intervals[main.name]["majority"]
    learning = evidence.intervals.drop(index=[*WITHOUT_LEARNING])
    return " ".join(
        f"The {main.words} of `{method}` is not above that of one answer for all ({main.show(floor)}), at "
        f"{100 * evidence.report.confidence:g}% confidence: it may have learned nothing."
        for method in learning.index[learning[f"{main.name}_low"] <= floor]
    )


def differences(evidence: Evidence) -> Section:
    confidence, table = evidence.report.confidence, evidence.differences
    verdicts = [_verdict(row, evidence.main.name, confidence) for _, row in table.iterrows()]
    sure = f"({100 * confidence:g}% interval)"
    figures = evidence.task.headline
    head = ["method", "less", *(f"{evidence.task.figures[name].words} {sure}" for name in figures), "p", "verdict"]
    rows = [
        [
            *(row.method, row.other),
            *(f"{100 * row[figure]:+.1f} ({_between(row, figure, '+')})" for figure in figures),
            *(f"{row.p_holm:.2g}", verdict),
        ]
        for (_, row), verdict in zip(table.iterrows(), verdicts, strict=True)
    ]
    several = any(len(one.predicted) > 1 for one in evidence.predictions.values())
    test = "a permutation test of the mean" if several else "McNemar's exact test of the"
    if evidence.main.name == "accuracy":
        test += " accuracies"
    else:
        test += " shares of texts that are completely right"
    said = (
        f"Paired on the same test texts, in points. p is that of {test}, after Holm's "
        f"correction for all {len(table)} pairs; at {100 * confidence:g}% confidence, "
        f"{len(table) - verdicts.count('')} of them differ."
    )
    return Section("Differences", said, [head, *rows])


def _verdict(difference: pd.Series, figure: str, confidence: float) -> str:
    if difference.p_holm >= 1 - confidence:
        return ""
    return "better" if difference[figure] > 0 else "worse"


# --- parts of the test texts


def where_it_fails(evidence: Evidence, folders: argparse.Namespace) -> Section:
    slices = worst_labels(evidence.slices, evidence.main.name)
    main = evidence.main.name
    cells = {
        (row["kind"], row["slice"], row["method"]): f"{row[main]:.1%} ({_between(row, main)})"
        for row in slices.to_dict("records")
    }
    shown = [m for m in dict.fromkeys([evidence.choice, evidence.best, "full", "tfidf"]) if m in slices.method.values]
    rows = [
        [
            _name(part),
            f"{part['rows']:,}",
            *(cells[part["kind"], part["slice"], method] for method in shown),
        ]
        for part in slices.drop_duplicates(["kind", "slice"]).to_dict("records")
    ]
    sure = f"{100 * evidence.report.confidence:g}%"
    said = (
        f"{weakest(evidence)} Each {sure} interval stands for itself: of many, some miss by chance. In the picture, "
        "figures are bold where the method's own figure on all texts lies outside the interval."
    )
    all_labels, labels = (table.slice[table.kind == "label"].nunique() for table in (evidence.slices, slices))
    if labels < all_labels:
        said += f" Of {all_labels} labels, these are the {labels} on which the methods are right least often."
    return Section(
        "Where it fails", said, [[f"{evidence.main.words} on", "texts", *shown], *rows], [folders.slices / "slices.png"]
    )


def weakest(evidence: Evidence) -> str:
    """On which slices the recommended method is surely worse than on all test texts."""
    main = evidence.main.name
    method = evidence.subject(evidence.slices)
    own = evidence.slices[evidence.slices.method == method]
    value = own[main][own.kind == "all"].item()
    weak = own[own[f"{main}_high"] < value].sort_values(main, kind="stable").head(SHOWN)
    parts = ", ".join(f"{_name(row, '`')} ({row[main]:.1%})" for row in weak.to_dict("records"))
    said = f"`{method}` {_is(evidence.main, value)} the test texts"
    less = "less often" if main == "accuracy" else "less"
    return (
        f"{said}, and surely {less} on these: {parts}." if parts else f"{said}, and on no part of them surely {less}."
    )


def _is(figure: Figure, value: float) -> str:
    """The beginning of what is said of a method: behind it come some texts."""
    return f"is right on {value:.1%} of" if figure.name == "accuracy" else f"has a {figure.words} of {value:.1%} on"


def _on(figure: Figure, value: float) -> str:
    """As `_is`, where it was said before what the method does."""
    return f"on {value:.1%} of" if figure.name == "accuracy" else f"of {value:.1%} on"


def _name(part: dict[str, str], quote: str = "") -> str:
    return f"label {quote}{part['slice']}{quote}" if part["kind"] == "label" else part["slice"]


def cut_texts(evidence: Evidence) -> Section:
    tokens = evidence.predictions["tfidf"].table.tokens
    cut, rows, limit = (tokens > evidence.max_length).sum(), len(tokens), f"`max_length`, {evidence.max_length} tokens"
    if not cut:
        return Section("Cut texts", f"No test text is longer than {limit}: nothing is cut.")
    said = f"{cut:,} of {rows:,} test texts ({cut / rows:.1%}) are longer than {limit}, and are cut: "
    if evidence.cutting.empty:
        return Section("Cut texts", f"{said}too few are {'cut' if cut < FEW else 'whole'} to tell what that costs.")

    method = evidence.subject(evidence.cutting)
    row = evidence.cutting.set_index("method").loc[method]
    sure = f"{100 * evidence.report.confidence:g}%"
    if row.beyond_high < 0:
        verdict = "which is what cutting seems to cost on these texts"
    elif row.beyond_low > 0:
        verdict = "so there is no sign that cutting costs anything"
    else:
        verdict = "so the data cannot tell whether cutting costs anything"
    said += (
        f"`{method}` {_is(evidence.main, row.cut)} them and {_on(evidence.main, row.whole)} the others, "
        f"{100 * row.change:+.1f} "
        "points. Longer texts may be harder however they are read: TF-IDF, which reads whole texts, changes by "
        f"{100 * row.tfidf_change:+.1f}. Between the two are {100 * row.beyond:+.1f} points "
        f"({sure} interval {_between(row, 'beyond', '+')}), {verdict}."
    )
    head = ["method", "whole texts", "cut texts", "change", f"less that of TF-IDF ({sure} interval)"]
    table = [
        [
            *(row["method"], f"{row['whole']:.1%}", f"{row['cut']:.1%}", f"{100 * row['change']:+.1f}"),
            f"{100 * row['beyond']:+.1f} ({_between(row, 'beyond', '+')})",
        ]
        for row in evidence.cutting[::-1].to_dict("records")
    ]
    return Section("Cut texts", said, [head, *table], chosen=method)


# --- the training rows


def more_labels(evidence: Evidence, growth: pd.DataFrame, validated: int, folders: argparse.Namespace) -> Section:
    """The curve of the decisive figure on `validated` rows, and what it says: see `results.growth_with_rows`."""
    figure = evidence.task.figures[evidence.report.figure]
    table = growth.pivot(index="method", columns="rows", values=figure.name)
    counts, method = table.columns, table.iloc[:, -1].idxmax()
    before, last = table.loc[method].iloc[[-2, -1]]
    said = (
        f"With {counts[-1]:,} training rows instead of {counts[-2]:,}, `{method}` gains {100 * (last - before):+.1f} "
        f"points of {figure.words} on {validated:,} validation rows. How much of that is chance is not computed: train "
        "with several seeds, and look whether the curve still rises."
    )
    head = [f"{figure.words} on validation", *(f"{rows:,} rows" for rows in counts)]
    rows = [[method, *(f"{value:.1%}" for value in values)] for method, *values in table.itertuples()]
    return Section("Would more labels help?", said, [head, *rows], [folders.learning_curves / "training_rows.png"])


# --- figures


def _mean(row: dict, figure: str) -> str:
    """The figure in percent, with its deviation over the trainings if there are several."""
    deviation = row.get(f"{figure}_deviation")
    return f"{row[figure]:.1%}" + (f" ± {100 * deviation:.1f}" if pd.notna(deviation) else "")


def _between(row: pd.Series | dict, figure: str, sign: str = "") -> str:
    """The figure's interval in points."""
    return f"{100 * row[f'{figure}_low']:{sign}.1f} to {100 * row[f'{figure}_high']:{sign}.1f}"

"""What the page of the report says, section by section."""

import textwrap

import pandas as pd

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import FEW, Evidence, Predictions, worst_labels
from tunediff.report import choice_sections, error_list, model_sections
from tunediff.report.choice_sections import between
from tunediff.report.page import Section
from tunediff.report.results import About
from tunediff.tasks.interface import Figure

SHOWN = 10  # texts in each table of errors


def sections(evidence: Evidence, made_from: dict[str, str], about: About) -> list[Section]:
    """All that have something to say, in order; `made_from` is what `provenance` gives."""
    words = list(filter(None, [several(evidence), missing_labels(evidence), nothing_learned(evidence)]))
    found = [
        choice_sections.methods(evidence, bool(about.adapters), words),
        choice_sections.what_each_is(evidence, about),
        choice_sections.quality_against_cost(evidence),
        choice_sections.how_sure(evidence, about),
        *answers(evidence, about),
        differences(evidence),
        where_it_fails(evidence),
        cut_texts(evidence),
        model_sections.learning_curves(evidence, about.curves),
        None if about.growth.empty else more_labels(evidence, about.growth, about.validated),
        wrong_for_all([evidence.predictions[method] for method in evidence.trained]),
        all_errors(evidence),
        label_noise(about.noise),
        Section("Where it comes from", table=[["what", "which"], *map(list, made_from.items())], prose=True),
    ]
    return [section for section in found if section]


def answers(evidence: Evidence, about: About) -> list[Section | None]:
    """What only a classification has: probabilities, and one label for each text."""
    return [
        None if evidence.choice in WITHOUT_LEARNING else choice_sections.only_if_sure(evidence),
        choice_sections.thresholds(evidence, about),
        choice_sections.by_label(evidence),
        model_sections.confusion(evidence),
        model_sections.calibration(evidence),
    ]


# --- all methods


def several(evidence: Evidence) -> str:
    """A sentence if a method was trained several times, or nothing."""
    trainings = max(len(one.predicted) for one in evidence.predictions.values())
    return f"Figures are means over up to {trainings} trainings, ± their standard deviation." if trainings > 1 else ""


def missing_labels(evidence: Evidence) -> str:
    """A sentence if a label has no test text, or nothing."""
    actual = evidence.predictions["majority"].table.actual
    if not (missing := [label for label in actual.cat.categories if label not in set(actual)]):
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
    decisive = evidence.task.figures[evidence.report.figure]
    verdicts = [_verdict(row, decisive, confidence) for _, row in table.iterrows()]
    sure = f"({100 * confidence:g}% interval)"
    figures = evidence.task.headline
    head = [
        "method",
        "compared with",
        *(f"{evidence.task.figures[name].words} {sure}" for name in figures),
        "p",
        "verdict",
    ]
    rows = [
        [
            *(row.method, row.other),
            *(f"{100 * row[figure]:+.1f} ({between(row, figure, '+')})" for figure in figures),
            *(f"{row.p_holm:.2g}", verdict),
        ]
        for (_, row), verdict in zip(table.iterrows(), verdicts, strict=True)
    ]
    test = "McNemar's exact" if decisive.name == "accuracy" and not several(evidence) else "a paired permutation"
    said = (
        f"A method's figures less those of another on the same test texts, in points. p is that of {test} test of "
        f"{decisive.words}, after Holm's correction for all {len(table)} pairs; at {100 * confidence:g}% confidence, "
        f"{len(table) - verdicts.count('')} of them differ."
    )
    return Section("Differences", said, [head, *rows], closed=True)


def _verdict(difference: pd.Series, figure: Figure, confidence: float) -> str:
    if difference.p_holm >= 1 - confidence:
        return ""
    return "better" if figure.sign * difference[figure.name] > 0 else "worse"


# --- parts of the test texts


def where_it_fails(evidence: Evidence) -> Section:
    slices = worst_labels(evidence.slices, evidence.main.name)
    main = evidence.main.name
    cells = {
        (row["kind"], row["slice"], row["method"]): f"{row[main]:.1%} ({between(row, main)})"
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
    said = f"{weakest(evidence)} That is after Holm's correction for all parts; each {sure} interval stands for itself."
    all_labels, labels = (table.slice[table.kind == "label"].nunique() for table in (evidence.slices, slices))
    if labels < all_labels:
        said += f" Of {all_labels} labels, these are the {labels} on which the methods are right least often."
    return Section("Where it fails", said, [[f"{evidence.main.words} on", "texts", *shown], *rows])


def weakest(evidence: Evidence) -> str:
    """On which slices the recommended method is surely less accurate than on the other test texts."""
    method = evidence.subject(evidence.slices)
    own = evidence.slices[evidence.slices.method == method]
    accuracy = own.accuracy[own.kind == "all"].item()
    unsure = 1 - evidence.report.confidence
    weak = own[(own.accuracy < accuracy) & (own.p_holm < unsure)].sort_values("accuracy", kind="stable").head(SHOWN)
    parts = ", ".join(f"{_name(row, '`')} ({row['accuracy']:.1%})" for row in weak.to_dict("records"))
    if not parts:
        return f"`{method}` is right on {accuracy:.1%} of the test texts, and on no part of them surely less often."
    return f"`{method}` is right on {accuracy:.1%} of the test texts, and surely less often on these: {parts}."


def _name(part: dict[str, str], quote: str = "") -> str:
    return f"label {quote}{part['slice']}{quote}" if part["kind"] == "label" else part["slice"]


def cut_texts(evidence: Evidence) -> Section | None:
    tokens = evidence.predictions["tfidf"].table.tokens
    cut, rows, limit = (tokens > evidence.max_length).sum(), len(tokens), f"`max_length`, {evidence.max_length} tokens"
    if not cut:
        return None
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
        f"`{method}` is right on {row.cut:.1%} of them and on {row.whole:.1%} of the others, {100 * row.change:+.1f} "
        "points. Longer texts may be harder however they are read: TF-IDF, which reads whole texts, changes by "
        f"{100 * row.tfidf_change:+.1f}. Between the two are {100 * row.beyond:+.1f} points "
        f"({sure} interval {between(row, 'beyond', '+')}), {verdict}."
    )
    head = ["method", "whole texts", "cut texts", "change", f"less that of TF-IDF ({sure} interval)"]
    table = [
        [
            *(row["method"], f"{row['whole']:.1%}", f"{row['cut']:.1%}", f"{100 * row['change']:+.1f}"),
            f"{100 * row['beyond']:+.1f} ({between(row, 'beyond', '+')})",
        ]
        for row in evidence.cutting[::-1].to_dict("records")
    ]
    return Section("Cut texts", said, [head, *table], chosen=method)


# --- the training rows


def more_labels(evidence: Evidence, growth: pd.DataFrame, validated: int) -> Section:
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
    return Section("Would more labels help?", said, [head, *rows], charts=[model_sections.more_rows(evidence, growth)])


def label_noise(noise: pd.DataFrame) -> Section | None:
    suspected = noise[noise.suspected]
    if suspected.empty:
        return None
    said = (
        f"{len(suspected):,} of {len(noise):,} training labels look wrong to simple models that did not see them. How "
        "many are, a reader has to say; these come first."
    )
    rows = [
        [textwrap.shorten(row.text, 300), row.label, row.suggested, f"{row.p_label:.2f}"]
        for row in suspected.head(SHOWN).itertuples()
    ]
    head = ["text", "label", "suggested", "probability of the label"]
    return Section("Likely label noise", said, [head, *rows], prose=True)


# --- texts to read


def wrong_for_all(methods: list[Predictions]) -> Section | None:
    """Texts to which every method gives one and the same wrong label, the surest first."""
    tables = [method.table for method in methods]
    first = tables[0]
    alike = first.predicted != first.actual
    for table in tables[1:]:
        alike &= table.predicted == first.predicted
    sureness = sum(table.filter(regex="^p_").max(axis=1) for table in tables) / len(tables)
    texts = first.assign(sureness=sureness)[alike]
    if texts.empty:
        return None
    said = (
        f"{len(texts):,} of {len(first):,} test texts get the same wrong label from every trained method. Such a text "
        "is hard, or its own label is wrong: read them."
    )
    surest = texts.sort_values("sureness", ascending=False, kind="stable")
    rows = [
        [textwrap.shorten(row.text, 300), row.actual, row.predicted, f"{row.sureness:.2f}"]
        for row in surest.head(SHOWN).itertuples()
    ]
    head = ["text", "label", "predicted", "probability"]
    return Section("Wrong for every method", said, [head, *rows], prose=True)


def all_errors(evidence: Evidence) -> Section | None:
    table = error_list.errors(evidence.predictions)
    if table.empty:
        return None
    said = (
        f"{len(table):,} errors of all methods that learn, those of the recommended one first. `plots/errors.csv` has "
        "them too."
    )
    if len(table) > error_list.EMBEDDED:
        said += f" Here are the {error_list.EMBEDDED:,} surest."
    return Section("Errors", said, records=error_list.records(table, evidence.choice))

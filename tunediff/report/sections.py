"""What the page of the report says, section by section."""

import pandas as pd

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import FEW, Evidence, worst_labels
from tunediff.report import choice_sections, error_list, few_labels, model_sections
from tunediff.report.of_task import of_task
from tunediff.report.page import Section
from tunediff.report.results import About
from tunediff.report.words import between, grown_on
from tunediff.tasks.interface import Figure

SHOWN = 10  # parts of the test texts that a sentence names
LOST = {
    "refused": "Refused are test texts that the server did not take.",
    "cut": "Cut are test answers that a limit ended: an endpoint's `max_tokens`, or `generate.max_new_tokens`.",
}
"""What the detail of a prompted method counts, if there is any."""


def sections(evidence: Evidence, made_from: dict[str, str], about: About) -> list[Section]:
    """All that have something to say, in order; `made_from` is what `provenance` gives."""
    words = list(
        filter(
            None,
            [
                folded(evidence),
                several(evidence),
                missing_labels(evidence),
                nothing_learned(evidence, about.prompted),
                lost_trainings(evidence),
            ],
        )
    )
    task = of_task(evidence.task)
    found = [
        choice_sections.methods(evidence, words),
        choice_sections.what_each_is(evidence, about),
        prompted(evidence.methods, about, task.UNANSWERED),
        choice_sections.quality_against_cost(evidence, bool(about.adapters)),
        choice_sections.how_sure(evidence, about),
        *task.choice(evidence, about),
        model_sections.confusion(evidence),
        model_sections.calibration(evidence),
        differences(evidence),
        where_it_fails(evidence),
        cut_texts(evidence),
        model_sections.learning_curves(evidence, about.curves),
        None if about.growth.empty else more_labels(evidence, about.growth, about.validated),
        few_labels.section(evidence, about.few, about.setfit_texts) if about.few else None,
        *task.answers(evidence, about),
        all_errors(evidence),
        task.label_noise(about.noise, about.all_judged),
        Section("Where it comes from", table=[["what", "which"], *map(list, made_from.items())], prose=True),
    ]
    return [section for section in found if section]


# --- all methods


def folded(evidence: Evidence) -> str:
    """A sentence if every row is a test row, or nothing."""
    if evidence.decision.folds is None:
        return ""
    return (
        f"Each of the {evidence.decision.rows:,} texts was answered by a training that had not seen it: one of "
        f"{evidence.decision.folds} folds. Costs and learning curves are those of the ordinary split, on which the "
        "models to use were trained."
    )


def several(evidence: Evidence) -> str:
    """A sentence if a method was trained several times, or nothing."""
    if not evidence.several:
        return ""
    return f"Figures are means over up to {evidence.decision.trainings} trainings, ± their standard deviation."


def missing_labels(evidence: Evidence) -> str:
    """A sentence if a label has no test text, or nothing."""
    actual = evidence.predictions["majority"].actual
    if not (missing := [label for label, rows in evidence.task.parts(actual) if not rows.any()]):
        return ""
    return (
        f"No test text has the label {', '.join(f'`{label}`' for label in missing)}: macro figures are over all labels "
        "and count 0 for it."
    )


def nothing_learned(evidence: Evidence, asked: list[str]) -> str:
    """A sentence for each method that learns and is not above `majority` by its intervals, or nothing.

    Neither by the main figure nor by the report's: of several labels, `majority` may be good by one of them. Those that
    are `asked` are language models.
    """
    main = evidence.main
    floor = evidence.intervals[main.name]["majority"]
    learning = evidence.intervals.drop(index=[*WITHOUT_LEARNING])
    for name in {main.name, evidence.report.figure}:
        learning = learning[learning[f"{name}_low"] <= evidence.intervals[name]["majority"]]
    return " ".join(
        f"The {main.words} of `{method}` is not above that of one answer for all ({main.show(floor)}), at "
        f"{100 * evidence.report.confidence:g}% confidence: "
        f"{'the model may not understand what it is asked' if method in asked else 'it may have learned nothing'}."
        for method in learning.index
    )


def lost_trainings(evidence: Evidence) -> str:
    """A sentence for each method of which some trainings, not all, are not above one answer for all, or nothing."""
    main, said = evidence.main, []
    floor = evidence.intervals[main.name]["majority"]
    for method in evidence.trained:
        one = evidence.predictions[method]
        each = one.figures(main.name).each(one.counts.sum(1, dtype=float))[:, 0]
        lost = (each <= floor).sum()
        if 0 < lost < len(each):
            reached = f"{main.words} {main.show(each.min())}"
            said.append(
                f"{lost} of {len(each)} trainings of `{method}` learned nothing ({reached}): its learning rate may be "
                "too high."
            )
    return " ".join(said)


def prompted(methods: pd.DataFrame, about: About, unanswered: str) -> Section | None:
    """What 1,000 answers of each language model take; `methods` has the columns of `prompting.method.cost` of those.

    `unanswered` says what becomes of texts without a valid answer.
    """
    if not about.prompted:
        return None
    said = (
        "These ask a language model and train nothing. 1,000 answers take this much; money is in the currency of "
        f"`price`. Where no valid answer came, {unanswered}."
    )
    how = {method: about.details[method].get("prompt", {}) for method in about.prompted}
    lost = {kind: {method: one.get(kind, {}).get("test", 0) for method, one in how.items()} for kind in LOST}
    lost = {kind: each for kind, each in lost.items() if any(each.values())}
    said += "".join(f" {LOST[kind]}" for kind in lost)
    money = methods.get("money_per_1000", pd.Series(float("nan"), methods.index))
    rows = []
    for row in methods.assign(money=money)[methods.method.isin([*about.prompted])][::-1].itertuples():
        read, written = row.input_tokens_per_1000, row.output_tokens_per_1000
        rows.append(
            [
                *(row.method, f"{row.seconds_per_1000:,.1f}"),
                *(f"{read:,.0f}" if read else "not said", f"{written:,.0f}" if read or written else "not said"),
                *(f"{row.money:,.4g}" if pd.notna(row.money) else "", f"{row.no_valid_answer:.1%}"),
                *(f"{each[row.method]:,}" for each in lost.values()),
            ]
        )
    head = ["method", "seconds", "tokens read", "tokens written", "money", "no valid answer", *lost]
    return Section("What prompting takes", said, [head, *rows])


def differences(evidence: Evidence) -> Section:
    confidence, table, decisive = evidence.report.confidence, evidence.differences, evidence.deciding
    verdicts = [_verdict(row, decisive, confidence) for _, row in table.iterrows()]
    sure = f"({100 * confidence:g}% interval)"
    figures = [evidence.task.figures[name] for name in evidence.task.headline]
    costs = [] if evidence.costs is None else [decisive]
    head = [
        "method",
        "compared with",
        *(f"{one.words}, 1,000 texts {sure}" for one in costs),
        *(f"{one.words} {sure}" for one in figures),
        "p",
        "verdict",
    ]
    rows = [
        [
            *(row.method, row.other),
            *(
                f"{row[one.name]:+.0f} ({row[f'{one.name}_low']:+.0f} to {row[f'{one.name}_high']:+.0f})"
                for one in costs
            ),
            *(f"{100 * row[one.name]:+.1f} ({between(row, one.name, '+')})" for one in figures),
            *(f"{row.p_holm:.2g}", verdict),
        ]
        for (_, row), verdict in zip(table.iterrows(), verdicts, strict=True)
    ]
    test = "a paired permutation"
    if decisive.of_right and not next(iter(evidence.predictions.values())).grouped:
        test = "McNemar's exact" + (" (where a method has several trainings, a paired permutation)" * evidence.several)
    said = (
        f"A method's figures less those of another on the same test texts, in points. p is that of {test} test of "
        f"{decisive.words}, after Holm's correction for all {len(table)} pairs; at {100 * confidence:g}% confidence, "
        f"{len(table) - verdicts.count('')} of them differ. An interval is of its own pair alone: it may leave out 0 "
        "where the corrected p is large."
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
        said += f" Of {all_labels} labels, these are the {labels} on which their {evidence.main.words} is lowest."
    return Section("Where it fails", said, [[f"{evidence.main.words} on", "texts", *shown], *rows])


def weakest(evidence: Evidence) -> str:
    """On which slices the recommended method is surely worse than on the other test texts."""
    main = evidence.main.name
    method = evidence.subject(evidence.slices)
    own = evidence.slices[evidence.slices.method == method]
    value = own[main][own.kind == "all"].item()
    unsure = 1 - evidence.report.confidence
    weak = own[(own[main] < value) & (own.p_holm < unsure)].sort_values(main, kind="stable").head(SHOWN)
    parts = ", ".join(f"{_name(row, '`')} ({row[main]:.1%})" for row in weak.to_dict("records"))
    said = f"`{method}` {_is(evidence.main, value)} the test texts"
    less = "less often" if evidence.main.of_right else "less"
    return (
        f"{said}, and surely {less} on these: {parts}." if parts else f"{said}, and on no part of them surely {less}."
    )


def _is(figure: Figure, value: float) -> str:
    """The beginning of what is said of a method: behind it come some texts."""
    return f"is right on {value:.1%} of" if figure.of_right else f"has a {figure.words} of {value:.1%} on"


def _on(figure: Figure, value: float) -> str:
    """As `_is`, where it was said before what the method does."""
    return f"on {value:.1%} of" if figure.of_right else f"of {value:.1%} on"


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
        f"`{method}` {_is(evidence.main, row.cut)} them and {_on(evidence.main, row.whole)} the others, "
        f"{100 * row.change:+.1f} "
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
    """The curve of `evidence.by_rows`, and what it says: see `results.growth_with_rows`.

    It is on `validated` rows, or with folds on all texts.
    """
    folds = evidence.decision.folds
    judged = f"{validated:,} validation rows"
    if folds:
        judged = f"all {evidence.decision.rows:,} texts, each answered by one of {folds} folds"
    figure = evidence.by_rows
    table = growth.pivot(index="method", columns="rows", values=figure.name)
    counts, method = table.columns, table.iloc[:, -1].idxmax()
    before, last = table.loc[method].iloc[[-2, -1]]
    said = (
        f"With {counts[-1]:,} training rows instead of {counts[-2]:,}, `{method}` gains {100 * (last - before):+.1f} "
        f"points of {figure.words} on {judged}. How much of that is chance is not computed: train with several seeds, "
        "and look whether the curve still rises."
    )
    head = [f"{figure.words} on {grown_on(folds)}", *(f"{rows:,} rows" for rows in counts)]
    values = growth.rename(columns={figure.name: "value"})
    picture = model_sections.by_rows(evidence, values, "rows", "training rows", f"{figure.title} on {grown_on(folds)}")
    rows = [[method, *(f"{value:.1%}" for value in values)] for method, *values in table.itertuples()]
    return Section("Would more labels help?", said, [head, *rows], charts=[picture])


# --- texts to read


def all_errors(evidence: Evidence) -> Section | None:
    table = error_list.errors(evidence.predictions)
    if table.empty:
        return None
    said = (
        f"{len(table):,} errors of all methods that learn, those of the recommended one first. `plots/errors.csv` has "
        "them too."
    )
    if evidence.several:
        said += " They are those of each method's first training."
    if len(table) > error_list.EMBEDDED:
        said += f" Here are {error_list.EMBEDDED:,}: those of the recommended one, then the surest."
    return Section("Errors", said, records=error_list.records(table, evidence.task, evidence.choice))

"""What a page says of single labels; `of_task.TaskReport` says what each part is for."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence import coverage
from tunediff.evidence.comparison import Evidence, Predictions
from tunediff.report.charts import Axis, Series, chart
from tunediff.report.colours import palette
from tunediff.report.page import Section
from tunediff.report.results import About
from tunediff.report.words import between, of_rows
from tunediff.tasks.classification import NO_ANSWER

SHOWN = 10  # texts in each table
CONFIDENCE = "confidence: the largest probability"
OFTEN = "accuracy on test"
PROBABILITIES = (
    "These probabilities are as trained; `stages.predict` divides logits by a temperature that corrects them."
)
CONSTANT = "answer the most frequent label"
UNANSWERED = "the text counts as wrong"
METHODS = {
    "majority": "Answers the most frequent label, whatever the text says. What it reaches needs no model.",
    "tfidf": "Counts words and runs of words and weighs them by logistic regression. It knows no pretrained model.",
    "probe": "The pretrained model reads the text as it is. Only a logistic regression of its states is trained.",
    "setfit": "The pretrained model is fine-tuned on pairs of texts, by whether they share a label; then as `probe`.",
    "untrained": "The pretrained model with a new head that nothing has trained: where training starts.",
    "full": "Every weight of the pretrained model is fine-tuned. Each version is a whole model.",
    "adapter": "An adapter ({}) and the head are trained; the pretrained model stays as it is.",
}
ERRORS = {"text": "has", "label": "one", "method": "one", "answer": "one", "probability": "least"}


def errors(one: Predictions) -> pd.DataFrame:
    """`probability` is that of the answer."""
    table = one.table[one.table.predicted != one.table.actual]
    answers = table.predicted.astype(object).fillna(NO_ANSWER).astype(str)
    return table[["text", "split", "row"]].assign(
        label=table.actual.astype(str), answer=answers, probability=confidences(table)
    )


def choice(evidence: Evidence, about: About) -> list[Section | None]:
    sure = None if evidence.choice in WITHOUT_LEARNING else only_if_sure(evidence, about)
    return [sure, thresholds(evidence, about), by_label(evidence)]


def answers(evidence: Evidence, about: About) -> list[Section | None]:
    return [wrong_for_all([evidence.predictions[method] for method in evidence.trained])]


def label_noise(noise: pd.DataFrame, all_rows: bool) -> Section | None:
    suspected = noise[noise.suspected]
    if suspected.empty:
        return None
    said = (
        f"Simple models, which did not see these rows, expect another label for {len(suspected):,} of "
        f"{of_rows(len(noise), all_rows)} texts. Many may be right but hard: read the first ones."
    )
    if all_rows:
        said += " Each is a test text of some fold: correct all wrong labels, or judge the methods on new texts."
    rows = [
        [textwrap.shorten(row.text, 300), row.label, row.suggested, f"{row.p_label:.2f}"]
        for row in suspected.head(SHOWN).itertuples()
    ]
    head = ["text", "label", "suggested", "probability of the label"]
    return Section("Likely label noise", said, [head, *rows], prose=True)


def wrong_for_all(methods: list[Predictions]) -> Section | None:
    """Texts to which every method gives one and the same wrong label, the surest first."""
    tables = [method.table for method in methods]
    first = tables[0]
    alike = first.predicted != first.actual
    for table in tables[1:]:
        alike &= table.predicted == first.predicted
    sureness = sum(map(confidences, tables)) / len(tables)
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
    head = ["text", "label", "predicted", "mean probability"]
    return Section("Wrong for every method", said, [head, *rows], prose=True)


# --- what the choice can bear


def only_if_sure(evidence: Evidence, about: About) -> Section:
    figure, colours = evidence.main, palette(evidence.methods.method.tolist())
    shown = list(dict.fromkeys([evidence.choice, evidence.best, "tfidf"]))
    shown = [method for method in shown if method not in WITHOUT_LEARNING]
    tables = {
        method: coverage.by_coverage(
            one.figures(figure.name),
            one.counts[:1],
            tempered(one, about.details[method]).max(1),
            evidence.report.confidence,
            one.groups,
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
    several = len(evidence.predictions[shown[0]].predicted) > 1
    said = (
        f"{'The first training of ' * several}`{shown[0]}` has an {figure.words} of "
        f"{figure.show(own.value.iloc[0])} if it answers every text, and {figure.show(half.value)} "
        f"({between(half, '')}) on the half of which it is surest. Others could go to a person: "
        "`python -m stages.predict --unsure 0.8` marks those less sure than answers that validation found right 80% of "
        "the time. Probabilities are those of `stages.predict`."
    )
    head = ["share of texts answered", "texts", figure.words, "surer than"]
    rows = [
        [
            *(f"{row['coverage']:.0%}", f"{row['rows']:,}"),
            f"{figure.show(row['value'])} ({between(row, '')})",
            f"{row['least']:.3f}",
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


def tempered(one: Predictions, detail: dict[str, Any]) -> np.ndarray:
    """Probabilities as `stages.predict` gives them, shape [rows, labels]; `detail` is the method's in `About`.

    Predictions are without the temperature that validation found; with folds, each row has that of its fold.
    """
    fold = 0 if one.folds is None else one.folds
    temperature = np.vectorize({name: fit.get("temperature", 1.0) for name, fit in fits(detail).items()}.get)(fold)
    logits = np.log(one.table.filter(regex="^p_").to_numpy(float).clip(1e-9, 1))
    return softmax(logits / np.broadcast_to(temperature, len(logits))[:, None], axis=1)


def fits(detail: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """What validation fitted to the first training: by fold, or under 0 where there are none."""
    ordinary = {"threshold": detail.get("threshold"), **next(iter(detail.get("fitted", {}).values()), {})}
    return detail.get("folds") or {0: ordinary}


def by_label(evidence: Evidence, counted: str = "texts") -> Section:
    """`counted` has labels: texts, or spans in them."""
    one = evidence.predictions[evidence.choice]
    table = coverage.by_label(evidence.task, one.sums, evidence.report.confidence)
    head = ["label", f"test {counted}", "precision", "recall", "F1"]
    rows = [
        [
            row["label"],
            f"{row['texts']:,}",
            *(f"{row[name]:.1%} ({between(row, name)})" for name in ("precision", "recall", "f1")),
        ]
        for row in table.to_dict("records")
    ]
    said = (
        f"Of `{evidence.choice}`. Precision: of the {counted} that get the label, how many have it. Recall: of the "
        f"{counted} that have it, how many get it."
    )
    return Section("Label by label", said, [head, *rows])


def thresholds(evidence: Evidence, about: About) -> Section | None:
    """For two labels: what each threshold gives; nothing if there are more, or if none was fitted.

    With folds, each row's probability has the temperature of its fold.
    """
    detail = about.details[evidence.choice]
    fitted = fits(detail)
    threshold = next(iter(fitted.values())).get("threshold")
    if len(evidence.task.labels) != 2 or not threshold:
        return None
    one, label = evidence.predictions[evidence.choice], threshold["label"]
    # Of two labels that are alike often, a fold may find the other one rarer.
    values = [fit["threshold"]["value"] for fit in fitted.values() if fit["threshold"]["label"] == label]
    place = evidence.task.labels.index(label)
    chances = tempered(one, detail)[:, place]
    costs = evidence.costs if evidence.costs is not None else 1 - np.eye(2)
    missed, alarm = costs[place, 1 - place], costs[1 - place, place]
    chosen = values[0] if one.folds is None else None
    table = coverage.by_threshold(chances, one.actual == place, chosen, np.array([missed, alarm]))
    rows = [
        [
            f"{row.threshold:.3g}" + " (validation's)" * row.fitted,
            *(f"{value:.1%}" for value in (row.answered, row.precision, row.recall, row.f1)),
            f"{row.cost:,.0f}",
        ]
        for row in table.itertuples()
    ]
    limits = dict.fromkeys(f"{value:.3g}" for value in (min(values), max(values)))
    said = (
        f"`{evidence.choice}` answers `{label}` from a probability on. Validation chose {' to '.join(limits)}. The "
        "others are on test, to read and not to choose by."
    )
    head = ["from probability", f"{label} answered", "precision", "recall", "F1", "cost of errors, 1,000 texts"]
    return Section("Where to draw the line", said, [head, *rows], chosen=f"{values[0]:.3g} (validation's)")


def confidences(table: pd.DataFrame) -> pd.Series:
    """The largest probability of each text."""
    return table.filter(regex="^p_").max(axis=1)

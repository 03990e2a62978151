"""What a page says of several labels; `of_task.TaskReport` says what each part is for."""

import textwrap
from collections.abc import Iterable

import numpy as np
import pandas as pd

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import Evidence, Predictions
from tunediff.report import classification
from tunediff.report.page import Section
from tunediff.report.results import About

SHOWN = 10  # texts, and pairs of labels, in a table
RARE = 20  # labels in a table, the rarest of more
CONFIDENCE = "probability of a label"
OFTEN = "share of texts that have the label"
PROBABILITIES = "These probabilities are with the temperature that validation fitted, as `stages.predict` gives them."
NONE = "(none)"
CONSTANT = "answer the most frequent set of labels"
UNANSWERED = "the text counts as wrong"
METHODS = {
    **classification.METHODS,
    "majority": "Answers the most frequent set of labels, whatever the text says. What it reaches needs no model.",
    "tfidf": "Counts words and runs of words and weighs them by a logistic regression for each label.",
    "probe": "The pretrained model reads the text as it is. Its states get a logistic regression for each label.",
}
ERRORS = {"text": "has", "labels": "has", "method": "one", "answer": "has", "off by": "least"}

label_noise = classification.label_noise


def errors(one: Predictions) -> pd.DataFrame:
    """`off by` is how far the probability of the worst label is from the truth."""
    table = one.table.assign(**{"off by": off_by(one)})[~one.task.right(one.actual, one.predicted[0])]
    given = {"labels": table.actual.map(joined), "answer": table.predicted.map(joined)}
    return table[["text", "split", "row", "off by"]].assign(**given)


def choice(evidence: Evidence, about: About) -> list[Section | None]:
    return [
        classification.by_label(evidence),
        labels(evidence),
        together(evidence.choice, evidence.predictions[evidence.choice]),
    ]


def answers(evidence: Evidence, about: About) -> list[Section | None]:
    return [wrong_for_all([evidence.predictions[method] for method in evidence.trained])]


def labels(evidence: Evidence) -> Section:
    """The F1 of each label by the methods that learn, the rarest label first."""
    shown = [method for method in evidence.methods.method[::-1] if method not in WITHOUT_LEARNING]
    actual = evidence.predictions[shown[0]].actual
    rows = []
    for place in np.argsort(actual.sum(0), kind="stable")[:RARE]:
        each = [f1(evidence.predictions[method], place) for method in shown]
        rows.append([evidence.task.labels[place], f"{actual[:, place].sum():,}", *(f"{value:.1%}" for value in each)])
    said = (
        "The F1 of each label on test, the rarest first. Macro F1 is the mean of a column: a label that few texts have "
        "weighs as much in it as one that many have, and is known less surely."
    )
    if len(evidence.task.labels) > RARE:
        said += f" Of {len(evidence.task.labels)} labels, these are the {RARE} rarest."
    return Section("Labels", said, [["label", "texts", *shown], *rows], chosen="")


def f1(one: Predictions, place: int) -> float:
    """The F1 of one label, the mean over the trainings."""
    hits = (one.predicted[..., place] & one.actual[:, place]).sum(1)
    both = one.predicted[..., place].sum(1) + one.actual[:, place].sum()
    return float(np.mean(2 * hits / np.maximum(both, 1)))


def together(name: str, one: Predictions) -> Section:
    """Pairs of labels: how many texts have both, and how many were answered with both."""
    predicted = one.predicted[0]
    pairs = [
        ((one.actual[:, i] & one.actual[:, j]).sum(), (predicted[:, i] & predicted[:, j]).sum(), i, j)
        for i in range(len(one.task.labels))
        for j in range(i)
    ]
    most = sorted((pair for pair in pairs if pair[0] or pair[1]), key=lambda pair: (-max(pair[:2]), pair[2:]))
    rows = [
        [f"{one.task.labels[j]} and {one.task.labels[i]}", f"{has:,}", f"{answered:,}"]
        for has, answered, i, j in most[:SHOWN]
    ]
    texts, each = one.actual.sum(1), predicted.sum(1)
    said = (
        f"A test text has {texts.mean():.2f} labels on average, and {(texts == 0).sum():,} have none; `{name}` answers "
        f"with {each.mean():.2f}, and with none for {(each == 0).sum():,}."
    )
    if not rows:
        return Section("Labels that go together", f"{said} No two labels go together.")
    head = ["labels", "texts that have both", f"answered with both by {name}"]
    return Section("Labels that go together", f"{said} The pairs that are there most often:", [head, *rows])


# --- texts to read


def wrong_for_all(methods: list[Predictions]) -> Section | None:
    """Texts to which every method gives one and the same wrong set of labels, the surest first."""
    first = methods[0]
    alike = ~first.task.right(first.actual, first.predicted[0])
    for other in methods[1:]:
        alike &= first.task.right(first.predicted[0], other.predicted[0])
    if not alike.any():
        return None
    said = (
        f"{alike.sum():,} of {len(alike):,} test texts get the same wrong set of labels from every trained method. "
        "Such a text is hard, or its own labels are wrong: read them. `off by` says how far the probability of the "
        "worst label is from the truth."
    )
    beyond = sum(off_by(one) for one in methods) / len(methods)
    texts = first.table.assign(beyond=beyond)[alike].sort_values("beyond", ascending=False, kind="stable")
    rows = [
        [textwrap.shorten(row.text, 300), joined(row.actual), joined(row.predicted), f"{row.beyond:.2f}"]
        for row in texts.head(SHOWN).itertuples()
    ]
    return Section("Wrong for every method", said, [["text", "labels", "predicted", "off by"], *rows], prose=True)


def off_by(one: Predictions) -> np.ndarray:
    """How far the probability of each text's worst label is from the truth, shape [rows]."""
    return np.abs(one.table[[f"p_{label}" for label in one.task.labels]].to_numpy() - one.actual).max(1)


def joined(labels: Iterable[str]) -> str:
    return ", ".join(labels) or NONE

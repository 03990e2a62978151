"""What a page says of several labels; `of_task.TaskReport` says what each part is for."""

import argparse
import textwrap

import numpy as np
import pandas as pd

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import Evidence, Predictions
from tunediff.report import classification
from tunediff.report.page import Section

SHOWN = 10  # texts, and pairs of labels, in a table
RARE = 20  # labels in a table, the rarest of more
CONFIDENCE = "probability of a label (the darker, the more of them)"
OFTEN = "share of texts that have the label"
NONE = "(none)"

label_noise = classification.label_noise


def answers(evidence: Evidence, folders: argparse.Namespace) -> list[Section]:
    chosen = evidence.predictions[evidence.choice]
    return [
        by_label(evidence),
        together(evidence.choice, chosen),
        wrong_for_all([evidence.predictions[method] for method in evidence.trained]),
        surest_errors(evidence.choice, chosen),
    ]


def by_label(evidence: Evidence) -> Section:
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


def wrong_for_all(methods: list[Predictions]) -> Section:
    """Texts to which every method gives one and the same wrong set of labels, the surest first."""
    first = methods[0]
    alike = ~first.task.right(first.actual, first.predicted[0])
    for other in methods[1:]:
        alike &= first.task.right(first.predicted[0], other.predicted[0])
    said = (
        f"{alike.sum():,} of {len(alike):,} test texts get the same wrong set of labels from every trained method. "
        "Such a text is hard, or its own labels are wrong: read them."
    )
    return Section("Wrong for every method", said, errors_table(methods, alike))


def surest_errors(name: str, method: Predictions) -> Section:
    wrong = ~method.task.right(method.actual, method.predicted[0])
    said = (
        f"Of `{name}`, which misses a label or adds one on {wrong.sum():,} of {len(wrong):,} test texts. `off by` says "
        "how far the probability of the worst label is from the truth."
    )
    return Section("Surest errors", said, errors_table([method], wrong))


def errors_table(methods: list[Predictions], those: np.ndarray) -> list[list[str]]:
    """Some of the texts, those first that the methods are most wrong about."""
    first = methods[0]
    beyond = sum(np.abs(probabilities(one) - one.actual).max(1) for one in methods) / len(methods)
    table = first.table.assign(beyond=beyond)[those].sort_values("beyond", ascending=False, kind="stable")
    rows = [
        [textwrap.shorten(row.text, 300), joined(row.actual), joined(row.predicted), f"{row.beyond:.2f}"]
        for row in table.head(SHOWN).itertuples()
    ]
    return [["text", "labels", "predicted", "off by"], *rows]


def probabilities(one: Predictions) -> np.ndarray:
    return one.table[[f"p_{label}" for label in one.task.labels]].to_numpy()


def joined(labels: pd.Series) -> str:
    return ", ".join(labels) or NONE

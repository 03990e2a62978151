"""What a page says of single labels; `of_task.TaskReport` says what each part is for."""

import argparse
import textwrap

import pandas as pd

from tunediff.evidence.comparison import Evidence, Predictions
from tunediff.report.page import Section

SHOWN = 10  # texts in each table of errors
CONFIDENCE = "confidence: the largest probability (the darker, the more texts)"
OFTEN = "accuracy on test"


def answers(evidence: Evidence, folders: argparse.Namespace) -> list[Section]:
    return [
        wrong_for_all([evidence.predictions[method] for method in evidence.trained]),
        surest_errors(evidence.choice, evidence.predictions[evidence.choice]),
    ]


def label_noise(noise: pd.DataFrame) -> Section:
    suspected = noise[noise.suspected]
    said = (
        f"{len(suspected):,} of {len(noise):,} training labels look wrong to simple models that did not see them. How "
        "many are, a reader has to say; these come first."
    )
    rows = [
        [textwrap.shorten(row.text, 300), row.label, row.suggested, f"{row.p_label:.2f}"]
        for row in suspected.head(SHOWN).itertuples()
    ]
    return Section("Likely label noise", said, [["text", "label", "suggested", "probability of the label"], *rows])


def wrong_for_all(methods: list[Predictions]) -> Section:
    """Texts to which every method gives one and the same wrong label, the surest first."""
    tables = [method.table for method in methods]
    first = tables[0]
    alike = first.predicted != first.actual
    for table in tables[1:]:
        alike &= table.predicted == first.predicted
    sureness = sum(table.filter(regex="^p_").max(axis=1) for table in tables) / len(tables)
    texts = first.assign(sureness=sureness)[alike]
    said = (
        f"{len(texts):,} of {len(first):,} test texts get the same wrong label from every trained method. Such a text "
        "is hard, or its own label is wrong: read them."
    )
    return Section("Wrong for every method", said, errors_table(texts))


def surest_errors(name: str, method: Predictions) -> Section:
    table = method.table
    errors = table.assign(sureness=table.filter(regex="^p_").max(axis=1))[table.predicted != table.actual]
    said = f"Of `{name}`, which errs on {len(errors):,} of {len(table):,} test texts."
    return Section("Surest errors", said, errors_table(errors))


def errors_table(errors: pd.DataFrame) -> list[list[str]]:
    """The surest first; `errors` has columns text, actual, predicted, sureness."""
    surest = errors.sort_values("sureness", ascending=False, kind="stable")
    rows = [
        [textwrap.shorten(row.text, 300), row.actual, row.predicted, f"{row.sureness:.2f}"]
        for row in surest.head(SHOWN).itertuples()
    ]
    return [["text", "label", "predicted", "probability"], *rows]

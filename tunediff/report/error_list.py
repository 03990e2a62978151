"""Every error of every method on test, the surest first: a table that the page filters, and a CSV file."""

import textwrap
from typing import Any

import pandas as pd

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import Predictions

EMBEDDED = 3000  # errors in the page; the file has all
CHARACTERS = 300  # of a text in the page


def errors(predictions: dict[str, Predictions]) -> pd.DataFrame:
    """Columns text, label, method, answer, probability (of the answer), split, row; of the first training of each."""
    tables = []
    for method, one in predictions.items():
        if method not in WITHOUT_LEARNING:
            table = one.table[one.table.predicted != one.table.actual]
            probability = table.filter(regex="^p_").max(axis=1)
            found = table[["text", "split", "row"]].assign(
                label=table.actual.astype(str),
                method=method,
                answer=table.predicted.astype(str),
                probability=probability,
            )
            tables.append(found)
    columns = ["text", "label", "method", "answer", "probability", "split", "row"]
    return pd.concat(tables)[columns].sort_values("probability", ascending=False, kind="stable")


def records(table: pd.DataFrame, first: str) -> dict[str, Any]:
    """What the page's script reads: columns, how they are filtered, and rows, those of method `first` at the top."""
    shown = table.head(EMBEDDED)
    shown = pd.concat([shown[shown.method == first], shown[shown.method != first]])
    return {
        "columns": ["text", "label", "method", "answer", "probability"],
        "filters": {"0": "has", "1": "one", "2": "one", "3": "one", "4": "least"},
        "rows": [
            [textwrap.shorten(row.text, CHARACTERS), row.label, row.method, row.answer, round(row.probability, 4)]
            for row in shown.itertuples()
        ],
    }

"""Every error of every method on test, the surest first: a table that the page filters, and a CSV file."""

import textwrap
from typing import Any

import pandas as pd

from tunediff.core.methods import WITHOUT_LEARNING
from tunediff.evidence.comparison import Predictions
from tunediff.report.of_task import of_task
from tunediff.tasks.interface import Task

EMBEDDED = 3000  # errors in the page; the file has all
CHARACTERS = 300  # of a text in the page


def errors(predictions: dict[str, Predictions]) -> pd.DataFrame:
    """Columns as in `TaskReport.ERRORS`, then split and row; of the first training of each."""
    task = next(iter(predictions.values())).task
    tables = [
        of_task(task).errors(one).assign(method=method)
        for method, one in predictions.items()
        if method not in WITHOUT_LEARNING
    ]
    columns = [*of_task(task).ERRORS]
    return pd.concat(tables)[[*columns, "split", "row"]].sort_values(columns[-1], ascending=False, kind="stable")


def records(table: pd.DataFrame, task: Task, first: str) -> dict[str, Any]:
    """What the page's script reads: columns, how they are filtered, and rows, those of method `first` at the top."""
    filters = of_task(task).ERRORS
    shown = pd.concat([table[table.method == first], table[table.method != first]]).head(EMBEDDED)
    show = {
        "has": lambda text: textwrap.shorten(text, CHARACTERS),
        "one": str,
        "least": lambda value: round(value, 4),
    }
    return {
        "columns": [*filters],
        "filters": {str(place): kind for place, kind in enumerate(filters.values())},
        "rows": [
            [show[kind](value) for kind, value in zip(filters.values(), row, strict=True)]
            for row in shown[[*filters]].itertuples(index=False)
        ],
    }

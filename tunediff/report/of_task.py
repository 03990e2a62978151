"""What a page says of answers depends on the task: one file for each, and the table of them."""

from typing import TYPE_CHECKING, Protocol

import pandas as pd

from tunediff.report import classification, generation, multilabel, tagging
from tunediff.report.page import Section
from tunediff.tasks.interface import Task

if TYPE_CHECKING:
    from tunediff.evidence.comparison import Evidence, Predictions
    from tunediff.report.results import About


class TaskReport(Protocol):
    """What each such file has."""

    CONFIDENCE: str
    """What the picture of calibration has on its axis of probabilities, and ..."""
    OFTEN: str
    """... on that of how often they come true."""
    PROBABILITIES: str
    """Which probabilities these are, as a sentence."""
    CONSTANT: str
    """The advice to do what the method `majority` does."""
    UNANSWERED: str
    """What becomes of a text to which a language model gives no valid answer."""
    METHODS: dict[str, str]
    """What each method is, in a sentence or two; `adapter` has braces for the kind of it."""
    ERRORS: dict[str, str]
    """Columns of the list of errors, and how the page filters each: by what it `has`, by `one` value, by the `least`.

    Among them is `method`; the last one is a number, and the largest come first.
    """

    def errors(self, one: "Predictions") -> pd.DataFrame:
        """The wrong answers of the first training: the columns ERRORS without `method`, and split and row.

        No rows where answers are not simply wrong or right.
        """

    def choice(self, evidence: "Evidence", about: "About") -> list[Section | None]:
        """Sections about what the choice can bear."""

    def answers(self, evidence: "Evidence", about: "About") -> list[Section | None]:
        """Sections of the answers themselves: texts to read."""

    def label_noise(self, noise: pd.DataFrame, all_rows: bool) -> Section | None:
        """What the stage `label_noise` found, or `fold_label_noise` in `all_rows`."""


BY_TASK: dict[str, TaskReport] = {
    "classification": classification,
    "multilabel": multilabel,
    "tagging": tagging,
    "generation": generation,
}


def of_task(task: Task | type[Task]) -> TaskReport:
    return BY_TASK[task.name]

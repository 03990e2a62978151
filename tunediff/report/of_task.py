"""What a page and a model card say of answers depends on the task: one file for each, and the table of them."""

from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from tunediff.report import classification
from tunediff.report.page import Section
from tunediff.tasks.interface import Task

if TYPE_CHECKING:
    import argparse

    from tunediff.evidence.comparison import Evidence


class TaskReport(Protocol):
    """What each such file has."""

    CONFIDENCE: str
    """What the picture of calibration has on its axis of probabilities, and ..."""
    OFTEN: str
    """... on that of how often they come true."""

    def answers(self, evidence: "Evidence", folders: "argparse.Namespace") -> list[Section]:
        """Sections of the answers themselves: texts to read, what is mistaken for what."""

    def label_noise(self, noise: pd.DataFrame) -> Section:
        """What the stage `label_noise` found."""

    def gives(self, labels: list[str]) -> str:
        """The first sentence of a card, with names of labels that are Markdown already."""

    LIMIT: str
    """What a card says of texts that none of the labels fits."""

    def rows(self, profile: dict[str, Any]) -> list[tuple[str, int, int, int]]:
        """Each label's name, and how often train, validation and test have it."""


BY_TASK: dict[str, TaskReport] = {"classification": classification}


def of_task(task: Task | type[Task]) -> TaskReport:
    return BY_TASK[task.name]

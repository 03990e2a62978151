"""What a page says of answers depends on the task: one file for each, and the table of them."""

from typing import TYPE_CHECKING, Protocol

import pandas as pd

from tunediff.report import classification, multilabel, tagging
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


BY_TASK: dict[str, TaskReport] = {"classification": classification, "multilabel": multilabel, "tagging": tagging}


def of_task(task: Task | type[Task]) -> TaskReport:
    return BY_TASK[task.name]

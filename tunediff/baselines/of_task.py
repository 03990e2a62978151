"""What there is without fine-tuning depends on the task: one file for each, and the table of them."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tunediff.baselines import classification, generation, multilabel, tagging
from tunediff.tasks.interface import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd
    from datasets import Dataset

    from tunediff.baselines.classifiers import Answers, Splits
    from tunediff.baselines.settings import Baseline, WithoutFineTuning


class TaskBaselines(Protocol):
    """The functions of each such file."""

    def answers(self, splits: "Splits", task: Any, settings: "WithoutFineTuning") -> "dict[str, Answers]":
        """The answers of each method in `core.methods.BASELINES`.

        The lightest comes first: the peak memory of each is that of the process so far.
        """

    # Of tasks that have such methods alone.
    def more(self, method: str, splits: "Splits", task: Any, settings: "WithoutFineTuning") -> "Answers":
        """The answers of one of `core.methods.MORE_BASELINES`."""

    # Of tasks that are trained on some rows alone, as the next two.
    def words(
        self, task: Any, train: "Dataset", others: "list[Dataset]", baseline: "Baseline", class_weights: str
    ) -> list[np.ndarray]:
        """Probabilities for the rows of each of `others`, from a simple model fitted to the words of `train`."""

    def probe(
        self, task: Any, train: "Dataset", others: "list[Dataset]", settings: "WithoutFineTuning"
    ) -> "Callable[[np.ndarray | None], list[np.ndarray]]":
        """Gives probabilities for the rows of each of `others`, from the probe, fitted to some rows of `train`.

        These are given by their numbers; None stands for all rows. The model reads each text once.
        """

    def setfit(
        self, task: Any, train: "Dataset", others: "list[Dataset]", settings: "WithoutFineTuning"
    ) -> "Callable[[np.ndarray | None], list[np.ndarray]]":
        """The same of SetFit, whose encoder is fine-tuned each time."""

    def label_noise(
        self, train: "Dataset", task: Any, settings: "WithoutFineTuning", place: "Path"
    ) -> "tuple[pd.DataFrame, dict[str, Any]]":
        """The training rows or parts of them, the likeliest noise first, with a column suspected; and figures.

        No cell is a formula. `place` is the split's file, for messages.
        """

    # Of tasks that need no more for it alone.
    def ranked_noise(
        self, rows: "pd.DataFrame", task: Any, targets: Any, probabilities: np.ndarray
    ) -> "tuple[pd.DataFrame, dict[str, Any]]":
        """The same of any rows, from probabilities of models that did not see them, shape [rows, labels].

        `rows` has columns split, row, text; each label has two rows or more.
        """


BY_TASK: dict[str, TaskBaselines] = {
    "classification": classification,
    "multilabel": multilabel,
    "tagging": tagging,
    "generation": generation,
}


def of_task(task: Task | type[Task]) -> TaskBaselines:
    return BY_TASK[task.name]


def answers_of(method: str | None, splits: "Splits", task: Task, settings: "WithoutFineTuning") -> "dict[str, Answers]":
    """By method: those of one further baseline, or without `method` those of all that every study has."""
    baselines = of_task(task)
    if method:
        return {method: baselines.more(method, splits, task, settings)}
    return baselines.answers(splits, task, settings)

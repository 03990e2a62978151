"""What becomes of a model's answers, in a file and in the service, depends on the task: one file for each."""

from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from tunediff.tasks.interface import Task
from tunediff.use import classification_answers, generation_answers, multilabel_answers, tagging_answers

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tunediff.use.classifier import Classifier


class Columns(Protocol):
    """The columns in which one model answers."""

    def types(self) -> "dict[str, pa.DataType]":
        """The columns' names and types."""

    def values(self, predicted: Any) -> list[list]:
        """The values of each column, from what `Classifier.predict` gave."""


class TaskAnswers(Protocol):
    """What each such file has."""

    Answer: type[BaseModel]
    """What the service answers for a text."""

    def columns(self, model: "Classifier", predicted: str, prefix: str, least_confidence: float | None) -> Columns:
        """The model's columns: the first is named `predicted`, and the others' names begin with `prefix`.

        Answers that are less sure than `least_confidence` are flagged, where it is given.
        """

    # Of tasks that have a fixed set of answers alone.
    def uncertainty(self, predicted: Any) -> "np.ndarray":
        """How unsure the answer for each text is, from 0 to 1, shape [texts]."""

    def answers(self, model: "Classifier", predicted: Any) -> list[BaseModel]:
        """An `Answer` for each text, from what `Classifier.predict` gave."""

    def labels(self, answer: Any) -> list[str]:
        """The labels of an `Answer`, to be counted."""

    # None where leaving out a word is no question to the task.
    def explanation(self, name: str, model: "Classifier", words: list[str], predicted: Any) -> BaseModel:
        """Which words of a text mattered.

        `predicted` has what the model gave for the text, and then for the text without each word.
        """


BY_TASK: dict[str, TaskAnswers] = {
    "classification": classification_answers,
    "multilabel": multilabel_answers,
    "tagging": tagging_answers,
    "generation": generation_answers,
}


def of_task(task: Task) -> TaskAnswers:
    return BY_TASK[task.name]

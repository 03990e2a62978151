"""Single-label classification: what becomes of a text's probabilities, in a file and in the service.

`of_task.TaskAnswers` says what each part is for.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    import pyarrow as pa

    from tunediff.use.classifier import Classifier

# --- in a file


@dataclass(frozen=True)
class Columns:
    """The columns in which one model answers."""

    names: list[str]
    """Names of the labels, in the order of the probabilities."""
    predicted: str
    """The column of the most probable label."""
    prefix: str
    """What the names of the other columns begin with: `p_LABEL` for each label, and `unsure`."""
    least_confidence: float | None = None
    """Answers with a smaller largest probability are unsure; None if there is no such column."""

    def types(self) -> "dict[str, pa.DataType]":
        """The columns' names and types."""
        import pyarrow as pa  # here, because the service does without it

        types = {self.predicted: pa.string()}
        types |= {f"{self.prefix}p_{name}": pa.float64() for name in self.names}
        return types if self.least_confidence is None else {**types, f"{self.prefix}unsure": pa.bool_()}

    def values(self, probabilities: np.ndarray) -> list[list]:
        """The values of each column; `probabilities` has the shape [texts, labels]."""
        labels = [self.names[place] for place in probabilities.argmax(1)]
        values = [labels, *probabilities.T.tolist()]
        if self.least_confidence is None:
            return values
        return [*values, (probabilities.max(1) < self.least_confidence).tolist()]


def columns(model: "Classifier", predicted: str, prefix: str, least_confidence: float | None = None) -> Columns:
    return Columns(model.names, predicted, prefix, least_confidence)


def uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """1 less the margin between the two most probable labels, shape [texts]: 1 where they are equally probable."""
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    return 1 - (first - second)


# --- in the service


class Answer(BaseModel):
    label: str
    probabilities: dict[str, float]


class Word(BaseModel):
    word: str = Field(description="As it stands in the text; of a long text a run of words")
    change: float = Field(description="The label's probability with the word, less that without it")


class Explanation(BaseModel):
    model: str
    label: str
    probability: float
    words: list[Word] = Field(description="The whole text in order")


def answers(model: "Classifier", probabilities: np.ndarray) -> list[Answer]:
    """An answer for each text; `probabilities` has the shape [texts, labels]."""
    names = model.names
    return [
        Answer(label=names[row.argmax()], probabilities=dict(zip(names, row.tolist(), strict=True)))
        for row in probabilities
    ]


def labels(answer: Answer) -> list[str]:
    return [answer.label]


def explanation(name: str, model: "Classifier", words: list[str], probabilities: np.ndarray) -> Explanation:
    """How the probability of the text's label changes when each of its words is left out.

    `probabilities` has the shape [1 + words, labels].
    """
    label = probabilities[0].argmax()
    changes = probabilities[0, label] - probabilities[1:, label]
    return Explanation(
        model=name,
        label=model.names[label],
        probability=probabilities[0, label],
        words=[Word(word=word, change=change) for word, change in zip(words, changes, strict=True)],
    )

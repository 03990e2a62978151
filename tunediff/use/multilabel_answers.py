"""Several labels: what becomes of a text's probabilities, in a file and in the service.

`of_task.TaskAnswers` says what each part is for.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field

from tunediff.use.classification_answers import Explanation, explanation

if TYPE_CHECKING:
    import pyarrow as pa

    from tunediff.use.classifier import Classifier

__all__ = ["Explanation", "explanation"]  # of the most probable label


@dataclass(frozen=True)
class Columns:
    """The columns in which one model answers."""

    model: "Classifier"
    predicted: str
    """The column of the labels, a list for each text."""
    prefix: str
    """What the names of the other columns begin with: `p_LABEL` for each label."""

    def types(self) -> "dict[str, pa.DataType]":
        import pyarrow as pa  # here, because the service does without it

        return {
            self.predicted: pa.list_(pa.string()),
            **{f"{self.prefix}p_{name}": pa.float64() for name in self.model.names},
        }

    def values(self, probabilities: np.ndarray) -> list[list]:
        return [chosen(self.model, probabilities), *probabilities.T.tolist()]


def columns(model: "Classifier", predicted: str, prefix: str, least_confidence: float | None) -> Columns:
    return Columns(model, predicted, prefix)


class LabelsAnswer(BaseModel):
    labels: list[str] = Field(description="Those whose probability is at least their threshold; there may be none")
    probabilities: dict[str, float]


Answer = LabelsAnswer  # under a name of its own in the service's description


def answers(model: "Classifier", probabilities: np.ndarray) -> list[Answer]:
    """An answer for each text; `probabilities` has the shape [texts, labels]."""
    return [
        Answer(labels=labels, probabilities=dict(zip(model.names, row.tolist(), strict=True)))
        for labels, row in zip(chosen(model, probabilities), probabilities, strict=True)
    ]


def labels(answer: Answer) -> list[str]:
    return answer.labels


def chosen(model: "Classifier", probabilities: np.ndarray) -> list[list[str]]:
    """The labels that are answered for each text."""
    return [
        [name for name, there in zip(model.names, row, strict=True) if there]
        for row in model.task.answers(probabilities, model.fitted)
    ]

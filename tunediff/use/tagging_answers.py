"""Spans: what becomes of them in a file and in the service; `of_task.TaskAnswers` says what each part is for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    import pyarrow as pa

    from tunediff.use.classifier import Classifier

Found = list[list[dict[str, Any]]]
"""The spans of each text, as `Tagging.served` gives them."""


@dataclass(frozen=True)
class Columns:
    """The column in which one model answers."""

    predicted: str
    """A list of spans for each text: start and end in characters, label, text, score."""

    def types(self) -> "dict[str, pa.DataType]":
        import pyarrow as pa  # here, because the service does without it

        places, words = {"start": pa.int64(), "end": pa.int64()}, {"label": pa.string(), "text": pa.string()}
        return {self.predicted: pa.list_(pa.struct({**places, **words, "score": pa.float64()}))}

    def values(self, predicted: Found) -> list[list]:
        return [predicted]


def columns(model: "Classifier", predicted: str, prefix: str, least_confidence: float | None) -> Columns:
    return Columns(predicted)


class Span(BaseModel):
    start: int = Field(description="Place of the first character, from 0")
    end: int = Field(description="Place behind the last character")
    label: str
    text: str
    score: float = Field(description="The least probability of a word's tag")


class SpansAnswer(BaseModel):
    spans: list[Span]


Answer = SpansAnswer  # under a name of its own in the service's description


def answers(model: "Classifier", predicted: Found) -> list[Answer]:
    return [Answer(spans=spans) for spans in predicted]


def labels(answer: Answer) -> list[str]:
    return [span.label for span in answer.spans]


explanation = None  # leaving out a word moves all spans behind it

"""What a model card says that depends on the task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunediff.report.markdown import cell
from tunediff.tasks.interface import Task


@dataclass(frozen=True)
class Words:
    gives: Callable[[list[str]], str]
    """The first sentence, with names of labels that are Markdown already."""
    counted: str
    """What the table of labels counts in each split."""
    total: bool
    """Whether the counts of all labels add up to something."""
    options: str
    """Arguments of the pipeline's call."""
    limit: str
    """What becomes of a text that none of the labels fits."""
    fitted: str = ""
    """What else was fitted on validation, as the end of a sentence."""
    reads: str = "the first {} tokens of a text"
    """How much of a text is read, of that many tokens at once."""


WORDS = {
    "classification": Words(
        gives=lambda labels: f"Gives a text one of {len(labels)} labels: {', '.join(labels)}.",
        counted="rows",
        total=True,
        options="truncation=True",
        limit="Every text gets one of the labels, also one that none of them fits.",
    ),
    "multilabel": Words(
        gives=lambda labels: f"Gives a text any of {len(labels)} labels, or none: {', '.join(labels)}.",
        counted="rows",
        total=False,
        options="truncation=True, top_k=None",
        fitted=", and answers the labels whose probability is at least their threshold (`thresholds` there)",
        limit="A text may get no label.",
    ),
    "tagging": Words(
        gives=lambda labels: f"Marks spans of {len(labels)} types in a text: {', '.join(labels)}.",
        counted="spans",
        total=True,
        options='aggregation_strategy="simple"',
        reads="all of a text, in windows of {} tokens",
        limit="A text may get no span. Spans do not overlap.",
    ),
}


def of_task(task: Task | type[Task]) -> Words:
    return WORDS[task.name]


def rows(profile: dict[str, Any]) -> list[tuple[str, int, int, int]]:
    """Each label's name, and its count in train, validation and test."""
    splits = [profile["splits"][side]["labels"] for side in ("train", "validation", "test")]
    return [(cell(label), *(counts.get(label, 0) for counts in splits)) for label in profile["labels"]]

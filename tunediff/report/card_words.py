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
    options: str = ""
    """More arguments of the pipeline's call."""
    fitted: str = ""
    """What else was fitted on validation, as the end of a sentence."""
    limit: str = ""
    """What becomes of a text that none of the labels fits."""


WORDS = {
    "classification": Words(
        gives=lambda labels: f"Gives a text one of {len(labels)} labels: {', '.join(labels)}.",
        counted="rows",
        total=True,
        limit="Every text gets one of the labels, also one that none of them fits.",
    ),
    "multilabel": Words(
        gives=lambda labels: f"Gives a text any of {len(labels)} labels, or none: {', '.join(labels)}.",
        counted="rows",
        total=False,
        options=", top_k=None",
        fitted=", and answers the labels whose probability is at least their threshold (`thresholds` there)",
        limit="A text may get no label.",
    ),
}


def of_task(task: Task | type[Task]) -> Words:
    return WORDS[task.name]


def rows(profile: dict[str, Any]) -> list[tuple[str, int, int, int]]:
    """Each label's name, and its count in train, validation and test."""
    splits = [profile["splits"][side]["labels"] for side in ("train", "validation", "test")]
    return [(cell(label), *(counts.get(label, 0) for counts in splits)) for label in profile["labels"]]

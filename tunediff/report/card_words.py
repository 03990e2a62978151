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
    limit: str
    """What becomes of a text that none of the labels fits."""
    options: str = "truncation=True"
    """Arguments of the call of a pipeline that labels."""
    fitted: str = ""
    """What else was fitted on validation, as the end of a sentence."""
    reads: str = "the first {} tokens of a text"
    """How much of a text is read, of that many tokens at once."""


WORDS = {
    "generation": Words(
        gives=lambda labels: "Writes a text for a text.",
        counted="rows",
        total=True,
        reads="the first {} tokens of a prompt, whose text is cut at its end; of a chat the last turns",
        limit="It writes something for every text: names, numbers and claims in it may be made up.",
    ),
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
        options="truncation=True, top_k=None",
        fitted=", and answers the labels whose probability is at least their threshold (`thresholds` there)",
        limit="A text may get no label.",
    ),
    "tagging": Words(
        gives=lambda labels: f"Marks spans of {len(labels)} types in a text: {', '.join(labels)}.",
        counted="spans",
        total=True,
        options='aggregation_strategy="first"',
        reads="all of a text, in windows of {} tokens (`pipeline` reads the first one alone, unless `stride` is given)",
        limit="A text may get no span. Spans do not overlap.",
    ),
}


def of_task(task: Task | type[Task]) -> Words:
    return WORDS[task.name]


def rows(profile: dict[str, Any]) -> list[tuple[str, int, int, int]]:
    """Each label's name, and its count in train, validation and test."""
    if "labels" not in profile:
        return [("rows", *(profile["splits"][side]["rows"] for side in ("train", "validation", "test")))]
    splits = [profile["splits"][side]["labels"] for side in ("train", "validation", "test")]
    return [(cell(label), *(counts.get(label, 0) for counts in splits)) for label in profile["labels"]]

"""What is asked and answered, by the task: one label, any number of them, spans, or a text."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tunediff.prompting import quotes
from tunediff.prompting.parsing import NONE, label_of, labels_of, schema
from tunediff.prompting.prompts import default_instruction
from tunediff.tasks.generation import Answers, Generation
from tunediff.tasks.interface import Task
from tunediff.tasks.spans import Span
from tunediff.tasks.tagging import Tagging

UNSURE = 1e-3  # by how much the true label's logit is below the others where no valid answer came


@dataclass(frozen=True, kw_only=True)
class Form:
    instruction: Callable[[Task], str]
    """For a data file without `prompt`."""
    answer: Callable[[Task, dict[str, Any]], str]
    """What an example is answered with, from its row."""
    left: Callable[[str, str], str] = lambda answer, text: answer
    """What remains of an example's answer if its text is cut to this one."""


@dataclass(frozen=True, kw_only=True)
class Labelling(Form):
    """Of tasks whose answers are labels, each of which can be scored."""

    schema: Callable[[Sequence[str]], dict[str, Any]]
    """The `response_format` that an endpoint is given, from the labels."""
    named: Callable[[str, Sequence[str]], int | list[int] | None]
    """The numbers of the labels that an endpoint's answer names; None if it is no valid answer."""
    of_likelihoods: Callable[[np.ndarray], np.ndarray]
    """Logits from the log-likelihoods of the labels, both of shape [rows, labels]."""
    of_answers: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Logits from 1 and 0 for each label, and from the targets, by which a row of NaN becomes a wrong answer."""
    may_be_silent: bool = False
    """Whether the task counts a text without an answer, as which it takes a row of zeros for probabilities."""


@dataclass(frozen=True)
class Understood:
    """What was written for some texts, as the task has its answers."""

    given: Any
    unanswered: np.ndarray
    """Whether a text has no valid answer, shape [texts]."""
    invalid: dict[str, int]
    """How many parts of answers could not be used, by the reason; empty where answers have no parts."""


@dataclass(frozen=True, kw_only=True)
class Writing(Form):
    """Of tasks whose answers are what the model writes."""

    understood: Callable[[Task, list[str], list[str]], Understood]
    """From the texts and what was written for each."""


def any_of(labels: Sequence[str]) -> str:
    return (
        f"Which of these labels fit the text: {', '.join(labels)}? Answer with the labels alone, with commas between "
        f"them, or with {NONE}."
    )


def wrong_if_unanswered(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Scores in which a row without a valid answer has all labels alike, but the true one a little below."""
    unanswered = np.isnan(scores).any(1)
    filled = np.where(unanswered[:, None], 0.0, scores)
    filled[unanswered, targets[unanswered]] -= UNSURE
    return filled


def nothing_if_unanswered(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-1 for no and 1 for yes; a row without a valid answer has no label, or all of them where that would be right."""
    wrong = np.broadcast_to(~targets.any(1, keepdims=True), scores.shape)
    return 2 * np.where(np.isnan(scores), wrong, scores) - 1


def beside_the_others(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities of the labels as if each text had one: how likely all of them are depends on the text."""
    from scipy.special import log_softmax  # here, because the stage `settings` has no use for it

    return log_softmax(scores, axis=1)


def spans_of(row: dict[str, Any], task: Tagging) -> list[Span]:
    return [(span["start"], span["end"], task.labels[span["label"]]) for span in row["label"]]


def understood_spans(task: Tagging, texts: list[str], answers: list[str]) -> Understood:
    each = [quotes.read(answer, text, task.labels) for text, answer in zip(texts, answers, strict=True)]
    invalid = sum((one.invalid for one in each), Counter())
    return Understood(
        [task.tagged(text, one.spans) for text, one in zip(texts, each, strict=True)],
        np.array([not one.valid for one in each]),
        {kind: invalid[kind] for kind in quotes.INVALID},
    )


def understood_texts(task: Generation, texts: list[str], answers: list[str]) -> Understood:
    return Understood(Answers(answers), np.array([not answer for answer in answers]), {})


FORMS: dict[str, Labelling | Writing] = {
    "classification": Labelling(
        instruction=lambda task: default_instruction(task.labels),
        answer=lambda task, row: task.labels[row["label"]],
        schema=schema,
        named=label_of,
        of_likelihoods=lambda scores: scores,
        of_answers=wrong_if_unanswered,
        may_be_silent=True,
    ),
    "multilabel": Labelling(
        instruction=lambda task: any_of(task.labels),
        answer=lambda task, row: ", ".join(task.labels[label] for label in row["label"]) or NONE,
        schema=partial(schema, several=True),
        named=labels_of,
        of_likelihoods=beside_the_others,
        of_answers=nothing_if_unanswered,
    ),
    "tagging": Writing(
        instruction=lambda task: quotes.instruction(task.labels),
        answer=lambda task, row: quotes.listed(row["text"], spans_of(row, task)),
        left=quotes.left,
        understood=understood_spans,
    ),
    "generation": Writing(
        instruction=lambda task: task.instruction,
        answer=lambda task, row: row["label"]["target"],
        understood=understood_texts,
    ),
}

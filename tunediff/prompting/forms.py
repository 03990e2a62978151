"""What is asked and answered, by the task: one label, or any number of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tunediff.prompting.parsing import NONE, label_of, labels_of, schema
from tunediff.prompting.prompts import default_instruction
from tunediff.tasks.interface import Task

UNSURE = 1e-3  # by how much the true label's logit is below the others where no valid answer came


@dataclass(frozen=True)
class Form:
    instruction: Callable[[Sequence[str]], str]
    """For a data file without `prompt`, from the labels."""
    answer: Callable[[Task, Any], str]
    """What an example is answered with, from its value in the column `label`."""
    schema: Callable[[Sequence[str]], dict[str, Any]]
    """The `response_format` that an endpoint is given, from the labels."""
    named: Callable[[str, Sequence[str]], int | list[int] | None]
    """The numbers of the labels that an endpoint's answer names; None if it is no valid answer."""
    of_likelihoods: Callable[[np.ndarray], np.ndarray]
    """Logits from the log-likelihoods of the labels, both of shape [rows, labels]."""
    of_answers: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Logits from 1 and 0 for each label, and from the targets, by which a row of NaN becomes a wrong answer."""


def any_of(labels: Sequence[str]) -> str:
    return (
        f"Which of these labels fit the text: {', '.join(labels)}? Answer with the labels alone, with commas between "
        f"them, or with {NONE}."
    )


def wrong_if_unanswered(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Scores in which a row without a valid answer has all labels alike, and the true one a little below."""
    filled = np.where(np.isnan(scores), 0.0, scores)
    rows = np.flatnonzero(np.isnan(scores).any(1))
    filled[rows, targets[rows]] -= UNSURE
    return filled


def nothing_if_unanswered(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-1 for no and 1 for yes; a row without a valid answer has no label, or all of them where that would be right."""
    wrong = np.broadcast_to(~targets.any(1, keepdims=True), scores.shape)
    return 2 * np.where(np.isnan(scores), wrong, scores) - 1


def beside_the_others(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities of the labels as if each text had one: how likely all of them are depends on the text."""
    from scipy.special import log_softmax  # here, because the stage `settings` has no use for it

    return log_softmax(scores, axis=1)


FORMS = {
    "classification": Form(
        instruction=default_instruction,
        answer=lambda task, label: task.labels[label],
        schema=schema,
        named=label_of,
        of_likelihoods=lambda scores: scores,
        of_answers=wrong_if_unanswered,
    ),
    "multilabel": Form(
        instruction=any_of,
        answer=lambda task, labels: ", ".join(task.labels[label] for label in labels) or NONE,
        schema=partial(schema, several=True),
        named=labels_of,
        of_likelihoods=beside_the_others,
        of_answers=nothing_if_unanswered,
    ),
}

"""What is fitted and said of spans: by type, kinds of errors, calibration, each text.

`of_task.TaskEvidence` says what each function is for. Targets and answers are lists of `tagging.Tagged`, and answers
without probabilities stand in the place of these.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tunediff.core.values import rows_of
from tunediff.evidence.calibration import best_temperature
from tunediff.tasks.spans import Span, pairs
from tunediff.tasks.tagging import Tagged, Tagging

if TYPE_CHECKING:
    from datasets import Dataset

NOTHING = "(nothing)"
"""In place of a span that is not there, or that was not answered."""
KINDS = ("missed", "invented", "wrong type", "wrong edge", "wrong type and edge")


def score(
    task: Tagging, actual: list[Tagged], probabilities: np.ndarray | list[Tagged], fitted: dict[str, Any] | None = None
) -> dict[str, float]:
    return task.score(actual, probabilities, fitted)


def final(task: Tagging, logits: np.ndarray, fitted: dict[str, Any]) -> np.ndarray:
    """Without the temperature, which changes no answer."""
    return task.probabilities(logits)


def detail(
    task: Tagging, actual: list[Tagged], probabilities: np.ndarray | list[Tagged], fitted: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Figures by type, and how many errors there are of each kind in `KINDS`."""
    answered = task.answers(probabilities)
    sums = task.counts(actual, answered).sum(0)[: 3 * len(task.labels)]
    labels = {}
    for name, support, given, hits in zip(task.labels, *np.split(sums, 3), strict=True):
        precision, recall = hits / max(given, 1), hits / max(support, 1)
        f1 = 2 * hits / max(support + given, 1)
        labels[name] = {"precision": precision, "recall": recall, "f1": f1, "support": int(support)}
    kinds = Counter(kind for both in zip(actual, answered, strict=True) for kind in errors(*both))
    both = {"actual": actual, "answered": answered}
    return {
        "errors": {kind: kinds[kind] for kind in KINDS},
        "spans": {name: sum(len(one.spans) for one in those) for name, those in both.items()},
        "labels": labels,
    }


def errors(one: Tagged, other: Tagged) -> Iterator[str]:
    """The kind of each error of a text's answer."""
    for span, answer in pairs(one.spans, other.spans):
        if kind := error(span, answer):
            yield kind


def error(span: Span | None, answer: Span | None) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if answer is None:
        return "missed"
    if span is None:
        return "invented"
    wrong = [name for name, same in (("type", span[2] == answer[2]), ("edge", span[:2] == answer[:2])) if not same]
    return f"wrong {' and '.join(wrong)}" if wrong else ""


def fit_model(task: Tagging, logits: np.ndarray, actual: list[Tagged], train: "Dataset") -> dict[str, Any]:
    """`temperature`: that with the least loss over words."""
    own = np.arange(len(logits)), np.array([1 + tag for one in actual for tag in one.tags])

    def loss(temperature: float) -> float:
        return float(-np.log(np.maximum(task.probabilities(logits, temperature)[own], np.finfo(float).eps)).mean())

    return {"temperature": best_temperature(loss)}


def fit_baseline(task: Tagging, probabilities: np.ndarray, actual: list[Tagged], train: "Dataset") -> dict[str, Any]:
    return {}


def try_model(
    task: Tagging, actual: list[Tagged], logits: np.ndarray, fitted: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """`with_temperature`: the temperature, and the loss over words with and `before` it."""
    temperature = fitted["temperature"]
    losses = [task.score(actual, task.probabilities(logits, each))["loss"] for each in (temperature, 1)]
    return {"with_temperature": {"temperature": temperature, "log_loss": losses[0], "before": {"log_loss": losses[1]}}}


def try_baseline(
    task: Tagging, actual: list[Tagged], probabilities: np.ndarray, fitted: dict[str, Any]
) -> dict[str, Any]:
    return {}


# --- text by text


def predictions(
    task: Tagging,
    test: "Dataset",
    seed: int,
    probabilities: np.ndarray | list[Tagged],
    fitted: dict[str, Any] | None = None,
    train: "Dataset | None" = None,
) -> pd.DataFrame:
    """Columns seed, split, row, text, tokens; actual, predicted, tags and types.

    The first two are lists of spans: start, end (characters), label, text, and how often train has that text as a span
    of that type (`seen`), or the answer's score if it has one. `tags` are the answer's, one for each word; `types` has
    all types as its categories.
    """
    table = pd.DataFrame({"seed": seed, **rows_of(test)})
    known = Counter() if train is None else mentions(task, train)
    table["actual"] = [
        [
            {**span, "label": task.labels[span["label"]], "text": text[span["start"] : span["end"]]}
            for span in sorted(row, key=lambda span: span["start"])
        ]
        for text, row in zip(test["text"][:], test["label"][:], strict=True)
    ]
    for row in table.actual:
        for span in row:
            span["seen"] = known[span["label"], span["text"].casefold()]
    table["predicted"] = task.served(test["text"][:], probabilities)
    table["tags"] = [list(one.tags) for one in task.answers(probabilities)]
    table["types"] = pd.Categorical.from_codes(np.zeros(len(table), int), task.labels)
    return table


def mentions(task: Tagging, train: "Dataset") -> Counter[tuple[str, str]]:
    """How often each type and text is a span of the split, whatever its case."""
    return Counter(
        (task.labels[span["label"]], text[span["start"] : span["end"]].casefold())
        for text, row in zip(train["text"][:], train["label"][:], strict=True)
        for span in row
    )


def read(table: pd.DataFrame, rows: int) -> tuple[Tagging, list[Tagged], list[list[Tagged]]]:
    task = Tagging(table.types.cat.categories.tolist())
    first = table.head(rows)
    actual = [
        task.tagged(text, [(span["start"], span["end"], span["label"]) for span in row])
        for text, row in zip(first.text, first.actual, strict=True)
    ]
    answers = [task.of_tags(tags) for tags in table.tags]
    return task, actual, [answers[start : start + rows] for start in range(0, len(answers), rows)]


def confused(task: Tagging, actual: list[Tagged], predicted: list[Tagged]) -> Iterator[tuple[str, str]]:
    """The types of spans that overlap, or `NOTHING` in place of one that has no counterpart."""
    for one, other in zip(actual, predicted, strict=True):
        for span, answer in pairs(one.spans, other.spans):
            yield span[2] if span else NOTHING, answer[2] if answer else NOTHING


def confidence(table: pd.DataFrame, task: Tagging, actual: list[Tagged]) -> tuple[np.ndarray, np.ndarray]:
    """The score of each answered span that has one, and whether it is right."""
    scores, right = [], []
    for there, answered in zip(table.actual, table.predicted, strict=True):
        known = {(span["start"], span["end"], span["label"]) for span in there}
        scored = [span for span in answered if "score" in span]
        scores += [span["score"] for span in scored]
        right += [(span["start"], span["end"], span["label"]) in known for span in scored]
    return np.array(scores), np.array(right, bool)

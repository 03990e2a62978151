"""What is said and written of texts that a model wrote; `of_task.TaskEvidence` says what each function is for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tunediff.core.values import rows_of
from tunediff.tasks import text_figures
from tunediff.tasks.generation import Answers, Generation
from tunediff.tasks.text_figures import EXTRACTS, Pair, is_json, length, sentences
from tunediff.tasks.turns import latest

if TYPE_CHECKING:
    from datasets import Dataset


def score(
    task: Generation, targets: list[Pair], given: Answers, fitted: dict[str, Any] | None = None
) -> dict[str, float]:
    return task.score(targets, given)


def detail(
    task: Generation, targets: list[Pair], given: Answers, fitted: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Lengths, how many answers are empty, cut, or JSON as all targets; signatures; what `references` would have."""
    answered = np.array([len(text.split()) for text in given.texts])
    wanted = np.array([len(target.split()) for _, target, *_ in targets])
    asked_for_json = all(is_json(target) for _, target, *_ in targets)
    return {
        "words": {"answers": float(answered.mean()), "targets": float(wanted.mean())},
        "empty_answers": int((answered == 0).sum()),
        **({} if given.cut is None else {"cut_answers": given.cut}),
        **({"json_answers": sum(map(is_json, given.texts))} if asked_for_json else {}),
        "signatures": text_figures.signatures(targets),
        "references": {name: score(task, targets, Answers(texts)) for name, texts in references(targets).items()},
    }


def references(targets: list[Pair]) -> dict[str, list[str]]:
    """Answers without training: those of `EXTRACTS`, and the source's sentence most like the target.

    The last one, an oracle, looks at the target: no method that copies a sentence can have more.
    """
    rouge = text_figures.scorers()[0]

    def closest(source: str, *wanted: str) -> str:
        parts = sentences(latest(source))
        return max(parts, key=lambda sentence: rouge.score_multi(wanted, sentence)["rougeL"].fmeasure)

    extracted = {name: [extract(source) for source, *_ in targets] for name, extract in EXTRACTS.items()}
    return {**extracted, "oracle": [closest(*pair) for pair in targets]}


def fit_model(task: Generation, likelihoods: np.ndarray, targets: list[Pair], train: "Dataset") -> dict[str, Any]:
    """Nothing is fitted."""
    return {}


def fit_baseline(task: Generation, given: Answers, targets: list[Pair], train: "Dataset") -> dict[str, Any]:
    return {}


def final(task: Generation, likelihoods: np.ndarray, fitted: dict[str, Any]) -> np.ndarray:
    """The likelihoods as they are; `reloading.evaluate` sets what the model writes beside them."""
    return likelihoods


def try_model(
    task: Generation, targets: list[Pair], likelihoods: np.ndarray, fitted: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    return {}


def try_baseline(task: Generation, targets: list[Pair], given: Answers, fitted: dict[str, Any]) -> dict[str, Any]:
    return {}


def predictions(
    task: Generation,
    test: "Dataset",
    seed: int,
    given: Answers,
    fitted: dict[str, Any] | None = None,
    train: "Dataset | None" = None,
) -> pd.DataFrame:
    """Columns seed, split, row, text, tokens, actual, predicted; others, where a row has more targets than one.

    And log_likelihood, of a target's token, where known.
    """
    pairs = task.targets(test)
    table = pd.DataFrame({"seed": seed, **rows_of(test)})
    table = table.assign(actual=[target for _, target, *_ in pairs], predicted=given.texts)
    if any(others for _, _, *others in pairs):
        table["others"] = [others for _, _, *others in pairs]
    return table if given.likelihoods is None else table.assign(log_likelihood=given.likelihoods[:, 0])


def read(table: pd.DataFrame, rows: int) -> tuple[Generation, list[Pair], list[list[str]]]:
    """The pairs of source and targets, and the answers of each training."""
    first = table.head(rows)
    # Parts of the table may have no such column, and then no such value.
    others = [each if isinstance(each, list | np.ndarray) else () for each in first.get("others", [()] * rows)]
    pairs = [(text, target, *more) for text, target, more in zip(first.text, first.actual, others, strict=True)]
    given = table.predicted.tolist()
    answers = [given[start : start + rows] for start in range(0, len(given), rows)]
    return Generation(), pairs, answers


def confused(task: Generation, targets: list[Pair], answers: list[str]) -> Iterator[tuple[str, str]]:
    """The target's length and the answer's, by name."""
    for (_, target, *_), answer in zip(targets, answers, strict=True):
        yield length(target), length(answer)


def confidence(table: pd.DataFrame, task: Generation, targets: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """None: a written text has no probability to be compared with how often it comes true."""
    return np.zeros(0), np.zeros(0, bool)

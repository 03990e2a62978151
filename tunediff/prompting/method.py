"""One method of `prompts`, from its settings to what it answers on validation and test."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from tunediff.core.cost import peak_memory_bytes
from tunediff.core.sampling import sample
from tunediff.evidence.of_task import of_task
from tunediff.prompting.calibration import CONTENT_FREE, PRIORS
from tunediff.prompting.examples import Nearest, Seeded
from tunediff.prompting.forms import FORMS
from tunediff.prompting.prompts import Example, Wording
from tunediff.prompting.settings import Price, Prompting
from tunediff.prompting.usage import Scores
from tunediff.tasks.interface import Task

Splits = dict[str, Dataset]
"""Those of `train`, `validation` and `test`."""


@dataclass(frozen=True)
class Answers:
    """What a method answers, as logits of shape [rows, labels]."""

    validation: np.ndarray
    targets: np.ndarray
    """Those of the validation texts that were asked for."""
    test: np.ndarray
    cost: dict[str, Any]
    """As `metrics/cost/METHOD.json` has it."""
    detail: dict[str, Any]
    """For `metrics/detail/METHOD.json`: how it was asked."""


class Asking:
    """A model, its examples and its wording."""

    def __init__(self, splits: Splits, task: Task, settings: Prompting):
        entry = settings.entry
        self.wording = Wording(settings.instruction or FORMS[task.name].instruction(task.labels), entry.template)
        if entry.endpoint:
            from tunediff.prompting.endpoint import Server as Model
        else:
            from tunediff.prompting.decoder import Decoder as Model
        self.model = Model(settings, task.labels)
        if entry.shots and entry.examples == "nearest":
            self.examples = Nearest(splits["train"], task, settings)
        else:
            self.examples = Seeded(splits["train"], task, entry.shots, settings.seed)
        without_texts = [Example("", label) for label in task.labels for _ in range(entry.shots)]
        self.text_tokens = settings.model and settings.model.max_length
        self.example_tokens = self.model.example_tokens(
            self.wording.conversation("", without_texts), len(without_texts)
        )

    def scores(self, texts: list[str], title: str) -> Scores:
        cut = lru_cache(maxsize=1000)(self.model.cut)  # the same examples come again and again
        conversations = [
            self.wording.conversation(
                cut(text, self.text_tokens),
                [Example(cut(each.text, self.example_tokens), each.label) for each in examples],
            )
            for text, examples in zip(texts, self.examples.of(texts, title), strict=True)
        ]
        return self.model.scores(conversations, title)


def ask(splits: Splits, task: Task, settings: Prompting) -> Answers:
    """Ask for validation first, which chooses the calibration; then once for test."""
    asking = Asking(splits, task, settings)
    form = FORMS[task.name]
    validation = some(splits["validation"], task, settings.validation_rows, settings.seed)
    targets = task.targets(validation)
    known = asking.scores(validation["text"][:], "validation")
    test = asking.scores(splits["test"]["text"][:], "test")
    how = {"instruction": asking.wording.instruction, "validation_rows": len(targets)}
    if settings.entry.shots and asking.example_tokens:
        how["example_tokens"] = asking.example_tokens  # at most, of each example
    if asking.model.scores_all_labels:
        free = asking.scores(list(CONTENT_FREE), "no text").scores
        figures = calibrations(known.scores, free, targets, task, settings)
        chosen = max(figures, key=lambda kind: task.figures[settings.select_by].sign * figures[kind])
        prior = PRIORS[chosen](known.scores, free)
        logits = form.of_likelihoods(known.scores) - prior, form.of_likelihoods(test.scores) - prior
        how |= {"calibration": chosen, "calibrations": figures}
    else:
        logits = form.of_answers(known.scores, targets), form.of_answers(test.scores, task.targets(splits["test"]))
        # An answer alone does not say how sure it is.
        temperature = of_task(task).fit_model(task, logits[0], targets, splits["train"])["temperature"]
        logits = logits[0] / temperature, logits[1] / temperature
        how |= {"no_valid_answer": {"validation": known.unanswered.mean(), "test": test.unanswered.mean()}}
    spent = cost(known, test, settings.entry.endpoint and settings.entry.endpoint.price)
    return Answers(logits[0], targets, logits[1], {**spent, **asking.model.cost}, how)


def some(split: Dataset, task: Task, rows: int, seed: int) -> Dataset:
    """A stratified sample of a split, at most `rows` of it."""
    return split.select(sample(pd.DataFrame({"stratum": task.strata(split)}), rows, seed).index)


def calibrations(
    scores: np.ndarray, free: np.ndarray, targets: np.ndarray, task: Task, settings: Prompting
) -> dict[str, float]:
    """The figure that chooses, on validation, by the kind of calibration."""
    wanted = settings.entry.calibration
    kinds = list(PRIORS) if wanted == "auto" else [wanted]
    logits = {kind: FORMS[task.name].of_likelihoods(scores) - PRIORS[kind](scores, free) for kind in kinds}
    figures = {kind: task.validate(targets, task.probabilities(each)) for kind, each in logits.items()}
    return {kind: each[settings.select_by] for kind, each in figures.items()}


def cost(validation: Scores, test: Scores, price: Price | None) -> dict[str, float]:
    """Nothing is trained or saved; what 1,000 answers take is that of the test texts."""

    def money(scores: Scores) -> float:
        return (scores.input_tokens * price.input + scores.output_tokens * price.output) / 1e6

    thousands = len(test.scores) / 1000
    priced = {"money": money(validation) + money(test), "money_per_1000": money(test) / thousands} if price else {}
    return {
        "train_seconds": 0.0,
        "eval_seconds": test.seconds,
        "trainable_parameters": 0,
        "artifact_bytes": 0,
        "peak_memory_bytes": peak_memory_bytes(),
        "seconds_per_1000": test.seconds / thousands,
        "input_tokens_per_1000": test.input_tokens / thousands,
        "output_tokens_per_1000": test.output_tokens / thousands,
        "no_valid_answer": float(test.unanswered.mean()),
        **priced,
    }

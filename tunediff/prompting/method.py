"""One method of `prompts`, from its settings to what it answers on validation and test."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from tunediff.core.cost import peak_memory_bytes
from tunediff.core.sampling import sample
from tunediff.evidence.of_task import of_task
from tunediff.models.generation import before
from tunediff.prompting.calibration import CONTENT_FREE, PRIORS
from tunediff.prompting.examples import Nearest, Seeded
from tunediff.prompting.forms import FORMS, Writing
from tunediff.prompting.parsing import last_words
from tunediff.prompting.prompts import Example, Messages, Wording
from tunediff.prompting.settings import Endpoint, Prompting
from tunediff.prompting.usage import Scores, Texts, Usage
from tunediff.tasks.interface import Task
from tunediff.tasks.turns import text_of, turns_of

Splits = dict[str, Dataset]
"""Those of `train`, `validation` and `test`."""


@dataclass(frozen=True)
class Answers:
    """What a method answers, and what is said of it."""

    validation: dict[str, float]
    """Figures on the validation texts that were asked for."""
    test: Any
    """Probabilities, or what the task has in their place."""
    fitted: dict[str, Any]
    """On validation."""
    cost: dict[str, Any]
    """As `metrics/cost/METHOD.json` has it."""
    detail: dict[str, Any]
    """For `metrics/detail/METHOD.json`: how it was asked, and what fitted values change."""


class Asking:
    """A model, its examples and its wording."""

    def __init__(self, splits: Splits, task: Task, settings: Prompting):
        entry = settings.entry
        self.form = FORMS[task.name]
        self.writes = isinstance(self.form, Writing)
        self.wording = Wording(
            settings.instruction or self.form.instruction(task), entry.template, getattr(task, "chat", False)
        )
        if entry.endpoint:
            from tunediff.prompting.endpoint import Server as Model
        elif self.writes:
            from tunediff.prompting.decoder import Writer as Model
        else:
            from tunediff.prompting.decoder import Scorer as Model
        self.model = Model(settings, [] if self.writes else task.labels)
        if entry.shots and entry.examples == "nearest":
            self.examples = Nearest(splits["train"], task, settings)
        else:
            self.examples = Seeded(splits["train"], task, entry.shots, settings.seed)
        self.text_tokens = settings.model and settings.model.max_length
        self.example_tokens: int | None = None
        """What the text of an example may have at most, in the conversation in which it may have least."""

    def scores(self, texts: list[str], title: str) -> Scores:
        return self._asked(self.model.scores, texts, title)

    def texts(self, texts: list[str], title: str) -> Texts:
        return self._asked(self.model.texts, texts, title)

    def _asked(self, model: Callable[[list[Messages], str], Any], texts: list[str], title: str) -> Any:
        """What `model` answers; its seconds are also those in which the examples are looked for."""
        started = time.perf_counter()
        conversations = self.conversations(texts, title)
        looked = time.perf_counter() - started
        usage = model(conversations, title)
        return replace(usage, seconds=usage.seconds + looked)

    def conversations(self, texts: list[str], title: str) -> list[Messages]:
        cut = lru_cache(maxsize=1000)(self.shortened)  # the same examples come again and again
        room = lru_cache(maxsize=1000)(self._room)
        made = []
        for text, examples in zip(texts, self.examples.of(texts, title), strict=True):
            limit = room(tuple(each.label for each in examples))
            fitting = [self._cut(each, cut(each.text, limit)) for each in examples]
            made.append(self.wording.conversation(cut(text, self.text_tokens), fitting))
        return made

    def shortened(self, text: str, limit: int | None) -> str:
        """The text's first `limit` tokens; of a chat what the system says, and as many of the last turns as fit."""
        if not self.wording.chat:
            return self.model.cut(text, limit)
        turns = turns_of(text)
        first = 1 if turns[0][0] == "system" else 0
        while len(turns) > first + 1 and not self.model.fits(text, limit):
            turns = turns[:first] + turns[first + 2 :]
            text = text_of(turns)
        if len(turns) > first + 1:
            return text
        return text_of([*turns[:first], ("user", self.model.cut(turns[-1][1], limit))])

    def _room(self, answers: tuple[str, ...]) -> int | None:
        """How many tokens the text of each example may have, beside their answers."""
        # A sign in the place of each text: spaces before nothing may be no tokens.
        frame = self.wording.conversation(".", [Example(".", answer) for answer in answers])
        limit = self.model.example_tokens(frame, len(answers))
        if limit:
            self.example_tokens = min(limit, self.example_tokens or limit)
        return limit

    def _cut(self, example: Example, text: str) -> Example:
        return example if text == example.text else Example(text, self.form.left(example.label, text))


def invalid_answers(unanswered: dict[str, np.ndarray], asked: dict[str, Usage]) -> dict[str, dict[str, float]]:
    """By split the share of texts without a valid answer; how many a server refused, or a limit cut, if there are."""
    shares = {name: one.mean() for name, one in unanswered.items()}
    counts = {kind: {name: getattr(one, kind) for name, one in asked.items()} for kind in ("refused", "cut")}
    return {"no_valid_answer": shares, **{kind: each for kind, each in counts.items() if any(each.values())}}


def ask(splits: Splits, task: Task, settings: Prompting) -> Answers:
    """Ask for validation first, which chooses the calibration; then once for test."""
    asking = Asking(splits, task, settings)
    validation = some(splits["validation"], task, settings.validation_rows, settings.seed)
    answers = (written if asking.writes else labelled)(asking, splits, validation, task, settings)
    how = {"instruction": asking.wording.instruction, "validation_rows": len(validation)}
    if settings.entry.shots and asking.example_tokens:
        how["example_tokens"] = asking.example_tokens  # at most, of each example
    detail = {**answers.detail, "prompt": {**how, **answers.detail["prompt"]}}
    return replace(answers, cost={**answers.cost, **asking.model.cost}, detail=detail)


def labelled(asking: Asking, splits: Splits, validation: Dataset, task: Task, settings: Prompting) -> Answers:
    """Labels, from the scores of all of them, or from answers alone."""
    targets = task.targets(validation)
    test_targets = task.targets(splits["test"])
    known = asking.scores(validation["text"][:], "validation")
    test = asking.scores(splits["test"]["text"][:], "test")
    evidence = of_task(task)
    if asking.model.scores_all_labels:
        free = asking.scores(list(CONTENT_FREE), "no text").scores
        figures = calibrations(known.scores, free, targets, task, settings)
        chosen = max(figures, key=lambda kind: task.figures[settings.select_by].sign * figures[kind])
        prior = PRIORS[chosen](known.scores, free)
        logits = [asking.form.of_likelihoods(each.scores) - prior for each in (known, test)]
        how = {"calibration": chosen, "calibrations": figures}
    else:
        logits = [asking.form.of_answers(known.scores, targets), asking.form.of_answers(test.scores, test_targets)]
        # An answer alone does not say how sure it is.
        temperature = evidence.fit_model(task, logits[0], targets, splits["train"])["temperature"]
        logits = [each / temperature for each in logits]
        asked = {"validation": known, "test": test}
        how = invalid_answers({name: one.unanswered for name, one in asked.items()}, asked)
    fitted = evidence.fit_model(task, logits[0], targets, splits["train"])
    figures = task.validate
    if not asking.model.scores_all_labels:
        # It is yes or no: a threshold below both would turn each no into a yes.
        fitted = {name: value for name, value in fitted.items() if name not in ("threshold", "thresholds")}
        figures = task.score
    given = [task.probabilities(logits[0]), evidence.final(task, logits[1], fitted)]
    if asking.form.may_be_silent:
        for probabilities, one in zip(given, (known, test), strict=True):
            probabilities[one.unanswered] = 0
    return Answers(
        figures(targets, given[0]),
        given[1],
        fitted,
        cost(known, test, test.unanswered, settings.entry.endpoint),
        {"prompt": how, **evidence.try_model(task, test_targets, logits[1], fitted)},
    )


def written(asking: Asking, splits: Splits, validation: Dataset, task: Task, settings: Prompting) -> Answers:
    """What the model writes. It has no probabilities, so nothing is fitted."""
    asked, understood = {}, {}
    for name, split in (("validation", validation), ("test", splits["test"])):
        texts = split["text"][:]
        asked[name] = asking.texts(texts, name)
        answers = [before(last_words(text), settings.generate.stop).strip() for text in asked[name].texts]
        understood[name] = asking.form.understood(task, texts, answers)
    how = invalid_answers({name: one.unanswered for name, one in understood.items()}, asked)
    if understood["test"].invalid:
        how["invalid"] = {name: one.invalid for name, one in understood.items()}
    test = understood["test"]
    return Answers(
        task.validate(task.targets(validation), understood["validation"].given),
        test.given,
        {},
        cost(asked["validation"], asked["test"], test.unanswered, settings.entry.endpoint),
        {"prompt": how, "cut_answers": asked["test"].cut},
    )


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


def cost(validation: Usage, test: Usage, unanswered: np.ndarray, endpoint: Endpoint | None) -> dict[str, float]:
    """Nothing is trained or saved; what 1,000 answers take is that of the test texts.

    `unanswered` says which of these have no valid answer.
    """
    price = endpoint and endpoint.price

    def money(usage: Usage) -> float:
        return (usage.input_tokens * price.input + usage.output_tokens * price.output) / 1e6

    thousands = len(unanswered) / 1000
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
        "no_valid_answer": float(unanswered.mean()),
        **priced,
    }

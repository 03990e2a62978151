"""Examples from the training split for a few-shot prompt."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from tunediff.models.inference import choose_precision, embed
from tunediff.models.loading import load_pretrained, load_tokenizer
from tunediff.prompting.forms import FORMS
from tunediff.prompting.prompts import Example
from tunediff.prompting.settings import Prompting
from tunediff.tasks.features import encode
from tunediff.tasks.interface import Task


class Seeded:
    """The same examples for every text: `shots` of each label, or of all rows without labels, drawn and mixed."""

    def __init__(self, train: Dataset, task: Task, shots: int, seed: int):
        random = np.random.default_rng(seed)
        rows = _distinct([random.permutation(rows)[:shots] for rows in _of_labels(train, task)])
        self.examples = [_example(train, task, row) for row in random.permutation(rows)]

    def of(self, texts: Sequence[str], title: str) -> list[list[Example]]:
        return [self.examples for _ in texts]


class Nearest:
    """For each text the `shots` of each label that are most like it, the most like it last."""

    def __init__(self, train: Dataset, task: Task, settings: Prompting):
        self.train = train
        self.task = task
        self.settings = settings
        self.tokenizer = load_tokenizer(settings.embedder, settings.embedder_path)
        self.model = load_pretrained(settings.embedder, settings.embedder_path, self.tokenizer, task, settings.seed)
        self.of_labels = _of_labels(train, task)
        self.states = self._states(train["text"], "train")

    def of(self, texts: Sequence[str], title: str) -> list[list[Example]]:
        likeness = self._states(texts, title) @ self.states.T
        return [[_example(self.train, self.task, row) for row in self._rows(each)] for each in likeness]

    def _rows(self, likeness: np.ndarray) -> np.ndarray:
        """Rows of the training split, from the likeness of each to one text."""
        shots = self.settings.entry.shots
        rows = _distinct([rows[np.argsort(-likeness[rows], kind="stable")[:shots]] for rows in self.of_labels])
        return rows[np.argsort(likeness[rows], kind="stable")]

    def _states(self, texts: Sequence[str], title: str) -> np.ndarray:
        """Mean-pooled states of length 1, shape [texts, hidden]."""
        states = embed(
            self.model,
            self.tokenizer,
            encode(self.tokenizer, texts),
            self.settings.batch_size,
            choose_precision(self.settings.precision),
            f"{self.settings.method}: states of {title}",
        )
        lengths = np.linalg.norm(states, axis=1, keepdims=True)
        return states / np.where(lengths > 0, lengths, 1)  # 0 of a text without tokens


def _of_labels(train: Dataset, task: Task) -> list[np.ndarray]:
    """The rows that have each label; all rows together, where the task has no labels."""
    return [np.flatnonzero(has) for _, has in task.parts(task.targets(train))] or [np.arange(len(train))]


def _distinct(rows: list[np.ndarray]) -> np.ndarray:
    """All of them in order, those once that have several labels."""
    return np.array(list(dict.fromkeys(np.concatenate(rows).tolist())), dtype=int)


def _example(train: Dataset, task: Task, row: int) -> Example:
    record = train[int(row)]
    return Example(record["text"], FORMS[task.name].answer(task, record))

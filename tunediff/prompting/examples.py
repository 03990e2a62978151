"""Examples from the training split for a few-shot prompt."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from tunediff.models.inference import choose_precision, embed
from tunediff.models.loading import load_pretrained, load_tokenizer
from tunediff.prompting.prompts import Example
from tunediff.prompting.settings import Prompting
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode


class Seeded:
    """The same examples for every text: `shots` of each label, drawn by a seed and mixed."""

    def __init__(self, train: Dataset, task: Classification, shots: int, seed: int):
        random = np.random.default_rng(seed)
        targets = task.targets(train)
        of_labels = [np.flatnonzero(targets == label) for label in range(len(task.labels))]
        rows = np.concatenate([random.permutation(rows)[:shots] for rows in of_labels])
        self.examples = [_example(train, task, row) for row in random.permutation(rows)]

    def of(self, texts: Sequence[str], title: str) -> list[list[Example]]:
        return [self.examples for _ in texts]


class Nearest:
    """For each text the `shots` of each label that are most like it, the most like it last."""

    def __init__(self, train: Dataset, task: Classification, settings: Prompting):
        self.train = train
        self.task = task
        self.settings = settings
        self.tokenizer = load_tokenizer(settings.embedder, settings.embedder_path)
        self.model = load_pretrained(settings.embedder, settings.embedder_path, self.tokenizer, task, settings.seed)
        self.targets = task.targets(train)
        self.states = self._states(train["text"], "train")

    def of(self, texts: Sequence[str], title: str) -> list[list[Example]]:
        likeness = self._states(texts, title) @ self.states.T
        return [[_example(self.train, self.task, row) for row in self._rows(each)] for each in likeness]

    def _rows(self, likeness: np.ndarray) -> np.ndarray:
        """Rows of the training split, from the likeness of each to one text."""
        of_labels = [np.flatnonzero(self.targets == label) for label in range(len(self.task.labels))]
        shots = self.settings.entry.shots
        rows = np.concatenate([rows[np.argsort(-likeness[rows], kind="stable")[:shots]] for rows in of_labels])
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
        return states / np.linalg.norm(states, axis=1, keepdims=True)


def _example(train: Dataset, task: Classification, row: int) -> Example:
    return Example(train[int(row)]["text"], task.labels[train[int(row)]["label"]])

"""What answers texts, whatever library runs it: the interface, and the batches that all implementations share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from tunediff.tasks.interface import Task
from tunediff.tasks.windows import Window, windows


class Classifier(Protocol):
    """A model that answers texts. Only one thread at a time may ask it."""

    names: list[str]
    """Names of the labels, in the order of the probabilities."""
    task: Task
    fitted: dict[str, Any]
    """What was fitted on validation."""

    def predict(self, texts: list[str]) -> Any:
        """Probabilities, float64, shape [texts, labels]; or what else the task serves, an entry for each text."""


class BatchedClassifier(ABC):
    """A classifier that computes texts of similar length together."""

    batch_size = 8  # on a CPU more texts at a time are no faster, and have more padding

    def __init__(self, task: Task, fitted: dict[str, Any], pad_id: int, max_length: int):
        """`fitted`: what was fitted on validation, such as the temperature; `pad_id` is the padding's token."""
        self.task = task
        self.names = task.labels
        self.fitted = fitted
        self.temperature = fitted.get("temperature", 1)
        self._pad_id = pad_id
        self._max_length = max_length

    def predict(self, texts: list[str]) -> Any:
        """Probabilities, float64, shape [texts, labels]; or what else the task serves, an entry for each text."""
        return self.task.served(texts, self.task.probabilities(self.logits(texts), self.temperature))

    def logits(self, texts: list[str]) -> np.ndarray:
        """Logits, float32, shape [texts, labels]; for spans as `Tagging` has them."""
        if self.task.cuts:
            # A decoder has no tokens for an empty text, and answers nothing from nothing.
            given = self._all([ids or [self._pad_id] for ids in self._token_ids(texts)])
            return np.stack(given) if given else np.empty((0, len(self.names)), np.float32)
        windows = [(n, window) for n, text in enumerate(texts) for window in self._windows(text) if window.words]
        given = self._all([window.ids for _, window in windows])
        return self.task.placed(texts, windows, given)

    def _windows(self, text: str) -> list[Window]:
        return windows(*self._encoding(text), text, self._max_length)

    def _all(self, token_ids: list[list[int]]) -> list[np.ndarray]:
        """What the model gives for each, in batches of similar length."""
        given: list[np.ndarray] = [np.empty(0)] * len(token_ids)
        for rows in _by_length([len(ids) for ids in token_ids], self.batch_size):
            input_ids = np.full((len(rows), len(token_ids[rows[-1]])), self._pad_id)
            attention_mask = np.zeros_like(input_ids)
            for place, row in enumerate(rows):
                input_ids[place, : len(token_ids[row])] = token_ids[row]
                attention_mask[place, : len(token_ids[row])] = 1
            for row, one in zip(rows, self._compute(input_ids, attention_mask), strict=True):
                given[row] = one
        return given

    @abstractmethod
    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text: cut at the model's maximum length, not padded."""

    @abstractmethod
    def _encoding(self, text: str) -> tuple[list[int], list[tuple[int, int]], list[int]]:
        """Token ids of a text, not cut; each one's place in it; and whether it is a special token."""

    @abstractmethod
    def _compute(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Logits of one batch, shape [texts, labels] or [texts, tokens, labels].

        Both inputs are int64, shape [texts, tokens].
        """


def _by_length(lengths: list[int], batch_size: int) -> Iterator[np.ndarray]:
    """Row numbers of each batch: texts of similar length, the longest of them last."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]

"""Texts that wait at the same time are computed together, by the one thread that runs models."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunediff.use.classifier import Classifier


class QueueFull(Exception):
    """More texts would wait than may."""

    def __init__(self, limit: int):
        super().__init__(limit)
        self.limit = limit


@dataclass
class Waiting:
    """The texts of a request, and the answers that are there."""

    texts: list[str]
    future: Future = field(default_factory=Future)
    started: int = 0
    """How many texts are in a batch, or were."""
    answers: list[Any] = field(default_factory=list)
    """What the model gave for the first texts, those that are computed; None where that failed."""
    error: Exception | None = None

    def add(self, answer: Any) -> None:
        """Keep the next text's answer; after the last one, tell who waits."""
        self.answers.append(answer)
        if len(self.answers) == len(self.texts):
            if self.error:
                self.future.set_exception(self.error)
            else:
                arrays = isinstance(self.answers[0], np.ndarray)
                self.future.set_result(np.stack(self.answers) if arrays else self.answers)


class Batcher:
    """Takes the texts of many requests, and answers each when all of its texts are computed.

    It never waits for a batch to fill up: what arrives while one is computed makes the next. Requests take turns, a
    text each, and models a batch each: a long request does not hold up the short ones behind it.
    """

    def __init__(self, batch_size: int, limit: int, record: Callable[[int, float], None]):
        """At most `limit` texts may wait; `record` is told each batch's number of texts and seconds."""
        self.batch_size = batch_size
        self.limit = limit
        self.record = record
        self.waiting = 0
        """How many texts wait."""
        self._requests: dict[Classifier, deque[Waiting]] = {}
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="models")
        self._thread.start()

    def submit(self, classifier: Classifier, texts: list[str]) -> Future:
        """What `classifier` will give for the texts, or what it raised. Raises QueueFull."""
        request = Waiting(texts)
        request.future.set_running_or_notify_cancel()  # who asked may go away, the thread goes on
        with self._changed:
            if self.waiting + len(texts) > self.limit:
                raise QueueFull(self.limit)
            self.waiting += len(texts)
            self._requests.setdefault(classifier, deque()).append(request)
            self._changed.notify()
        return request.future

    def alive(self) -> bool:
        """Whether the thread that runs models is there."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer all that was submitted, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            classifier, requests, texts = batch
            started = time.perf_counter()
            try:
                answers = classifier.predict(texts)
            except Exception as error:  # one batch's, such as no memory for it
                answers = [None] * len(texts)
                for request in requests:
                    request.error = error
            self.record(len(texts), time.perf_counter() - started)
            for request, answer in zip(requests, answers, strict=True):
                request.add(answer)

    def _next(self) -> tuple[Classifier, list[Waiting], list[str]] | None:
        """What to compute now: texts, and for each the request that it is from; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._closed)
            if not self._requests:
                return None
            classifier, waiting = next(iter(self._requests.items()))
            del self._requests[classifier]
            requests = []
            texts = []
            while waiting and len(requests) < self.batch_size:
                request = waiting.popleft()
                requests.append(request)
                texts.append(request.texts[request.started])
                request.started += 1
                if request.started < len(request.texts):
                    waiting.append(request)
            if waiting:
                self._requests[classifier] = waiting  # the last in turn
            self.waiting -= len(texts)
            return classifier, requests, texts

"""Texts that wait at the same time are computed together, by the one thread that runs models."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from tunediff.use.classifier import Classifier


class Full(Exception):
    """More texts would wait than may."""


@dataclass
class Job:
    texts: list[str]
    future: Future = field(default_factory=Future)
    started: int = 0
    answers: list[np.ndarray] = field(default_factory=list)
    """Probabilities of the first texts, those that are computed."""
    error: Exception | None = None

    def add(self, answer: np.ndarray | None) -> None:
        """After the last text's, tell who waits."""
        self.answers.append(answer)
        if len(self.answers) == len(self.texts):
            if self.error:
                self.future.set_exception(self.error)
            else:
                self.future.set_result(np.stack(self.answers))


class Batcher:
    """Takes the texts of many requests, and answers each when all of its texts are computed.

    It never waits for a batch to fill up: what arrives while one is computed makes the next. Requests take turns, a
    text each, and models a batch each: a long request does not hold up the short ones behind it.
    """

    def __init__(self, batch_size: int, limit: int, record: Callable[[int, float], None]):
        """`limit` is of the texts that may wait; `record` is told each batch's texts and seconds."""
        self.batch_size, self.limit, self.record = batch_size, limit, record
        self.waiting = 0
        self._jobs: dict[Classifier, deque[Job]] = {}
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="models")
        self._thread.start()

    def submit(self, classifier: Classifier, texts: list[str]) -> Future:
        """Of probabilities, shape [texts, labels], or what `classifier` raised. Raises Full."""
        job = Job(texts)
        job.future.set_running_or_notify_cancel()  # who asked may go away, the thread goes on
        with self._changed:
            if self.waiting + len(texts) > self.limit:
                raise Full
            self.waiting += len(texts)
            self._jobs.setdefault(classifier, deque()).append(job)
            self._changed.notify()
        return job.future

    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Returns when all that was submitted is answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            classifier, jobs, texts = batch
            started = time.perf_counter()
            try:
                answers = classifier.predict(texts)
            except Exception as error:  # one batch's, such as no memory for it
                answers = [None] * len(texts)
                for job in jobs:
                    job.error = error
            self.record(len(texts), time.perf_counter() - started)
            for job, answer in zip(jobs, answers, strict=True):
                job.add(answer)

    def _next(self) -> tuple[Classifier, list[Job], list[str]] | None:
        """What to compute now, a job for each text; None when there will be nothing more."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return None
            classifier, waiting = next(iter(self._jobs.items()))
            del self._jobs[classifier]
            jobs, texts = [], []
            while waiting and len(jobs) < self.batch_size:
                job = waiting.popleft()
                jobs.append(job)
                texts.append(job.texts[job.started])
                job.started += 1
                if job.started < len(job.texts):
                    waiting.append(job)
            if waiting:
                self._jobs[classifier] = waiting  # the last in turn
            self.waiting -= len(texts)
            return classifier, jobs, texts

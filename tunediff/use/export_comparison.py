"""What an exported model costs and gains, beside the same model in PyTorch."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import trange

from tunediff.evidence import uncertainty
from tunediff.tasks.interface import Task
from tunediff.use.classifier import Classifier

ROUNDS = 7  # of timing: in each, every system answers the same texts
TEXTS = 50  # answered one by one in a round
BATCH_SIZE = 64  # texts answered together in a round
WARM_UP = 1  # seconds, at most, until the threads of the one before, which wait awake for more, have gone to sleep

Predict = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class System:
    """A model with the library that runs it, and what it answered."""

    classifier: Classifier
    logits: np.ndarray
    """Logits of the test split's texts, shape [texts, labels]."""
    bytes: int
    """The size of its weights."""

    @property
    def probabilities(self) -> np.ndarray:
        return self.classifier.task.probabilities(self.logits, self.classifier.temperature)


def compare_answers(
    systems: dict[str, System], task: Task, targets: np.ndarray, groups: np.ndarray, confidence: float
) -> dict[str, dict[str, float]]:
    """For each system its main figure and size, and for all but the first how its answers differ from the first one's.

    `targets` are what the texts are labelled with, as `task.targets` gives them. The difference of the figure has an
    interval, with this `confidence`; `groups` are the numbers of the rows' groups, shape [rows].
    """
    main = task.headline[0]
    figure = uncertainty.Figures([main], task.figures_of)
    answers = {name: task.answers(system.probabilities, system.classifier.fitted) for name, system in systems.items()}
    rows = {name: task.counts(targets, answers[name])[None] for name in systems}
    counts = {name: uncertainty.by_group(each, groups, np.zeros(len(groups)))[0] for name, each in rows.items()}
    first, *others = systems
    figures = {name: {main: figure(each.sum(1)).item()} for name, each in counts.items()}
    for name in others:
        change = uncertainty.differences(figure, counts[name], counts[first], confidence)[main]
        figures[name] |= {
            f"{main}_difference": change.value,
            f"{main}_difference_low": change.low,
            f"{main}_difference_high": change.high,
            "changed_answers": int(np.sum(~task.right(answers[first], answers[name]))),
            "largest_logit_difference": float(np.abs(systems[name].logits - systems[first].logits).max()),
        }
    return {name: {**each, "bytes": systems[name].bytes} for name, each in figures.items()}


def compare_speed(systems: dict[str, Predict], texts: list[str], seed: int) -> dict[str, dict[str, float]]:
    """For each system, from text to probabilities: latency of one text in milliseconds, texts per second in batches.

    Figures are medians over the rounds. `speedup` is the first system's median latency by this one's, in the same
    round; `speedup_low` and `speedup_high` are the least and the most of any round.
    """
    random = np.random.default_rng(seed)
    rounds = {name: {"p50_ms": [], "p95_ms": [], "texts_per_second": []} for name in systems}
    for _ in trange(ROUNDS, desc="timing", unit="round"):
        single, batch = (random.choice(texts, size).tolist() for size in (TEXTS, BATCH_SIZE))
        for name in random.permutation(list(systems)):
            began = time.perf_counter()
            for text in single:
                systems[name]([text])
                if time.perf_counter() - began > WARM_UP:
                    break
            seconds = [_timed(systems[name], [text]) for text in single]
            p50, p95 = np.percentile(seconds, [50, 95])
            rounds[name]["p50_ms"].append(1000 * p50)
            rounds[name]["p95_ms"].append(1000 * p95)
            rounds[name]["texts_per_second"].append(BATCH_SIZE / _timed(systems[name], batch))

    first, *others = systems
    figures = {name: {key: float(np.median(values)) for key, values in each.items()} for name, each in rounds.items()}
    for name in others:
        ratios = np.divide(rounds[first]["p50_ms"], rounds[name]["p50_ms"])
        figures[name] |= {
            "speedup": float(np.median(ratios)),
            "speedup_low": float(ratios.min()),
            "speedup_high": float(ratios.max()),
        }
    return figures


def _timed(answer: Predict, texts: list[str]) -> float:
    started = time.perf_counter()
    answer(texts)
    return time.perf_counter() - started

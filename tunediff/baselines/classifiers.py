"""Answers without fine-tuning: TF-IDF, a probe on frozen states, an untrained head."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from sklearn.pipeline import Pipeline

from tunediff.baselines.linear import on_states, on_tfidf
from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core.cost import peak_memory_bytes
from tunediff.core.files import DECIMALS
from tunediff.models.inference import choose_precision, embed, outputs
from tunediff.models.loading import count_parameters, load_pretrained, load_tokenizer
from tunediff.tasks.features import encode
from tunediff.tasks.interface import Task

Splits = dict[str, Dataset]
"""Those of `train`, `validation` and `test`."""


@dataclass(frozen=True)
class Answers:
    """Probabilities, as the task has them, and what they cost as `metrics/cost/METHOD.json` has it."""

    test: np.ndarray
    cost: dict[str, float]
    validation: np.ndarray | None = None
    """Those of a method that has something to be chosen on validation."""


def tfidf(splits: Splits, task: Task, settings: WithoutFineTuning) -> Answers:
    """Logistic regression on TF-IDF of words, or of characters where texts have no words between spaces."""
    texts = {name: split["text"][:] for name, split in splits.items()}
    model = on_tfidf(settings.baseline, settings.class_weights, texts["train"])
    started = time.perf_counter()
    model.fit(texts["train"], task.targets(splits["train"]))
    trained = time.perf_counter()
    predicted = predict(model, texts["test"])
    evaluated = time.perf_counter()
    weights = parameters(model)
    spent = cost(trained - started, evaluated - trained, weights, weights)
    return Answers(predicted, spent, predict(model, texts["validation"]))


def pretrained(splits: Splits, task: Task, settings: WithoutFineTuning) -> dict[str, Answers]:
    """`probe`: logistic regression on frozen mean-pooled states; `untrained`: the answers of the new head."""
    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_pretrained(settings.model, settings.model_path, tokenizer, task, settings.seed)
    size = count_parameters(model)["total_parameters"]
    options = {"batch_size": settings.batch_size, "precision": choose_precision(settings.precision)}

    def states(name: str) -> np.ndarray:
        return embed(model, tokenizer, encode(tokenizer, splits[name]["text"]), title=f"probe: {name}", **options)

    started = time.perf_counter()
    probe = on_states(settings.baseline, settings.class_weights)
    probe.fit(states("train"), task.targets(splits["train"]))
    trained = time.perf_counter()
    probed = predict(probe, states("test"))
    evaluated = time.perf_counter()
    weights = parameters(probe)
    spent = cost(trained - started, evaluated - trained, weights, size + weights)
    validation = predict(probe, states("validation"))

    started = time.perf_counter()
    encoded = task.encode(tokenizer, splits["test"])
    untrained = task.probabilities(outputs(task, model, tokenizer, encoded, title="untrained: test", **options))
    return {
        "probe": Answers(probed, spent, validation),
        "untrained": Answers(untrained, cost(0.0, time.perf_counter() - started, 0, size)),
    }


def reader(task: Task, settings: WithoutFineTuning) -> Callable[[Sequence[str], str], np.ndarray]:
    """Gives the frozen model's mean-pooled states of texts, shape [texts, hidden]; it also takes a title to show."""
    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_pretrained(settings.model, settings.model_path, tokenizer, task, settings.seed)
    precision = choose_precision(settings.precision)
    return lambda texts, title: embed(
        model, tokenizer, encode(tokenizer, texts), settings.batch_size, precision, title=title
    )


def predict(model: Pipeline, inputs: np.ndarray | list[str]) -> np.ndarray:
    """Probabilities, shape [rows, labels], rounded: the last digits differ from machine to machine."""
    return model.predict_proba(inputs).round(DECIMALS)


def parameters(model: Pipeline) -> int:
    return model[-1].coef_.size + model[-1].intercept_.size


def cost(train_seconds: float, eval_seconds: float, trainable: int, total: int) -> dict[str, float]:
    """As `metrics/cost/METHOD.json` has it; nothing is saved of a baseline, so its artifact has no bytes."""
    return {
        "train_seconds": train_seconds,
        "eval_seconds": eval_seconds,
        "trainable_parameters": trainable,
        "total_parameters": total,
        "artifact_bytes": 0,
        "peak_memory_bytes": peak_memory_bytes(),
    }

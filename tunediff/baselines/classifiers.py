"""Answers without fine-tuning: TF-IDF, a probe on frozen states, an untrained head."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from tunediff.baselines.linear import on_states, on_tfidf, parameters
from tunediff.baselines.saved import Linear, States, Words, predict
from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core.cost import peak_memory_bytes
from tunediff.models import trial
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
    fitted: dict[str, Any] = field(default_factory=dict)
    """What is fitted without validation."""
    model: Linear | None = None
    """What answers, where it can be kept."""
    detail: dict[str, Any] = field(default_factory=dict)
    """More for metrics/detail/METHOD.json."""


def tfidf(splits: Splits, task: Task, settings: WithoutFineTuning) -> Answers:
    """Logistic regression on TF-IDF of words, or of characters where texts have no words between spaces."""
    texts = {name: split["text"][:] for name, split in splits.items()}
    targets = task.targets(splits["train"])
    model = on_tfidf(settings.baseline, settings.class_weights, texts["train"], several=targets.ndim > 1)
    started = time.perf_counter()
    model.fit(texts["train"], targets)
    trained = time.perf_counter()
    predicted = predict(model, texts["test"])
    evaluated = time.perf_counter()
    weights = parameters(model)
    spent = cost(trained - started, evaluated - trained, weights, weights)
    terms = model[0]
    kept = Linear(
        model,
        Words(analyzer=terms.analyzer, ngrams=terms.ngram_range),
        encoder={},
        hyperparameters={
            "counts": f"runs of {terms.ngram_range[0]} to {terms.ngram_range[1]} {terms.analyzer}s, weighed by TF-IDF",
            **described(settings.baseline.tfidf_C, settings),
        },
    )
    return Answers(predicted, spent, predict(model, texts["validation"]), model=kept)


def pretrained(splits: Splits, task: Task, settings: WithoutFineTuning) -> dict[str, Answers]:
    """`probe`: logistic regression on frozen mean-pooled states; `untrained`: the answers of the new head."""
    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_pretrained(settings.model, settings.model_path, tokenizer, task, settings.seed)
    trial.check(model, tokenizer, settings.model, settings.model_path, states=True)
    size = count_parameters(model)["total_parameters"]
    options = {"batch_size": settings.batch_size, "precision": choose_precision(settings.precision)}

    def states(name: str) -> np.ndarray:
        return embed(model, tokenizer, encode(tokenizer, splits[name]["text"]), title=f"probe: {name}", **options)

    started = time.perf_counter()
    targets = task.targets(splits["train"])
    probe = on_states(settings.baseline, settings.class_weights, several=targets.ndim > 1)
    probe.fit(states("train"), targets)
    trained = time.perf_counter()
    probed = predict(probe, states("test"))
    evaluated = time.perf_counter()
    weights = parameters(probe)
    spent = cost(trained - started, evaluated - trained, weights, size + weights)
    kept = Linear(
        probe,
        States(
            max_length=settings.model.max_length,
            source_language=settings.model.source_language,
            target_language=settings.model.target_language,
            **options,
        ),
        encoder={name: model.config.tunediff[name] for name in ("pretrained", "revision", "sha256")},
        hyperparameters={
            "reads": "the mean of the model's last states, over a text's tokens",
            **described(settings.baseline.probe_C, settings),
            "number format": options["precision"],
        },
    )
    answers = Answers(probed, spent, predict(probe, states("validation")), model=kept)

    started = time.perf_counter()
    encoded = task.encode(tokenizer, splits["test"])
    untrained = task.probabilities(outputs(task, model, tokenizer, encoded, title="untrained: test", **options))
    return {
        "probe": answers,
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


def described(C: float, settings: WithoutFineTuning) -> dict[str, str]:
    """How the logistic regression was fitted, for its card."""
    return {"inverse regularisation (C)": f"{C:g}", "weights of labels": settings.class_weights}


def cost(train_seconds: float, eval_seconds: float, trainable: int, total: int) -> dict[str, float]:
    """As `metrics/cost/METHOD.json` has it. Where no model is kept, the report counts the trained numbers."""
    return {
        "train_seconds": train_seconds,
        "eval_seconds": eval_seconds,
        "trainable_parameters": trainable,
        "total_parameters": total,
        "artifact_bytes": 0,
        "peak_memory_bytes": peak_memory_bytes(),
    }

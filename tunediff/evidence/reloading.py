"""A trained model in a fresh process: does it answer as it did in training, and what does it answer on test?"""

import importlib
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from tunediff.core.cost import peak_memory_bytes
from tunediff.core.errors import UserError
from tunediff.core.seeds import folder
from tunediff.evidence.of_task import of_task
from tunediff.evidence.settings import Evaluation
from tunediff.models.inference import choose_precision, outputs
from tunediff.models.saved import load_saved
from tunediff.tasks import task_of
from tunediff.tasks.interface import Task

# A lost head or adapter moves logits by whole units; another machine's arithmetic by no more than this.
TOLERANCE = {"fp32": 1e-3, "bf16": 0.2, "fp16": 0.05}


@dataclass(frozen=True)
class Evaluated:
    """A method on test."""

    answers: dict[int, np.ndarray]
    """Probabilities by the seed of the training."""
    fitted: dict[int, dict[str, Any]]
    """What was fitted on validation, by the same."""
    difference: float
    """The largest difference of logits on validation between any trainer and its reloaded model."""
    seconds: float
    """Mean time to answer the test split."""
    in_use: dict[str, float]
    """Of the first seed's model: `start_seconds` from its folder to its first answer, in a process that has PyTorch and
    transformers; `answer_memory_bytes`, the most that this process held until the test split was answered."""
    detail: dict[str, Any]
    """For metrics/detail/METHOD.json: what was fitted on validation, and where the model comes from."""


def evaluate(
    trained: Path,
    trainer_logits: np.ndarray,
    splits: dict[str, Dataset],
    task: Task,
    settings: Evaluation,
) -> Evaluated:
    """Reload the model of each seed, compare it with its trainer, fit on validation, and answer the test split.

    `trainer_logits` are those on validation, shape [seeds, ...]. Raises UserError if a model's differ.
    """
    precision = choose_precision(settings.precision)
    options = {"batch_size": settings.batch_size, "precision": precision}
    targets = {name: task.targets(split) for name, split in splits.items()}
    evidence = of_task(task)
    answers, differences, seconds, in_use = {}, [], [], {}
    detail: dict[str, Any] = {"fitted": {}}
    for seed, expected in zip(settings.seeds, trainer_logits, strict=True):
        path = folder(trained, seed, settings.seeds)
        # As other libraries, what its loading imports is no part of its start.
        adapter = (path / "adapter_config.json").exists()
        importlib.import_module("peft" if adapter else "transformers.generation.utils")
        started = time.perf_counter()
        model, tokenizer = load_saved(path)
        task = task_of(model.config)
        first = splits["test"].select([0])
        first_logits = outputs(task, model, tokenizer, task.encode(tokenizer, first), title=None, **options)
        answered(task, model, tokenizer, first, first_logits, settings, None)
        in_use.setdefault("start_seconds", time.perf_counter() - started)
        encoded = task.encode(tokenizer, splits["validation"])
        reloaded = outputs(task, model, tokenizer, encoded, title=f"{trained.name}: validation", **options)
        differences.append(compare(path, reloaded, expected, TOLERANCE[precision]))
        fitted = evidence.fit_model(task, expected, targets["validation"], splits["train"])
        if settings.generate:
            from tunediff.models.generation import generation_config

            config = generation_config(task.prompt(tokenizer), tokenizer, settings.generate).to_diff_dict()
            del config["transformers_version"]
            fitted = {**fitted, "generate": settings.generate.model_dump(), "generation_config": config}
        detail["fitted"][seed] = fitted

        started = time.perf_counter()
        encoded = task.encode(tokenizer, splits["test"])
        logits = outputs(task, model, tokenizer, encoded, title=f"{trained.name}: test", **options)
        given = evidence.final(task, logits, fitted)
        answers[seed] = answered(task, model, tokenizer, splits["test"], given, settings, f"{trained.name}: answers")
        seconds.append(time.perf_counter() - started)
        in_use.setdefault("answer_memory_bytes", peak_memory_bytes())
        if seed == settings.seeds[0]:
            detail |= evidence.try_model(task, targets["test"], logits, fitted)
            if task.writes and task.architecture.goes_on:
                from tunediff.models.elsewhere import perplexity

                detail["elsewhere"] = perplexity(model, tokenizer, precision)
            origin = model.config.tunediff
            detail["model"] = {"revision": origin["revision"], "sha256": origin["sha256"], "seeds": settings.seeds}
    return Evaluated(answers, detail["fitted"], max(differences), statistics.fmean(seconds), in_use, detail)


def answered(
    task: Task,
    model: Any,
    tokenizer: Any,
    test: Dataset,
    given: np.ndarray,
    settings: Evaluation,
    title: str | None,
) -> Any:
    """The probabilities that are `given`; or what the model writes, beside the likelihoods of targets that are."""
    if settings.generate is None:
        return given
    from tunediff.models.generation import write
    from tunediff.tasks.generation import Answers

    options = {"batch_size": settings.batch_size, "precision": choose_precision(settings.precision), "title": title}
    cut: list[int] = []
    texts = write(task, model, tokenizer, test["text"][:], settings.generate, **options, cut=cut)
    return Answers(texts, given, len(cut))


def compare(model: Path, reloaded: np.ndarray, trainer: np.ndarray, tolerance: float) -> float:
    """The largest difference of logits, shape [rows, ...]. Raises UserError if it is too large for one model."""
    difference = float(np.abs(reloaded - trainer).max())
    print(
        f"{model}: the reloaded model's logits differ from the trainer's by at most {difference:.2g} over "
        f"{len(trainer)} rows"
    )
    if difference > tolerance:
        raise UserError(
            f"{model}: the reloaded model does not answer as it did in training (logits differ by up to "
            f"{difference:.3g}); its folder was changed or is incomplete: train it again"
        )
    return difference

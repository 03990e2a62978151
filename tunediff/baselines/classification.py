"""Single labels without fine-tuning; `of_task.TaskBaselines` says what each function is for."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from tunediff.baselines import label_noise as noise
from tunediff.baselines.classifiers import Answers, Splits, cost, predict, pretrained, reader, tfidf
from tunediff.baselines.linear import on_states, on_tfidf
from tunediff.baselines.settings import Baseline, WithoutFineTuning
from tunediff.core.errors import UserError
from tunediff.tasks.classification import Classification


def answers(splits: Splits, task: Classification, settings: WithoutFineTuning) -> dict[str, Answers]:
    methods = {"majority": majority(splits, task), "tfidf": tfidf(splits, task, settings)}
    return {**methods, **pretrained(splits, task, settings)}


def more(method: str, splits: Splits, task: Classification, settings: WithoutFineTuning) -> Answers:
    """`setfit`."""
    from tunediff.baselines import setfit as pairs  # here: schedules of learning rates import PEFT

    return {"setfit": pairs.answers}[method](splits, task, settings)


def majority(splits: Splits, task: Classification) -> Answers:
    """The share of each label in train, whatever the text. The largest one is the answer."""
    started = time.perf_counter()
    labels = task.targets(splits["train"])
    frequencies = np.bincount(labels, minlength=len(task.labels)) / len(labels)
    trained = time.perf_counter()
    predicted = np.tile(frequencies, (len(splits["test"]), 1))
    return Answers(predicted, cost(trained - started, time.perf_counter() - trained, 0, 0))


def words(
    task: Classification, train: Dataset, others: list[Dataset], baseline: Baseline, class_weights: str
) -> list[np.ndarray]:
    texts = train["text"][:]
    model = on_tfidf(baseline, class_weights, texts).fit(texts, task.targets(train))
    return [model.predict_proba(other["text"][:]) for other in others]


def probe(
    task: Classification, train: Dataset, others: list[Dataset], settings: WithoutFineTuning
) -> Callable[[np.ndarray | None], list[np.ndarray]]:
    read = reader(task, settings)
    states = read(train["text"], "probe: train")
    of_others = [read(other["text"], "probe: others") for other in others]
    labels = task.targets(train)

    def fitted(rows: np.ndarray | None) -> list[np.ndarray]:
        rows = np.arange(len(labels)) if rows is None else rows
        model = on_states(settings.baseline, settings.class_weights).fit(states[rows], labels[rows])
        return [predict(model, each) for each in of_others]

    return fitted


def setfit(
    task: Classification, train: Dataset, others: list[Dataset], settings: WithoutFineTuning
) -> Callable[[np.ndarray | None], list[np.ndarray]]:
    from tunediff.baselines import setfit as pairs

    seeds = count(settings.seed)  # the luck of a training is part of each draw

    def fitted(rows: np.ndarray | None) -> list[np.ndarray]:
        part = train if rows is None else train.select(rows)
        again = settings.model_copy(update={"seed": next(seeds)})
        made = pairs.Fitted(task, part, again)
        return [made.answers(other, "setfit: others") for other in others]

    return fitted


def label_noise(
    train: Dataset, task: Classification, settings: WithoutFineTuning, place: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    table = train.to_pandas()
    table["label"] = pd.Categorical.from_codes(table.label, task.labels)
    table, alone = noise.judgeable(table)
    if table.label.nunique() < 2:
        raise UserError(
            f"{place}: fewer than two labels have two rows or more, and a label is judged by "
            "other rows of it; add rows to the source, or merge labels"
        )
    judged = Classification(table.label.cat.categories.tolist())
    labels = table.label.cat.codes.to_numpy()
    judges = noise.judges(table.text.tolist(), judged, settings)
    probabilities = noise.out_of_fold(judges, labels, settings.seed)
    ranked, figures = ranked_noise(table, judged, labels, probabilities)
    return ranked, figures | {"not_judged": alone}


def ranked_noise(
    rows: pd.DataFrame, task: Classification, targets: np.ndarray, probabilities: np.ndarray
) -> tuple[pd.DataFrame, dict[str, Any]]:
    ranked = noise.rank(rows.assign(label=pd.Categorical.from_codes(targets, task.labels)), probabilities)
    return noise.without_formulas(ranked), {"not_judged": 0, **noise.count(ranked)}

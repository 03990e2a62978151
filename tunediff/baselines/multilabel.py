"""Several labels without fine-tuning; `of_task.TaskBaselines` says what each function is for."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.model_selection import KFold

from tunediff.baselines import label_noise as noise
from tunediff.baselines.classifiers import Answers, Splits, cost, pretrained, tfidf
from tunediff.baselines.linear import on_tfidf
from tunediff.baselines.settings import Baseline, WithoutFineTuning
from tunediff.core.csv_cells import harmless
from tunediff.core.errors import UserError
from tunediff.tasks.multilabel import Multilabel

TWO = 2  # rows, of which a label needs that many to be judged by others


def answers(splits: Splits, task: Multilabel, settings: WithoutFineTuning) -> dict[str, Answers]:
    methods = {"majority": majority(splits, task), "tfidf": tfidf(splits, task, settings)}
    return {**methods, **pretrained(splits, task, settings)}


def majority(splits: Splits, task: Multilabel) -> Answers:
    """The share of each label in train, whatever the text; the answer is the set that most rows of train have."""
    started = time.perf_counter()
    targets = task.targets(splits["train"])
    frequencies = targets.mean(0)
    (most_frequent, _), *_ = Counter(map(tuple, targets.tolist())).most_common()
    # No frequency is more than 1 or less than 0.
    thresholds = {label: 0 if there else 2 for label, there in zip(task.labels, most_frequent, strict=True)}
    trained = time.perf_counter()
    predicted = np.tile(frequencies, (len(splits["test"]), 1))
    spent = cost(trained - started, time.perf_counter() - trained, 0, 0)
    return Answers(predicted, spent, fitted={"thresholds": thresholds})


def words(
    task: Multilabel, train: Dataset, others: list[Dataset], baseline: Baseline, class_weights: str
) -> list[np.ndarray]:
    texts = train["text"][:]
    model = on_tfidf(baseline, class_weights, texts, several=True).fit(texts, task.targets(train).astype(int))
    return [model.predict_proba(other["text"][:]) for other in others]


def label_noise(
    train: Dataset, task: Multilabel, settings: WithoutFineTuning, place: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A row for each text, with the label on whose presence or absence the simple models disagree most."""
    targets = task.targets(train)
    if len(train) < noise.FOLDS or not judged(targets).any():
        raise UserError(
            f"{place}: no label has two rows or more, and a label is judged by other rows of it; add rows to the "
            "source, or merge labels"
        )
    judges = noise.judges(train["text"][:], task, settings, several=True)
    folds = KFold(noise.FOLDS, shuffle=True, random_state=settings.seed).split(targets)
    probabilities = noise.left_out(judges, targets.astype(int), list(folds), len(task.labels))
    return ranked_noise(train.select_columns(["split", "row", "text"]).to_pandas(), task, targets, probabilities)


def judged(targets: np.ndarray) -> np.ndarray:
    """Which labels have rows enough, shape [labels]: the others are believed."""
    return targets.sum(0) >= TWO


def ranked_noise(
    rows: pd.DataFrame, task: Multilabel, targets: np.ndarray, probabilities: np.ndarray
) -> tuple[pd.DataFrame, dict[str, Any]]:
    ranked = rank(rows, task, targets, probabilities)
    by_label = {
        label: {"rows": int(rows.sum()), "suspected": int((ranked.suspected & (ranked.doubtful == label)).sum())}
        for label, rows in task.parts(targets)
    }
    suspected = {"suspected": int(ranked.suspected.sum()), "share": float(ranked.suspected.mean())}
    alone = int(targets[:, ~judged(targets)].any(1).sum())
    texts = ranked.select_dtypes(["object", "str"])
    ranked = ranked.assign(**{name: texts[name].map(harmless) for name in texts})
    return ranked, {"not_judged": alone, "rows": len(ranked), **suspected, "labels": by_label}


def rank(table: pd.DataFrame, task: Multilabel, targets: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """All rows, those first that confident learning suspects, and of these and the others the least probable first.

    `targets` and `probabilities`, out of fold, have shape [rows, labels].
    """
    # Here, because the stage `baseline` has no use for them.
    from cleanlab.multilabel_classification.filter import find_label_issues
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    clipped = probabilities.clip(1e-6, 1 - 1e-6)
    numbers = [np.flatnonzero(row).tolist() for row in targets]
    quality = get_label_quality_scores_per_class(numbers, clipped)
    quality[:, ~judged(targets)] = 1
    least = quality.argmin(1)
    rows = np.arange(len(targets))
    suggested = targets.copy()
    suggested[rows, least] ^= True

    def names(has: np.ndarray) -> list[str]:
        return [", ".join(label for label, there in zip(task.labels, row, strict=True) if there) for row in has]

    ranked = pd.DataFrame(
        {
            "suspected": np.asarray(find_label_issues(numbers, clipped, n_jobs=1), bool),
            **table[["split", "row", "text"]],
            "label": names(targets),
            "suggested": names(suggested),
            "doubtful": [task.labels[place] for place in least],
            "p_label": quality[rows, least],
            "p_suggested": 1 - quality[rows, least],
        }
    ).sort_values(["suspected", "p_label"], ascending=[False, True], kind="stable", ignore_index=True)
    ranked.insert(0, "rank", ranked.index + 1)
    return ranked

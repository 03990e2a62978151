"""Texts without fine-tuning: each answers with a training target or a part of the source, or asks the model as it is.

`of_task.TaskBaselines` says what each function is for.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from tunediff.baselines.classifiers import Answers as Answered
from tunediff.baselines.classifiers import Splits, cost
from tunediff.baselines.settings import Baseline, WithoutFineTuning
from tunediff.core.csv_cells import harmless
from tunediff.models import trial
from tunediff.models.elsewhere import perplexity
from tunediff.models.generation import write
from tunediff.models.inference import choose_precision, embed, outputs
from tunediff.models.loading import count_parameters, load_pretrained, load_tokenizer
from tunediff.tasks import task_of
from tunediff.tasks.features import encode
from tunediff.tasks.generation import Answers, Generation
from tunediff.tasks.text_figures import EXTRACTS, Pair, unread

AT_ONCE = 1000  # rows that are compared with all training rows


def answers(splits: Splits, task: Generation, settings: WithoutFineTuning) -> dict[str, Answered]:
    """`majority`: one training target for every text, the one most like the others by TF-IDF.

    `tfidf` and `probe`: the target of the nearest training text, by TF-IDF and by the frozen model's mean states.
    `untrained`: what the model writes when it is only asked.
    """
    words = vectorizer(settings.baseline)
    started = time.perf_counter()
    words.fit(splits["train"]["text"][:])
    states = {name: words.transform(split["text"][:]) for name, split in splits.items()}
    near = retrieved(splits, task, states, time.perf_counter() - started)
    return {"majority": majority(splits, task, settings.baseline), "tfidf": near, **pretrained(splits, task, settings)}


def more(method: str, splits: Splits, task: Generation, settings: WithoutFineTuning) -> Answered:
    """One of `EXTRACTS`."""

    def extracted(name: str) -> Answers:
        return Answers([EXTRACTS[method](text) for text in splits[name]["text"]])

    started = time.perf_counter()
    test = extracted("test")
    return Answered(test, cost(0.0, time.perf_counter() - started, 0, 0), extracted("validation"))


def vectorizer(baseline: Baseline) -> TfidfVectorizer:
    # Words of one character too: a target may have no other.
    return TfidfVectorizer(ngram_range=(1, baseline.ngrams), token_pattern=r"\S+")


def majority(splits: Splits, task: Generation, baseline: Baseline) -> Answered:
    started = time.perf_counter()
    targets = [target for _, target, *_ in task.targets(splits["train"])]
    states = vectorizer(baseline).fit_transform(targets)
    typical = targets[int(np.argmax(states @ np.asarray(states.sum(0)).ravel()))]
    trained = time.perf_counter()
    given = Answers([typical] * len(splits["test"]))
    return Answered(given, cost(trained - started, time.perf_counter() - trained, 0, 0))


def retrieved(splits: Splits, task: Generation, states: dict[str, Any], seconds: float) -> Answered:
    """The targets of the nearest training texts; `states` are rows of length 1 for each text, made in `seconds`."""
    targets = [target for _, target, *_ in task.targets(splits["train"])]

    def near(name: str) -> Answers:
        return Answers([targets[row] for row in nearest(states[name], states["train"])])

    started = time.perf_counter()
    given = near("test")
    spent = cost(seconds, time.perf_counter() - started, 0, 0)
    return Answered(given, spent, near("validation"))


def nearest(states: Any, train: Any) -> np.ndarray:
    """The number of the row of `train` that is nearest to each of `states` by the cosine; rows have length 1."""
    parts = []
    for start in range(0, states.shape[0], AT_ONCE):
        alike = states[start : start + AT_ONCE] @ train.T
        parts.append(np.asarray(alike.argmax(1)).ravel())
    return np.concatenate(parts)


def pretrained(splits: Splits, task: Generation, settings: WithoutFineTuning) -> dict[str, Answered]:
    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_pretrained(settings.model, settings.model_path, tokenizer, task, settings.seed)
    trial.check(model, tokenizer, settings.model, settings.model_path)
    task = task_of(model.config)
    size = count_parameters(model)["total_parameters"]
    options = {"batch_size": settings.batch_size, "precision": choose_precision(settings.precision)}

    started = time.perf_counter()
    states = {
        name: normalize(embed(model, tokenizer, encode(tokenizer, split["text"]), title=f"probe: {name}", **options))
        for name, split in splits.items()
    }
    near = retrieved(splits, task, states, time.perf_counter() - started)
    near.cost["total_parameters"] = size

    started = time.perf_counter()
    test = splits["test"]
    cut: list[int] = []
    written = {"title": "untrained: test", "cut": cut, **options}
    texts = write(task, model, tokenizer, test["text"][:], settings.generate, **written)
    spent = cost(0.0, time.perf_counter() - started, 0, size)
    likely = outputs(task, model, tokenizer, task.encode(tokenizer, test), title="untrained: likelihood", **options)
    known = {"elsewhere": perplexity(model, tokenizer, options["precision"])} if task.architecture.goes_on else {}
    return {"probe": near, "untrained": Answered(Answers(texts, likely, len(cut)), spent, detail=known)}


def label_noise(
    train: Dataset, task: Generation, settings: WithoutFineTuning, place: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    return ranked_noise(train.select_columns(["split", "row", "text"]).to_pandas(), task, task.targets(train))


def ranked_noise(
    rows: pd.DataFrame, task: Generation, targets: list[Pair], probabilities: np.ndarray | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Targets with numbers that their sources have not, rounded neither: no model can have read them."""
    table = rows[["split", "row", "text"]].assign(label=[target for _, target, *_ in targets])
    found = [unread(source, target) for source, target, *_ in targets]
    table["unread"] = [" ".join(numbers) for numbers in found]
    table["suspected"] = [bool(numbers) for numbers in found]
    order = np.argsort([-len(numbers) for numbers in found], kind="stable")
    texts = ["split", "text", "label", "unread"]
    table[texts] = table[texts].map(harmless)
    return table.iloc[order], {"not_judged": 0, "suspected": int(table.suspected.sum()), "rows": len(table)}

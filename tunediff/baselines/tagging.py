"""Spans without fine-tuning; `of_task.TaskBaselines` says what each function is for."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from tunediff.baselines.classifiers import Answers, Splits, cost
from tunediff.baselines.linear import parameters
from tunediff.baselines.settings import Baseline, WithoutFineTuning
from tunediff.baselines.words_in_text import features, look_up, marginals, of_known, table, train_crf
from tunediff.core.csv_cells import harmless
from tunediff.models import trial
from tunediff.models.inference import choose_precision, embed_tokens, outputs
from tunediff.models.loading import count_parameters, load_pretrained, load_tokenizer
from tunediff.tasks.spans import words as words_of
from tunediff.tasks.tagging import Tagging
from tunediff.tasks.windows import HEAD, at_words, read, split

FOLDS = 5


def answers(splits: Splits, task: Tagging, settings: WithoutFineTuning) -> dict[str, Answers]:
    methods = {"majority": majority(splits, task), "tfidf": each_word(splits, task, settings)}
    return {**methods, **pretrained(splits, task, settings)}


def more(method: str, splits: Splits, task: Tagging, settings: WithoutFineTuning) -> Answers:
    """`dictionary` or `crf`."""
    return {"dictionary": dictionary, "crf": crf}[method](splits, task)


def majority(splits: Splits, task: Tagging) -> Answers:
    """The share of each tag in train, for every word. As most words are in no span, no span is answered."""
    started = time.perf_counter()
    tags = [tag for one in task.targets(splits["train"]) for tag in one.tags]
    frequencies = np.bincount(tags, minlength=len(task.tags)) / len(tags)
    trained = time.perf_counter()
    made = table([np.tile(frequencies, (len(words_of(text)), 1)) for text in splits["test"]["text"][:]])
    return Answers(made, cost(trained - started, time.perf_counter() - trained, 0, 0))


def dictionary(splits: Splits, task: Tagging) -> Answers:
    """The spans of train, found again wherever their words stand, the longest first; a text of two types is of one."""
    started = time.perf_counter()
    kinds: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    texts = splits["train"]["text"][:]
    for text, one in zip(texts, task.targets(splits["train"]), strict=True):
        lowered = [text[start:end].lower() for start, end in words_of(text)]
        for first, end, kind in one.spans:
            kinds[tuple(lowered[int(first) : int(-(-end // 1))])][kind] += 1
    entries = {key: counts.most_common(1)[0][0] for key, counts in kinds.items()}
    trained = time.perf_counter()
    test, validation = (
        table([look_up(text, entries, task) for text in splits[name]["text"][:]]) for name in ("test", "validation")
    )
    return Answers(test, cost(trained - started, time.perf_counter() - trained, 0, 0), validation)


# --- words and their neighbours


def each_word(splits: Splits, task: Tagging, settings: WithoutFineTuning) -> Answers:
    """`tfidf`: logistic regression on each word, its shape and its neighbours, each word for itself."""
    started = time.perf_counter()
    model = _fitted(task, splits["train"], settings.baseline, settings.class_weights)
    trained = time.perf_counter()
    test = _predicted(model, task, splits["test"])
    evaluated = time.perf_counter()
    weights = parameters(model)
    spent = cost(trained - started, evaluated - trained, weights, weights)
    return Answers(test, spent, _predicted(model, task, splits["validation"]))


def words(
    task: Tagging, train: Dataset, others: list[Dataset], baseline: Baseline, class_weights: str
) -> list[np.ndarray]:
    model = _fitted(task, train, baseline, class_weights)
    return [_predicted(model, task, other) for other in others]


def _fitted(task: Tagging, train: Dataset, baseline: Baseline, class_weights: str) -> Pipeline:
    weight = None if class_weights == "none" else class_weights
    model = make_pipeline(DictVectorizer(), LogisticRegression(C=baseline.tfidf_C, class_weight=weight, max_iter=200))
    rows = [row for text in train["text"][:] for row in features(text)]
    return model.fit(rows, [tag for one in task.targets(train) for tag in one.tags])


def _predicted(model: Pipeline, task: Tagging, other: Dataset) -> np.ndarray:
    per_text = [features(text) for text in other["text"][:]]
    given = model.predict_proba([row for rows in per_text for row in rows])
    return of_known(given, model[-1].classes_, task, [len(rows) for rows in per_text])


# --- a conditional random field


def crf(splits: Splits, task: Tagging) -> Answers:
    """A conditional random field (Lafferty et al. 2001) on the features of words, by CRFsuite."""
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        tagger = train_crf(task, splits["train"], Path(folder) / "crf")
        trained = time.perf_counter()
        test = marginals(tagger, task, splits["test"]["text"][:])
        evaluated = time.perf_counter()
        validation = marginals(tagger, task, splits["validation"]["text"][:])
        info = tagger.info()
        weights = len(info.state_features) + len(info.transitions)
    return Answers(test, cost(trained - started, evaluated - trained, weights, weights), validation)


# --- the pretrained model


def pretrained(splits: Splits, task: Tagging, settings: WithoutFineTuning) -> dict[str, Answers]:
    """`probe`: logistic regression on frozen states of words; `untrained`: the answers of the new head."""
    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_pretrained(settings.model, settings.model_path, tokenizer, task, settings.seed)
    trial.check(model, tokenizer, settings.model, settings.model_path, states=True)
    size = count_parameters(model)["total_parameters"]
    options = {"batch_size": settings.batch_size, "precision": choose_precision(settings.precision)}

    def states(name: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
        encoded = task.encode(tokenizer, splits[name])
        given = embed_tokens(model, tokenizer, encoded, title=f"probe: {name}", **options)
        of_words, roles = at_words(encoded, given)
        return of_words[:, 1:], roles, [len(each) for each in split(of_words)]

    started = time.perf_counter()
    weight = None if settings.class_weights == "none" else settings.class_weights
    regression = LogisticRegression(C=settings.baseline.probe_C, class_weight=weight, max_iter=1000)
    probe = make_pipeline(StandardScaler(), regression)
    rows, roles, _ = states("train")
    tags = np.array([tag for one in task.targets(splits["train"]) for tag in one.tags])
    probe.fit(rows[roles == HEAD], tags[roles == HEAD])
    trained = time.perf_counter()

    def probed(name: str) -> np.ndarray:
        rows, roles, sizes = states(name)
        made = read(of_known(probe.predict_proba(rows), probe[-1].classes_, task, sizes), roles)
        shared = roles != HEAD
        made[shared, 1:] /= made[shared, 1:].sum(1, keepdims=True)
        return made

    test = probed("test")
    evaluated = time.perf_counter()
    weights = parameters(probe)
    spent = cost(trained - started, evaluated - trained, weights, size + weights)
    validation = probed("validation")

    started = time.perf_counter()
    encoded = task.encode(tokenizer, splits["test"])
    untrained = task.probabilities(outputs(task, model, tokenizer, encoded, title="untrained: test", **options))
    return {
        "probe": Answers(test, spent, validation),
        "untrained": Answers(untrained, cost(0.0, time.perf_counter() - started, 0, size)),
    }


# --- label noise


def label_noise(
    train: Dataset, task: Tagging, settings: WithoutFineTuning, place: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Words whose tag a conditional random field takes for another, that did not see their text."""
    from cleanlab.token_classification.filter import find_label_issues  # here, because `baseline` has no use for it

    tags = [one.tags for one in task.targets(train)]
    probabilities: list[np.ndarray] = [np.empty(0)] * len(train)
    with TemporaryDirectory() as folder:
        folds = KFold(min(FOLDS, len(train)), shuffle=True, random_state=settings.seed)
        for fitted, left_out in tqdm(list(folds.split(tags)), desc="label noise: CRF", unit="fold"):
            tagger = train_crf(task, train.select(fitted), Path(folder) / "crf")
            texts = [train[int(number)]["text"] for number in left_out]
            for number, rows in zip(left_out, split(marginals(tagger, task, texts)), strict=True):
                probabilities[number] = (rows + 1e-6) / (rows + 1e-6).sum(1, keepdims=True)
    issues = {(text, word) for text, word in find_label_issues([list(each) for each in tags], probabilities)}
    ranked = rank(train, task, tags, probabilities, issues)
    per_text = ranked.groupby("number").suspected.any()
    figures = {
        "not_judged": 0,
        "rows": len(train),
        "words": len(ranked),
        "suspected": int(ranked.suspected.sum()),
        "texts_suspected": int(per_text.sum()),
    }
    shown = ranked[ranked.suspected | (ranked.label != "O")].drop(columns="number").reset_index(drop=True)
    shown.insert(0, "rank", shown.index + 1)
    texts = shown.select_dtypes(["object", "str"])
    return shown.assign(**{name: texts[name].map(harmless) for name in texts}), figures


def rank(
    train: Dataset,
    task: Tagging,
    tags: list[tuple[int, ...]],
    probabilities: list[np.ndarray],
    issues: set[tuple[int, int]],
) -> pd.DataFrame:
    """A row for each word, the suspected ones first, the least probable of them first."""

    def rows() -> Iterator[dict[str, Any]]:
        for number, (row, own, given) in enumerate(zip(train, tags, probabilities, strict=True)):
            for word, (start, end) in enumerate(words_of(row["text"])):
                best = int(given[word].argmax())
                yield {
                    "suspected": (number, word) in issues,
                    "number": number,
                    **{name: row[name] for name in ("split", "row", "text")},
                    "word": row["text"][start:end],
                    "label": task.tags[own[word]],
                    "suggested": task.tags[best],
                    "p_label": float(given[word, own[word]]),
                    "p_suggested": float(given[word, best]),
                }

    ordered = pd.DataFrame(rows())
    return ordered.sort_values(["suspected", "p_label"], ascending=[False, True], kind="stable", ignore_index=True)

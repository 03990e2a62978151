"""TF-IDF, probe and SetFit in files that run no code, numbers in safetensors and the rest in JSON; and read again."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from tunediff.core.errors import UserError, reason
from tunediff.core.files import DECIMALS, atomic, read_json, write_json
from tunediff.core.methods import ENCODER
from tunediff.core.settings import Count, Precision, Section, Seed, check
from tunediff.models.trained_config import Trained
from tunediff.tasks import TASKS
from tunediff.tasks.interface import Task

WEIGHTS, VOCABULARY, CONFIG = "model.safetensors", "vocabulary.json", "config.json"
CERTAIN = 1000.0  # an intercept, of which the logistic function is 1
LOST = "fetch the folder with `dvc pull`, or make it again with `dvc repro`"


Run = Annotated[int, Field(ge=1, le=10)]


class Reads(Section):
    """What a regression reads."""

    counted: ClassVar[str]
    """The array that has a number for each thing it reads."""
    several: bool = False
    """Whether a text may have several labels, each of which has its own regression."""


class Words(Reads):
    """Which words or runs of characters a text has."""

    counted: ClassVar[str] = "idf"
    reads: Literal["words"] = "words"
    analyzer: Literal["word", "char"]
    ngrams: tuple[Run, Run]
    """The fewest and the most of them in a run."""


class States(Reads):
    """The mean states of the pretrained model, which is not in the folder."""

    counted: ClassVar[str] = "mean"
    reads: Literal["states"] = "states"
    max_length: Count
    batch_size: Count
    """Texts per forward pass, as when it was measured."""
    precision: Precision
    """Number format of the states that it was fitted to."""
    source_language: str | None = None
    target_language: str | None = None
    """As in the model's file, for a tokenizer that has codes of languages."""


class Tuned(States):
    """The mean states, each of length 1, of the encoder in the folder `encoder`, which was fine-tuned."""

    reads: Literal["tuned"] = "tuned"


class Kept(Trained):
    """The value of `tunediff` in config.json; `pretrained` and so on are what made the states."""

    pretrained: str | None = None
    revision: str | None = None
    sha256: str | None = None
    seed: Seed
    linear: Words | States | Tuned | None
    """None if nothing is kept for the task."""


class _Config(Section):
    tunediff: Kept


@dataclass(frozen=True)
class Linear:
    """A fitted regression, and what it reads."""

    pipeline: Pipeline
    """Its first step turns what it reads into numbers, and its last these into probabilities."""
    reads: Words | States
    encoder: dict[str, Any]
    """`pretrained`, `revision` and `sha256` of the model that makes states."""
    hyperparameters: dict[str, str]
    """What it was fitted with, in words."""
    tuned: tuple[Any, Any] | None = None
    """The model whose encoder was fine-tuned, and its tokenizer; None if there is none."""


def save(folder: Path, method: str, task: Task, seed: int, made: Any, fitted: dict[str, Any]) -> None:
    """Write what `load` reads, and training.json for the model's card.

    `made` is the method's `classifiers.Answers`; `fitted` is what was fitted on validation. Where the task's method is
    no such regression, the folder says that no model is kept.
    """
    model: Linear | None = made.model
    reads = None
    if model:
        several = hasattr(model.pipeline[-1], "estimators_")
        reads = model.reads.model_copy(update={"several": several}).model_dump(mode="json")
    with atomic(folder) as place:
        place.mkdir()
        if model:
            _save(model.pipeline, place)
        if model and model.tuned:
            _save_encoder(*model.tuned, place / ENCODER)
        origin = {"task": task.name, "seed": seed, "linear": reads}
        origin |= (model.encoder if model else {}) | fitted
        write_json(place / CONFIG, (task.config() if model else {}) | {"tunediff": origin})
        record = {
            "method": method,
            "task": task.name,
            "adapter": None,
            "hyperparameters": model.hyperparameters if model else {},
            "parameters": {name: made.cost[name] for name in ("trainable_parameters", "total_parameters")},
            "versions": {"scikit-learn": version("scikit-learn")},
        }
        write_json(place / "training.json", record)


def _save(pipeline: Pipeline, folder: Path) -> None:
    first, last = pipeline[0], pipeline[-1]
    if isinstance(first, TfidfVectorizer):
        arrays = {"idf": first.idf_}
        write_json(folder / VOCABULARY, first.get_feature_names_out().tolist())
    else:
        arrays = {"mean": first.mean_, "scale": first.scale_}
    each = getattr(last, "estimators_", [last])  # one for each label, where a text may have several
    weights = [_weights(one, len(next(iter(arrays.values())))) for one in each]
    for name, parts in zip(("coefficients", "intercepts"), zip(*weights, strict=True), strict=True):
        arrays[name] = np.concatenate(parts)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / WEIGHTS)


def _save_encoder(model: Any, tokenizer: Any, folder: Path) -> None:
    from tunediff.models import saving  # here: TF-IDF answers without PyTorch

    model.cpu()  # a GPU may have room for one: the kept model is loaded next
    saving.save(model.base_model, tokenizer, folder)


def _weights(regression: Any, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and intercepts; of a label that no row had, or all, the intercept alone decides."""
    if isinstance(regression, LogisticRegression):
        return regression.coef_, regression.intercept_
    always = regression.predict_proba(np.zeros((1, features)))[0, 1]
    return np.zeros((1, features)), np.array([CERTAIN if always else -CERTAIN])


Loaded = tuple[TfidfVectorizer | StandardScaler, "LogisticRegression | EachLabel"]
"""What turns into numbers what it reads, and these into probabilities."""


def load(folder: Path) -> tuple[Loaded, Task, Words | States, dict[str, Any]]:
    """What `save` wrote: the regression, its task, what it reads, and the value of `tunediff` in config.json, checked.

    Raises UserError if that is not what is there, or if no model is kept.
    """
    file = folder / CONFIG
    config = read_json(file)
    origin = config["tunediff"]
    reads = check({"tunediff": origin}, _Config, file).tunediff.linear
    if reads is None:
        raise UserError(
            f"{folder}: no model is kept of this method for the task `{origin['task']}`; use a trained model"
        )
    try:
        arrays = load_file(folder / WEIGHTS)
        first = (
            _vectorizer(folder, reads, arrays) if isinstance(reads, Words) else scaler(arrays["mean"], arrays["scale"])
        )
        task = TASKS[origin["task"]].of_config(SimpleNamespace(id2label=config["id2label"]))
        kinds = {reads.counted, "scale"} if isinstance(reads, States) else {reads.counted}
        if set(arrays) != {*kinds, "coefficients", "intercepts"} or len({arrays[kind].shape for kind in kinds}) > 1:
            raise ValueError("its numbers are not those of such a model")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("it has numbers that are none")
        outputs = len(task.labels) if reads.several or len(task.labels) > 2 else 1
        weights = arrays["coefficients"], arrays["intercepts"]
        if [array.shape for array in weights] != [(outputs, len(arrays[reads.counted])), (outputs,)]:
            raise ValueError("its files do not belong together")
        last = EachLabel(*weights) if reads.several else _regression(*weights, len(task.labels))
    except Exception as error:  # of files that are missing or torn, the libraries raise whatever comes
        raise UserError(f"{folder}: the model cannot be loaded: {reason(error)}; {LOST}") from None
    return (first, last), task, reads, origin


class EachLabel:
    """A regression for each label of a text that may have several, as scikit-learn's `OneVsRestClassifier` answers."""

    def __init__(self, coefficients: np.ndarray, intercepts: np.ndarray):
        pairs = zip(coefficients[:, None], intercepts[:, None], strict=True)
        self._regressions = [_regression(*weights, 2) for weights in pairs]

    def predict_proba(self, rows: Any) -> np.ndarray:
        """Probabilities, shape [rows, labels]."""
        return np.column_stack([one.predict_proba(rows)[:, 1] for one in self._regressions])


def _regression(coefficients: np.ndarray, intercepts: np.ndarray, classes: int) -> LogisticRegression:
    made = LogisticRegression()
    made.classes_, made.coef_, made.intercept_ = np.arange(classes), coefficients, intercepts
    return made


def _vectorizer(folder: Path, reads: Words, arrays: dict[str, np.ndarray]) -> TfidfVectorizer:
    made = TfidfVectorizer(analyzer=reads.analyzer, ngram_range=reads.ngrams, vocabulary=read_json(folder / VOCABULARY))
    made.idf_ = arrays["idf"]  # checks that there are as many as words
    return made


def scaler(mean: np.ndarray, scale: np.ndarray) -> StandardScaler:
    made = StandardScaler()
    made.mean_, made.scale_ = mean, scale
    return made


def unit(states: np.ndarray) -> np.ndarray:
    """Each row with length 1."""
    return states / np.linalg.norm(states, axis=1, keepdims=True)


def predict(model: Pipeline | Loaded, inputs: np.ndarray | list[str]) -> np.ndarray:
    """Probabilities, shape [rows, labels], rounded: the last digits differ from machine to machine."""
    return model[-1].predict_proba(model[0].transform(inputs)).round(DECIMALS)

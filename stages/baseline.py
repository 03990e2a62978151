"""What there is without fine-tuning: majority class, TF-IDF, a linear probe, the pretrained model with a new head.

dvc repro baseline
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset

from tunediff.baselines.linear import on_states, on_tfidf
from tunediff.core import devices
from tunediff.core.cost import peak_memory_bytes
from tunediff.core.files import write_json
from tunediff.core.process import run
from tunediff.core.splits import encode, label_names, load_split, rarer_label
from tunediff.evidence import scores as scoring
from tunediff.evidence.calibration import fit_threshold
from tunediff.models.inference import choose_precision, embed, predict_logits, probabilities
from tunediff.models.loading import count_parameters, load_classifier, load_tokenizer
from tunediff.settings.params import Params, Settings, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--splits", type=Path, required=True, help="folder with train.parquet, validation.parquet and test.parquet"
    )
    parser.add_argument(
        "--validation", type=Path, required=True, help="folder for METHOD.json: figures on validation, to choose C by"
    )
    scoring.add_arguments(parser)
    args = parser.parse_args()
    settings = load()
    devices.take()
    splits = {name: load_split(args.splits, name) for name in ("train", "validation", "test")}

    # From the lightest to the heaviest: the peak memory of each is that of the process so far.
    write("majority", majority(splits), splits, settings.params.seeds[0], args)
    write("tfidf", tfidf(splits, settings.params), splits, settings.params.seeds[0], args)
    for method, answers in pretrained(splits, settings).items():
        write(method, answers, splits, settings.params.seeds[0], args)


@dataclass(frozen=True)
class Answers:
    """Probabilities, shape [rows, labels], and what they cost as `metrics/cost/METHOD.json` has it."""

    test: np.ndarray
    cost: dict[str, float]
    validation: np.ndarray | None = None
    """Of a method that has something to be chosen on validation."""


def write(method: str, answers: Answers, splits: dict[str, Dataset], seed: int, args: argparse.Namespace) -> None:
    """The files of one method: as every method has them on test, and figures on validation."""
    more = {}
    if answers.validation is not None:
        actual, names = np.array(splits["validation"]["label"][:]), label_names(splits["train"])
        figures = scoring.validation_figures(splits["validation"], answers.validation)
        write_json(args.validation / f"{method}.json", figures)
        if (rarer := rarer_label(splits["train"])) is not None:
            threshold = fit_threshold(answers.validation[:, rarer], actual == rarer)
            line = {"label": names[rarer], "value": threshold}
            more["threshold"] = scoring.at_threshold(np.array(splits["test"]["label"][:]), answers.test, names, line)
    scoring.write(method, splits["test"], {seed: answers.test}, answers.cost, args, more)


def majority(splits: dict[str, Dataset]) -> Answers:
    """Each label's share of train, whatever the text. The largest share is the answer."""
    started = time.perf_counter()
    labels = splits["train"]["label"][:]
    shares = np.bincount(labels, minlength=len(label_names(splits["train"]))) / len(labels)
    trained = time.perf_counter()
    predicted = np.tile(shares, (len(splits["test"]), 1))
    return Answers(predicted, cost(trained - started, time.perf_counter() - trained, 0, 0))


def tfidf(splits: dict[str, Dataset], params: Params) -> Answers:
    """Logistic regression on TF-IDF of words."""
    texts = {name: split["text"][:] for name, split in splits.items()}
    model = on_tfidf(params.baseline, params.train.class_weights)
    started = time.perf_counter()
    model.fit(texts["train"], splits["train"]["label"][:])
    trained = time.perf_counter()
    predicted = model.predict_proba(texts["test"])
    evaluated = time.perf_counter()
    weights = model[-1].coef_.size + model[-1].intercept_.size
    spent = cost(trained - started, evaluated - trained, weights, weights)
    return Answers(predicted, spent, model.predict_proba(texts["validation"]))


def pretrained(splits: dict[str, Dataset], settings: Settings) -> dict[str, Answers]:
    """`probe`: logistic regression on frozen mean-pooled states; `baseline`: the answers of the untrained head."""
    params = settings.params
    train = splits["train"]
    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_classifier(settings.model, settings.model_path, tokenizer, label_names(train), params.seeds[0])
    size = count_parameters(model)["total_parameters"]
    options = {"batch_size": params.evaluate.batch_size, "precision": choose_precision(params.precision)}

    def states(name: str) -> np.ndarray:
        return embed(model, tokenizer, encode(tokenizer, splits[name]["text"]), title=f"probe: {name}", **options)

    started = time.perf_counter()
    probe = on_states(params.baseline, params.train.class_weights)
    probe.fit(states("train"), train["label"][:])
    trained = time.perf_counter()
    probed = probe.predict_proba(states("test"))
    evaluated = time.perf_counter()
    weights = probe[-1].coef_.size + probe[-1].intercept_.size
    spent = cost(trained - started, evaluated - trained, weights, size + weights)
    validation = probe.predict_proba(states("validation"))

    started = time.perf_counter()
    encoded = encode(tokenizer, splits["test"]["text"])
    untrained = probabilities(predict_logits(model, tokenizer, encoded, title="baseline: test", **options))
    return {
        "probe": Answers(probed, spent, validation),
        "baseline": Answers(untrained, cost(0.0, time.perf_counter() - started, 0, size)),
    }


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


if __name__ == "__main__":
    run(main)

"""What there is without fine-tuning: majority class, TF-IDF, a linear probe, the pretrained model with a new head.

dvc repro baseline
"""

import argparse
import time
from pathlib import Path

import numpy as np
from datasets import Dataset

from stages.common import scoring
from stages.common.cost import peak_memory_bytes
from stages.common.data import encode, label_names, load_split
from stages.common.errors import run
from stages.common.inference import choose_precision, embed, predict_logits, probabilities
from stages.common.linear import on_states, on_tfidf
from stages.common.models import count_parameters, load_classifier, load_tokenizer
from stages.common.params import Params, Settings, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=Path, required=True, help="folder with train.parquet and test.parquet")
    scoring.add_arguments(parser)
    args = parser.parse_args()
    settings = load()

    train, test = (load_split(args.splits, name) for name in ("train", "test"))

    # From the lightest to the heaviest: the peak memory of each is that of the process so far.
    scoring.write("majority", test, *majority(train, test), args)
    scoring.write("tfidf", test, *tfidf(train, test, settings.params), args)
    for method, (predicted, cost) in pretrained(train, test, settings).items():
        scoring.write(method, test, predicted, cost, args)


def majority(train: Dataset, test: Dataset) -> tuple[np.ndarray, dict[str, float]]:
    """Probabilities [rows, labels]: each label's share of train, whatever the text. The largest share is the answer."""
    started = time.perf_counter()
    shares = np.bincount(train["label"][:], minlength=len(label_names(train))) / len(train)
    trained = time.perf_counter()
    predicted = np.tile(shares, (len(test), 1))
    return predicted, cost(trained - started, time.perf_counter() - trained, 0, 0)


def tfidf(train: Dataset, test: Dataset, params: Params) -> tuple[np.ndarray, dict[str, float]]:
    """Probabilities [rows, labels] of logistic regression on TF-IDF of words."""
    model = on_tfidf(params.baseline)
    started = time.perf_counter()
    model.fit(train["text"][:], train["label"][:])
    trained = time.perf_counter()
    predicted = model.predict_proba(test["text"][:])
    weights = model[-1].coef_.size + model[-1].intercept_.size
    return predicted, cost(trained - started, time.perf_counter() - trained, weights, weights)


def pretrained(train: Dataset, test: Dataset, settings: Settings) -> dict[str, tuple[np.ndarray, dict[str, float]]]:
    """Probabilities [rows, labels] of logistic regression on frozen mean-pooled states, and of the untrained head."""
    params = settings.params
    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_classifier(settings.model, settings.model_path, tokenizer, label_names(train), params.seed)
    size = count_parameters(model)["total_parameters"]
    options = {"batch_size": params.evaluate.batch_size, "precision": choose_precision(params.precision)}

    started = time.perf_counter()
    states = embed(model, tokenizer, encode(tokenizer, train["text"][:]), title="probe: train", **options)
    probe = on_states(params.baseline).fit(states, train["label"][:])
    trained = time.perf_counter()
    probed = probe.predict_proba(
        embed(model, tokenizer, encode(tokenizer, test["text"][:]), title="probe: test", **options)
    )
    weights = probe[-1].coef_.size + probe[-1].intercept_.size
    probe_cost = cost(trained - started, time.perf_counter() - trained, weights, size + weights)

    started = time.perf_counter()
    untrained = probabilities(
        predict_logits(model, tokenizer, encode(tokenizer, test["text"][:]), title="baseline: test", **options)
    )
    return {"probe": (probed, probe_cost), "baseline": (untrained, cost(0.0, time.perf_counter() - started, 0, size))}


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

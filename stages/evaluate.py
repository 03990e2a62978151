"""Reload a trained model from disk, check that it answers as it did in training, and score it on the test split.

dvc repro evaluate@full
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from tunediff.core import devices
from tunediff.core.cost import folder_bytes
from tunediff.core.errors import UserError
from tunediff.core.files import read_json, write_json
from tunediff.core.process import run
from tunediff.core.seeds import folder
from tunediff.core.splits import encode, label_names, load_split
from tunediff.evidence import scores as scoring
from tunediff.models.inference import choose_precision, predict_logits, probabilities
from tunediff.models.saved import load_saved
from tunediff.settings.params import load

# A lost head or adapter moves logits by whole units; another machine's arithmetic by no more than this.
TOLERANCE = {"fp32": 1e-3, "bf16": 0.2, "fp16": 0.05}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=Path, required=True, help="folder with validation.parquet and test.parquet")
    parser.add_argument(
        "--model", type=Path, required=True, help="folder of the trained model; its name is the method's"
    )
    parser.add_argument("--logits", type=Path, required=True, help=".npy file: the trainer's logits on validation")
    parser.add_argument("--training-cost", type=Path, required=True, help="JSON file that the training stage wrote")
    parser.add_argument(
        "--reload",
        type=Path,
        required=True,
        help="JSON file for the largest difference between trainer and reloaded model",
    )
    scoring.add_arguments(parser)
    args = parser.parse_args()
    params = load().params
    devices.take()
    method, seeds = args.model.name, params.seeds
    options = {"batch_size": params.evaluate.batch_size, "precision": choose_precision(params.precision)}

    validation, test = (load_split(args.splits, name) for name in ("validation", "test"))
    actual, names = np.array(test["label"][:]), label_names(test)

    answers, differences, seconds, more = {}, [], [], {}
    for seed, trainer in zip(seeds, np.load(args.logits), strict=True):
        # Reload, and compare with the trainer.
        path = folder(args.model, seed, seeds)
        model, tokenizer = load_saved(path)
        encoded = encode(tokenizer, validation["text"])
        reloaded = predict_logits(model, tokenizer, encoded, title=f"{method}: validation", **options)
        differences.append(compare(path, reloaded, trainer, TOLERANCE[options["precision"]]))

        # Score.
        started = time.perf_counter()
        encoded = encode(tokenizer, test["text"])
        logits = predict_logits(model, tokenizer, encoded, title=f"{method}: test", **options)
        seconds.append(time.perf_counter() - started)
        answers[seed] = probabilities(logits)
        if seed == seeds[0]:
            fitted = model.config.tunediff
            more["with_temperature"] = with_temperature(actual, logits, names, fitted)
            more["model"] = {"revision": fitted["revision"], "sha256": fitted["sha256"], "seeds": seeds}

    write_json(args.reload, {"largest_logit_difference": max(differences), "rows": len(validation)})
    cost = {
        "eval_seconds": statistics.fmean(seconds),
        "artifact_bytes": folder_bytes(args.model),
        **read_json(args.training_cost),
    }
    scoring.write(method, test, answers, cost, args, more)


def compare(model: Path, reloaded: np.ndarray, trainer: np.ndarray, tolerance: float) -> float:
    """The largest difference of logits, shape [rows, labels]. Raises UserError if it is too large for one model."""
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


def with_temperature(actual: np.ndarray, logits: np.ndarray, names: list[str], fitted: dict[str, Any]) -> dict:
    """What training `fitted` on validation, tried on test: the temperature, and for two labels the threshold."""
    tempered = probabilities(logits / fitted["temperature"])
    figures = {"temperature": fitted["temperature"], **scoring.calibrated(actual, tempered)}
    if "threshold" in fitted:
        figures["threshold"] = scoring.at_threshold(actual, tempered, names, fitted["threshold"])
    return figures


if __name__ == "__main__":
    run(main)

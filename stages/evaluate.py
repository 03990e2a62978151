"""Reload a trained model from disk, check that it answers as it did in training, and score it on the test split.

dvc repro evaluate@full
"""

import argparse
import time
from pathlib import Path

import numpy as np

from stages.common import scoring
from stages.common.cost import folder_bytes
from stages.common.data import encode, load_split
from stages.common.errors import UserError, run
from stages.common.files import read_json, write_json
from stages.common.inference import choose_precision, predict_logits, probabilities
from stages.common.params import load
from stages.common.saved import load_saved

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
    method = args.model.name
    options = {"batch_size": params.evaluate.batch_size, "precision": choose_precision(params.precision)}

    validation, test = (load_split(args.splits, name) for name in ("validation", "test"))

    # Reload, and compare with the trainer.
    model, tokenizer = load_saved(args.model)
    reloaded = predict_logits(
        model, tokenizer, encode(tokenizer, validation["text"][:]), title=f"{method}: validation", **options
    )
    difference = float(np.abs(reloaded - np.load(args.logits)).max())
    print(
        f"{method}: the reloaded model's logits differ from the trainer's by at most {difference:.2g} over "
        f"{len(validation)} rows"
    )
    if difference > TOLERANCE[options["precision"]]:
        raise UserError(
            f"{args.model}: the reloaded model does not answer as it did in training (logits differ by up to "
            f"{difference:.3g}); its folder was changed or is incomplete: train it again"
        )
    write_json(args.reload, {"largest_logit_difference": difference, "rows": len(validation)})

    # Score.
    started = time.perf_counter()
    logits = predict_logits(model, tokenizer, encode(tokenizer, test["text"][:]), title=f"{method}: test", **options)
    cost = {
        "eval_seconds": time.perf_counter() - started,
        "artifact_bytes": folder_bytes(args.model),
        **read_json(args.training_cost),
    }
    temperature = model.config.tunediff["temperature"]
    tempered = scoring.calibrated(np.array(test["label"][:]), probabilities(logits / temperature))
    origin = {key: model.config.tunediff[key] for key in ("revision", "sha256", "seed")}
    more = {"with_temperature": {"temperature": temperature, **tempered}, "model": origin}
    scoring.write(method, test, probabilities(logits), cost, args, more)


if __name__ == "__main__":
    run(main)

"""Put together the folder of a trained model that people use: weights, config, tokenizer, model card.

dvc repro package@full
"""

import argparse
from pathlib import Path

from tunediff.core import arguments
from tunediff.core.files import output, read_json
from tunediff.core.process import run
from tunediff.report.card import Results
from tunediff.report.packaging import package


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trained", type=Path, required=True, help="folder that the training stage wrote")
    parser.add_argument("--source", type=Path, required=True, help="JSON file: what prepare says of the source")
    parser.add_argument("--profile", type=Path, required=True, help="JSON file: what prepare kept of it")
    parser.add_argument("--detail", type=Path, required=True, help="JSON file: its figures, and what was fitted")
    parser.add_argument("--model", type=output, required=True, help="folder for the model")
    args = arguments.parse(parser, "method")

    results = Results(
        training=read_json(args.trained / "training.json"),
        source=read_json(args.source),
        profile=read_json(args.profile),
        detail=read_json(args.detail),
    )
    package(args.trained, args.model, results)
    print(f"{args.model}: python -m stages.predict --model {args.model} TEXT")


if __name__ == "__main__":
    run(main)

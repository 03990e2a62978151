"""Texts per second and latency of trained models, one text at a time and 64, beside transformers' own pipeline.

python -m benchmarks.inference --models models/full models/lora-v2

Each round asks all of them in turn, about the texts of the test split, in this one process.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import TextClassificationPipeline

from tunediff.core.splits import load_split
from tunediff.models.saved import load_saved
from tunediff.use.classifier_loading import Loader

SIZES = (1, 64)
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="folders of trained or exported models")
    parser.add_argument("--splits", type=Path, default=Path("data/prepared"))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    texts = load_split(args.splits, "test")["text"][:]
    contestants: dict[str, Callable[[list[str]], object]] = {}
    for path in args.models:
        contestants[path.name] = Loader().load(path).predict
    model, tokenizer = load_saved(args.models[0])
    pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, top_k=None)
    contestants[f"pipeline of {args.models[0].name}"] = lambda batch: pipeline(batch, batch_size=len(batch))

    seconds = {(name, size): [] for name in contestants for size in SIZES}
    for _ in range(args.rounds):
        for (name, size), measured in seconds.items():
            batches = [texts[start : start + size] for start in range(0, len(texts) - size + 1, size)]
            for batch in batches[:WARM_UP]:
                contestants[name](batch)
            for batch in batches:
                started = time.perf_counter()
                contestants[name](batch)
                measured.append(time.perf_counter() - started)
    for (name, size), measured in seconds.items():
        p50, p95 = np.percentile(measured, [50, 95]) * 1000
        rate = size * len(measured) / sum(measured)
        print(f"{name:24} {size:2} texts at a time: {rate:7.1f} texts/s, p50 {p50:6.1f} ms, p95 {p95:6.1f} ms")


if __name__ == "__main__":
    main()

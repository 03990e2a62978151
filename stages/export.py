"""Export a trained model, an adapter merged into its weights: for transformers and ONNX, or as GGUF if it writes.

What was exported is compared with the trained model in PyTorch.

dvc exp run -S 'export.methods=[lora-v2]'
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from tunediff.core import arguments, devices
from tunediff.core.files import output, write_json
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.core.splits import load_split
from tunediff.evidence import uncertainty
from tunediff.models.saved import load_saved_config, task_of
from tunediff.use import export_writer
from tunediff.use.export_comparison import compare_answers, compare_speed
from tunediff.use.export_folder import export
from tunediff.use.settings import Exporting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with test.parquet")
    parser.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--exported", type=output, required=True, help="folder for the exported model")
    parser.add_argument("--metrics", type=output, required=True, help="JSON file for size, accuracy and difference")
    parser.add_argument("--cost", type=output, required=True, help="JSON file for latency and throughput")
    args = arguments.parse(parser, "method")
    settings = read(args.settings, Exporting)
    devices.take()
    test = load_split(args.splits, "test")
    texts = test["text"][:]

    task = task_of(load_saved_config(args.model))
    if task.writes:
        answers, speed = export_writer.export(args.model, args.exported, texts)
    else:
        systems = export(args.model, args.exported, texts)
        groups = uncertainty.numbered(test["group"]) if "group" in test.column_names else np.arange(len(test))
        answers = compare_answers(systems, task, task.targets(test), groups, settings.confidence)
        answers = {"rows": len(test), **answers}
        predict = {name: system.classifier.predict for name, system in systems.items()}
        speed = compare_speed(predict, texts, settings.seed)
    write_json(args.metrics, answers)
    write_json(args.cost, {"threads": torch.get_num_threads(), **speed})
    print(f"{args.exported}: compared with PyTorch in {args.metrics} and {args.cost}")


if __name__ == "__main__":
    run(main)

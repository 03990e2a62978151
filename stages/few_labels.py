"""How good is each method with few labels? Train on some rows of each label, drawn several times, and score on test.

dvc exp run -S 'training_rows.per_label=[8,16,32,64]'
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tunediff.core import arguments, devices
from tunediff.core.files import atomic, output, write_figures
from tunediff.core.process import run
from tunediff.core.seeds import summary
from tunediff.core.settings import read
from tunediff.core.splits import load_split
from tunediff.evidence.few_labels import FewLabels, answers, draw, of_all
from tunediff.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=Path, required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--metrics", type=output, required=True, help="NUMBER.json, for each method's figures on test")
    parser.add_argument("--counts", type=output, required=True, help="NUMBER.npz: what the figures are computed from")
    args = arguments.parse(parser, "number")
    settings = read(args.settings, FewLabels)
    devices.take()
    train, test = (load_split(args.splits, name) for name in ("train", "test"))
    task = TASKS[settings.growth.task].of(train.features)
    number, seed = int(args.metrics.stem), settings.growth.seed
    drawn = [draw(train, number, seed + place, task) for place in range(settings.draws)]

    targets = task.targets(test)
    figures, counts, checkpoints = {"rows": len(drawn[0]), "per_label_of_all": of_all(train, task)}, {}, []
    total = len(settings.growth.methods) * len(drawn)
    with tqdm(desc=f"{number} rows a label", total=total, unit="training") as bar:
        for method in settings.growth.methods:
            given = []
            for each in answers(method, task, train, test, drawn, settings, checkpoints):
                given.append(each)
                bar.update()
            figures[method] = summary([task.score(targets, each) for each in given], task.headline)
            counts[method] = np.stack([task.counts(targets, task.answers(each)) for each in given])
    with atomic(args.counts) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **counts)  # one array per method, shape [draws, rows, counts]
    write_figures(args.metrics, figures)
    for each in checkpoints:
        each.remove()


if __name__ == "__main__":
    run(main)

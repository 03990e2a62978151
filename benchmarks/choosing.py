"""What does it gain to label the texts that `stages.choose` names, instead of random ones? With known labels.

dvc repro prepare && python -m benchmarks.choosing

A draw begins with some random training texts of each label. Then a method is fitted, further texts are chosen among the
rest of the training split and labelled as they are, and so on. Macro F1 is that on the test split. `saved` is how many
more random labels give the same F1, read off the mean curve of random labels. Differences to random are paired by draw,
which has the same beginning; their intervals are Student's, over draws.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset
from scipy.stats import t as student
from tqdm import tqdm

from tunediff.baselines.classifiers import reader
from tunediff.baselines.linear import on_states, on_tfidf
from tunediff.core.splits import load_split
from tunediff.evidence.few_labels import draw
from tunediff.settings import resolve
from tunediff.settings.study import load
from tunediff.tasks.classification import Classification
from tunediff.use.choosing import EACH, choose
from tunediff.use.classification_answers import uncertainty

Fit = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From row numbers of train to probabilities of all rows of train and of test."""
WAYS = ("random", "least sure", "stages.choose")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=Path, default=Path("data/prepared"), help="folder that `prepare` wrote")
    parser.add_argument("--methods", nargs="+", default=["tfidf", "probe"], choices=["tfidf", "probe"])
    parser.add_argument("--begin", type=int, default=16, help="texts of each label to begin with")
    parser.add_argument("--rows", type=int, default=50, help="texts that are chosen at a time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    train, test = (load_split(args.splits, name) for name in ("train", "test"))
    task = Classification.of(train.features)
    for method in args.methods:
        fit = fitter(method, task, train, test)
        scores = np.array(
            [
                [simulated(way, fit, task, train, test, seed, args) for way in WAYS]
                for seed in tqdm(range(args.draws), desc=method, unit="draw")
            ]
        )
        print(f"{method}, {args.draws} draws", gains(scores, args.begin * len(task.labels), args.rows), sep="\n")


def fitter(method: str, task: Classification, train: Dataset, test: Dataset) -> Fit:
    settings = resolve.without_fine_tuning(load(), 17)
    if method == "probe":
        read = reader(task, settings)
        inputs, others = (read(split["text"], "states") for split in (train, test))
    else:
        inputs, others = (np.array(split["text"][:], dtype=object) for split in (train, test))
    labels = task.targets(train)

    def fit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        baseline, weights = settings.baseline, settings.class_weights
        model = on_states(baseline, weights) if method == "probe" else on_tfidf(baseline, weights, inputs[rows])
        model.fit(inputs[rows], labels[rows])
        return model.predict_proba(inputs), model.predict_proba(others)

    return fit


def simulated(
    way: str, fit: Fit, task: Classification, train: Dataset, test: Dataset, seed: int, args: argparse.Namespace
) -> list[float]:
    """Macro F1 on test at the beginning and after each round."""
    texts, targets = train["text"][:], task.targets(test)
    labelled, scores = draw(train, args.begin, seed, task), []
    random = np.random.default_rng(seed)
    for _ in range(args.rounds + 1):
        probabilities, answers = fit(labelled)
        scores.append(task.score(targets, answers)["f1"])
        rest = np.setdiff1d(np.arange(len(train)), labelled)
        unsure = uncertainty(probabilities[rest])
        order = np.argsort(-unsure, kind="stable")
        if way == "random":
            new = random.permutation(rest)[: args.rows]
        elif way == "least sure":
            new = rest[order[: args.rows]]
        else:
            best = order[: max(EACH * args.rows, 1000)]
            new = rest[best[choose([texts[row] for row in rest[best]], unsure[best], args.rows)]]
        labelled = np.concatenate([labelled, new])
    return scores


def gains(scores: np.ndarray, first: int, step: int) -> str:
    """A table from F1 of shape [draws, WAYS, rounds + 1]."""
    draws, _, points = scores.shape
    labels = first + step * np.arange(points)
    mean = scores.mean(0)
    rows = []
    for place, way in enumerate(WAYS):
        for point in range(points):
            row = {"labels": labels[point], "chosen": way, "macro F1": f"{mean[place, point]:.3f}"}
            if place and point:
                apart = 100 * (scores[:, place, point] - scores[:, 0, point])
                reach = student.ppf(0.975, draws - 1) * apart.std(ddof=1) / np.sqrt(draws)
                low, high = apart.mean() - reach, apart.mean() + reach
                row["points above random"] = f"{apart.mean():+.1f} ({low:.1f} to {high:.1f})"
                row["saved"] = saved(labels, mean[0], labels[point], mean[place, point])
            rows.append(row)
    return pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True)


def saved(labels: np.ndarray, random: np.ndarray, spent: int, reached: float) -> str:
    """How many more random labels reach the same; `random` is made to rise, as noise bends it."""
    curve = np.maximum.accumulate(random)
    if reached > curve[-1]:
        return f"over {labels[-1] - spent}"
    first = int(np.argmax(curve >= reached))
    before, after = curve[max(first - 1, 0)], curve[first]
    beyond = (after - reached) / (after - before) if after > before else 0
    return f"{labels[first] - beyond * (labels[first] - labels[max(first - 1, 0)]) - spent:.0f}"


if __name__ == "__main__":
    main()

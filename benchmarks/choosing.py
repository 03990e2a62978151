"""What does it gain to label the texts that `stages.choose` names, instead of random ones? With known labels.

dvc repro prepare && python -m benchmarks.choosing
dvc repro prepare && python -m benchmarks.choosing --ways random stages.choose "by states" typical badge --begin 4

A draw begins with some random training texts of each label. Then a method is fitted, further texts are chosen among the
rest of the training split and labelled as they are, and so on. Macro F1 is that on the test split. `saved` is how many
more random labels give the same F1, read off the mean curve of random labels. Differences to random are paired by draw,
which has the same beginning; their intervals are Student's, over draws.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset
from scipy.stats import t as student
from tqdm import tqdm

from benchmarks.ways_to_choose import WAYS, Pool
from tunediff.baselines.classifiers import reader
from tunediff.baselines.linear import on_states, on_tfidf
from tunediff.baselines.saved import unit
from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core.splits import load_split
from tunediff.evidence.few_labels import draw
from tunediff.settings import resolve
from tunediff.settings.study import load
from tunediff.tasks.classification import Classification

Fit = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From row numbers of train to probabilities of all rows of train and of test."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=Path, default=Path("data/prepared"), help="folder that `prepare` wrote")
    parser.add_argument("--methods", nargs="+", default=["tfidf", "probe"], choices=["tfidf", "probe"])
    parser.add_argument("--ways", nargs="+", default=["random", "least sure", "stages.choose"], choices=list(WAYS))
    parser.add_argument("--most", type=int, default=4000, help="training texts, random ones, to choose from")
    parser.add_argument("--begin", type=int, default=16, help="texts of each label to begin with")
    parser.add_argument("--rows", type=int, default=50, help="texts that are chosen at a time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    train, test = (load_split(args.splits, name) for name in ("train", "test"))
    train = train.select(np.sort(np.random.default_rng(17).permutation(len(train))[: args.most]))
    task, settings = Classification.of(train.features), resolve.without_fine_tuning(load(), 17)
    states, others = (reader(task, settings)(split["text"], "states") for split in (train, test))
    for method in args.methods:
        inputs = (states, others) if method == "probe" else (texts_of(train), texts_of(test))
        simulation = Simulation(task, train, test, unit(states), fitter(method, settings, inputs, task.targets(train)))
        draws = tqdm(range(args.draws), desc=method, unit="draw")
        scores = [[simulation.scores(way, seed, args) for way in args.ways] for seed in draws]
        print(f"{method}, {args.draws} draws")
        print(gains(np.array(scores), args.ways, args.begin * len(task.labels), args.rows))


@dataclass(frozen=True)
class Simulation:
    task: Classification
    train: Dataset
    test: Dataset
    states: np.ndarray
    """Of train, mean states of length 1, shape [rows, hidden]."""
    fit: Fit

    def scores(self, way: str, seed: int, args: argparse.Namespace) -> list[float]:
        """Macro F1 on test at the beginning and after each round."""
        labelled, scores = draw(self.train, args.begin, seed, self.task), []
        texts, targets = self.train["text"][:], self.task.targets(self.test)
        random = np.random.default_rng(seed)
        while True:
            probabilities, answers = self.fit(labelled)
            scores.append(self.task.score(targets, answers)["f1"])
            if len(scores) > args.rounds:
                return scores
            pool = Pool(texts, self.states, labelled, probabilities, random)
            labelled = np.concatenate([labelled, WAYS[way](pool, args.rows)])


def texts_of(split: Dataset) -> np.ndarray:
    return np.array(split["text"][:], dtype=object)


def fitter(method: str, settings: WithoutFineTuning, inputs: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> Fit:
    """`inputs` are texts or states of train and of test."""

    def fit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        baseline, weights, train = settings.baseline, settings.class_weights, inputs[0]
        model = on_states(baseline, weights) if method == "probe" else on_tfidf(baseline, weights, train[rows])
        model.fit(train[rows], labels[rows])
        return model.predict_proba(train), model.predict_proba(inputs[1])

    return fit


def gains(scores: np.ndarray, ways: list[str], first: int, step: int) -> str:
    """A table from F1 of shape [draws, ways, rounds + 1]; the first way is what the others are compared with."""
    draws, _, points = scores.shape
    labels = first + step * np.arange(points)
    mean = scores.mean(0)
    rows = []
    for place, way in enumerate(ways):
        for point in range(points):
            row = {"labels": labels[point], "chosen": way, "macro F1": f"{mean[place, point]:.3f}"}
            if place and point:
                apart = 100 * (scores[:, place, point] - scores[:, 0, point])
                reach = student.ppf(0.975, draws - 1) * apart.std(ddof=1) / np.sqrt(draws)
                low, high = apart.mean() - reach, apart.mean() + reach
                row[f"points above {ways[0]}"] = f"{apart.mean():+.1f} ({low:.1f} to {high:.1f})"
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

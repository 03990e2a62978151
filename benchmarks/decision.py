"""Do the decision's probabilities hold? Studies with known truths, drawn and decided.

python -m benchmarks.decision

Six methods answer the same texts with three labels; macro F1 decides, with a margin of 2 points. How good each one is
comes from a normal distribution around 75%, with a deviation of 3 points; the cheaper ones are worse on average. A
training's accuracy lies around its method's with a deviation of 1 point, if a method is trained several times: once per
seed, and in each fold.
"""

import argparse

import numpy as np
import pandas as pd
from scipy.special import ndtri

from tunediff.evidence import uncertainty
from tunediff.evidence.decision import Decision, decide
from tunediff.evidence.settings import Report
from tunediff.evidence.uncertainty import Figures
from tunediff.tasks.classification import Classification

TASK = Classification(["bearish", "bullish", "neutral"])
FIGURE = Figures(["f1"], TASK.figures_of)
SHARES = np.array([0.29, 0.31, 0.4])
SIZES = ((314, 1), (1000, 1), (2099, 1), (2099, 5))  # test texts, and folds: 1 is one test split
METHODS = [f"method {number}" for number in range(6)]  # the cheapest first
REPORT = Report(figure="f1", margin=0.02, confidence=0.95, assurance=0.7)
BETWEEN, WITHIN = 0.03, 0.01  # deviations of methods, and of one method's trainings
TOGETHER = 0.7  # correlation of what makes rows hard for two trainings
BINS = [0, 0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0001]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="of each kind")
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()
    uncertainty.RESAMPLES = args.resamples
    print_drawn(args.studies)
    print_beyond(args.studies)


def print_drawn(studies: int) -> None:
    """How often what is said of drawn methods is right."""
    calls, all_methods = [], []
    for rows, folds in SIZES:
        for trainings in (1, 3):
            random = np.random.default_rng([rows, trainings, folds] if folds > 1 else [rows, trainings])
            said = [study(random, drawn_methods(random), rows, trainings, folds) for _ in range(studies)]
            calls.append({"test texts": rows, "folds": folds, "trainings": trainings, **right(said)})
            for decision, enough in said:
                all_methods += zip(decision.probabilities.values(), enough, strict=True)
    print(pd.DataFrame(calls).to_markdown(index=False))
    print(calibration(all_methods).to_markdown(index=False))


def print_beyond(studies: int) -> None:
    """How often a method beyond the margin is called proven; of several, how often any is."""
    table = []
    for rows, folds in SIZES:
        shares = {}
        for beyond in (1, len(METHODS) - 1):
            random = np.random.default_rng([rows, beyond, folds] if folds > 1 else [rows, beyond])
            said = [study(random, methods_beyond(beyond), rows, 1, folds)[0] for _ in range(studies)]
            proven = [any(one.probabilities[method] >= one.to_prove for method in METHODS[:beyond]) for one in said]
            shares[f"{beyond} beyond"] = f"{np.mean(proven):.1%}"
        table.append({"test texts": rows, "folds": folds, **shares})
    print(pd.DataFrame(table).to_markdown(index=False))


def drawn_methods(random: np.random.Generator) -> np.ndarray:
    """True accuracies, the cheapest method's first."""
    return 0.75 + np.linspace(-0.02, 0.01, len(METHODS)) + BETWEEN * random.normal(size=len(METHODS))


def methods_beyond(beyond: int) -> np.ndarray:
    """The last is the best, the first `beyond` are worse by the margin and a tenth of a point, others are far off."""
    accuracies = np.full(len(METHODS), 0.6)
    accuracies[-1] = 0.77
    accuracies[:beyond] = 0.77 - REPORT.margin - 0.001
    return accuracies


def true_f1(accuracy: np.ndarray) -> np.ndarray:
    """Macro F1 on endless rows of methods whose errors go to the other two labels alike."""
    right = accuracy[..., None] * SHARES
    answered = right + (1 - accuracy)[..., None] / 2 * (1 - SHARES)
    return np.mean(2 * right / (SHARES + answered), axis=-1)


def study(
    random: np.random.Generator, accuracies: np.ndarray, rows: int, trainings: int, folds: int = 1
) -> tuple[Decision, np.ndarray]:
    """The decision on drawn test texts, and whether each method is near the best in truth.

    If there is one training, the truth is that of the trained model; else it is the mean of endless trainings.
    """
    trained = np.tile(accuracies[:, None, None], (trainings, folds))
    if trainings * folds > 1:
        trained = trained + WITHIN * random.normal(size=trained.shape)
    fold = np.arange(rows) % folds
    actual = np.sort(random.choice(3, size=rows, p=SHARES))
    noise = np.sqrt(TOGETHER) * random.normal(size=rows) + np.sqrt(1 - TOGETHER) * random.normal(
        size=(len(accuracies), trainings, rows)
    )
    wrong = (actual + random.integers(1, 3, size=noise.shape)) % 3
    answers = np.where(noise < ndtri(trained)[..., fold], actual, wrong)
    counts = {
        method: np.stack([TASK.counts(actual, each) for each in of_method])
        for method, of_method in zip(METHODS, answers, strict=True)
    }
    truth = true_f1(accuracies)
    decision = decide(FIGURE, counts, METHODS, REPORT, seed=17, folds=fold if folds > 1 else None)
    return decision, truth >= truth.max() - REPORT.margin


def right(said: list[tuple[Decision, np.ndarray]]) -> dict[str, float | str]:
    """Of the studies that call something a best bet, or proven, how many are right; and what they promised."""
    bets = [(d.probabilities[d.choice], enough[METHODS.index(d.choice)]) for d, enough in said if d.assured]
    proven = [enough[METHODS.index(d.proven)] for d, enough in said if d.proven]
    return {
        "best bets": len(bets),
        "said": f"{np.mean([p for p, _ in bets]):.1%}",
        "right": f"{np.mean([good for _, good in bets]):.1%}",
        "proven": len(proven),
        "wrongly": f"{np.mean(np.logical_not(proven)) if proven else 0:.1%}",
        "wrongly, of all studies": f"{np.sum(np.logical_not(proven)) / len(said):.1%}",
    }


def calibration(methods: list[tuple[float, bool]]) -> pd.DataFrame:
    """By the probability that was said of a method: how many are near the best in truth."""
    table = pd.DataFrame(methods, columns=["said", "near the best"])
    bins = table.groupby(pd.cut(table.said, BINS, right=False), observed=True)
    return bins.agg(methods=("said", "size"), said=("said", "mean"), right=("near the best", "mean")).reset_index(
        drop=True
    )


if __name__ == "__main__":
    main()

"""Do intervals hold? The share of drawn test splits whose 95% interval has the true figure in it.

python -m benchmarks.intervals

Each split has the same number of rows of a label, as `prepare` draws it. Two methods are right with given chances, more
often on the same rows. A wrong answer is another label in proportion to its frequency. A cell has the least and the
most of three accuracies.
"""

import argparse

import numpy as np
from scipy.special import ndtri

from tunediff.evidence import uncertainty
from tunediff.evidence.uncertainty import Figures
from tunediff.tasks.classification import Classification

# Labels, how frequent each is beside the one before it, rows.
SPLITS = (
    *((2, 1.0, 100), (2, 0.1, 200), (3, 1.0, 314), (3, 0.3, 100), (5, 0.5, 200), (5, 0.5, 1000)),
    *((10, 1.0, 200), (10, 0.8, 200), (10, 0.7, 200), (10, 0.7, 500), (10, 0.7, 1000)),
)
ACCURACIES = (0.6, 0.75, 0.9)  # of the most frequent label somewhat more, of rare ones less
LESS = 0.04  # that the other method has
TOGETHER = 0.7  # correlation of what makes rows hard for both
RESAMPLES = 500  # of the percentile bootstrap, which is there for comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="splits for each accuracy")
    args = parser.parse_args()
    columns = ("accuracy", "macro F1", "difference of accuracy", "of macro F1", "macro F1, percentile bootstrap")
    print("|".join(("", "labels", "rows", "of the rarest", *columns, "")))
    print("|---" * (3 + len(columns)) + "|")
    for labels, ratio, rows in SPLITS:
        shares = []
        for accuracy in ACCURACIES:
            study = Study(labels, ratio, rows, accuracy)
            held = [study.covered(np.random.default_rng(seed)) for seed in range(args.draws)]
            shares.append(100 * np.mean(held, axis=0))
        cells = [f"{low:.1f}-{high:.1f}" for low, high in zip(np.min(shares, 0), np.max(shares, 0), strict=True)]
        print("|".join(("", str(labels), f"{rows:,}", str(study.of_each.min()), *cells, "")), flush=True)


class Study:
    """Two methods with known figures on splits of one kind."""

    def __init__(self, labels: int, ratio: float, rows: int, accuracy: float):
        shares = ratio ** np.arange(labels)
        self.shares = shares / shares.sum()
        self.of_each = np.maximum(1, np.round(rows * self.shares).astype(int))
        self.shares = self.of_each / self.of_each.sum()
        spread = self.shares.max() - self.shares.mean()
        tilt = 0.15 * (self.shares - self.shares.mean()) / max(spread, 1e-9)
        self.recall = np.clip([accuracy + tilt, accuracy - LESS + tilt], 0.2, 0.99)
        # What a row of each label is given if the answer is wrong; shape [labels, labels].
        wrong = np.tile(self.shares, (labels, 1)) * (1 - np.eye(labels))
        self.wrong = wrong / wrong.sum(1, keepdims=True)
        self.task = Classification([str(label) for label in range(labels)])
        self.figures = Figures(self.task.headline, self.task.figures_of)
        self.truth = np.array([self.true_figures(recall) for recall in self.recall])

    def true_figures(self, recall: np.ndarray) -> np.ndarray:
        """The figures on endless rows."""
        matrix = self.shares[:, None] * (np.diag(recall) + (1 - recall)[:, None] * self.wrong)
        sums = np.concatenate([matrix.sum(1), matrix.sum(0), np.diag(matrix)])
        return self.figures(1e9 * sums[None])

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """The counts of both methods on a split, shape [methods, rows, counts]."""
        actual = np.repeat(np.arange(len(self.shares)), self.of_each)
        hard = random.normal(size=len(actual))
        counts = []
        for recall in self.recall:
            noise = np.sqrt(TOGETHER) * hard + np.sqrt(1 - TOGETHER) * random.normal(size=len(actual))
            drawn = random.random(len(actual))[:, None] > self.wrong[actual].cumsum(1)
            counts.append(self.task.counts(actual, np.where(noise < ndtri(recall)[actual], actual, drawn.sum(1))))
        return np.stack(counts)

    def covered(self, random: np.random.Generator) -> list[bool]:
        """Whether each interval of a drawn split has the truth in it."""
        one, other = self.draw(random)[:, None]
        truth, less = self.truth[0], self.truth[0] - self.truth[1]
        own = uncertainty.intervals(self.figures, one, 0.95).values()
        apart = uncertainty.differences(self.figures, one, other, 0.95).values()
        found = [each.low <= value <= each.high for each, value in zip((*own, *apart), (*truth, *less), strict=True)]
        kinds, rows = np.unique(one[0], axis=0, return_counts=True)
        drawn = random.multinomial(rows.sum(), rows / rows.sum(), size=RESAMPLES) @ kinds
        low, high = np.quantile(self.figures(drawn[:, None].astype(float))[:, 1], [0.025, 0.975])
        return [*found, bool(low <= truth[1] <= high)]


if __name__ == "__main__":
    main()

"""What a choice can bear: figures of the surest answers alone, of each label, and from each threshold on."""

import numpy as np
import pandas as pd

from tunediff.evidence import uncertainty
from tunediff.evidence.uncertainty import Figures
from tunediff.tasks.interface import Task

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def by_coverage(
    figure: Figures, counts: np.ndarray, confidence: np.ndarray, sure: float, groups: np.ndarray
) -> pd.DataFrame:
    """One figure of the share of the texts whose answers are surest: columns coverage, rows, least, value, low, high.

    `counts` are those of one training, shape [1, rows, counts]; `confidence` is the largest probability of each text,
    shape [rows], and `least` that of the last text that is answered; `sure` is the confidence of the intervals.
    `groups` are the numbers of the rows' groups, shape [rows].
    """
    order = np.argsort(-confidence, kind="stable")
    rows = []
    for share in SHARES:
        kept = order[: max(1, round(share * len(order)))]
        own, _ = uncertainty.by_group(counts[:, kept], groups[kept], np.zeros(len(kept)))
        [one] = uncertainty.intervals(figure, own, sure).values()
        rows.append((share, len(kept), confidence[kept[-1]], one.value, one.low, one.high))
    return pd.DataFrame(rows, columns=["coverage", "rows", "least", "value", "low", "high"])


def by_label(task: Task, counts: np.ndarray, sure: float) -> pd.DataFrame:
    """Precision, recall and F1 of each label with `_low` and `_high`, and columns label, texts.

    `counts` are the task's, shape [trainings, rows, counts], or sums by group: the first are how often each label is
    there, is answered, and both. Where a text may have a label several times, as spans do, these times are counted and
    not texts.
    """
    rows, counts = [], counts[..., : 3 * len(task.labels)]
    for place, label in enumerate(task.labels):

        def of(sums: np.ndarray, place: int = place) -> dict[str, np.ndarray]:
            actual, answered, hits = (each[..., place] for each in np.split(sums, 3, axis=-1))
            return {
                "precision": hits / np.maximum(answered, 1),
                "recall": hits / np.maximum(actual, 1),
                "f1": 2 * hits / np.maximum(actual + answered, 1),
            }

        found = uncertainty.intervals(Figures(["precision", "recall", "f1"], of), counts, sure)
        limits = {f"{name}{end}": getattr(one, field) for name, one in found.items() for end, field in ENDS.items()}
        rows.append({"label": label, "texts": int(counts[0, :, place].sum()), **limits})
    return pd.DataFrame(rows)


ENDS = {"": "value", "_low": "low", "_high": "high"}


def by_threshold(positive: np.ndarray, actual: np.ndarray, fitted: float | None, costs: np.ndarray) -> pd.DataFrame:
    """Answering yes from a probability on: columns threshold, fitted, answered, precision, recall, f1, cost.

    `positive` has probabilities of yes, `actual` whether it is, both of shape [rows]; `fitted` is the threshold that
    validation chose. `answered` is the share of texts that get a yes; `cost` is that of 1,000 texts, where `costs` has
    that of a no for a yes and of a yes for a no.
    """
    rows = []
    for threshold in sorted({*THRESHOLDS, *([fitted] if fitted is not None else [])}):
        yes = positive >= threshold
        hits, missed, alarms = (yes & actual).sum(), (~yes & actual).sum(), (yes & ~actual).sum()
        rows.append(
            {
                "threshold": threshold,
                "fitted": threshold == fitted,
                "answered": yes.mean(),
                "precision": hits / max(1, hits + alarms),
                "recall": hits / max(1, hits + missed),
                "f1": 2 * hits / max(1, 2 * hits + missed + alarms),
                "cost": 1000 * (costs[0] * missed + costs[1] * alarms) / len(yes),
            }
        )
    return pd.DataFrame(rows)

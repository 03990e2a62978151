"""What errors cost, where the data file says it: a figure like any other, from sums over rows."""

import numpy as np

from tunediff.core.errors import UserError
from tunediff.evidence.uncertainty import Figures
from tunediff.tasks.classification import Classification
from tunediff.tasks.interface import Figure

COST = Figure("cost", "cost of errors", higher_is_better=False, percent=False)


def matrix(task: Classification, costs: dict[str, dict[str, float]], path: str) -> np.ndarray | None:
    """What each answer costs, shape [labels, answers]: 0 on the diagonal, and 1 where `costs` names nothing.

    None if there are no `costs`. `path` is the data file's, for messages. Raises UserError if a label is not known.
    """
    if not costs:
        return None
    labels = task.labels
    named = {f"costs.{label}": label for label in costs}
    named |= {f"costs.{label}.{answer}": answer for label, answers in costs.items() for answer in answers}
    if unknown := [key for key, label in named.items() if label not in labels]:
        raise UserError(
            *(f"{path}: {key}: no text has this label; expected one of {', '.join(labels)}" for key in unknown)
        )
    table = 1 - np.eye(len(labels))
    for label, answers in costs.items():
        for answer, cost in answers.items():
            table[labels.index(label), labels.index(answer)] = cost
    if not table.any():
        raise UserError(
            f"{path}: costs: every error costs 0, so all methods are alike; give some a cost, or leave it out"
        )
    return table


def counts(table: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What `figures` needs, shape [trainings, rows, 2].

    `actual` has class numbers, shape [rows], `predicted` those of the answers, shape [trainings, rows]; no answer (-1)
    costs as much as the label's dearest error.
    """
    spent = np.column_stack([table, table.max(1)])[actual, predicted] / table.max()
    return np.stack([spent, np.ones_like(spent)], axis=-1)


def figures(table: np.ndarray) -> Figures:
    """The mean cost of a text as a share of the dearest error."""
    return Figures([COST.name], lambda sums: {COST.name: sums[..., 0] / sums[..., 1]})

"""How good is each method with few labels? Trained on some rows of each label, drawn several times; the same test rows.

No validation: it would be more labels than there are. A training runs to its end; the epoch with the least loss on its
own rows counts, which as a rule is the last.
"""

import math
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from tunediff.core.errors import UserError
from tunediff.core.settings import Count, Section
from tunediff.evidence.growth import Growth, simple
from tunediff.tasks.interface import Task
from tunediff.training.settings import Training

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from tunediff.training.checkpoints import Checkpoints


class FewLabels(Section):
    """Everything that `few_labels` depends on, beside the prepared splits."""

    growth: Growth
    draws: Count
    """How often the rows are drawn; each draw has its own seed of training, too."""
    steps: Count
    """Optimizer steps of a training, at least."""


def draw(train: "Dataset", number: int, seed: int, task: Task) -> "np.ndarray":
    """Numbers of random rows, `number` for each label; those of a smaller number are among them. Raises UserError."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(train))
    chosen = np.zeros(len(train), bool)
    for label, rows in task.parts(task.targets(train)):
        if 0 < rows.sum() < number:
            raise UserError(
                f"params.yaml: training_rows.per_label: train has {rows.sum()} rows of label '{label}', not {number}; "
                "take a smaller number, or leave the label out (`rare` in the data file)"
            )
        chosen[order[rows[order]][:number]] = True
    return np.flatnonzero(chosen)


def of_all(train: "Dataset", task: Task) -> float:
    """The rows that have a label, on average over the labels that some have: what all rows are among draws' numbers."""
    sizes = [int(rows.sum()) for _, rows in task.parts(task.targets(train)) if rows.any()]
    return sum(sizes) / len(sizes)


def answers(
    method: str,
    task: Task,
    train: "Dataset",
    test: "Dataset",
    drawn: "list[np.ndarray]",
    settings: FewLabels,
    checkpoints: "list[Checkpoints]",
) -> "Iterator[np.ndarray]":
    """Probabilities for the test rows, as the task has them, from each of the `drawn` rows.

    The trainings' checkpoints are put into `checkpoints`.
    """
    growth = settings.growth
    if method not in growth.trainings:
        yield from chain.from_iterable(map(simple(method, task, train, [test], growth), drawn))
        return

    from tunediff.models.inference import choose_precision, outputs
    from tunediff.training.methods import method_of
    from tunediff.training.methods import train as fit_model

    for place, rows in enumerate(drawn):
        part = train.select(rows)
        training = to_the_end(growth.trainings[method], len(part), settings.steps)
        fit = fit_model(method_of(training), training, part, part, growth.seed + place, curves=None)
        checkpoints.append(fit.checkpoints)
        precision = choose_precision(training.precision)
        encoded = task.encode(fit.tokenizer, test)
        title = f"{method}: test"
        yield task.probabilities(
            outputs(task, fit.model, fit.tokenizer, encoded, training.batch_size, precision, title)
        )
        del fit  # before the next model is made


def to_the_end(training: Training, rows: int, steps: int) -> Training:
    """The training with as many epochs as `steps` need, and no end before the last one."""
    epochs = max(training.train.epochs, math.ceil(steps / math.ceil(rows / training.train.batch_size)))
    changed = training.train.model_copy(update={"epochs": epochs, "patience": 0, "select_by": "loss"})
    return training.model_copy(update={"train": changed})

"""Would more labels help? The same methods, trained on a share of the rows, and judged on validation or by folds."""

from typing import TYPE_CHECKING, Literal

from tunediff.baselines.settings import Baseline, WithoutFineTuning
from tunediff.core.errors import UserError
from tunediff.core.seeds import summary
from tunediff.core.settings import Section, Seed
from tunediff.tasks.interface import Task
from tunediff.training.settings import Training

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from datasets import Dataset

    from tunediff.evidence.folds import Answered
    from tunediff.training.checkpoints import Checkpoints


class Growth(Section):
    """Everything that `training_rows` depends on, beside the prepared splits and the folds."""

    task: str
    seed: Seed
    """Seed of the sample."""
    methods: list[str]
    """`tfidf`, `probe`, `setfit`, and any of `trainings`."""
    class_weights: Literal["none", "balanced"]
    baseline: Baseline
    probe: WithoutFineTuning | None = None
    """What `probe` and `setfit` depend on, if one is among them."""
    trainings: dict[str, Training]


def take(train: "Dataset", share: float, seed: int, task: Task) -> "Dataset":
    """A stratified sample of the rows; a smaller share's are among those of a larger one. Raises UserError."""
    import pandas as pd

    from tunediff.core.sampling import sample

    table = pd.DataFrame({"stratum": task.strata(train)})
    part = train.select(sample(table, max(1, round(share * len(train))), seed).index)
    lacking = {label for label, rows in task.parts(task.targets(part)) if not rows.any()}
    if missing := [label for label, rows in task.parts(task.targets(train)) if rows.any() and label in lacking]:
        raise UserError(
            f"params.yaml: training_rows.shares: {share:g} of {len(train)} rows has none of label "
            f"'{missing[0]}'; take a larger share"
        )
    return part


def simple(
    method: str, task: Task, train: "Dataset", others: "list[Dataset]", settings: Growth
) -> "Callable[[np.ndarray | None], list[np.ndarray]]":
    """Gives the probabilities of `tfidf`, `probe`, `setfit` for each of `others`, fitted to rows of `train`.

    These are given by their numbers; None stands for all rows. The probe's model reads each text once, here; SetFit's
    is trained each time.
    """
    from tunediff.baselines.of_task import of_task

    baselines = of_task(task)
    if method in ("probe", "setfit"):
        if not hasattr(baselines, method):
            raise UserError(
                f"params.yaml: training_rows.methods: the task `{task.name}` has no {method} to fit to some rows; take "
                f"{method} out of the list"
            )
        return getattr(baselines, method)(task, train, others, settings.probe)

    def words(rows: "np.ndarray | None") -> "list[np.ndarray]":
        part = train if rows is None else train.select(rows)
        return baselines.words(task, part, others, settings.baseline, settings.class_weights)

    return words


def validate(
    method: str, task: Task, part: "Dataset", validation: "Dataset", settings: Growth, checkpoints: "list[Checkpoints]"
) -> dict[str, float]:
    """Figures on validation, trained as the method's own stage does; over several seeds a mean.

    The trainings' checkpoints are put into `checkpoints`.
    """
    if method not in settings.trainings:
        [probabilities] = simple(method, task, part, [validation], settings)(None)
        figures = task.validate(task.targets(validation), probabilities)
        return {name: figures[name] for name in task.each_epoch}

    from tunediff.training.methods import method_of, train

    training = settings.trainings[method]
    best = []
    for seed in training.seeds:
        fit = train(method_of(training), training, part, validation, seed, curves=None)
        best.append({name: fit.best[name] for name in task.each_epoch})
        checkpoints.append(fit.checkpoints)
        del fit  # before the next model is made
    return summary(best, task.headline)


def answer_fold(
    method: str,
    splits: "dict[str, Dataset]",
    task: Task,
    settings: Growth,
    name: str,
    checkpoints: "list[Checkpoints]",
) -> "Answered":
    """What the method answers on the fold's test rows, trained on its training rows; see `fold_training.answer`."""
    from tunediff.evidence.fold_training import FoldTraining, answer
    from tunediff.evidence.folds import Answered
    from tunediff.evidence.of_task import of_task
    from tunediff.evidence.settings import Evaluation

    if method in settings.trainings:
        training = settings.trainings[method]
        options = {key: getattr(training, key) for key in ("task", "seeds", "precision", "batch_size")}
        own = FoldTraining(training=training, evaluation=Evaluation(**options))
        return answer(splits, task, own, name, checkpoints)
    train, validation, test = (splits[side] for side in ("train", "validation", "test"))
    chosen, answers = simple(method, task, train, [validation, test], settings)(None)
    fitted = of_task(task).fit_baseline(task, chosen, task.targets(validation), train)
    return Answered(splits, {settings.seed: answers}, {settings.seed: fitted})

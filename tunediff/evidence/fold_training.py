"""The trainings of one fold, and what they answer on the rows that it tests. No weights are kept."""

from typing import TYPE_CHECKING

from tunediff.core.settings import Section
from tunediff.evidence.settings import Evaluation
from tunediff.tasks import task_of
from tunediff.tasks.interface import Task
from tunediff.training.settings import Training

if TYPE_CHECKING:
    from datasets import Dataset

    from tunediff.evidence.folds import Answered
    from tunediff.training.checkpoints import Checkpoints


class FoldTraining(Section):
    """Everything that a method's trainings and answers depend on, beside the prepared splits and the folds."""

    training: Training
    evaluation: Evaluation


def answer(
    splits: "dict[str, Dataset]", task: Task, settings: FoldTraining, name: str, checkpoints: "list[Checkpoints]"
) -> "Answered":
    """Train on the fold's rows once per seed, fit on its validation, answer its test rows; `name` is the fold's.

    The trainings' checkpoints are put into `checkpoints`. Of several processes, only the first one has answers.
    """
    from tunediff.evidence.folds import Answered
    from tunediff.evidence.of_task import of_task
    from tunediff.evidence.reloading import answered
    from tunediff.models.inference import choose_precision, outputs
    from tunediff.training.methods import method_of, train

    training, evaluation = settings.training, settings.evaluation
    options = {"batch_size": evaluation.batch_size, "precision": choose_precision(evaluation.precision)}
    title = f"{training.method}: fold {name}"
    known = task.targets(splits["validation"])
    answers, fitted = {}, {}
    for seed in training.seeds:
        print(f"{title}, seed {seed}", flush=True)
        fit = train(method_of(training), training, splits["train"], splits["validation"], seed, curves=None)
        if fit is None:
            continue
        checkpoints.append(fit.checkpoints)
        fitted[seed] = of_task(task).fit_model(task, fit.validation_logits, known, splits["train"])
        own = task_of(fit.model.config)  # which knows what kind of model it is done by
        encoded = own.encode(fit.tokenizer, splits["test"])
        logits = outputs(own, fit.model, fit.tokenizer, encoded, title=title, **options)
        given = of_task(own).final(own, logits, fitted[seed])
        answers[seed] = answered(own, fit.model, fit.tokenizer, splits["test"], given, evaluation, title)
        del fit  # before the next model is made
    return Answered(splits, answers, fitted)

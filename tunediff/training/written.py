"""How good the texts are that a trained model writes for some rows of validation: what trainings are compared by."""

from typing import TYPE_CHECKING

import numpy as np

from tunediff.models.inference import choose_precision
from tunediff.tasks import task_of
from tunediff.tasks.settings import Generate
from tunediff.training.settings import Training

if TYPE_CHECKING:
    from datasets import Dataset

    from tunediff.training.loop import Fit


def figures(fit: "Fit", training: Training, validation: "Dataset") -> dict[str, float]:
    """The headline figures on `training.validation_rows` rows at most, evenly spaced; none if that is None.

    The likeliest token is taken each time, and an answer has no more tokens than the longest of these targets: of the
    section `generate` a training does not depend.
    """
    if not training.validation_rows:
        return {}
    from tunediff.models.generation import write  # here: most trainings have no use for it, as the next one
    from tunediff.tasks.generation import Answers

    task = task_of(fit.model.config)
    number = min(training.validation_rows, len(validation))
    some = validation.select(np.linspace(0, len(validation) - 1, number).round().astype(int))
    pairs = task.targets(some)
    prompt = task.prompt(fit.tokenizer)
    longest = max(len(prompt.target(target)) for _, target, *_ in pairs)
    if positions := getattr(fit.model.config, "max_position_embeddings", None):
        longest = min(longest, positions - task.architecture.before(fit.tokenizer.model_max_length))
    texts = write(
        task,
        fit.model,
        fit.tokenizer,
        some["text"][:],
        Generate(max_new_tokens=longest),
        training.batch_size,
        choose_precision(training.precision),
        f"{training.method}: validation",
    )
    scores = task.score(pairs, Answers(texts))
    return {name: scores[name] for name in task.headline}

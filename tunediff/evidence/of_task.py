"""What is fitted, said and written of answers depends on the task: one file for each, and the table of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from tunediff.evidence import classification, generation, multilabel, tagging
from tunediff.tasks.interface import Task

if TYPE_CHECKING:
    from datasets import Dataset


class TaskEvidence(Protocol):
    """The functions of each such file. Targets, answers and probabilities have the forms that the task gives them.

    `fitted` is what was fitted on validation, as config.json has it.
    """

    def score(self, task: Any, targets: Any, probabilities: Any, fitted: dict[str, Any] | None) -> dict[str, float]:
        """The task's figures."""

    def detail(self, task: Any, targets: Any, probabilities: Any, fitted: dict[str, Any] | None) -> dict[str, Any]:
        """More figures, for metrics/detail/METHOD.json."""

    def fit_model(self, task: Any, logits: Any, targets: Any, train: "Dataset") -> dict[str, Any]:
        """What is fitted on validation of a trained model, from its logits there: for use and for config.json."""

    def fit_baseline(self, task: Any, probabilities: Any, targets: Any, train: "Dataset") -> dict[str, Any]:
        """What is fitted on validation of a baseline."""

    def final(self, task: Any, logits: Any, fitted: dict[str, Any]) -> Any:
        """The probabilities by which a trained model is judged on test."""

    def try_model(self, task: Any, targets: Any, logits: Any, fitted: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """What was fitted, tried on test: more for metrics/detail/METHOD.json."""

    def try_baseline(self, task: Any, targets: Any, probabilities: Any, fitted: dict[str, Any]) -> dict[str, Any]:
        """The same for a baseline."""

    def predictions(
        self,
        task: Any,
        test: "Dataset",
        seed: int,
        probabilities: Any,
        fitted: dict[str, Any] | None,
        train: "Dataset | None",
    ) -> pd.DataFrame:
        """The test split text by text: columns seed, those of `values.rows_of`, and the task's own."""

    def read(self, table: pd.DataFrame, rows: int) -> tuple[Task, Any, Any]:
        """The task, the targets, and the answers of each training: from what `predictions` gave of all of them.

        `rows` is how many each has.
        """

    def confused(self, task: Any, targets: Any, answers: Any) -> Iterator[tuple[str, str]]:
        """Pairs of a label that is there and the one that was answered in its place, to be counted."""

    def confidence(self, table: pd.DataFrame, task: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of answers, and whether what they are of is so: what calibration compares, both of one shape.

        `table` has the rows of one training.
        """


BY_TASK: dict[str, TaskEvidence] = {
    "classification": classification,
    "multilabel": multilabel,
    "tagging": tagging,
    "generation": generation,
}


def of_task(task: Task | type[Task]) -> TaskEvidence:
    return BY_TASK[task.name]

"""What a task is: the one place where a kind of labelled text plugs into the pipeline.

A task says which columns a data file names and how they are checked, how rows are stratified, which head a model gets,
how texts become features, what is minimised, what the model answers, and which figures judge the answers. Every figure
but the loss is a function of sums over rows: `counts` gives one row of numbers per text, `figures_of` turns their sum
into figures. So one bootstrap, one paired test, one slicing and one mean over seeds serve every task.

What only some rooms need of a task is in one file per task there: `baselines.TASK`, `evidence.TASK`, `report.TASK`,
`use.TASK_answers`, each found by a small table beside it (`of_task.py`). So training does not depend on it.

A task that `writes` has more functions, for which see `generation.Generation`, in the place of `gathered`,
`probabilities` and `served`: `on`, the task for a model of some config; `prompt`, what a model reads of a text;
`condensed`, what is kept of logits that are as many as the vocabulary has words.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from tunediff.core.settings import Section

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, Features
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Figure:
    """A figure of quality, as every metrics file, table, chart and sentence names and formats it."""

    name: str
    """Its key in metrics files and params.yaml."""
    words: str
    """Its name in a sentence."""
    higher_is_better: bool = True
    percent: bool = True
    """Whether it is a share from 0 to 1, shown in percent and compared in points."""
    of_right: bool = False
    """Whether it is the share of the rows whose answers are completely right."""
    meaning: str = ""
    """What it is, in a few words for those who do not know it."""

    @property
    def sign(self) -> int:
        """1 if higher is better, else -1: the best value is the largest after multiplication by it."""
        return 1 if self.higher_is_better else -1

    @property
    def title(self) -> str:
        """Its name as a heading begins with it."""
        return self.words[0].upper() + self.words[1:]

    def show(self, value: float) -> str:
        return f"{value:.1%}" if self.percent else f"{value:.3f}"


class Task(Protocol):
    """One kind of labelled text. The class knows the data file; an object also knows the labels of prepared data."""

    name: ClassVar[str]
    """The value of `task:` in conf/data/NAME.yaml."""
    Keys: ClassVar[type[Section]]
    """The keys that the task adds to conf/data/NAME.yaml."""
    figures: ClassVar[dict[str, Figure]]
    """Every figure of metrics/METHOD.json, by name."""
    headline: ClassVar[tuple[str, ...]]
    """Figures with intervals, from `counts`: methods are compared by one of them."""
    each_epoch: ClassVar[tuple[str, ...]]
    """Figures on validation after each epoch: one of them chooses the best epoch."""
    auto_model: ClassVar[str]
    """The class of transformers that puts the task's head on a pretrained model."""
    peft_type: ClassVar[str]
    """The task's name in `peft.TaskType`."""
    pipeline: ClassVar[str]
    """The task's name in transformers' `pipeline`, and on the Hub."""
    writes: ClassVar[bool]
    """Whether answers are texts that a model writes with the head that it has."""
    cuts: ClassVar[bool]
    """Whether a text that is longer than `max_length` is cut there; else it is read in windows."""

    # --- from a record of the source to a prepared row

    @staticmethod
    def columns(keys: Any) -> dict[str, str]:
        """Columns that the source must have, by the key that names each."""

    @staticmethod
    def as_text(record: dict[str, Any], column: str) -> str:
        """A value of the column of texts. Raises ValueError for what is no text."""

    @staticmethod
    def target(record: dict[str, Any], keys: Any) -> str:
        """What a record is labelled with, as text: JSON where it is more than a name. Empty if that is missing.

        Raises ValueError for what is no label.
        """

    @staticmethod
    def remarks(table: "pd.DataFrame", keys: Any, place: "Callable[[pd.Series], str]") -> list[str]:
        """Sentences on what looks wrong in targets, and what would put it right; arguments as for `check`."""

    @classmethod
    def check(
        cls, table: "pd.DataFrame", keys: Any, path: str, place: "Callable[[pd.Series], str]"
    ) -> "tuple[Task, pd.DataFrame]":
        """The task with the labels of this data, and the table with checked targets and a column `stratum`.

        A stratum is a name, or a tuple of names for a row that counts for each of them.
        `table` has a column `label`, as `target` gives it. `path` is the data file's and `place` says where a row comes
        from, for messages. Raises UserError if a label is not allowed, or if there are too few.
        """

    def renamed(self, names: dict[str, str | None], path: str, why: str) -> "Task":
        """The task after labels were renamed, or dropped where the new name is None; `why` names them in a message.

        Raises UserError if too few are left.
        """

    def check_splits(self, table: "pd.DataFrame", path: str, cut: Sequence[str], place: Callable, subset: str) -> None:
        """Raises UserError if a split lacks rows that it must have. `table` has a column `side`.

        `cut` names the splits that are drawn here, not by the source; `subset` ends "no row ..." in a message.
        """

    def feature(self) -> Any:
        """The type of the column `label` in prepared splits, from the library datasets."""

    def encoded(self, targets: "pd.Series") -> "pd.Series":
        """Checked targets as the values of that type."""

    def schema(self) -> dict[str, Any]:
        """What data/profile.json says of the labels that there are."""

    def describe(self, targets: "pd.Series") -> dict[str, Any]:
        """What data/profile.json says of a split's targets."""

    # --- a model for it

    @classmethod
    def of(cls, features: "Features") -> "Task":
        """The task of a prepared split, from its `features`."""

    def config(self) -> dict[str, Any]:
        """Fields of the model's config: label names, kind of problem; under `tunediff` what is the project's own."""

    @classmethod
    def of_config(cls, config: Any) -> "Task":
        """The task of a saved model, from its config."""

    def encode(self, tokenizer: "PreTrainedTokenizerBase", split: "Dataset") -> "Dataset":
        """The split as features and labels, in its order: columns input_ids, attention_mask, length, labels."""

    def collator(self, tokenizer: "PreTrainedTokenizerBase") -> Callable:
        """Makes a padded batch of encoded rows."""

    def loss(self, train: "Dataset | None", class_weights: str) -> Callable[..., "torch.Tensor"]:
        """Mean loss of a step, as transformers' Trainer calls it; with `class_weights` by the labels of `train`."""

    def prior(self, train: "Dataset", class_weights: str) -> np.ndarray | None:
        """Logits of the labels without any text, shape [labels]: biases of a new head. None: zeros serve as well.

        It is not asked of a task that writes.
        """

    # --- answers and figures; targets and answers are of one form, which is the task's own, an entry for each row

    def targets(self, split: "Dataset") -> Any:
        """What the rows are labelled with."""

    def strata(self, split: "Dataset") -> Sequence:
        """The stratum of each row of a prepared split."""

    def parts(self, targets: Any) -> "Iterable[tuple[str, np.ndarray]]":
        """Each label, and which rows have it: true or false, shape [rows]."""

    def gathered(self, encoded: "Dataset", logits: Any) -> np.ndarray:
        """The logits of the rows of `encoded`, in their order, as `probabilities` takes them."""

    def probabilities(self, logits: np.ndarray, temperature: float = 1) -> np.ndarray:
        """Logits, divided by `temperature`, as probabilities, float64, of the same shape."""

    def served(self, texts: list[str], probabilities: np.ndarray) -> Any:
        """What is made of the probabilities where texts are answered one by one: an entry for each of them."""

    def answers(self, probabilities: np.ndarray, fitted: dict[str, Any] | None = None) -> Any:
        """What the model answers, from its probabilities, and from what was `fitted` on validation."""

    def right(self, targets: Any, answers: Any) -> np.ndarray:
        """Whether each row's answer is completely right, or from 0 to 1 how right it is, shape [rows]."""

    def counts(self, targets: Any, answers: Any) -> np.ndarray:
        """Numbers of each row whose sums give the figures, shape [rows, counts]."""

    def figures_of(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Figures from sums of `counts`: from shape [..., counts] to shape [...] each. All but the loss."""

    def score(self, targets: Any, probabilities: np.ndarray, fitted: dict[str, Any] | None = None) -> dict[str, float]:
        """All figures, from the model's probabilities."""

    def validate(self, targets: Any, probabilities: np.ndarray) -> dict[str, float]:
        """All figures on validation, where what is fitted there must not judge itself."""

    def score_encoded(self, encoded: "Dataset", labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
        """As `validate`, from the labels of `encoded` rows and the model's logits as transformers' Trainer has them."""


def label_names(id2label: Mapping[int | str, str]) -> list[str]:
    """A config's label names by their numbers: a JSON file may have them sorted as text, "10" before "2"."""
    return [id2label[number] for number in sorted(id2label, key=int)]

"""One label for each text."""

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from tunediff.core.errors import UserError
from tunediff.core.settings import Column, Scalar, Section, number
from tunediff.core.values import as_text
from tunediff.tasks.interface import Figure, label_names
from tunediff.tasks.label_doubts import likely_same, looks_like, several

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import ClassLabel, Dataset, Features
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase
Cost = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]


class Keys(Section):
    label: Column
    """Column of the labels."""
    labels: list[Scalar] | dict[Scalar, str] | None = None
    """Order of the labels, or {value in the source: name}; sorted if left out."""
    costs: dict[Scalar, dict[Scalar, Cost]] = Field(default_factory=dict)
    """{label: {wrong answer: its cost}}, for the report; an error that is not named costs 1."""

    corrections: str | None = None
    """A file under data/raw/ of rows whose labels people have read again."""

    @field_validator("labels")
    @classmethod
    def _values_are_text(cls, labels: list[Scalar] | dict[Scalar, str] | None) -> list[Scalar] | dict[str, str] | None:
        """As every value of a source is; JSON has no other keys either."""
        return {str(value): name for value, name in labels.items()} if isinstance(labels, dict) else labels

    @field_validator("costs")
    @classmethod
    def _labels_are_text(cls, costs: dict[Scalar, dict[Scalar, float]]) -> dict[str, dict[str, float]]:
        """As every value of a source is. A right answer has no cost."""
        if wrong := [label for label, answers in costs.items() if answers.get(label)]:
            raise ValueError(f"{wrong[0]}.{wrong[0]}: a right answer costs nothing; leave it out")
        return {str(label): {str(answer): cost for answer, cost in each.items()} for label, each in costs.items()}


NO_ANSWER = "(no answer)"
"""In the place of a label, where a text has no answer: that is wrong, and no label is answered."""
FIGURES = (
    Figure("accuracy", "accuracy", of_right=True),
    Figure("f1", "macro F1", meaning="each label counts alike"),
    Figure("precision", "macro precision"),
    Figure("recall", "macro recall"),
    Figure("loss", "loss", higher_is_better=False, percent=False),
)


class Classification:
    """The task for texts with one of at least two labels; see `interface.Task` for what each method is for."""

    name: ClassVar[str] = "classification"
    Keys: ClassVar[type[Section]] = Keys
    figures: ClassVar[dict[str, Figure]] = {figure.name: figure for figure in FIGURES}
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "f1")
    each_epoch: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "loss")
    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"
    peft_type: ClassVar[str] = "SEQ_CLS"
    pipeline: ClassVar[str] = "text-classification"
    writes: ClassVar[bool] = False
    cuts: ClassVar[bool] = True

    def __init__(self, labels: list[str]):
        """`labels` are the names of classes 0, 1, ..."""
        self.labels = labels

    # --- from a record of the source to a prepared row

    as_text = staticmethod(as_text)

    @staticmethod
    def columns(keys: Keys) -> dict[str, str]:
        return {"label": keys.label}

    @staticmethod
    def target(record: dict[str, Any], keys: Keys) -> str:
        value = record.get(keys.label)
        if not isinstance(value, list):
            return as_text(record, keys.label).strip()
        # As labelling tools write it, which could have several.
        labels = [as_text({keys.label: label}, keys.label).strip() for label in value]
        if len(labels) > 1:
            raise ValueError(
                f"column '{keys.label}': several labels ({', '.join(map(repr, labels[:5]))}); classification takes one "
                "for a text: keep one of them, or leave the row out"
            )
        return labels[0] if labels else ""

    @staticmethod
    def remarks(table: "pd.DataFrame", keys: Keys, place: "Callable[[pd.Series], str]") -> list[str]:
        counts = table.label.value_counts().to_dict()
        said = likely_same(counts) if keys.labels is None else []
        if joint := several(counts):
            said.append(
                f"{sum(counts[label] for label in joint)} rows have labels such as '{joint[0]}', which look like "
                "several in one; classification takes each for a label of its own"
            )
        return said

    @classmethod
    def check(
        cls, table: "pd.DataFrame", keys: Keys, path: str, place: "Callable[[pd.Series], str]"
    ) -> "tuple[Classification, pd.DataFrame]":
        counts = table.label.value_counts().to_dict()
        if keys.labels is None and (kind := looks_like(counts)):
            raise UserError(
                f"{path}: label: column '{keys.label}' has {len(counts):,} values in {len(table):,} rows, such as "
                f"'{next(iter(counts)):.40}': it looks like {kind}, not labels; name another column"
            )
        values = natural_order(list(counts))
        if keys.labels is None:
            names = {value: value for value in values}
        elif isinstance(keys.labels, dict):
            names = keys.labels
        else:
            names = {str(value): str(value) for value in keys.labels}
        if unknown := [value for value in values if value not in names]:
            row = table[table.label == unknown[0]].iloc[0]
            texts = isinstance(keys.labels, list) and all(isinstance(value, str) for value in keys.labels)
            quotes = "" if texts else ", in quotes if it is like yes, true or 007"
            raise UserError(
                f"{path}: labels: {place(row)} has label '{unknown[0]}', which is not in the list "
                f"({', '.join(names)}); add it{quotes}, or correct the row"
            )
        present = list(dict.fromkeys(names[value] for value in values))
        if len(present) < 2:
            raise UserError(
                f"{path}: label: column '{keys.label}' has {len(present)} label{'s'[: len(present) != 1]} "
                f"({', '.join(present) or 'none'}); classification needs at least 2: name another column, or add rows"
            )
        label = table.label.map(names)
        return cls(list(dict.fromkeys(names.values()))), table.assign(label=label, stratum=label)

    def renamed(self, names: dict[str, str | None], path: str, why: str) -> "Classification":
        labels = [names.get(label, label) for label in self.labels]
        left = list(dict.fromkeys(label for label in labels if label is not None))
        if len(left) < 2:
            raise UserError(
                f"{path}: label: without {why}, {len(left)} label{'s'[: len(left) != 1]} of {len(self.labels)} "
                f"{'is' if len(left) == 1 else 'are'} left, and classification needs at least 2: give these labels "
                "more rows, merge them (`rare: {merge: other}`), or name another column"
            )
        return Classification(left)

    def check_splits(self, table: "pd.DataFrame", path: str, cut: Sequence[str], place: Callable, subset: str) -> None:
        """Every split must hold every label, but validation and test of the source's own may lack one."""
        counts = table.groupby(["label", "side"]).size().unstack(fill_value=0).reindex(self.labels, fill_value=0)
        if none := counts.index[counts.sum(axis=1) == 0].tolist():
            raise UserError(
                f"{path}: label{'s'[: len(none) > 1]} {_listed(none)} {'are' if len(none) > 1 else 'is'} in `labels`, "
                f"but no row{subset} has {'them' if len(none) > 1 else 'it'}; correct the list or the rows"
            )
        if unlearnt := counts.index[counts["train"] == 0].tolist():
            row = table[table.label == unlearnt[0]].iloc[0]
            more = f"; so it is with {_listed(unlearnt[1:])}" if unlearnt[1:] else ""
            raise UserError(
                f"{path}: label '{unlearnt[0]}' is in {row.side} ({place(row)}), but no row of train{subset} has it, "
                f"and nothing can be learnt about it{more}; add such rows to train, or leave them out of the others"
            )
        for side in cut:
            for label in counts.index[counts[side] == 0]:
                raise UserError(
                    f"{path}: label '{label}' has too few rows ({counts.loc[label].sum()}{subset}) to be in each of "
                    "train, validation and test; give it more rows, merge it with another label, or leave its rows out"
                )

    def feature(self) -> "ClassLabel":
        from datasets import ClassLabel

        return ClassLabel(names=self.labels)

    def encoded(self, targets: "pd.Series") -> "pd.Series":
        return targets.map(self.labels.index)

    def schema(self) -> dict[str, Any]:
        return {"labels": self.labels}

    @staticmethod
    def describe(targets: "pd.Series") -> dict[str, Any]:
        return {"labels": targets.value_counts().sort_index().to_dict()}

    # --- a model for it

    @classmethod
    def of(cls, features: "Features") -> "Classification":
        return cls(features["label"].names)

    def config(self) -> dict[str, Any]:
        return {
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: place for place, label in enumerate(self.labels)},
            "problem_type": "single_label_classification",
        }

    @classmethod
    def of_config(cls, config: "PreTrainedConfig") -> "Classification":
        return cls(label_names(config.id2label))

    @staticmethod
    def encode(tokenizer: "PreTrainedTokenizerBase", split: "Dataset") -> "Dataset":
        from tunediff.tasks.features import encode

        return encode(tokenizer, split["text"], split["label"])

    @staticmethod
    def collator(tokenizer: "PreTrainedTokenizerBase") -> Callable:
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(tokenizer)

    def loss(self, train: "Dataset | None" = None, class_weights: str = "none") -> Callable[..., "torch.Tensor"]:
        """Mean cross-entropy over all rows of a step, whatever processes and parts they are divided among.

        With `balanced` weights a row counts by the inverse frequency of its label in `train`.
        """
        import torch
        from torch.nn.functional import cross_entropy

        weights = torch.ones(len(self.labels))
        if class_weights == "balanced":
            from sklearn.utils import compute_class_weight

            classes = np.arange(len(weights))
            balanced = compute_class_weight("balanced", classes=classes, y=self.targets(train))
            weights = torch.tensor(balanced, dtype=torch.float32)

        def mean(outputs: Any, labels: torch.Tensor, num_items_in_batch: int | None = None) -> torch.Tensor:
            total = cross_entropy(outputs.logits.float(), labels, weights.to(labels.device), reduction="sum")
            # By the rows, not by the sum of their weights: a batch without a rare label must not weigh more.
            return total / (num_items_in_batch or len(labels))

        return mean

    @staticmethod
    def prior(train: "Dataset", class_weights: str) -> None:
        return None

    # --- answers and figures

    @staticmethod
    def targets(split: "Dataset") -> np.ndarray:
        """Class numbers, shape [rows]."""
        return np.array(split["label"][:])

    @classmethod
    def strata(cls, split: "Dataset") -> np.ndarray:
        return cls.targets(split)

    def parts(self, targets: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        for place, label in enumerate(self.labels):
            yield label, targets == place

    @staticmethod
    def gathered(encoded: "Dataset", logits: np.ndarray) -> np.ndarray:
        return logits

    @staticmethod
    def served(texts: list[str], probabilities: np.ndarray) -> np.ndarray:
        return probabilities

    @staticmethod
    def probabilities(logits: np.ndarray, temperature: float = 1) -> np.ndarray:
        """Softmax of each row, float64: each adds up to 1."""
        from scipy.special import softmax

        return softmax((logits / temperature).astype(np.float64), axis=-1)

    @staticmethod
    def answers(probabilities: np.ndarray, fitted: dict[str, Any] | None = None) -> np.ndarray:
        """Class numbers, shape [rows], from probabilities or logits of shape [rows, labels].

        -1 is `NO_ANSWER`: where a language model gave no valid answer, and so a row has 0 for all labels.
        """
        return np.where(probabilities.any(-1), probabilities.argmax(-1), -1)

    @staticmethod
    def alike(probabilities: np.ndarray) -> np.ndarray:
        """`probabilities` in which texts without an answer have all labels alike."""
        return np.where(probabilities.any(-1, keepdims=True), probabilities, 1 / probabilities.shape[-1])

    @staticmethod
    def right(targets: np.ndarray, answers: np.ndarray) -> np.ndarray:
        return answers == targets

    def counts(self, targets: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Whether each label is the row's, whether it was answered, and whether both; shape [rows, 3 * labels]."""
        each = np.eye(len(self.labels) + 1, len(self.labels), dtype=np.int8)  # the last one, -1, is no label
        hits = each[answers] * (targets == answers)[:, None]
        return np.concatenate([each[targets], each[answers], hits], axis=1)

    def figures_of(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Accuracy; macro F1, precision and recall over all labels, which are 0 for one with nothing to divide by."""
        actual, answered, hits = np.split(np.asarray(sums, dtype=float), 3, axis=-1)
        return {
            "accuracy": hits.sum(-1) / actual.sum(-1),
            "f1": (2 * hits / np.maximum(actual + answered, 1)).mean(-1),
            "precision": (hits / np.maximum(answered, 1)).mean(-1),
            "recall": (hits / np.maximum(actual, 1)).mean(-1),
        }

    def score(
        self, targets: np.ndarray, probabilities: np.ndarray, fitted: dict[str, Any] | None = None
    ) -> dict[str, float]:
        """`probabilities` has shape [rows, labels]; the loss is their mean cross-entropy, unweighted."""
        sums = self.counts(targets, self.answers(probabilities)).sum(0, dtype=int)
        own = self.alike(probabilities)[np.arange(len(targets)), targets].astype(float)
        loss = -np.log(np.maximum(own, np.finfo(own.dtype).eps)).mean()
        return {**{name: float(value) for name, value in self.figures_of(sums).items()}, "loss": float(loss)}

    def validate(self, targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
        return self.score(targets, probabilities)

    def score_encoded(self, encoded: "Dataset", labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
        return self.score(labels, self.probabilities(logits))

    def rarer(self, train: "Dataset") -> int | None:
        """The class number of the rarer of two labels; None if there are more labels.

        It is the one that a user looks for, so it gets a threshold.
        """
        counts = np.bincount(self.targets(train), minlength=len(self.labels))
        return int(np.argmin(counts)) if len(counts) == 2 else None


def _listed(labels: list[str]) -> str:
    return ", ".join([*(f"'{label}'" for label in labels[:20]), *([f"{len(labels) - 20} more"] if labels[20:] else [])])


def natural_order(labels: list[str]) -> list[str]:
    """The labels sorted as people do it: 2 before 10, and -1 before 0."""

    def key(label: str) -> tuple[list, str]:
        # Every second part is a number, of any length: Python makes no `int` of thousands of digits.
        parts = re.split(r"((?:^-)?\d+)", label)
        return [(0, Decimal(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)], label

    return sorted(labels, key=key)

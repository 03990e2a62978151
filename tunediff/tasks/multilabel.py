"""Any number of labels for each text: several, one, or none."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from tunediff.core.errors import UserError
from tunediff.core.settings import Column, Scalar, Section
from tunediff.core.values import as_text
from tunediff.tasks.classification import Classification, natural_order
from tunediff.tasks.interface import Figure, label_names
from tunediff.tasks.label_doubts import likely_same, several

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, Features
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

FOLDS = 5  # of validation, whose thresholds are those of the others
YES, NO = ("1", "true"), ("0", "false", "")  # what a column of one label may hold


class Keys(Section):
    label: Column | None = None
    """Column of the labels: lists, or text in which `between` stands between them. None: `labels` names columns."""
    between: str = Field("|", min_length=1)
    labels: list[Scalar] | dict[Scalar, str] | None = None
    """Order of the labels, or {value in the source: name}. Without `label`: columns of 0 and 1, one for each label."""

    rare: Literal["drop", "keep"] = "drop"
    """Texts with a label that too few texts have to be in each split: drop them, or keep them in train."""

    @field_validator("labels")
    @classmethod
    def _values_are_text(cls, labels: list[Scalar] | dict[Scalar, str] | None) -> list[Scalar] | dict[str, str] | None:
        return {str(value): name for value, name in labels.items()} if isinstance(labels, dict) else labels

    @model_validator(mode="after")
    def _labels_are_somewhere(self) -> "Keys":
        if self.label is None and not self.labels:
            raise ValueError("name the column of the labels (label: topics), or one column for each (labels: [a, b])")
        return self

    @property
    def names(self) -> dict[str, str] | None:
        """Names of the values in the source, in order; None if the source has them."""
        if isinstance(self.labels, list):
            return {str(value): str(value) for value in self.labels}
        return self.labels


FIGURES = (
    Figure("accuracy", "subset accuracy", of_right=True),
    Figure("f1", "macro F1", meaning="each label counts alike"),
    Figure("micro_f1", "micro F1"),
    Figure("sample_f1", "sample F1"),
    Figure("precision", "macro precision"),
    Figure("recall", "macro recall"),
    Figure("map", "mean average precision"),
    Figure("loss", "loss", higher_is_better=False, percent=False),
)


class Multilabel:
    """The task for texts with any number of at least two labels; see `interface.Task` for what each method is for.

    Targets and answers are true or false, shape [rows, labels].
    """

    name: ClassVar[str] = "multilabel"
    Keys: ClassVar[type[Section]] = Keys
    figures: ClassVar[dict[str, Figure]] = {figure.name: figure for figure in FIGURES}
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "micro_f1", "sample_f1")
    each_epoch: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "micro_f1", "loss")
    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"
    peft_type: ClassVar[str] = "SEQ_CLS"
    pipeline: ClassVar[str] = "text-classification"
    writes: ClassVar[bool] = False
    cuts: ClassVar[bool] = True

    def __init__(self, labels: list[str]):
        self.labels = labels

    # --- from a record of the source to a prepared row

    as_text = staticmethod(as_text)

    @staticmethod
    def columns(keys: Keys) -> dict[str, str]:
        return {f"labels.{column}": column for column in keys.names} if keys.label is None else {"label": keys.label}

    @staticmethod
    def target(record: dict[str, Any], keys: Keys) -> str:
        """A list of values in JSON, each once; `[]` if there is none."""
        if keys.label is None:
            return _written(column for column in keys.names if _is_set(record, column))
        value = record.get(keys.label)
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError(f"column '{keys.label}': begins like a JSON list and is none; correct it") from None
        if not isinstance(value, list | tuple) and not hasattr(value, "tolist"):
            value = as_text(record, keys.label).split(keys.between)
        return _written(as_text({"": each}, "").strip() for each in value)

    @staticmethod
    def remarks(table: "pd.DataFrame", keys: Keys, place: "Callable[[pd.Series], str]") -> list[str]:
        counts = table.label.map(json.loads).explode().dropna().value_counts().to_dict()
        said = likely_same(counts) if keys.labels is None else []
        if joint := several(counts):
            rows = sum(counts[label] for label in joint)
            said.append(
                f"labels such as '{joint[0]}' look like several in one (rows: {rows}); "
                f"`between` is '{keys.between}': correct it if something else stands between labels"
            )
        return said

    @classmethod
    def check(
        cls, table: "pd.DataFrame", keys: Keys, path: str, place: "Callable[[pd.Series], str]"
    ) -> "tuple[Multilabel, pd.DataFrame]":
        read = table.label.map(json.loads)
        values = natural_order(sorted({value for row in read for value in row}))
        names = keys.names or {value: value for value in values}
        if unknown := [value for value in values if value not in names]:
            row = table[read.map(lambda row: unknown[0] in row)].iloc[0]
            raise UserError(
                f"{path}: labels: {place(row)} has label '{unknown[0]}', which is not in the list "
                f"({', '.join(names)}); add it, or correct the row (`between` is '{keys.between}')"
            )
        labels = list(dict.fromkeys(names.values()))
        if len(labels) < 2:
            raise UserError(
                f"{path}: label: column '{keys.label}' has {len(labels)} label{'s'[: len(labels) != 1]} "
                f"({', '.join(labels) or 'none'}); multilabel needs at least 2: name another column, or add rows"
            )
        named = read.map(lambda row: sorted({names[value] for value in row}, key=labels.index))
        return cls(labels), table.assign(label=named.map(json.dumps), stratum=named.map(tuple))

    def renamed(self, names: dict[str, str | None], path: str, why: str) -> "Multilabel":
        left = [label for label in self.labels if label not in names]
        if len(left) < 2:
            raise UserError(
                f"{path}: label: without {why}, {len(left)} label{'s'[: len(left) != 1]} of {len(self.labels)} "
                f"{'is' if len(left) == 1 else 'are'} left, and multilabel needs at least 2: give these labels more "
                "rows, keep them in train (`rare: keep`), or name another column"
            )
        return Multilabel(left)

    def check_splits(self, table: "pd.DataFrame", path: str, cut: Sequence[str], place: Callable, subset: str) -> None:
        """Every label must be in train, and in the splits that are cut here, if it has as many rows as these are."""
        sides = set(table.side)
        for label in self.labels:
            rows = table[table.stratum.map(lambda labels, label=label: label in labels)]
            if rows.empty:
                raise UserError(
                    f"{path}: label '{label}' is in `labels`, but no row{subset} has it; correct the list or the rows"
                )
            lacking = sides - set(rows.side)
            if "train" in lacking:
                row = rows.iloc[0]
                raise UserError(
                    f"{path}: label '{label}' is in {row.side} ({place(row)}), but no row of train{subset} has it, and "
                    "nothing can be learnt about it; add such rows to train, or leave the label out"
                )
            if any(side in cut for side in lacking):
                raise UserError(
                    f"{path}: label '{label}' has too few rows ({len(rows)}{subset}) to be in each of train, "
                    "validation and test; give it more rows, merge it with another label, or leave it out"
                )

    def feature(self) -> Any:
        from datasets import ClassLabel, List

        return List(ClassLabel(names=self.labels))

    def encoded(self, targets: "pd.Series") -> "pd.Series":
        return targets.map(lambda row: [self.labels.index(label) for label in json.loads(row)])

    def schema(self) -> dict[str, Any]:
        return {"labels": self.labels}

    @staticmethod
    def describe(targets: "pd.Series") -> dict[str, Any]:
        rows = targets.map(json.loads)
        labels = rows.explode().dropna().value_counts().sort_index().to_dict()
        return {"labels": labels, "without_label": int((rows.map(len) == 0).sum())}

    # --- a model for it

    @classmethod
    def of(cls, features: "Features") -> "Multilabel":
        return cls(features["label"].feature.names)

    def config(self) -> dict[str, Any]:
        return {
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: place for place, label in enumerate(self.labels)},
            "problem_type": "multi_label_classification",
        }

    @classmethod
    def of_config(cls, config: "PreTrainedConfig") -> "Multilabel":
        return cls(label_names(config.id2label))

    def encode(self, tokenizer: "PreTrainedTokenizerBase", split: "Dataset") -> "Dataset":
        from tunediff.tasks.features import SEVERAL, encode

        return encode(tokenizer, split["text"], self.targets(split).tolist(), SEVERAL)

    @staticmethod
    def collator(tokenizer: "PreTrainedTokenizerBase") -> Callable:
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(tokenizer)

    def loss(self, train: "Dataset | None" = None, class_weights: str = "none") -> Callable[..., "torch.Tensor"]:
        """Mean binary cross-entropy over all rows and labels of a step.

        With `balanced` weights a row that has a label counts as much, for it, as all rows of `train` without it
        together do for each with it.
        """
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        weights = torch.ones(len(self.labels))
        if class_weights == "balanced":
            shares = torch.tensor(self.targets(train).mean(0), dtype=torch.float32)
            weights = (1 - shares) / shares

        def mean(outputs: Any, labels: torch.Tensor, num_items_in_batch: int | None = None) -> torch.Tensor:
            weight = weights.to(labels.device)
            logits = outputs.logits.float()
            total = binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weight, reduction="sum")
            return total / (num_items_in_batch or labels.numel())

        return mean

    def prior(self, train: "Dataset", class_weights: str) -> np.ndarray | None:
        """How rare each label is. A head that begins with even odds learns that first, and nothing else meanwhile.

        Weights that balance the labels make the odds even.
        """
        if class_weights == "balanced":
            return None
        targets = self.targets(train)
        shares = (targets.sum(0) + 0.5) / (len(targets) + 1)
        return np.log(shares / (1 - shares))

    # --- answers and figures

    def targets(self, split: "Dataset") -> np.ndarray:
        has = np.zeros((len(split), len(self.labels)), bool)
        for row, labels in enumerate(split["label"][:]):
            has[row, labels] = True
        return has

    def strata(self, split: "Dataset") -> list[tuple[int, ...]]:
        return [tuple(labels) for labels in split["label"][:]]

    def parts(self, targets: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        yield from zip(self.labels, targets.T, strict=True)

    gathered = staticmethod(Classification.gathered)
    served = staticmethod(Classification.served)

    @staticmethod
    def probabilities(logits: np.ndarray, temperature: float = 1) -> np.ndarray:
        """Of each label for itself, float64, shape [rows, labels]."""
        from scipy.special import expit

        return expit((logits / temperature).astype(np.float64))

    def answers(self, probabilities: np.ndarray, fitted: dict[str, Any] | None = None) -> np.ndarray:
        """The labels whose probability is at least its threshold in `fitted`, or 0.5 without."""
        thresholds = (fitted or {}).get("thresholds", {})
        return probabilities >= np.array([thresholds.get(label, 0.5) for label in self.labels])

    @staticmethod
    def right(targets: np.ndarray, answers: np.ndarray) -> np.ndarray:
        return (targets == answers).all(1)

    def counts(self, targets: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """For each label whether the row has it, whether it was answered, and whether both; then three of the row.

        These are whether all is right, the row's own F1 (1 where it has no label and none is answered), and 1. Shape
        [rows, 3 * labels + 3].
        """
        hits = targets & answers
        both = targets.sum(1) + answers.sum(1)
        own = np.where(both == 0, 1, 2 * hits.sum(1) / np.maximum(both, 1))
        row = np.column_stack([self.right(targets, answers), own, np.ones(len(own))])
        return np.concatenate([targets, answers, hits, row], axis=1)

    def figures_of(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Macro figures are over all labels, and 0 for one with nothing to divide by."""
        sums = np.asarray(sums, dtype=float)
        actual, answered, hits = np.split(sums[..., :-3], 3, axis=-1)
        right, own, rows = np.moveaxis(sums[..., -3:], -1, 0)
        return {
            "accuracy": right / rows,
            "f1": (2 * hits / np.maximum(actual + answered, 1)).mean(-1),
            "micro_f1": 2 * hits.sum(-1) / np.maximum((actual + answered).sum(-1), 1),
            "sample_f1": own / rows,
            "precision": (hits / np.maximum(answered, 1)).mean(-1),
            "recall": (hits / np.maximum(actual, 1)).mean(-1),
        }

    def score(
        self, targets: np.ndarray, probabilities: np.ndarray, fitted: dict[str, Any] | None = None
    ) -> dict[str, float]:
        """The loss is mean binary cross-entropy, unweighted; average precision is over labels that a row has."""
        own = np.where(targets, probabilities, 1 - probabilities)
        loss = -np.log(np.maximum(own, np.finfo(float).eps)).mean()
        figures = self._figures(targets, self.answers(probabilities, fitted))
        return {**figures, "map": self.average_precision(targets, probabilities), "loss": float(loss)}

    def _figures(self, targets: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        sums = self.counts(targets, answers).sum(0)
        return {name: float(value) for name, value in self.figures_of(sums).items()}

    @staticmethod
    def average_precision(targets: np.ndarray, probabilities: np.ndarray) -> float:
        from sklearn.metrics import average_precision_score

        present = targets.any(0)
        return float(average_precision_score(targets[:, present], probabilities[:, present])) if present.any() else 0.0

    def validate(self, targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
        """As `score`, with thresholds that the other of `FOLDS` folds choose: the rows' own would flatter them.

        With 0.5 instead, the first epochs would answer no label at all, and look alike.
        """
        fold = np.arange(len(targets)) % FOLDS
        answers = np.zeros_like(targets)
        for number in np.unique(fold):
            own = fold == number
            fitted = {"thresholds": self.thresholds(targets[~own], probabilities[~own])}
            answers[own] = self.answers(probabilities[own], fitted)
        return {**self.score(targets, probabilities), **self._figures(targets, answers)}

    def thresholds(self, targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
        """For each label the threshold with the highest F1; 0.5 if no row has the label."""
        each = zip(self.labels, targets.T, probabilities.T, strict=True)
        return {label: _threshold(has, given) if has.any() else 0.5 for label, has, given in each}

    def score_encoded(self, encoded: "Dataset", labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
        return self.validate(labels.astype(bool), self.probabilities(logits))


def _threshold(has: np.ndarray, given: np.ndarray) -> float:
    """The probability from which on yes is answered with the highest F1, halfway to the next lower one."""
    order = np.argsort(-given, kind="stable")
    hits, answered = np.cumsum(has[order]), np.arange(1, len(order) + 1)
    lower = np.append(given[order][1:], 0)
    last_of_equal = lower < given[order]  # equal ones are answered together
    best = np.argmax(np.where(last_of_equal, 2 * hits / (answered + has.sum()), -1))
    return round(float(given[order][best] + lower[best]) / 2, 6)


def _written(values: Any) -> str:
    return json.dumps(list(dict.fromkeys(filter(None, values))), ensure_ascii=False)


def _is_set(record: dict[str, Any], column: str) -> bool:
    value = as_text(record, column).strip().lower()
    if value not in YES + NO:
        raise ValueError(f"column '{column}': expected 0 or 1, found '{value:.40}'")
    return value in YES

"""Spans in a text, each of a type: names, dates, slots."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import field_validator, model_validator

import tunediff.tasks.spans as spans
from tunediff.core.errors import UserError
from tunediff.core.settings import Column, Scalar, Section
from tunediff.core.values import as_text
from tunediff.tasks.classification import natural_order
from tunediff.tasks.interface import Figure, label_names
from tunediff.tasks.label_doubts import likely_same
from tunediff.tasks.span_doubts import edges_within_words, tags_that_do_not_fit
from tunediff.tasks.span_values import check_spans, listed, span_of, spans_in, spans_of_tokens, tokens_of
from tunediff.tasks.spans import OUTSIDE, Span
from tunediff.tasks.windows import IGNORED, Window, at_words, joined, read, split

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, Features
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


class Keys(Section):
    label: Column
    """Column of the spans; or of tags, one for each token, where `text` is a column of tokens."""
    labels: list[Scalar] | dict[Scalar, str] | None = None
    """Order of the types, or {type or tag in the source: name}; sorted if left out."""

    rare: Literal["keep", "drop"] = "keep"
    """Texts with a type that too few texts have to be in each split: keep them in train, or drop them."""

    @field_validator("labels")
    @classmethod
    def _values_are_text(cls, labels: list[Scalar] | dict[Scalar, str] | None) -> list[Scalar] | dict[str, str] | None:
        return {str(value): name for value, name in labels.items()} if isinstance(labels, dict) else labels

    @model_validator(mode="after")
    def _places_stay(self) -> "Keys":
        if getattr(self, "clean", None):
            raise ValueError("clean changes texts, and spans are places in them; leave it out")
        if isinstance(getattr(self, "text", ""), list):
            raise ValueError("text: spans are places in one column; name one")
        return self


FIGURES = (
    Figure("f1", "span F1", meaning="type and both edges right"),
    Figure("precision", "span precision"),
    Figure("recall", "span recall"),
    Figure("macro_f1", "macro F1 of types"),
    Figure("macro_precision", "macro precision of types"),
    Figure("macro_recall", "macro recall of types"),
    Figure("repaired_f1", "span F1 with tags repaired"),
    Figure("partial_f1", "F1 of edges, half for an overlap"),
    Figure("type_f1", "F1 of types, whatever the edges"),
    Figure("accuracy", "word accuracy"),
    Figure("loss", "loss", higher_is_better=False, percent=False),
)


@dataclass(frozen=True)
class Tagged:
    """A text's tags, one for each word, and the spans that they mean, in words."""

    tags: tuple[int, ...]
    spans: tuple[Span, ...]
    """What the strict reading of IOB2 takes for spans."""
    repaired: tuple[Span, ...]
    """What conlleval takes for spans."""


class Tagging:
    """The task for texts with spans of at least one type; see `interface.Task` for what each method is for.

    A word (`spans.words`) has a tag in IOB2. Logits and probabilities have shape [words of all texts, 1 + tags]: the
    text's number comes first. Targets and answers are a list of `Tagged`; answers stand in the place of probabilities
    where there are none.
    """

    name: ClassVar[str] = "tagging"
    Keys: ClassVar[type[Section]] = Keys
    figures: ClassVar[dict[str, Figure]] = {figure.name: figure for figure in FIGURES}
    headline: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "macro_f1")
    each_epoch: ClassVar[tuple[str, ...]] = ("f1", "accuracy", "loss")
    auto_model: ClassVar[str] = "AutoModelForTokenClassification"
    peft_type: ClassVar[str] = "TOKEN_CLS"
    pipeline: ClassVar[str] = "token-classification"
    writes: ClassVar[bool] = False
    cuts: ClassVar[bool] = False

    def __init__(self, labels: list[str]):
        """`labels` are the types of spans."""
        self.labels = labels
        self.tags = [OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in "BI")]
        self._numbers = {tag: number for number, tag in enumerate(self.tags)}

    # --- from a record of the source to a prepared row

    @staticmethod
    def columns(keys: Keys) -> dict[str, str]:
        return {"label": keys.label}

    @staticmethod
    def as_text(record: dict[str, Any], column: str) -> str:
        """A text, or tokens with a space between them."""
        value = listed(record.get(column))
        return as_text(record, column) if value is None else " ".join(tokens_of(record, column))

    @classmethod
    def target(cls, record: dict[str, Any], keys: Any) -> str:
        """Spans of characters in JSON: [[start, end, type], ...], in order; of tags see `spans_of_tokens`."""
        text = cls.as_text(record, keys.text)
        values = spans_in(record.get(keys.label))
        if values is None:
            if record.get(keys.label):
                raise ValueError(f"column '{keys.label}': expected a list of spans or tags, found text")
            values = []
        if listed(record.get(keys.text)) is None:
            found = [span_of(value, text, keys.label) for value in values]
        else:
            tags = [as_text({"": tag}, "") for tag in values]
            names = keys.labels if isinstance(keys.labels, dict) else {}
            found = spans_of_tokens(tokens_of(record, keys.text), [names.get(tag, tag) for tag in tags], keys.label)
        found.sort()
        check_spans(found, text, keys.label)
        return json.dumps(found, ensure_ascii=False)

    @staticmethod
    def remarks(table: "pd.DataFrame", keys: Keys, place: "Callable[[pd.Series], str]") -> list[str]:
        counts = Counter(kind for row in table.label.map(json.loads) for _, _, kind, *_ in row)
        said = likely_same(counts) if keys.labels is None else []
        return [*said, *tags_that_do_not_fit(table, place), *edges_within_words(table, place)]

    @classmethod
    def check(
        cls, table: "pd.DataFrame", keys: Keys, path: str, place: "Callable[[pd.Series], str]"
    ) -> "tuple[Tagging, pd.DataFrame]":
        read = table.label.map(lambda row: [span[:3] for span in json.loads(row)])
        values = natural_order(sorted({kind for row in read for *_, kind in row}))
        names = {value: value for value in values}
        if isinstance(keys.labels, dict):
            names = {value: name for value, name in keys.labels.items() if spans.misfit([name])} or names
        elif keys.labels:
            names = {str(value): str(value) for value in keys.labels}
        if unknown := [value for value in values if value not in names]:
            row = table[read.map(lambda row: any(kind == unknown[0] for *_, kind in row))].iloc[0]
            raise UserError(
                f"{path}: labels: {place(row)} has a span of type '{unknown[0]}', which is not in the list "
                f"({', '.join(names)}); add it, or correct the row"
            )
        if not values:
            raise UserError(f"{path}: label: column '{keys.label}' has no span in any row; name another column")
        named = read.map(lambda row: [[start, end, names[kind]] for start, end, kind in row])
        strata = named.map(lambda row: tuple(sorted({kind for *_, kind in row})))
        written = named.map(lambda row: json.dumps(row, ensure_ascii=False))
        return cls(list(dict.fromkeys(names.values()))), table.assign(label=written, stratum=strata)

    def renamed(self, names: dict[str, str | None], path: str, why: str) -> "Tagging":
        left = [label for label in self.labels if label not in names]
        if not left:
            raise UserError(
                f"{path}: label: without {why}, no type is left: give these types more rows, or keep them in train "
                "(`rare: keep`)"
            )
        return Tagging(left)

    def check_splits(self, table: "pd.DataFrame", path: str, cut: Sequence[str], place: Callable, subset: str) -> None:
        """Every type must be in train; a rare one may be lacking in the others."""
        for label in self.labels:
            rows = table[table.stratum.map(lambda kinds, label=label: label in kinds)]
            if rows.empty:
                raise UserError(
                    f"{path}: type '{label}' is in `labels`, but no row{subset} has it; correct the list or the rows"
                )
            if "train" not in set(rows.side):
                row = rows.iloc[0]
                raise UserError(
                    f"{path}: type '{label}' is in {row.side} ({place(row)}), but no row of train{subset} has it, and "
                    "nothing can be learnt about it; add such rows to train, or leave the type out"
                )

    def feature(self) -> Any:
        from datasets import ClassLabel, List, Value

        return List({"start": Value("int64"), "end": Value("int64"), "label": ClassLabel(names=self.labels)})

    def encoded(self, targets: "pd.Series") -> "pd.Series":
        rows = targets.map(json.loads)
        return rows.map(lambda row: [{"start": s, "end": e, "label": self.labels.index(kind)} for s, e, kind in row])

    def schema(self) -> dict[str, Any]:
        return {"labels": self.labels}

    @staticmethod
    def describe(targets: "pd.Series") -> dict[str, Any]:
        kinds = targets.map(lambda row: [kind for *_, kind in json.loads(row)])
        counts = kinds.explode().dropna().value_counts().sort_index().to_dict()
        return {"labels": counts, "without_span": int((kinds.map(len) == 0).sum())}

    # --- a model for it

    @classmethod
    def of(cls, features: "Features") -> "Tagging":
        return cls(features["label"].feature["label"].names)

    def config(self) -> dict[str, Any]:
        return {"id2label": dict(enumerate(self.tags)), "label2id": self._numbers}

    @classmethod
    def of_config(cls, config: "PreTrainedConfig") -> "Tagging":
        return cls([tag.removeprefix("B-") for tag in label_names(config.id2label) if tag.startswith("B-")])

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: "Dataset") -> "Dataset":
        from tunediff.tasks.features import encode_windows

        return encode_windows(tokenizer, rows["text"][:], [one.tags for one in self.targets(rows)])

    @staticmethod
    def collator(tokenizer: "PreTrainedTokenizerBase") -> Callable:
        from transformers import DataCollatorForTokenClassification

        return DataCollatorForTokenClassification(tokenizer)

    def loss(self, train: "Dataset | None" = None, class_weights: str = "none") -> Callable[..., "torch.Tensor"]:
        """Mean cross-entropy over the words of a step.

        With `balanced` weights a word counts by the inverse frequency of its tag in `train`.
        """
        import torch
        from torch.nn.functional import cross_entropy

        weights = torch.ones(len(self.tags))
        if class_weights == "balanced":
            counts = np.bincount([tag for one in self.targets(train) for tag in one.tags], minlength=len(self.tags))
            there = counts > 0
            weights[torch.from_numpy(there)] = torch.tensor(
                counts.sum() / (there.sum() * counts[there]), dtype=torch.float32
            )

        def mean(outputs: Any, labels: torch.Tensor, num_items_in_batch: int | None = None) -> torch.Tensor:
            logits = outputs.logits.float().flatten(0, 1)
            weight = weights.to(labels.device)
            total = cross_entropy(logits, labels.flatten(), weight, ignore_index=IGNORED, reduction="sum")
            return total / (num_items_in_batch or (labels != IGNORED).sum())

        return mean

    def gathered(self, encoded: "Dataset", logits: Sequence[np.ndarray]) -> np.ndarray:
        """The windows' logits, in the order of `encoded`, as those of all words."""
        return read(*at_words(encoded, logits))

    @staticmethod
    def placed(texts: list[str], made: list[tuple[int, Window]], logits: Sequence[np.ndarray]) -> np.ndarray:
        """As `gathered`, of windows beside the number of their text."""
        if not made:
            return np.empty((0, 2), np.float32)
        numbers, each = zip(*made, strict=True)
        return read(*joined(numbers, each, [len(spans.words(text)) for text in texts], logits))

    @staticmethod
    def prior(train: "Dataset", class_weights: str) -> None:
        return None

    # --- answers and figures

    def targets(self, rows: "Dataset") -> list[Tagged]:
        return [
            self.tagged(text, [(span["start"], span["end"], self.labels[span["label"]]) for span in row])
            for text, row in zip(rows["text"][:], rows["label"][:], strict=True)
        ]

    def tagged(self, text: str, found: Sequence[Span]) -> Tagged:
        """A text with spans of characters, of which some may begin or end within a word: these no answer can have."""
        places = spans.words(text)
        own = tuple(spans.in_words(found, places))
        tags = spans.tags_of([(int(first), -int(-end // 1), kind) for first, end, kind in own], len(places))
        return Tagged(tuple(self._numbers[tag] for tag in tags), own, own)

    def of_tags(self, numbers: Sequence[int]) -> Tagged:
        tags = [self.tags[number] for number in numbers]
        strict, repaired = (tuple(spans.of_tags(tags, strict=strict)) for strict in (True, False))
        return Tagged(tuple(map(int, numbers)), strict, repaired)

    def strata(self, rows: "Dataset") -> list[tuple[int, ...]]:
        return [tuple(sorted({span["label"] for span in row})) for row in rows["label"][:]]

    def parts(self, targets: list[Tagged]) -> Iterator[tuple[str, np.ndarray]]:
        for label in self.labels:
            yield label, np.array([any(kind == label for *_, kind in one.spans) for one in targets])

    @staticmethod
    def probabilities(logits: np.ndarray, temperature: float = 1) -> np.ndarray:
        """Softmax over the tags, float64; the texts' numbers stay."""
        from scipy.special import softmax

        table = logits.astype(np.float64)
        table[:, 1:] = softmax(table[:, 1:] / temperature, axis=-1)
        return table

    def answers(self, given: np.ndarray | list[Tagged], fitted: dict[str, Any] | None = None) -> list[Tagged]:
        """The most probable tag of each word, from probabilities or logits."""
        return given if isinstance(given, list) else [self.of_tags(rows.argmax(1)) for rows in split(given)]

    def served(self, texts: list[str], probabilities: np.ndarray | list[Tagged]) -> list[list[dict[str, Any]]]:
        """The spans of each text: start, end (characters), label, text, and score, the least probability of a word.

        Answers without probabilities have no score.
        """
        if isinstance(probabilities, list):
            each = zip(texts, probabilities, strict=True)
            return [[self._found(text, spans.words(text), span) for span in one.spans] for text, one in each]
        found, begin = [], 0
        for text in texts:  # some have no word
            places = spans.words(text)
            rows = probabilities[begin : begin + len(places), 1:]
            begin += len(places)
            own = self.of_tags(rows.argmax(1)).spans
            scores = [float(rows[first:end].max(1).min()) for first, end, _ in own]
            found.append(
                [{**self._found(text, places, span), "score": score} for span, score in zip(own, scores, strict=True)]
            )
        return found

    @staticmethod
    def _found(text: str, places: list[tuple[int, int]], span: Span) -> dict[str, Any]:
        first, end, label = span
        start, stop = places[first][0], places[end - 1][1]
        return {"start": start, "end": stop, "label": label, "text": text[start:stop]}

    @staticmethod
    def right(targets: list[Tagged], answers: list[Tagged]) -> np.ndarray:
        return np.array([set(one.spans) == set(other.spans) for one, other in zip(targets, answers, strict=True)])

    def counts(self, targets: list[Tagged], answers: list[Tagged]) -> np.ndarray:
        """For each type how many spans there are, are answered, and are both, and seven more: see the end.

        Shape [rows, 3 * types + 7].
        """
        return np.array([self._count(*both) for both in zip(targets, answers, strict=True)], dtype=float)

    def _count(self, one: Tagged, other: Tagged) -> list[float]:
        both = set(one.spans) & set(other.spans)
        kinds = [[kind for *_, kind in those] for those in (one.spans, other.spans, both)]
        return [
            *(those.count(label) for those in kinds for label in self.labels),
            len(other.repaired),
            len(set(one.spans) & set(other.repaired)),
            spans.by_edges(one.spans, other.spans),
            spans.by_type(one.spans, other.spans),
            len(one.tags),
            sum(a == b for a, b in zip(one.tags, other.tags, strict=True)),
            1,
        ]

    def figures_of(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Figures with nothing to divide by are 0."""
        sums = np.asarray(sums, dtype=float)
        actual, answered, hits = np.split(sums[..., :-7], 3, axis=-1)
        repaired, repaired_hits, edges, types, words, right_words, _ = np.moveaxis(sums[..., -7:], -1, 0)
        all_actual, all_answered, all_hits = (each.sum(-1) for each in (actual, answered, hits))

        def f1(matches: np.ndarray, given: np.ndarray) -> np.ndarray:
            return 2 * matches / np.maximum(all_actual + given, 1)

        return {
            "f1": f1(all_hits, all_answered),
            "precision": all_hits / np.maximum(all_answered, 1),
            "recall": all_hits / np.maximum(all_actual, 1),
            "macro_f1": (2 * hits / np.maximum(actual + answered, 1)).mean(-1),
            "macro_precision": (hits / np.maximum(answered, 1)).mean(-1),
            "macro_recall": (hits / np.maximum(actual, 1)).mean(-1),
            "repaired_f1": f1(repaired_hits, repaired),
            "partial_f1": f1(edges, all_answered),
            "type_f1": f1(types, all_answered),
            "accuracy": right_words / np.maximum(words, 1),
        }

    def score(
        self, targets: list[Tagged], probabilities: np.ndarray | list[Tagged], fitted: dict[str, Any] | None = None
    ) -> dict[str, float]:
        """The loss is the mean cross-entropy over words, unweighted; there is none without probabilities."""
        sums = self.counts(targets, self.answers(probabilities)).sum(0)
        figures = {name: float(value) for name, value in self.figures_of(sums).items()}
        if isinstance(probabilities, list):
            return figures
        own = probabilities[np.arange(len(probabilities)), [1 + tag for one in targets for tag in one.tags]]
        return {**figures, "loss": float(-np.log(np.maximum(own, np.finfo(float).eps)).mean())}

    def validate(self, targets: list[Tagged], probabilities: np.ndarray | list[Tagged]) -> dict[str, float]:
        return self.score(targets, probabilities)

    def score_encoded(self, encoded: "Dataset", labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
        """As `score`; a span that begins or ends within a word counts as that of the words."""
        certain = np.eye(len(self.tags), dtype=np.float32)[np.maximum(labels, 0)]
        targets = self.answers(self.gathered(encoded, certain))
        return self.score(targets, self.probabilities(self.gathered(encoded, logits)))

"""A text to be written for each text: summaries, headlines, translations, answers.

Which tokens a model reads depends on its kind: see `architecture`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from tunediff.core.settings import Column, Section
from tunediff.core.values import as_text
from tunediff.tasks.architecture import IGNORED, Architecture, Reader
from tunediff.tasks.causal import Causal
from tunediff.tasks.encoder_decoder import EncoderDecoder
from tunediff.tasks.interface import Figure
from tunediff.tasks.settings import Rule, RuleName
from tunediff.tasks.text_figures import LENGTHS, Pair, counts, figures_of, foreign

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, Features
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

CHUNK = 8
"""Rows whose softmax is computed at once."""

FOREIGN = 20
"""One target in so many in another script is worth a remark."""

BETWEEN = "\x1e"
"""What separates several targets of a row until they are stored: ASCII's record separator."""


class Keys(Section):
    target: str
    """Column of the texts that are to be written: a text, or a list of texts that are equally good."""
    instruction: str = ""
    """What the model is told to do, before every text."""
    figure: Literal["rougeL", "chrf", "exact"] = "rougeL"
    """The test figure that methods are compared by, where `report.figure` is `auto`."""
    rules: dict[RuleName, Rule] = Field(default_factory=dict)
    """What answers should be like, by a name: the report has how many keep to it."""
    messages: Column | None = None
    """In the place of `text` and `target`: column of chats, whose last turn is to be written."""

    @model_validator(mode="before")
    @classmethod
    def _messages_are_text_and_target(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("messages") is None:
            return values
        for key in ("text", "target", "clean"):
            if values.get(key) not in (None, [], values["messages"]):
                raise ValueError(f"{key}: `messages` names whole chats, which are read as they are; leave {key} out")
        return {**values, "text": values["messages"], "target": values["messages"]}


FIGURES = (
    Figure("rougeL", "ROUGE-L"),
    Figure("rouge1", "ROUGE-1"),
    Figure("rouge2", "ROUGE-2"),
    Figure("rougeLsum", "ROUGE-Lsum"),
    Figure("chrf", "chrF"),
    Figure("bleu", "BLEU"),
    Figure("exact", "exact match"),
    Figure("token_f1", "token F1"),
    Figure("length_ratio", "length ratio", percent=False),
    Figure("copied", "copied trigrams"),
    Figure("loss", "loss", higher_is_better=False, percent=False),
    Figure("perplexity", "perplexity", higher_is_better=False, percent=False),
)


class Answers:
    """What a model gives for some rows: the texts that it wrote, and how likely it finds the targets."""

    def __init__(self, texts: Sequence[str], likelihoods: np.ndarray | None = None, cut: int | None = None):
        """`likelihoods` are those of `Generation.condensed`, and `cut` how many texts `max_new_tokens` ended.

        Both are None where there are none.
        """
        self.texts = list(texts)
        self.likelihoods = likelihoods
        self.cut = cut


class Generation:
    """The task for texts with a text to be written; see `interface.Task` for what each method is for.

    Targets are pairs of the source and the target. What a model gives is `Answers`; an answer is a text.
    """

    name: ClassVar[str] = "generation"
    Keys: ClassVar[type[Section]] = Keys
    figures: ClassVar[dict[str, Figure]] = {figure.name: figure for figure in FIGURES}
    headline: ClassVar[tuple[str, ...]] = ("rougeL", "chrf", "exact")
    each_epoch: ClassVar[tuple[str, ...]] = ("loss", "perplexity")
    auto_model: str = Causal.auto_model
    peft_type: str = Causal.peft_type
    pipeline: str = Causal.pipeline
    writes: ClassVar[bool] = True
    cuts: ClassVar[bool] = True
    labels: ClassVar[list[str]] = [name for _, name in LENGTHS]
    """Not labels of texts: lengths of targets, which the picture of confusion sets beside those of answers."""

    def __init__(self, instruction: str = "", architecture: Architecture | None = None, chat: bool = False):
        """`architecture`: of the model; a causal one where none is known yet. `chat`: sources are chats (`turns`)."""
        self.instruction = instruction
        self.chat = chat
        self.architecture = architecture or Causal()
        self.auto_model = self.architecture.auto_model
        self.peft_type = self.architecture.peft_type
        self.pipeline = self.architecture.pipeline

    # --- from a record of the source to a prepared row

    as_text = staticmethod(as_text)

    @staticmethod
    def columns(keys: Keys) -> dict[str, str]:
        return {"target": keys.target}

    @staticmethod
    def target(record: dict[str, Any], keys: Keys) -> str:
        """A list's texts with `BETWEEN` between them, the first of which is learnt."""
        value = record.get(keys.target)
        values = value if isinstance(value, list) else [value]
        texts = [as_text({keys.target: one}, keys.target).replace(BETWEEN, " ").strip() for one in values]
        return BETWEEN.join(dict.fromkeys(filter(None, texts)))

    @staticmethod
    def learnt(label: str) -> str:
        """Of what `target` gave, the text that is learnt."""
        return label.partition(BETWEEN)[0]

    @staticmethod
    def remarks(table: "pd.DataFrame", keys: Keys, place: "Callable[[pd.Series], str]") -> list[str]:
        unread = sum(map(foreign, table.label)) if keys.figure == "rougeL" else 0
        if unread * FOREIGN < len(table) or not unread:
            return []
        return [
            f"{unread:,} of {len(table):,} targets are mostly of letters that ROUGE leaves out, which reads a to z "
            "and digits alone: a right answer has 0 there; set `figure: chrf` in the data file"
        ]

    def renamed(self, names: dict[str, str | None], path: str, why: str) -> "Generation":
        return self

    @classmethod
    def check(
        cls, table: "pd.DataFrame", keys: Keys, path: str, place: "Callable[[pd.Series], str]"
    ) -> "tuple[Generation, pd.DataFrame]":
        return cls(keys.instruction, chat=keys.messages is not None), table.assign(stratum="")

    def check_splits(self, table: "pd.DataFrame", path: str, cut: Sequence[str], place: Callable, subset: str) -> None:
        """A text may stand in any split."""

    def feature(self) -> dict[str, Any]:
        """The instruction is the same for all rows, and a name of a class takes no room in each of them."""
        from datasets import ClassLabel, List, Value

        return {
            "target": Value("string"),
            "others": List(Value("string")),
            "instruction": ClassLabel(names=[self.instruction]),
            **({"chat": Value("bool")} if self.chat else {}),
        }

    def encoded(self, targets: "pd.Series") -> "pd.Series":
        def stored(label: str) -> dict[str, Any]:
            target, *others = label.split(BETWEEN)
            told = {"target": target, "others": others, "instruction": 0}
            return {**told, "chat": True} if self.chat else told

        return targets.map(stored)

    def schema(self) -> dict[str, Any]:
        return {"task": self.name, "instruction": self.instruction}

    @staticmethod
    def describe(targets: "pd.Series") -> dict[str, Any]:
        each = targets.str.split(BETWEEN)
        words = each.str[0].str.split().str.len()
        several = {"mean": round(float(each.str.len().mean()), 1), "max": int(each.str.len().max())}
        return {
            "target_words": {"mean": round(float(words.mean()), 1), "max": int(words.max())},
            **({"targets": several} if several["max"] > 1 else {}),
        }

    # --- a model for it

    @classmethod
    def of(cls, features: "Features") -> "Generation":
        return cls(features["label"]["instruction"].names[0], chat="chat" in features["label"])

    def config(self) -> dict[str, Any]:
        return {"tunediff": {"instruction": self.instruction, **({"chat": True} if self.chat else {})}}

    @classmethod
    def of_config(cls, config: "PreTrainedConfig") -> "Generation":
        return cls(config.tunediff["instruction"], chat=config.tunediff.get("chat", False)).on(config)

    def on(self, config: "PreTrainedConfig") -> "Generation":
        """The same task for a model of this config."""
        if getattr(config, "is_encoder_decoder", False):
            start = getattr(config, "decoder_start_token_id", None)
            return Generation(self.instruction, EncoderDecoder(start), self.chat)
        return Generation(self.instruction, chat=self.chat)

    def prompt(self, tokenizer: "PreTrainedTokenizerBase") -> Reader:
        return self.architecture.reader(tokenizer, self.instruction, self.chat)

    def encode(self, tokenizer: "PreTrainedTokenizerBase", split: "Dataset") -> "Dataset":
        """Labels are `IGNORED` but for those of the target and the end; in a chat, of each of the assistant's turns."""
        import pyarrow as pa

        from tunediff.core.splits import CHUNK as READ
        from tunediff.core.splits import mapped
        from tunediff.tasks.features import ENCODED  # which imports datasets

        prompt = self.prompt(tokenizer)
        schema = ENCODED.append(pa.field("labels", pa.list_(pa.int64())))

        def encoded() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(split), READ):
                rows = split[start : start + READ]
                pairs = zip(rows["text"], rows["label"], strict=True)
                examples = [
                    self.architecture.row(prompt.parts(text), prompt.target(label["target"])) for text, label in pairs
                ]
                yield pa.RecordBatch.from_pylist(examples, schema)

        return mapped(schema, encoded())

    def collator(self, tokenizer: "PreTrainedTokenizerBase") -> Callable:
        return partial(self.architecture.batch, tokenizer)

    def loss(self, train: "Dataset | None" = None, class_weights: str = "none") -> Callable[..., "torch.Tensor"]:
        """Mean cross-entropy over the targets' tokens of a step, whatever processes and parts they are divided among.

        Its softmax is computed for a few rows at a time, again on the way back.
        """
        from torch.nn.functional import cross_entropy
        from torch.utils.checkpoint import checkpoint

        def summed(logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
            return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")

        def mean(outputs: Any, labels: "torch.Tensor", num_items_in_batch: int | None = None) -> "torch.Tensor":
            parts = zip(*self._aligned(outputs.logits, labels), strict=True)
            total = sum(checkpoint(summed, *part, use_reentrant=False) for part in parts)
            return total / (num_items_in_batch or (labels != IGNORED).sum())

        return mean

    def condensed(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        """The mean log-likelihood of each target's tokens, and their number, float32, shape [rows, 2]."""
        import torch

        parts = []
        for some, true in zip(*self._aligned(logits, labels), strict=True):
            each = some.float().log_softmax(-1).gather(-1, true.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            counted = true != IGNORED
            parts.append(torch.stack([(each * counted).sum(1) / counted.sum(1), counted.sum(1)], dim=1))
        return torch.cat(parts)

    def _aligned(
        self, logits: "torch.Tensor", labels: "torch.Tensor"
    ) -> "tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]":
        """Logits, and the labels that each foretells, in parts of `CHUNK` rows."""
        logits, labels = self.architecture.aligned(logits, labels)
        return logits.split(CHUNK), labels.to(logits.device).split(CHUNK)

    # --- answers and figures

    @staticmethod
    def targets(split: "Dataset") -> list[Pair]:
        labels = split["label"][:]
        return [(text, label["target"], *label["others"]) for text, label in zip(split["text"][:], labels, strict=True)]

    @staticmethod
    def strata(split: "Dataset") -> list[str]:
        return [""] * len(split)

    @staticmethod
    def parts(targets: list[Pair]) -> Iterator[tuple[str, np.ndarray]]:
        """There are no labels."""
        return iter(())

    @staticmethod
    def answers(given: Answers, fitted: dict[str, Any] | None = None) -> list[str]:
        return given.texts

    @staticmethod
    def right(targets: list[Pair], answers: list[str]) -> np.ndarray:
        """How right each answer is: its ROUGE-L."""
        return figures_of(counts(targets, answers))["rougeL"]

    @staticmethod
    def counts(targets: list[Pair], answers: list[str]) -> np.ndarray:
        return counts(targets, answers)

    @staticmethod
    def figures_of(sums: np.ndarray) -> dict[str, np.ndarray]:
        return figures_of(sums)

    def score(self, targets: list[Pair], given: Answers, fitted: dict[str, Any] | None = None) -> dict[str, float]:
        """All figures; loss and perplexity where there are likelihoods."""
        figures = self.figures_of(self.counts(targets, given.texts).sum(0))
        likely = {} if given.likelihoods is None else self.score_encoded(None, None, given.likelihoods)
        return {**{name: float(value) for name, value in figures.items()}, **likely}

    def validate(self, targets: list[Pair], given: Answers) -> dict[str, float]:
        return self.score(targets, given)

    @staticmethod
    def score_encoded(encoded: "Dataset", labels: np.ndarray, likelihoods: np.ndarray) -> dict[str, float]:
        """`likelihoods` are those of `condensed`: loss is the mean over all tokens."""
        means, tokens = likelihoods.astype(float).T
        loss = -float((means * tokens).sum() / tokens.sum())
        return {"loss": loss, "perplexity": float(np.exp(min(loss, 700)))}

"""A text to be written for each text: summaries, headlines, translations, answers.

A prompt is the model's chat template around the instruction and the source, or, where the model has none, the plain
words of `PLAIN`. The target follows it, then the end's token. Training, evaluation and prediction all take their tokens
from `Prompt`, and pad on the left, so that targets stand at the end of a batch.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tunediff.core.settings import Section
from tunediff.core.values import as_text
from tunediff.tasks.interface import Figure
from tunediff.tasks.text_figures import LENGTHS, Pair, counts, figures_of

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, Features
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that nothing is learnt from."""
PLAIN = "{text}\n\nAnswer:\n"
"""The prompt of a model without a chat template."""
MARK = "\ue000\ue001\ue000"
"""What stands for the text in a template while its place is looked for: no text has it."""
DAY = date(2025, 1, 1)
CLOCK = re.compile(r"""strftime_now\((["'])(.*?)\1\)""")  # how a chat template asks for the time
CHUNK = 8
"""Rows whose softmax is computed at once."""


class Keys(Section):
    target: str
    """Column of the texts that are to be written."""
    instruction: str = ""
    """What the model is told to do, before every text."""
    figure: Literal["rougeL", "chrf", "exact"] = "rougeL"
    """The test figure that methods are compared by, where `report.figure` is `auto`."""


FIGURES = (
    Figure("rougeL", "ROUGE-L"),
    Figure("rouge1", "ROUGE-1"),
    Figure("rouge2", "ROUGE-2"),
    Figure("chrf", "chrF"),
    Figure("bleu", "BLEU"),
    Figure("exact", "exact match"),
    Figure("length_ratio", "length ratio", percent=False),
    Figure("copied", "copied trigrams"),
    Figure("loss", "loss", higher_is_better=False, percent=False),
    Figure("perplexity", "perplexity", higher_is_better=False, percent=False),
)


class Prompt:
    """Token ids around a text: the same wherever a model reads it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", instruction: str):
        self.tokenizer = tokenizer
        content = "\n\n".join(filter(None, [instruction, MARK]))
        self.chat = tokenizer.chat_template is not None
        self.special = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
        messages = [{"role": "user", "content": content}]
        rendered = self._rendered(messages, True) if self.chat else PLAIN.format(text=content)
        if MARK not in rendered:
            raise ValueError("the chat template leaves out what the user says")
        self.before, _, self.after = rendered.rpartition(MARK)
        self.end = self._end(messages) if self.chat else tokenizer.eos_token_id
        if self.end is None:
            raise ValueError("the tokenizer has no token that ends a text")

    def _rendered(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        """Always of the same day, which some templates write into the prompt."""
        template = CLOCK.sub(lambda call: repr(DAY.strftime(call[2])), self.tokenizer.get_chat_template())
        return self.tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=add_generation_prompt
        )

    def _end(self, messages: list[dict[str, str]]) -> int:
        """The token that ends an answer in the template, or else the one that ends a text."""
        messages = [*messages, {"role": "assistant", "content": f"{MARK}{MARK}"}]
        _, _, after = self._rendered(messages, False).rpartition(MARK)
        first = self.tokenizer(after, add_special_tokens=False)["input_ids"][:1]
        return first[0] if first and first[0] in self.tokenizer.all_special_ids else self.tokenizer.eos_token_id

    def ids(self, text: str, cut: bool = True) -> list[int]:
        """Token ids of the prompt, one BOS included; if it is longer than `model_max_length`, the text's end is `cut`.

        Raises ValueError if nothing of the text would be left.
        """
        text = self._harmless(text)
        encoded = self.tokenizer(
            f"{self.before}{text}{self.after}",
            add_special_tokens=not self.chat,
            return_offsets_mapping=True,
            return_token_type_ids=False,
        )
        ids, end = encoded["input_ids"], len(self.before) + len(text)
        if ids[-1] == self.tokenizer.eos_token_id and not self.after.endswith(self.tokenizer.eos_token):
            ids = ids[:-1]  # some tokenizers end every text, which this one does not yet
        over = len(ids) - self.tokenizer.model_max_length
        if not cut or over <= 0:
            return ids
        behind = sum(1 for first, last in encoded["offset_mapping"][: len(ids)] if last > first >= end)
        inside = sum(1 for first, last in encoded["offset_mapping"] if len(self.before) <= first < min(last, end))
        if over >= inside:
            raise ValueError(
                f"the instruction and the template alone have {len(ids) - inside} tokens, and max_length is "
                f"{self.tokenizer.model_max_length}: raise it, or shorten the instruction"
            )
        kept = len(ids) - behind - over
        return ids[:kept] + ids[len(ids) - behind :]

    def target(self, text: str) -> list[int]:
        """Token ids of a target: complete, with the end's token."""
        return [*self.tokenizer(self._harmless(text), add_special_tokens=False)["input_ids"], self.end]

    def _harmless(self, text: str) -> str:
        """The text, in which no word is a special token: a source must not be able to end the user's turn."""
        text = text.strip()
        for token in self.special:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


class Answers:
    """What a model gives for some rows: the texts that it wrote, and how likely it finds the targets."""

    def __init__(self, texts: Sequence[str], likelihoods: np.ndarray | None = None):
        """`likelihoods` are those of `Generation.condensed`; None where there are none."""
        self.texts = list(texts)
        self.likelihoods = likelihoods


class Generation:
    """The task for texts with a text to be written; see `interface.Task` for what each method is for.

    Targets are pairs of the source and the target. What a model gives is `Answers`; an answer is a text.
    """

    name: ClassVar[str] = "generation"
    Keys: ClassVar[type[Section]] = Keys
    figures: ClassVar[dict[str, Figure]] = {figure.name: figure for figure in FIGURES}
    headline: ClassVar[tuple[str, ...]] = ("rougeL", "chrf", "exact")
    each_epoch: ClassVar[tuple[str, ...]] = ("loss", "perplexity")
    auto_model: ClassVar[str] = "AutoModelForCausalLM"
    peft_type: ClassVar[str] = "CAUSAL_LM"
    pipeline: ClassVar[str] = "text-generation"
    writes: ClassVar[bool] = True
    cuts: ClassVar[bool] = True
    labels: ClassVar[list[str]] = [name for _, name in LENGTHS]
    """Not labels of texts: lengths of targets, which the picture of confusion sets beside those of answers."""

    def __init__(self, instruction: str = ""):
        self.instruction = instruction

    # --- from a record of the source to a prepared row

    as_text = staticmethod(as_text)

    @staticmethod
    def columns(keys: Keys) -> dict[str, str]:
        return {"target": keys.target}

    @staticmethod
    def target(record: dict[str, Any], keys: Keys) -> str:
        return as_text(record, keys.target).strip()

    @staticmethod
    def remarks(targets: "pd.Series", keys: Keys) -> list[str]:
        return []

    def renamed(self, names: dict[str, str | None], path: str, why: str) -> "Generation":
        return self

    @classmethod
    def check(
        cls, table: "pd.DataFrame", keys: Keys, path: str, place: "Callable[[pd.Series], str]"
    ) -> "tuple[Generation, pd.DataFrame]":
        return cls(keys.instruction), table.assign(stratum="")

    def check_splits(self, table: "pd.DataFrame", path: str, cut: Sequence[str], place: Callable, subset: str) -> None:
        """A text may stand in any split."""

    def feature(self) -> dict[str, Any]:
        """The instruction is the same for all rows, and a name of a class takes no room in each of them."""
        from datasets import ClassLabel, Value

        return {"target": Value("string"), "instruction": ClassLabel(names=[self.instruction])}

    def encoded(self, targets: "pd.Series") -> "pd.Series":
        return targets.map(lambda target: {"target": target, "instruction": 0})

    def schema(self) -> dict[str, Any]:
        return {"task": self.name, "instruction": self.instruction}

    @staticmethod
    def describe(targets: "pd.Series") -> dict[str, Any]:
        words = targets.str.split().str.len()
        return {"target_words": {"mean": round(float(words.mean()), 1), "max": int(words.max())}}

    # --- a model for it

    @classmethod
    def of(cls, features: "Features") -> "Generation":
        return cls(features["label"]["instruction"].names[0])

    def config(self) -> dict[str, Any]:
        return {"tunediff": {"instruction": self.instruction}}

    @classmethod
    def of_config(cls, config: "PreTrainedConfig") -> "Generation":
        return cls(config.tunediff["instruction"])

    def prompt(self, tokenizer: "PreTrainedTokenizerBase") -> Prompt:
        return Prompt(tokenizer, self.instruction)

    def encode(self, tokenizer: "PreTrainedTokenizerBase", split: "Dataset") -> "Dataset":
        """Labels are `IGNORED` but for those of the target and the end."""
        import pyarrow as pa

        from tunediff.core.splits import CHUNK as READ
        from tunediff.core.splits import mapped
        from tunediff.tasks.features import ENCODED  # which imports datasets

        prompt = self.prompt(tokenizer)
        schema = ENCODED.append(pa.field("labels", pa.list_(pa.int64())))

        def encoded() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(split), READ):
                rows = split[start : start + READ]
                prompts = [prompt.ids(text) for text in rows["text"]]
                targets = [prompt.target(label["target"]) for label in rows["label"]]
                ids = [[*one, *other] for one, other in zip(prompts, targets, strict=True)]
                columns = {
                    "input_ids": ids,
                    "attention_mask": [[1] * len(one) for one in ids],
                    "length": [len(one) for one in ids],
                    "labels": [[IGNORED] * len(one) + other for one, other in zip(prompts, targets, strict=True)],
                }
                yield pa.RecordBatch.from_pydict(columns, schema)

        return mapped(schema, encoded())

    @staticmethod
    def collator(tokenizer: "PreTrainedTokenizerBase") -> Callable:
        def collate(rows: list[dict[str, list[int]]]) -> "dict[str, torch.Tensor | int]":
            """Padded on the left. Labels are those of the last tokens alone, and so are the logits asked for.

            These are the longest target's, and one before it.
            """
            kept = 1 + max(sum(1 for label in row["labels"] if label != IGNORED) for row in rows)
            labels = padded([row["labels"] for row in rows], IGNORED)["input_ids"][:, -kept:]
            batch = padded([row["input_ids"] for row in rows], tokenizer.pad_token_id)
            return {**batch, "labels": labels, "logits_to_keep": kept}

        return collate

    def loss(self, train: "Dataset | None" = None, class_weights: str = "none") -> Callable[..., "torch.Tensor"]:
        """Mean cross-entropy over the targets' tokens of a step, whatever processes and parts they are divided among.

        Its softmax is computed for a few rows at a time, again on the way back.
        """
        from torch.nn.functional import cross_entropy
        from torch.utils.checkpoint import checkpoint

        def summed(logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
            return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")

        def mean(outputs: Any, labels: "torch.Tensor", num_items_in_batch: int | None = None) -> "torch.Tensor":
            parts = zip(*aligned(outputs.logits, labels), strict=True)
            total = sum(checkpoint(summed, *part, use_reentrant=False) for part in parts)
            return total / (num_items_in_batch or (labels != IGNORED).sum())

        return mean

    @staticmethod
    def condensed(logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        """The mean log-likelihood of each target's tokens, and their number, float32, shape [rows, 2]."""
        import torch

        parts = []
        for some, true in zip(*aligned(logits, labels), strict=True):
            each = some.float().log_softmax(-1).gather(-1, true.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            counted = true != IGNORED
            parts.append(torch.stack([(each * counted).sum(1) / counted.sum(1), counted.sum(1)], dim=1))
        return torch.cat(parts)

    # --- answers and figures

    @staticmethod
    def targets(split: "Dataset") -> list[Pair]:
        return list(zip(split["text"][:], (label["target"] for label in split["label"][:]), strict=True))

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


def aligned(logits: "torch.Tensor", labels: "torch.Tensor") -> "tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]":
    """Logits, and the labels that each foretells, in parts of `CHUNK` rows."""
    return logits[:, -labels.shape[1] : -1].split(CHUNK), labels[:, 1:].to(logits.device).split(CHUNK)


def padded(rows: list[list[int]], pad: int) -> "dict[str, torch.Tensor]":
    """A batch of token ids, padded on the left: its mask, and positions that count from each row's first true token."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}

"""Models of an encoder and a decoder (T5, BART, Marian, mBART, NLLB): the source by itself, the target after a start.

The tokenizer itself frames both: with end tokens, and with the codes of languages where it has them. A target's first
token is foretold from the start's, so that labels are those of the target and decoder inputs stand one place behind.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from tunediff.tasks.architecture import IGNORED, Row, harmless, special_tokens, too_long

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class Source:
    """The instruction and a source on one line, as the tokenizer frames them; and a target, as it frames targets."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", instruction: str, start: int | None):
        if hasattr(tokenizer, "tgt_lang") and tokenizer.tgt_lang is None:  # which it would take to be the source's
            raise ValueError("its tokenizer wants languages; set source_language and target_language in this file")
        self.tokenizer = tokenizer
        self.instruction = f"{instruction} " if instruction else ""
        self.special = special_tokens(tokenizer)
        first, _ = framed(tokenizer)
        self.end = tokenizer.eos_token_id
        generating = {
            "decoder_start_token_id": started(tokenizer, start),
            "forced_bos_token_id": None if first == self.end else first,
            "suppress_tokens": None if tokenizer.pad_token_id == self.end else [tokenizer.pad_token_id],
        }
        self.generating: dict[str, Any] = {name: value for name, value in generating.items() if value is not None}

    def ids(self, text: str, cut: bool = True) -> list[int]:
        longest = self.tokenizer.model_max_length
        both = f"{self.instruction}{harmless(text, self.special)}"
        ids = self.tokenizer(both)["input_ids"]
        if not cut or len(ids) <= longest:
            return ids
        if (alone := len(self.tokenizer(self.instruction.strip())["input_ids"])) >= longest:
            raise too_long(alone, self.tokenizer)
        return self.tokenizer(both, truncation=True, max_length=longest)["input_ids"]

    def parts(self, text: str) -> list[list[int]]:
        return [self.ids(text)]

    def target(self, text: str) -> list[int]:
        return self.tokenizer(text_target=harmless(text, self.special))["input_ids"]


class EncoderDecoder:
    """See `architecture.Architecture` for what each method is for."""

    auto_model: ClassVar[str] = "AutoModelForSeq2SeqLM"
    peft_type: ClassVar[str] = "SEQ_2_SEQ_LM"
    pipeline: ClassVar[str] = "text2text-generation"
    goes_on: ClassVar[bool] = False

    def __init__(self, start: int | None):
        """`start` is the config's token that a target begins after."""
        self.start = start

    def reader(self, tokenizer: "PreTrainedTokenizerBase", instruction: str, chat: bool) -> Source:
        if chat:
            raise ValueError("it reads a source by itself and no chats; take a causal model, or give text and target")
        return Source(tokenizer, instruction, self.start)

    @staticmethod
    def row(parts: list[list[int]], target: list[int]) -> Row:
        [prompt] = parts
        return {
            "input_ids": prompt,
            "attention_mask": [1] * len(prompt),
            "length": len(prompt) + len(target),
            "labels": target,
        }

    def batch(self, tokenizer: "PreTrainedTokenizerBase", rows: list[Row]) -> "dict[str, torch.Tensor]":
        """Padded on the right, where positions count from the first token."""
        labels = padded([row["labels"] for row in rows], IGNORED)
        start = started(tokenizer, self.start)
        behind = padded([[start, *row["labels"][:-1]] for row in rows], tokenizer.pad_token_id)
        prompts = [row["input_ids"] for row in rows]
        return {**self.inputs(tokenizer, prompts), "decoder_input_ids": behind, "labels": labels}

    @staticmethod
    def aligned(logits: "torch.Tensor", labels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        return logits[:, -labels.shape[1] :], labels

    @staticmethod
    def inputs(tokenizer: "PreTrainedTokenizerBase", prompts: list[list[int]]) -> "dict[str, torch.Tensor]":
        return {
            "input_ids": padded(prompts, tokenizer.pad_token_id),
            "attention_mask": padded([[1] * len(prompt) for prompt in prompts], 0),
        }

    @staticmethod
    def written(ids: "torch.Tensor", inputs: "dict[str, torch.Tensor]") -> "torch.Tensor":
        return ids[:, 1:]

    @staticmethod
    def before(prompt: int) -> int:
        return 0


def framed(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, int]:
    """The first and the last token around a target. Raises ValueError if none of them ends it."""
    frame = tokenizer(text_target="")["input_ids"]
    if tokenizer.eos_token_id not in frame:
        raise ValueError("the tokenizer has no token that ends a text")
    return frame[0], frame[-1]


def started(tokenizer: "PreTrainedTokenizerBase", start: int | None) -> int:
    """The token that a target begins after: of a language if targets end with it, as mBART's do, else the config's."""
    _, last = framed(tokenizer)
    if last != tokenizer.eos_token_id:
        return last
    if start is None:
        raise ValueError("its config has no decoder_start_token_id")
    return start


def padded(rows: list[list[int]], pad: int) -> "torch.Tensor":
    """Shape [rows, the longest's tokens], padded on the right."""
    import torch

    longest = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])

"""Models that read prompt and answer as one text (Llama, GPT-2): the answer's tokens follow the prompt's.

A prompt is the model's chat template around the instruction and the source, or, where the model has none, the plain
words of `PLAIN`. The target follows it, then the end's token. Batches are padded on the left, so that targets stand at
their end.
"""

import re
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar

from tunediff.tasks.architecture import IGNORED, Row, harmless, special_tokens, too_long

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

PLAIN = "{text}\n\nAnswer:\n"
"""The prompt of a model without a chat template."""
MARK = "\ue000\ue001\ue000"
"""What stands for the text in a template while its place is looked for: no text has it."""
DAY = date(2025, 1, 1)
CLOCK = re.compile(r"""strftime_now\((["'])(.*?)\1\)""")  # how a chat template asks for the time


class Prompt:
    """Token ids around a text: the same wherever a model reads it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", instruction: str):
        self.tokenizer = tokenizer
        content = "\n\n".join(filter(None, [instruction, MARK]))
        self.chat = tokenizer.chat_template is not None
        self.special = special_tokens(tokenizer)
        messages = [{"role": "user", "content": content}]
        rendered = self._rendered(messages, True) if self.chat else PLAIN.format(text=content)
        if MARK not in rendered:
            raise ValueError("the chat template leaves out what the user says")
        self.before, _, self.after = rendered.rpartition(MARK)
        self.end = self._end(messages) if self.chat else tokenizer.eos_token_id
        if self.end is None:
            raise ValueError("the tokenizer has no token that ends a text")
        self.generating: dict[str, Any] = {}

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
        text = harmless(text, self.special)
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
            raise too_long(len(ids) - inside, self.tokenizer)
        kept = len(ids) - behind - over
        return ids[:kept] + ids[len(ids) - behind :]

    def target(self, text: str) -> list[int]:
        """Token ids of a target: complete, with the end's token."""
        return [*self.tokenizer(harmless(text, self.special), add_special_tokens=False)["input_ids"], self.end]


class Causal:
    """See `architecture.Architecture` for what each method is for."""

    auto_model: ClassVar[str] = "AutoModelForCausalLM"
    peft_type: ClassVar[str] = "CAUSAL_LM"
    pipeline: ClassVar[str] = "text-generation"
    goes_on: ClassVar[bool] = True

    @staticmethod
    def reader(tokenizer: "PreTrainedTokenizerBase", instruction: str) -> Prompt:
        return Prompt(tokenizer, instruction)

    @staticmethod
    def row(prompt: list[int], target: list[int]) -> Row:
        ids = [*prompt, *target]
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "length": len(ids),
            "labels": [IGNORED] * len(prompt) + target,
        }

    @staticmethod
    def batch(tokenizer: "PreTrainedTokenizerBase", rows: list[Row]) -> "dict[str, torch.Tensor | int]":
        """Padded on the left. Labels are those of the last tokens alone, and so are the logits asked for.

        These are the longest target's, and one before it.
        """
        kept = 1 + max(sum(1 for label in row["labels"] if label != IGNORED) for row in rows)
        labels = padded([row["labels"] for row in rows], IGNORED)["input_ids"][:, -kept:]
        batch = padded([row["input_ids"] for row in rows], tokenizer.pad_token_id)
        return {**batch, "labels": labels, "logits_to_keep": kept}

    @staticmethod
    def aligned(logits: "torch.Tensor", labels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        return logits[:, -labels.shape[1] : -1], labels[:, 1:]

    @staticmethod
    def begun(texts: int) -> "dict[str, torch.Tensor]":
        return {}

    @staticmethod
    def inputs(tokenizer: "PreTrainedTokenizerBase", prompts: list[list[int]]) -> "dict[str, torch.Tensor]":
        batch = padded(prompts, tokenizer.pad_token_id)
        del batch["position_ids"]  # which are counted from the mask
        return batch

    @staticmethod
    def written(ids: "torch.Tensor", inputs: "dict[str, torch.Tensor]") -> "torch.Tensor":
        return ids[:, inputs["input_ids"].shape[1] :]

    @staticmethod
    def before(prompt: int) -> int:
        return prompt


def padded(rows: list[list[int]], pad: int) -> "dict[str, torch.Tensor]":
    """A batch of token ids, padded on the left: its mask, and positions that count from each row's first true token."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}

"""Models that read prompt and answer as one text (Llama, GPT-2): the answer's tokens follow the prompt's.

A prompt is the model's chat template around the instruction and the source, or around a chat's turns, or, where the
model has none, the plain words of `PLAIN`. The target follows it, then the end's token. Batches are padded on the left,
so that targets stand at their end.
"""

import re
from datetime import date
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, ClassVar

from tunediff.core.errors import reason
from tunediff.tasks.architecture import IGNORED, Row, harmless, special_tokens, too_long
from tunediff.tasks.turns import Turn, turns_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

PLAIN = "{text}\n\nAnswer:\n"
"""The prompt of a model without a chat template."""
MARK = "\ue000\ue001\ue000"
"""What stands for the text in a template while its place is looked for: no text has it."""
DAY = date(2025, 1, 1)
CLOCK = re.compile(r"""strftime_now\((["'])(.*?)\1\)""")  # how a chat template asks for the time


def rendered(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]], asks: bool) -> str:
    """The messages in the chat template, and if it `asks`, up to where the next answer begins.

    It is always of the same day, which some templates write into the prompt.
    """
    template = CLOCK.sub(lambda call: repr(DAY.strftime(call[2])), tokenizer.get_chat_template())
    return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=asks)


def end_of_answer(tokenizer: "PreTrainedTokenizerBase", question: str = MARK) -> int:
    """The token that ends an answer in the chat template, or else the one that ends a text."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": f"{MARK}{MARK}"}]
    _, _, after = rendered(tokenizer, turns, False).rpartition(MARK)
    first = tokenizer(after, add_special_tokens=False)["input_ids"][:1]
    special = first and tokenizer.convert_ids_to_tokens(first[0]) in special_tokens(tokenizer)
    return first[0] if special else tokenizer.eos_token_id


class Prompt:
    """Token ids around a text: the same wherever a model reads it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", instruction: str):
        self.tokenizer = tokenizer
        content = "\n\n".join(filter(None, [instruction, MARK]))
        self.chat = tokenizer.chat_template is not None
        self.special = special_tokens(tokenizer)
        asked = PLAIN.format(text=content)
        if self.chat:
            asked = rendered(tokenizer, [{"role": "user", "content": content}], True)
        if MARK not in asked:
            raise ValueError("the chat template leaves out what the user says")
        self.before, _, self.after = asked.rpartition(MARK)
        self.end = end_of_answer(tokenizer, content) if self.chat else tokenizer.eos_token_id
        if self.end is None:
            raise ValueError("the tokenizer has no token that ends a text")
        self.generating: dict[str, Any] = {}

    def ids(self, text: str, cut: bool = True) -> list[int]:
        """Token ids of the prompt, one BOS included; if it is longer than `model_max_length`, the text's end is `cut`.

        Raises ValueError if nothing of the text would be left.
        """
        return self.around(self.before, harmless(text, self.special), self.after, cut)

    def parts(self, text: str) -> list[list[int]]:
        return [self.ids(text)]

    def around(self, before: str, text: str, after: str, cut: bool) -> list[int]:
        """Token ids of `before`, a text and `after`: of the complete prompt."""
        encoded = self.tokenizer(
            f"{before}{text}{after}",
            add_special_tokens=not self.chat,
            return_offsets_mapping=True,
            return_token_type_ids=False,
        )
        ids, end = encoded["input_ids"], len(before) + len(text)
        if ids[-1] == self.tokenizer.eos_token_id and not after.endswith(self.tokenizer.eos_token):
            ids = ids[:-1]  # some tokenizers end every text, which this one does not yet
        over = len(ids) - self.tokenizer.model_max_length
        if not cut or over <= 0:
            return ids
        behind = sum(1 for first, last in encoded["offset_mapping"][: len(ids)] if last > first >= end)
        inside = sum(1 for first, last in encoded["offset_mapping"] if len(before) <= first < min(last, end))
        if over >= inside:
            raise too_long(len(ids) - inside, self.tokenizer)
        kept = len(ids) - behind - over
        return ids[:kept] + ids[len(ids) - behind :]

    def target(self, text: str) -> list[int]:
        """Token ids of a target: complete, with the end's token."""
        return [*self.later(harmless(text, self.special)), self.end]

    def later(self, text: str) -> list[int]:
        """Token ids of a text that others stand before."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


class Conversation(Prompt):
    """Token ids of a chat's turns, of which the last one is the user's: the same wherever a model reads them.

    What stands before, between and behind the assistant's turns is tokenized in one piece each, and every such turn as
    `target` has it, the end's token included: what the model wrote and then reads again are the same tokens.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", instruction: str):
        super().__init__(tokenizer, instruction)
        self.instruction = instruction
        self.ending = tokenizer.convert_ids_to_tokens(self.end)

    def ids(self, text: str, cut: bool = True) -> list[int]:
        return list(chain(*self._fitted(text, cut)[0]))

    def parts(self, text: str) -> list[list[int]]:
        return self._fitted(text)[0]

    def dropped(self, text: str) -> int:
        return self._fitted(text)[1]

    def _fitted(self, text: str, cut: bool = True) -> tuple[list[list[int]], int]:
        """The parts, and how many turns were left out before them: pairs of user and assistant, as few as will do.

        What the system says stays. If the last turn alone is too long, its end is cut.
        """
        turns = [(role, harmless(said, self.special)) for role, said in turns_of(text)]
        first = 1 if turns[0][0] == "system" else 0
        kept = turns
        while len(kept) > first + 1:
            parts = self._parts(kept)
            over = sum(map(len, parts)) - self.tokenizer.model_max_length
            if not cut or over <= 0:
                return parts, len(turns) - len(kept)
            # The first part's frame stays, so that these sizes are too large and never too many turns are left out.
            sizes = accumulate(len(asked) + len(said) for asked, said in zip(parts[::2], parts[1::2], strict=False))
            out = next((pairs for pairs, size in enumerate(sizes, 1) if size >= over), len(parts) // 2)
            kept = kept[:first] + kept[first + 2 * out :]
        before, after = self.before, self.after
        if first:
            before, _, after = self._begun([kept[0], ("user", MARK)]).rpartition(MARK)
        return [self.around(before, kept[-1][1], after, cut)], len(turns) - len(kept)

    def _begun(self, turns: list[Turn]) -> str:
        """The turns in the template, up to where the next answer begins."""
        place = 1 if turns[0][0] == "system" else 0
        told = "\n\n".join(filter(None, [self.instruction, turns[place][1]]))
        turns = [*turns[:place], ("user", told), *turns[place + 1 :]]
        if not self.chat:
            asked = PLAIN.format(text="\n\n".join(said for _, said in turns[: place + 1]))
            later = turns[place + 1 :]
            return asked + "".join(f"\n\n{PLAIN.format(text=said)}" if role == "user" else said for role, said in later)
        try:
            return rendered(self.tokenizer, [{"role": role, "content": said} for role, said in turns], True)
        except Exception as error:  # a template is a program
            raise ValueError(f"the model's chat template does not take this chat: {reason(error)}") from None

    def _parts(self, turns: list[Turn]) -> list[list[int]]:
        """What the template adds with each turn of the user, and each answer.

        Raises ValueError if the template writes earlier turns in another way once others follow.
        """
        parts: list[list[int]] = []
        done, answer = "", ""
        for place, (role, said) in enumerate(turns):
            if role == "assistant":
                parts.append(self.target(said))
                answer = said
            elif role == "user":
                begun = self._begun(turns[: place + 1])
                added = begun.removeprefix(done).lstrip() if parts else begun
                if not begun.startswith(done) or not added.startswith(answer):
                    raise ValueError("the model's chat template changes earlier turns of a chat; take another model")
                added = added.removeprefix(answer)
                if parts and added.lstrip().startswith(self.ending):
                    added = added.lstrip().removeprefix(self.ending)
                parts.append(self.later(added) if parts else self.around("", added, "", False))
                done = begun
        return parts


class Causal:
    """See `architecture.Architecture` for what each method is for."""

    auto_model: ClassVar[str] = "AutoModelForCausalLM"
    peft_type: ClassVar[str] = "CAUSAL_LM"
    pipeline: ClassVar[str] = "text-generation"
    goes_on: ClassVar[bool] = True

    @staticmethod
    def reader(tokenizer: "PreTrainedTokenizerBase", instruction: str, chat: bool) -> Prompt:
        return Conversation(tokenizer, instruction) if chat else Prompt(tokenizer, instruction)

    @staticmethod
    def row(parts: list[list[int]], target: list[int]) -> Row:
        parts = [*parts, target]
        ids = list(chain(*parts))
        labels = [part if place % 2 else [IGNORED] * len(part) for place, part in enumerate(parts)]
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "length": len(ids),
            "labels": list(chain(*labels)),
        }

    @staticmethod
    def batch(tokenizer: "PreTrainedTokenizerBase", rows: list[Row]) -> "dict[str, torch.Tensor | int]":
        """Padded on the left. Labels are those of the last tokens alone, and so are the logits asked for.

        These are from the first token that is learnt in any row, and one before it.
        """
        each = [row["labels"] for row in rows]
        kept = 1 + max(next(len(ids) - n for n, label in enumerate(ids) if label != IGNORED) for ids in each)
        labels = padded(each, IGNORED)["input_ids"][:, -kept:]
        batch = padded([row["input_ids"] for row in rows], tokenizer.pad_token_id)
        return {**batch, "labels": labels, "logits_to_keep": kept}

    @staticmethod
    def aligned(logits: "torch.Tensor", labels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        return logits[:, -labels.shape[1] : -1], labels[:, 1:]

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

"""What is said to a language model: an instruction, examples with their labels, and the text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunediff.tasks.causal import PLAIN, end_of_answer, rendered
from tunediff.tasks.turns import turns_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]
"""A conversation as chat models read it: `role` and `content` of each turn."""
EXAMPLE_END = "\n\n###\n\n"
"""What stands behind each example's text where there is no chat template: an answer ends with it, too."""


@dataclass(frozen=True)
class Example:
    text: str
    label: str
    """What it is answered with."""


@dataclass(frozen=True)
class Wording:
    """How a method asks."""

    instruction: str
    template: str
    """With `{text}`, where the text stands."""
    chat: bool = False
    """Whether texts are chats, as `turns.text_of` writes them."""

    def conversation(self, text: str, examples: Sequence[Example] = ()) -> Messages:
        """The instruction begins the first turn, and not a system message, which some chat templates refuse.

        A text that is a chat is asked turn by turn; what its system says begins the turn behind it.
        """
        messages: Messages = []
        told = [self.instruction] if self.instruction else []
        for example in (*examples, Example(text, "")):
            *before, (_, asked) = turns_of(example.text) if self.chat else [("user", example.text)]
            turns = [*before, ("user", self.template.replace("{text}", asked)), ("assistant", example.label)]
            for role, said in turns:
                if role == "system":
                    told.append(said)
                else:
                    messages.append({"role": role, "content": "\n\n".join([*told, said])})
                    told = []
        return messages[:-1]


def default_instruction(labels: Sequence[str]) -> str:
    """For a data file without `prompt`."""
    return f"Classify the text as {', '.join(labels[:-1])} or {labels[-1]}. Answer with the label alone."


def lines(messages: Messages) -> str:
    """A conversation about labels as lines of text."""
    said = [f"Label: {turn['content']}\n" if turn["role"] == "assistant" else turn["content"] for turn in messages]
    return "\n".join([*said, "Label:"])


def paragraphs(messages: Messages) -> str:
    """A conversation whose answers are texts, for models without a template."""
    frames = {"user": PLAIN, "assistant": f"{{text}}{EXAMPLE_END}"}
    return "".join(frames[turn["role"]].format(text=turn["content"]) for turn in messages)


def prompt_tokens(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, plain: Callable[[Messages], str] = lines
) -> list[int]:
    """The conversation up to where the answer begins. A tokenizer without a chat template gets a `plain` text."""
    if tokenizer.chat_template:
        return tokenizer(rendered(tokenizer, messages, True), add_special_tokens=False)["input_ids"]
    return tokenizer(plain(messages))["input_ids"]


def answer_tokens(tokenizer: "PreTrainedTokenizerBase", label: str) -> list[int]:
    """The label as an answer, and its end: so a label that another one begins with is not the likelier for it."""
    if tokenizer.chat_template:
        return [*tokenizer(label, add_special_tokens=False)["input_ids"], end_of_answer(tokenizer)]
    return tokenizer(f" {label}\n", add_special_tokens=False)["input_ids"]

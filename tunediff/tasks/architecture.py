"""What a text's tokens are to a model that writes: the seam between the kinds of such models, and what they share.

`causal.Causal` is for models that read prompt and answer as one text, `encoder_decoder.EncoderDecoder` for those that
read the source by itself. Training, evaluation and prediction take their tokens from here and from nowhere else.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that nothing is learnt from."""

Row = dict[str, Any]
"""An example as token ids: input_ids, attention_mask, length, labels."""


class Reader(Protocol):
    """What one tokenizer makes of sources and targets."""

    end: int
    """The token that ends an answer."""
    generating: dict[str, Any]
    """More fields of the generation's config."""

    def ids(self, text: str, cut: bool = True) -> list[int]:
        """Token ids of what is read of a source; if they are more than `model_max_length`, its end is `cut`.

        Of a chat, the first turns are left out. Raises ValueError if nothing of the source would be left.
        """

    def parts(self, text: str) -> list[list[int]]:
        """Those token ids in parts, of which every second one is an answer in an earlier turn."""

    def dropped(self, text: str) -> int:
        """How many turns of a chat are left out; asked of chats alone."""

    def target(self, text: str) -> list[int]:
        """Token ids of a target: complete, with the end's token."""


class Architecture(Protocol):
    """One kind of model that writes."""

    auto_model: ClassVar[str]
    """The class of transformers that loads the model with the head that it has."""
    peft_type: ClassVar[str]
    """Its name in `peft.TaskType`."""
    pipeline: ClassVar[str]
    """What the Hub calls such a model."""

    goes_on: ClassVar[bool]
    """Whether it foretells any text's words, so that texts without targets have a perplexity."""

    def reader(self, tokenizer: "PreTrainedTokenizerBase", instruction: str, chat: bool) -> Reader:
        """Raises ValueError if the tokenizer cannot frame a text, or no `chat`."""

    def row(self, parts: list[list[int]], target: list[int]) -> Row:
        """An example, from the parts of its prompt; its labels are `IGNORED` where nothing is learnt."""

    def batch(self, tokenizer: "PreTrainedTokenizerBase", rows: list[Row]) -> "dict[str, torch.Tensor | int]":
        """Examples, padded: what the model takes, and `labels`."""

    def aligned(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """Logits, and beside each the label that it foretells; both as the model and `batch` gave them."""

    def inputs(self, tokenizer: "PreTrainedTokenizerBase", prompts: list[list[int]]) -> "dict[str, torch.Tensor]":
        """Prompts, padded, as `generate` takes them."""

    def written(self, ids: "torch.Tensor", inputs: "dict[str, torch.Tensor]") -> "torch.Tensor":
        """The answers' part of what `generate` gave for `inputs`."""

    def before(self, prompt: int) -> int:
        """How many positions an answer finds taken, behind a prompt of so many tokens."""


def harmless(text: str, special: Sequence[str]) -> str:
    """The text without spaces around it, in which no word is one of the `special` tokens.

    A source must not be able to end the user's turn. The longest tokens come first.
    """
    text = text.strip()
    for token in special:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The longest first; those without a name among them, such as the end of a turn may be."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*tokenizer.all_special_tokens, *added}, key=lambda token: (-len(token), token))


def too_long(tokens: int, tokenizer: "PreTrainedTokenizerBase") -> ValueError:
    """What is said where the prompt without its source has already so many tokens."""
    return ValueError(
        f"the instruction and the template alone have {tokens} tokens, and max_length is "
        f"{tokenizer.model_max_length}: raise it, or shorten the instruction"
    )

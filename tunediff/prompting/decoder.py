"""A decoder on this machine scores each label by the likelihood of its words after the prompt, or writes an answer."""

import time
from collections.abc import Callable

from transformers import BatchEncoding

from tunediff.core.errors import UserError
from tunediff.models import language_model
from tunediff.models.generation import keeps_all, write_after
from tunediff.models.inference import choose_precision
from tunediff.models.loading import count_parameters, load_tokenizer
from tunediff.prompting.prompts import EXAMPLE_END, Messages, answer_tokens, lines, paragraphs, prompt_tokens
from tunediff.prompting.settings import Prompting
from tunediff.prompting.usage import Scores, Texts
from tunediff.tasks.architecture import harmless, special_tokens
from tunediff.tasks.generation import Generation


class Decoder:
    """What both kinds below share."""

    longest_answer: int
    """In tokens."""
    plain: Callable[[Messages], str]
    """Makes the text that a model without a chat template reads."""

    def __init__(self, settings: Prompting):
        self.settings = settings
        self.tokenizer = load_tokenizer(settings.model, settings.model_path)
        self.special = special_tokens(self.tokenizer)
        self.precision = choose_precision(settings.precision)
        self.model = language_model.load_language_model(settings.model, settings.model_path, self.precision)
        self.reads = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    @property
    def cost(self) -> dict[str, int]:
        return {"total_parameters": count_parameters(self.model)["total_parameters"]}

    def tokens(self, messages: Messages) -> list[int]:
        """Those of a prompt, in which no text can end its turn."""
        turns = [{**turn, "content": harmless(turn["content"], self.special)} for turn in messages]
        return prompt_tokens(self.tokenizer, turns, self.plain)

    def example_tokens(self, frame: Messages, examples: int) -> int:
        """How many tokens the text of each example may have, so that a text of `max_length` fits in after them.

        `frame` is a conversation with so many examples, a sign in the place of each text.
        """
        limit = self.settings.model.max_length
        if not (self.reads and examples):
            return limit
        room = self.reads - limit - len(self.tokens(frame)) - self.longest_answer
        return max(1, min(limit, room // examples))

    def fits(self, text: str, limit: int) -> bool:
        """Whether the text has no more than `limit` tokens, as a prompt has it."""
        _, encoded = self._begun(text, limit)
        return len(encoded["input_ids"]) <= limit

    def cut(self, text: str, limit: int) -> str:
        """The text without what lies beyond `limit` tokens, and without special tokens in it."""
        text, encoded = self._begun(text, limit)
        if len(encoded["input_ids"]) <= limit:
            return text
        return text[: encoded.token_to_chars(limit - 1).end]

    def _begun(self, text: str, limit: int) -> tuple[str, BatchEncoding]:
        """The text as a prompt has it, and its first tokens: one more than `limit`, if it has so many."""
        text = harmless(text, self.special)
        return text, self.tokenizer(text, truncation=True, max_length=limit + 1, add_special_tokens=False)

    def prompts(self, conversations: list[Messages]) -> list[list[int]]:
        """Raises UserError if one is longer than the model reads."""
        prompts = [self.tokens(messages) for messages in conversations]
        tokens = max(map(len, prompts)) + self.longest_answer
        if self.reads and tokens > self.reads:
            raise UserError(
                f"params.yaml: prompts.entries.{self.settings.method}.shots: a prompt has {tokens:,} tokens with its "
                f"answer, and {self.settings.model.name} reads at most {self.reads:,}; take fewer shots, lower "
                f"`max_length` in {self.settings.model_path}, or take the method out of prompts.methods"
            )
        return prompts


class Scorer(Decoder):
    plain = staticmethod(lines)
    scores_all_labels = True
    """Whether a preference can be taken out, or there is an answer alone."""

    def __init__(self, settings: Prompting, labels: list[str]):
        super().__init__(settings)
        self.answers = [answer_tokens(self.tokenizer, label) for label in labels]
        self.longest_answer = max(map(len, self.answers))
        self.checked = False

    def scores(self, conversations: list[Messages], title: str) -> Scores:
        """Log-likelihoods of the labels' words."""
        started = time.perf_counter()
        prompts = self.prompts(conversations)
        if not self.checked:
            language_model.check(self.model, prompts, self.answers, self.settings.model.name)
            self.checked = True
        scores = language_model.log_likelihoods(
            self.model, prompts, self.answers, self.settings.batch_size, f"{self.settings.method}: {title}"
        )
        return Scores(scores=scores, seconds=time.perf_counter() - started, input_tokens=sum(map(len, prompts)))


class Writer(Decoder):
    plain = staticmethod(paragraphs)

    def __init__(self, settings: Prompting, labels: list[str]):
        super().__init__(settings)
        self.generate = settings.generate
        self.longest_answer = self.generate.max_new_tokens
        if not self.tokenizer.chat_template:
            self.generate = self.generate.model_copy(update={"stop": [*self.generate.stop, EXAMPLE_END]})

    def texts(self, conversations: list[Messages], title: str) -> Texts:
        started = time.perf_counter()
        prompts = self.prompts(conversations)
        once = self.generate.beams == 1 and keeps_all(self.model)
        shared = language_model.common_prefix(prompts) if once else ()
        cut: list[int] = []
        written = write_after(
            prompts,
            Generation(),
            self.model,
            self.tokenizer,
            self.generate,
            self.settings.batch_size,
            self.precision,
            f"{self.settings.method}: {title}",
            shared,
            cut,
        )
        return Texts(
            texts=written,
            cut=len(cut),
            seconds=time.perf_counter() - started,
            input_tokens=sum(map(len, prompts)),
            output_tokens=sum(len(ids) for ids in self.tokenizer(written, add_special_tokens=False)["input_ids"]),
        )

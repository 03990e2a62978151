"""A decoder on this machine scores each label by the likelihood of its words after the prompt."""

import time

from tunediff.core.errors import UserError
from tunediff.models import language_model
from tunediff.models.inference import choose_precision
from tunediff.models.loading import count_parameters, load_tokenizer
from tunediff.prompting.prompts import Messages, answer_tokens, prompt_tokens
from tunediff.prompting.settings import Prompting
from tunediff.prompting.usage import Scores


class Decoder:
    scores_all_labels = True
    """Whether a preference can be taken out, or there is an answer alone."""

    def __init__(self, settings: Prompting, labels: list[str]):
        self.settings = settings
        self.tokenizer = load_tokenizer(settings.model, settings.model_path)
        self.model = language_model.load_language_model(
            settings.model, settings.model_path, choose_precision(settings.precision)
        )
        self.answers = [answer_tokens(self.tokenizer, label) for label in labels]
        self.reads = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self.checked = False

    @property
    def cost(self) -> dict[str, int]:
        return {"total_parameters": count_parameters(self.model)["total_parameters"]}

    def example_tokens(self, empty: Messages, examples: int) -> int:
        """How many tokens the text of each example may have, so that a text of `max_length` fits in after them.

        `empty` is a conversation with so many examples, without their texts.
        """
        limit = self.settings.model.max_length
        if not (self.reads and examples):
            return limit
        room = self.reads - limit - len(prompt_tokens(self.tokenizer, empty)) - max(map(len, self.answers))
        return max(1, min(limit, room // examples))

    def cut(self, text: str, limit: int) -> str:
        """The text, without what lies beyond `limit` tokens."""
        encoded = self.tokenizer(text, truncation=True, max_length=limit + 1, add_special_tokens=False)
        if len(encoded["input_ids"]) <= limit:
            return text
        return text[: encoded.token_to_chars(limit - 1).end]

    def scores(self, conversations: list[Messages], title: str) -> Scores:
        """Log-likelihoods of the labels' words."""
        started = time.perf_counter()
        prompts = [prompt_tokens(self.tokenizer, messages) for messages in conversations]
        self._fits(max(map(len, prompts)) + max(map(len, self.answers)))
        if not self.checked:
            language_model.check(self.model, prompts, self.answers, self.settings.model.name)
            self.checked = True
        scores = language_model.log_likelihoods(
            self.model, prompts, self.answers, self.settings.batch_size, f"{self.settings.method}: {title}"
        )
        return Scores(scores, time.perf_counter() - started, input_tokens=sum(map(len, prompts)))

    def _fits(self, tokens: int) -> None:
        if self.reads and tokens > self.reads:
            raise UserError(
                f"params.yaml: prompts.entries.{self.settings.method}.shots: a prompt has {tokens:,} tokens, and "
                f"{self.settings.model.name} reads at most {self.reads:,}; take fewer shots, or lower `max_length` in "
                f"{self.settings.model_path}"
            )

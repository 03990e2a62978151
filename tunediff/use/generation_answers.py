"""Texts that a model writes: the model, and what becomes of its answers in a file.

`of_task.TaskAnswers` says what each part is for. What the service needs is in `chat.py`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunediff.core.errors import UserError
from tunediff.tasks.generation import Generation
from tunediff.tasks.settings import Generate
from tunediff.tasks.turns import latest

if TYPE_CHECKING:
    import pyarrow as pa
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunediff.models.generation import Written

BATCH_SIZE = 16


class Writer:
    """A trained model that writes; it computes in fp32, as `TorchClassifier` does."""

    def __init__(
        self,
        model: "PreTrainedModel | PeftModel",
        tokenizer: "PreTrainedTokenizerBase",
        task: Generation,
        fitted: dict[str, Any],
        activated: Callable[[], AbstractContextManager] = nullcontext,
    ):
        """`fitted` has what `generate` of params.yaml was; in the context `activated()` one adapter answers."""
        self.names: list[str] = []
        self.task = task
        self.fitted = fitted
        self._generate = Generate(**fitted.get("generate", {}))
        self._parts = (model, tokenizer)
        self._activated = activated

    def predict(self, texts: list[str]) -> list[str]:
        """What is written for each text. Raises UserError as `check` does."""
        from tunediff.models.generation import write

        if self.task.chat:
            for text in texts:
                self.check(text)
        with self._activated():
            return write(self.task, *self._parts, texts, self._generate, BATCH_SIZE, "fp32", None)

    def settings(self, changes: dict[str, Any]) -> Generate:
        """How it writes, with some changes. Raises UserError if what may be written has no room behind a prompt."""
        from tunediff.models.generation import check_room

        model, tokenizer = self._parts
        changed = Generate(**{**self._generate.model_dump(), **changes})
        check_room(model.config, self.task.architecture.before(tokenizer.model_max_length), changed.max_new_tokens)
        return changed

    def check(self, text: str) -> None:
        """Raises UserError if no prompt can be made of a text, such as a chat that the model's template refuses."""
        try:
            self.task.prompt(self._parts[1]).ids(text)
        except ValueError as error:
            raise UserError(f"the chat that ends with '{latest(text):.60}': {error}") from None

    def stream(
        self, text: str, settings: Generate, tell: Callable[[str], None], stopped: Callable[[], bool]
    ) -> "Written":
        """What is written for one text; see `models.generation.stream`."""
        from tunediff.models.generation import stream

        with self._activated():
            return stream(self.task, *self._parts, text, settings, tell, stopped)


@dataclass(frozen=True)
class Columns:
    """The one column in which a model answers."""

    predicted: str

    def types(self) -> "dict[str, pa.DataType]":
        import pyarrow as pa

        return {self.predicted: pa.string()}

    def values(self, texts: list[str]) -> list[list]:
        return [texts]


def columns(model: Writer, predicted: str, prefix: str, least_confidence: float | None = None) -> Columns:
    return Columns(predicted)

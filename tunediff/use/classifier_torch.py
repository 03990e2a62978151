"""A trained model, run by PyTorch."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tunediff.models import inference
from tunediff.tasks.interface import Task
from tunediff.use.classifier import BatchedClassifier

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ACCELERATOR_BATCH_SIZE = 64


class TorchClassifier(BatchedClassifier):
    """A model of transformers or PEFT. It computes in fp32: an answer hardly depends on the texts beside it."""

    def __init__(
        self,
        model: "PreTrainedModel | PeftModel",
        tokenizer: "PreTrainedTokenizerBase",
        task: Task,
        fitted: dict[str, Any],
        activated: Callable[[], AbstractContextManager] = nullcontext,
        device: torch.device | None = None,
    ):
        """In the context `activated()` the model answers with one of its adapters, or without any.

        `device` is where the model computes; None for the accelerator if there is one, else the processor.
        """
        super().__init__(task, fitted, tokenizer.pad_token_id, tokenizer.model_max_length)
        self._tokenizer = tokenizer
        self._activated = activated
        self._device = device or inference.device()
        self._model = model.to(self._device)
        if self._device.type != "cpu":
            self.batch_size = ACCELERATOR_BATCH_SIZE

    def logits(self, texts: list[str]) -> np.ndarray:
        # Not `inference.predict_logits`: its table and progress bar cost half as much as the answer to a single text.
        with torch.inference_mode(), self._activated():
            return super().logits(texts)

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts, truncation=True, return_token_type_ids=False)["input_ids"]

    def _encoding(self, text: str) -> tuple[list[int], list[tuple[int, int]], list[int]]:
        made = self._tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        return made["input_ids"], made["offset_mapping"], made["special_tokens_mask"]

    def _compute(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        tensors = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask)}
        inputs = {name: tensor.to(self._device) for name, tensor in tensors.items()}
        return self._model(**inputs).logits.cpu().numpy()

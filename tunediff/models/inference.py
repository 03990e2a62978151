"""Logits of many texts, in batches of like length."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from tqdm import tqdm

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunediff.tasks.interface import Task

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def device() -> torch.device:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def choose_precision(wanted: str) -> str:
    """`fp32`, `bf16` or `fp16`; `auto` is bf16 or fp16 only where matrix products in it run in hardware."""
    if wanted != "auto":
        return wanted
    if device().type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Without these instructions a CPU computes bf16 2 to 5 times slower than fp32; with them twice as fast.
    return (
        "bf16"
        if device().type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
        else "fp32"
    )


def predict_logits(
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str,
) -> np.ndarray | list[np.ndarray]:
    """Logits, float32, shape [texts, labels], in the order of `encoded` (see `features.encode`).

    Of a model that answers each token, a list of as many arrays of shape [tokens, labels].
    """
    model.to(device()).eval()
    return _by_length(lambda batch: model(**batch).logits, tokenizer, encoded, batch_size, precision, title)


def outputs(
    task: "Task",
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str,
) -> np.ndarray:
    """What the task's answers are made from, as `task.probabilities` takes it; `encoded` is what `task.encode` gave.

    They are numbers that a reloaded model gives again.
    """
    return task.gathered(encoded, predict_logits(model, tokenizer, encoded, batch_size, precision, title))


def embed(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str,
) -> np.ndarray:
    """Mean of the last hidden states over each text's tokens, float32, shape [texts, hidden], ordered as `encoded`."""
    encoder = model.base_model.to(device()).eval()

    def mean_state(batch):
        mask = batch["attention_mask"].unsqueeze(-1)
        return (encoder(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)

    return _by_length(mean_state, tokenizer, encoded, batch_size, precision, title)


def embed_tokens(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str,
) -> list[np.ndarray]:
    """The last hidden states of each text's tokens, float32, shape [tokens, hidden] each, ordered as `encoded`."""
    encoder = model.base_model.to(device()).eval()
    return _by_length(
        lambda batch: encoder(**batch).last_hidden_state, tokenizer, encoded, batch_size, precision, title
    )


def _by_length(
    compute: Callable,
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str,
) -> np.ndarray | list[np.ndarray]:
    """Rows of `compute(batch)` in the order of `encoded`, computed in batches of texts of like length."""
    place = device()
    order = np.argsort(encoded["length"][:], kind="stable")[::-1]  # the longest first: memory runs out at once or never
    numbers = torch.autocast(place.type, HALVES.get(precision), enabled=precision in HALVES)
    inputs = encoded.select_columns(["input_ids", "attention_mask"])
    parts = []
    with torch.inference_mode(), numbers, tqdm(total=len(order), desc=title, unit="text") as progress:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            parts.append(compute(tokenizer.pad(inputs[rows], return_tensors="pt").to(place)).float().cpu().numpy())
            progress.update(len(rows))
    if parts[0].ndim == 2:
        result = np.empty((len(order), parts[0].shape[1]), dtype=np.float32)
        result[order] = np.concatenate(parts)
        return result
    lengths = encoded["length"][:]
    rows = dict(zip(order, (row for part in parts for row in part), strict=True))
    return [rows[place][: lengths[place]] for place in range(len(order))]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row, float64: each adds up to 1."""
    return softmax(logits.astype(np.float64), axis=-1)

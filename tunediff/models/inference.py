"""Logits of many texts, in batches of like length."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from torch import nn
from tqdm import tqdm
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

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


def halves(precision: str) -> torch.autocast:
    """The context in which matrix products are computed in that number format; it does nothing for fp32."""
    return torch.autocast(device().type, HALVES.get(precision), enabled=precision in HALVES)


def cast_frozen(model: "PreTrainedModel | PeftModel", precision: str) -> None:
    """Give frozen matrices the type once that autocast would give them at each step, which takes half the memory.

    Not those that an adapter computes with in other ways than autocast does, such as DoRA with their norms. What plain
    LoRA reads stays in that type: it is for autocast, and not for PEFT, to cast. In fp32 nothing is cast.
    """
    if precision not in HALVES:
        return
    dtype, other = HALVES[precision], set()
    if hasattr(model, "peft_config"):
        from peft.tuners.lora import LoraLayer
        from peft.tuners.tuners_utils import BaseTunerLayer

        for layer in model.modules():
            if isinstance(layer, LoraLayer) and not layer.lora_variant:
                layer.cast_input_dtype_enabled = False
            elif isinstance(layer, BaseTunerLayer):
                other.update(layer.modules())
    embedding = model.get_input_embeddings().weight  # which a language model's head may share
    for layer in model.modules():
        if type(layer).__name__ == "Linear4bit":  # of bitsandbytes
            layer.compute_dtype = dtype
        elif type(layer) not in (nn.Linear, Conv1D) or layer.weight is embedding:
            continue
        elif not layer.weight.requires_grad and layer not in other:
            layer.weight.data = layer.weight.data.to(dtype)


def predict_logits(
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str | None,
) -> np.ndarray | list[np.ndarray]:
    """Logits, float32, shape [texts, labels], in the order of `encoded` (see `features.encode`).

    Of a model that answers each token, a list of as many arrays of shape [tokens, labels]. Frozen matrices of `model`
    stay in the number format that it computes in.
    """
    cast_frozen(model, precision)
    model.to(device()).eval()
    return _by_length(lambda batch: model(**batch).logits, tokenizer, encoded, batch_size, precision, title)


def outputs(
    task: "Task",
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str | None,
) -> np.ndarray:
    """What the task's answers are made from, as `task.probabilities` takes it; `encoded` is what `task.encode` gave.

    They are numbers that a reloaded model gives again, float32, shape [rows, ...], in the order of `encoded`: logits,
    or what the task's `condensed` keeps of them.
    """
    if not task.writes:
        return task.gathered(encoded, predict_logits(model, tokenizer, encoded, batch_size, precision, title))
    cast_frozen(model, precision)
    collate = task.collator(tokenizer)
    model.to(device()).eval()

    def compute(rows: np.ndarray) -> torch.Tensor:
        batch = collate(encoded.select(rows).to_list())
        batch = {name: value.to(device()) if hasattr(value, "to") else value for name, value in batch.items()}
        labels = batch.pop("labels")
        return task.condensed(model(**batch).logits, labels)

    return _in_batches(compute, encoded["length"][:], batch_size, precision, title)


def embed(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str | None,
) -> np.ndarray:
    """Mean of the last hidden states over each text's tokens, float32, shape [texts, hidden], ordered as `encoded`.

    Without a `title` there is no progress bar.
    """
    encoder = encoder_of(model).to(device()).eval()

    return _by_length(lambda batch: mean_states(encoder, batch), tokenizer, encoded, batch_size, precision, title)


def mean_states(encoder: nn.Module, batch: "BatchEncoding") -> torch.Tensor:
    """Mean of the last hidden states over each text's tokens, shape [texts, hidden]."""
    mask = batch["attention_mask"].unsqueeze(-1)
    return (encoder(**batch).last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1)  # a text may be empty


def embed_tokens(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str,
) -> list[np.ndarray]:
    """The last hidden states of each text's tokens, float32, shape [tokens, hidden] each, ordered as `encoded`."""
    encoder = encoder_of(model).to(device()).eval()
    return _by_length(
        lambda batch: encoder(**batch).last_hidden_state, tokenizer, encoded, batch_size, precision, title
    )


def encoder_of(model: "PreTrainedModel") -> nn.Module:
    """The model without its head, and without its decoder if it has an encoder beside it."""
    return model.base_model.get_encoder() if model.config.is_encoder_decoder else model.base_model


def _by_length(
    compute: Callable,
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Dataset,
    batch_size: int,
    precision: str,
    title: str | None,
) -> np.ndarray | list[np.ndarray]:
    """Rows of `compute(batch)` in the order of `encoded`, computed in batches of texts of like length."""
    inputs = encoded.select_columns(["input_ids", "attention_mask"])

    def padded(rows: np.ndarray) -> torch.Tensor:
        return compute(tokenizer.pad(inputs[rows], return_tensors="pt").to(device()))

    return _in_batches(padded, encoded["length"][:], batch_size, precision, title)


def _in_batches(
    compute: Callable[[np.ndarray], torch.Tensor],
    lengths: list[int],
    batch_size: int,
    precision: str,
    title: str | None,
) -> np.ndarray | list[np.ndarray]:
    """What `compute` gives for the numbers of some rows, in the order of all of them.

    Where it gives something for each token, a list of arrays, each as long as its row.
    """
    order = np.argsort(lengths, kind="stable")[::-1]  # the longest first: memory runs out at once or never
    parts = []
    hidden = {"disable": True} if title is None else {}
    bar = tqdm(total=len(order), desc=title, unit="text", **hidden)
    with torch.inference_mode(), halves(precision), bar as progress:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            parts.append(compute(rows).float().cpu().numpy())
            progress.update(len(rows))
    if parts[0].ndim == 2:
        result = np.empty((len(order), parts[0].shape[1]), dtype=np.float32)
        result[order] = np.concatenate(parts)
        return result
    each = dict(zip(order, (row for part in parts for row in part), strict=True))
    return [each[row][: lengths[row]] for row in range(len(order))]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row, float64: each adds up to 1."""
    return softmax(logits.astype(np.float64), axis=-1)

"""Frozen weights in 4 or 8 bits, by bitsandbytes: for adapters over models that would not fit otherwise (QLoRA)."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import BitsAndBytesConfig, PreTrainedConfig

from tunediff.core.errors import UserError
from tunediff.models.layers import ends_in, head_modules

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

NF4 = 1 / 2 + 1 / 64 + 4 / (64 * 256)  # bytes of a weight: 64 have a scale of a byte, 256 scales one of four bytes
ROW = 4  # bytes of the scale that a row of weights in 8 bits has

logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)  # that int8 computes in fp16, each time


def quantization(kind: str, auto: type, config: PreTrainedConfig, head: list[str], place: Path) -> BitsAndBytesConfig:
    """What `from_pretrained` of the class `auto` takes to load a model in the format `kind`, its head excepted.

    `head` are the pretrained modules that adapters train completely. Raises UserError, which names the file `place`,
    if bitsandbytes is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"{place}: quantize: {kind} needs the package bitsandbytes; install it with `pip install bitsandbytes`, or "
            "leave quantize out"
        )
    with torch.device("meta"):
        model = auto.from_config(config)
    floats = [*head_modules(model), *(name for name, _ in model.named_modules() if ends_in(name, head))]
    if kind == "int8":
        # Without a threshold: it would compute outliers of a batch apart, and an answer depend on the texts beside it.
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0, llm_int8_skip_modules=floats)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=floats,
    )


def keep_format(model: "PreTrainedModel") -> None:
    """Let layers in 4 bits keep their format, as on every other machine.

    On CPUs with bf16 in hardware bitsandbytes would pack the weights for a product of its own when they are first
    evaluated: with other scales, not for every size of a layer, and without gradients in the rest of a training.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def sizes(model: "PreTrainedModel | PeftModel") -> dict[str, int]:
    """`total_parameters`, and `frozen_bytes`: the memory of the weights that are not trained, with their scales."""
    total = frozen = 0
    for weight in model.parameters():
        four_bits = getattr(weight, "quant_state", None)  # of which the tensor has several in one number
        numbers = four_bits.shape.numel() if four_bits else weight.numel()
        total += numbers
        if four_bits:
            frozen += NF4 * numbers
        elif not weight.requires_grad:
            frozen += weight.nbytes + (0 if weight.is_floating_point() else ROW * len(weight))
    return {"total_parameters": total, "frozen_bytes": round(frozen)}

"""From a model of PyTorch to the files that ONNX Runtime reads: in fp32, and with 8-bit weights."""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunediff.core.errors import UserError, reason
from tunediff.use.classifier_onnx import FP32, INT8

if TYPE_CHECKING:
    from peft import PeftModel


LIMIT = 2**31  # bytes of a file of ONNX, in which the weights of 8 bits are


def check_size(model: "PreTrainedModel | PeftModel", place: Path) -> None:
    """Raises UserError, which names `place`, if the model is too large."""
    size = sum(weights.numel() * (1 if weights.ndim > 1 else 4) for weights in model.parameters())
    if size > LIMIT:
        raise UserError(
            f"{place}: cannot be exported to ONNX: its weights take {size / 2**30:.1f} GiB in 8 bits, and a file holds "
            f"{LIMIT >> 30}; use it with PyTorch"
        )


def convert(
    model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, folder: Path, place: Path
) -> None:
    """Write to `folder` what `OnnxClassifier` reads beside config.json: `FP32`, `INT8`, a tokenizer that cuts and pads.

    Raises UserError, which names `place`, if the model is too large, or cannot be traced.
    """
    check_size(model, place)
    _trace(model, tokenizer, folder / FP32, place)
    _quantize(folder)
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(tokenizer.model_max_length)
    backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    backend.save(str(folder / "tokenizer.json"))


class Logits(torch.nn.Module):
    """`model` with tensors for input and output."""

    def __init__(self, model: "PreTrainedModel | PeftModel"):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def _trace(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, file: Path, place: Path) -> None:
    """Write `model` to `file`, for any number of texts of any length."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    example = tokenizer(["a short text", "one that is a little longer"], padding=True, return_tensors="pt")
    inputs = (example["input_ids"], example["attention_mask"])
    # 23 has attention as one operator, but also rotary embeddings, which ONNX Runtime 1.31 gets wrong for a batch.
    rotary = getattr(model.config, "rope_parameters", None)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # that torchvision is not there
    try:
        with warnings.catch_warnings(action="ignore"), torch.inference_mode():
            program = torch.onnx.export(
                Logits(model.cpu()).eval(),
                inputs,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_shapes=({0: "batch", 1: "sequence"},) * 2,
                opset_version=22 if rotary else 23,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # whatever of the model's code cannot be traced
        cause = reason(error.__cause__ or error)
        raise UserError(f"{place}: cannot be exported to ONNX: {cause}; use it with PyTorch") from None
    ClearMetadataAndDocStringPass()(program.model)  # where in which file each operator was called
    program.save(file)


def _quantize(folder: Path) -> None:
    """Write `INT8` beside `FP32`: the same with weights of 8 bits, and activations brought to 8 bits as they come."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(folder / FP32)
    del model.graph.value_info[:]  # shapes that its own shape inference takes for contradictions
    shapes = {weights.name: weights.dims for weights in model.graph.initializer}
    narrowing = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in shapes and shapes[node.input[1]][0] > shapes[node.input[1]][1]
    ]
    logging.disable(logging.WARNING)  # advice to optimise the graph first, and a line for each operator
    quantize_dynamic(
        model,
        folder / INT8,
        op_types_to_quantize=["MatMul", "Gemm", "Gather"],  # Gather: the embeddings, half of a small model
        per_channel=True,  # one scale for a whole matrix doubles the error of the logits
        reduce_range=True,  # of the weights: with all 8 bits, sums overflow on processors without VNNI
        nodes_to_exclude=narrowing,
    )
    # What feed-forward blocks narrow has outliers: one scale for all of it leaves the rest few of the 8 bits. It gets
    # one for each 128 numbers. With that everywhere, the error would be a third and half of the gain lost.
    blockwise = MatMulNBitsQuantizer(
        onnx.load(folder / INT8), bits=8, block_size=128, is_symmetric=True, accuracy_level=4
    )
    blockwise.process()
    blockwise.model.save_model_to_file(str(folder / INT8))
    logging.disable(logging.NOTSET)

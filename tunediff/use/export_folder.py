"""The folder of an exported model: for ONNX Runtime and for transformers, and checked to answer as PyTorch does."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedModel

from tunediff.core.errors import UserError, reason
from tunediff.core.files import atomic
from tunediff.models.inference import predict_logits
from tunediff.models.own_methods import BottleneckLayer
from tunediff.models.saved import load_saved, task_of
from tunediff.tasks.features import encode
from tunediff.use.classifier_onnx import FP32, INT8, OnnxClassifier
from tunediff.use.classifier_torch import TorchClassifier
from tunediff.use.export_card import write_card
from tunediff.use.export_comparison import System
from tunediff.use.export_onnx import check_size, convert

if TYPE_CHECKING:
    from peft import PeftModel

BATCH_SIZE = 64
TOLERANCE = 1e-3  # of logits: a lost head or adapter moves them by whole units, another order of sums by less


def export(trained: Path, exported: Path, texts: list[str]) -> dict[str, System]:
    """Export the model of the folder `trained` to the folder `exported`; return what answers there, by name.

    `pytorch` comes first, then `fp32` and `int8`, each with its logits of `texts`. Raises UserError if the model cannot
    be exported, or if the exported one answers otherwise.
    """
    original, tokenizer = load_saved(trained)
    check_size(original, trained)  # of quantized weights less than the whole: `convert` looks again
    task, fitted = task_of(original.config), original.config.tunediff
    if task.cuts:
        expected = predict_logits(original, tokenizer, encode(tokenizer, texts), BATCH_SIZE, "fp32", "PyTorch")
    else:
        expected = TorchClassifier(original, tokenizer, task, fitted).logits(texts)
    model = merged(trained)
    size = sum(weights.nbytes for weights in model.state_dict().values())
    systems = {}
    with atomic(exported) as folder:
        left_out = shutil.ignore_patterns("*.safetensors", "adapter_*", "seed-*")
        shutil.copytree(trained, folder, ignore=left_out, copy_function=shutil.copyfile)  # writable, unlike DVC's
        convert(model, tokenizer, folder, trained)
        if loadable := is_loadable(model):
            model.config.tunediff.pop("adapter", None)  # which is in the weights now
            model.save_pretrained(folder)
        write_card(folder, trained, exported, loadable, task.pipeline)
        classifier = TorchClassifier(model, tokenizer, task, fitted, device=torch.device("cpu"))  # as ONNX Runtime does
        systems["pytorch"] = System(classifier, expected, size)
        for name, file in (("fp32", FP32), ("int8", INT8)):
            classifier = OnnxClassifier(folder, file, torch.get_num_threads())
            stored = sum(part.stat().st_size for part in folder.glob(f"{file}*"))  # large weights are in a second file
            systems[name] = System(classifier, classifier.logits(texts), stored)
        if (difference := np.abs(systems["fp32"].logits - expected).max()) > TOLERANCE:
            raise UserError(
                f"{trained}: cannot be exported: the exported model answers otherwise (logits differ by up to "
                f"{difference:.3g}); use it with PyTorch"
            )
    return systems


def merged(folder: Path) -> "PreTrainedModel | PeftModel":
    """The trained model with its adapter merged into the weights, or as it is where PEFT cannot do that."""
    model, _ = load_saved(folder, dequantize=True)
    if hasattr(model, "merge_and_unload"):
        try:
            model = model.merge_and_unload()
        except Exception as error:  # PEFT raises whatever comes, and leaves a model that is half merged
            print(f"{folder}: the adapter cannot be merged ({reason(error)}); it stays beside the weights")
            model, _ = load_saved(folder, dequantize=True)
    return model.eval()


def is_loadable(model: "PreTrainedModel | PeftModel") -> bool:
    """Whether transformers alone makes this model of its config: no adapter is left, nor a layer that it has not."""
    return isinstance(model, PreTrainedModel) and not any(isinstance(part, BottleneckLayer) for part in model.modules())

"""Export a trained model to ONNX, whole and with 8-bit weights, and measure both beside PyTorch.

An adapter is merged into the weights, which are saved for transformers as well.

dvc exp run -S 'export.methods=[lora-v2]'
"""

import argparse
import logging
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from huggingface_hub import ModelCard
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunediff.core import devices
from tunediff.core.errors import UserError, reason
from tunediff.core.files import atomic, read_json, write_json
from tunediff.core.process import run
from tunediff.core.splits import load_split
from tunediff.evidence import uncertainty
from tunediff.models.inference import predict_logits
from tunediff.models.own_methods import BottleneckLayer
from tunediff.models.saved import load_saved
from tunediff.settings.params import Params
from tunediff.settings.study import load
from tunediff.tasks.features import encode
from tunediff.use.classifier_onnx import FP32, INT8, OnnxClassifier

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel

TOLERANCE = 1e-3  # of logits: a lost head or adapter moves them by whole units, another order of sums by less
ROUNDS = 7  # of timing: in each, every system answers the same texts
TEXTS = 50  # answered one by one in a round
BATCH_SIZE = 64  # texts answered together in a round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=Path, required=True, help="folder with test.parquet")
    parser.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--exported", type=Path, required=True, help="folder for the exported model")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file for size, accuracy and difference")
    parser.add_argument("--cost", type=Path, required=True, help="JSON file for latency and throughput")
    args = parser.parse_args()
    params = load().params
    devices.take()
    test = load_split(args.splits, "test")
    texts = test["text"][:]

    tuned, tokenizer = load_saved(args.model)
    expected = predict_logits(tuned, tokenizer, encode(tokenizer, texts), BATCH_SIZE, "fp32", "PyTorch")
    model = merged(args.model)
    with atomic(args.exported) as folder:
        shutil.copytree(args.model, folder, ignore=shutil.ignore_patterns("*.safetensors", "adapter_*", "seed-*"))
        export(model, tokenizer, folder, args.model)
        quantize(folder)
        if loadable := is_loadable(model):
            model.config.tunediff.pop("adapter", None)  # which is in the weights now
            model.save_pretrained(folder)
        write_card(folder, args.model, args.exported, loadable)
        exported = {
            name: OnnxClassifier(folder, file, torch.get_num_threads())
            for name, file in (("fp32", FP32), ("int8", INT8))
        }
        answers = {name: classifier.logits(texts) for name, classifier in exported.items()}
        if (difference := np.abs(answers["fp32"] - expected).max()) > TOLERANCE:
            raise UserError(
                f"{args.model}: cannot be exported: the exported model answers otherwise (logits differ by up to "
                f"{difference:.3g}); use it with PyTorch"
            )
        sizes = {"pytorch": sum(weights.nbytes for weights in model.state_dict().values())}
        sizes |= {name: (folder / file).stat().st_size for name, file in (("fp32", FP32), ("int8", INT8))}

    write_json(args.metrics, {"rows": len(test), **compare(test, expected, answers, sizes, params)})
    systems = {"pytorch": eager(model, tokenizer)} | {name: each.predict for name, each in exported.items()}
    write_json(args.cost, {"threads": torch.get_num_threads(), **speed(systems, texts, params.seed)})


# --- from PyTorch to ONNX


def merged(folder: Path) -> "PreTrainedModel | PeftModel":
    """The trained model with its adapter merged into the weights, or as it is where PEFT cannot do that."""
    model, _ = load_saved(folder)
    if hasattr(model, "merge_and_unload"):
        try:
            model = model.merge_and_unload()
        except Exception as error:  # PEFT raises whatever comes, and leaves a model that is half merged
            print(f"{folder}: the adapter cannot be merged ({reason(error)}); exported beside the weights")
            model, _ = load_saved(folder)
    return model.eval()


def is_loadable(model: "PreTrainedModel | PeftModel") -> bool:
    """Whether transformers alone makes this model of its config: no adapter is left, nor a layer that it has not."""
    return isinstance(model, PreTrainedModel) and not any(isinstance(part, BottleneckLayer) for part in model.modules())


class Logits(torch.nn.Module):
    """`model` with tensors for input and output."""

    def __init__(self, model: "PreTrainedModel | PeftModel"):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def export(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, folder: Path, where: Path) -> None:
    """Write `model` to the file `FP32`, for any number of texts of any length, and a tokenizer that cuts and pads.

    Raises UserError, which names `where`, if the model cannot be traced.
    """
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
        raise UserError(f"{where}: cannot be exported to ONNX: {cause}; use it with PyTorch") from None
    ClearMetadataAndDocStringPass()(program.model)  # where in which file each operator was called
    program.save(folder / FP32)

    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(tokenizer.model_max_length)
    backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    backend.save(str(folder / "tokenizer.json"))


def quantize(folder: Path) -> None:
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


USE = """## How to use

Exported from `{trained}`.
{transformers}
`{fp32}` and `{int8}`, the same with weights of 8 bits, are for ONNX Runtime, which needs no PyTorch. In the
project that exported them, this asks the second one:

```sh
python -m stages.predict --model {exported} "A text to label"
```

Its probabilities come from logits divided by {temperature}, the temperature fitted on validation, which
`config.json` has under `tunediff`.

"""
TRANSFORMERS = """
```python
from transformers import pipeline

classify = pipeline("text-classification", "{exported}")  # or its id on the Hub
print(classify("A text to label", truncation=True))
```

Its scores are not calibrated.
"""


def write_card(folder: Path, trained: Path, exported: Path, loadable: bool) -> None:
    """Let the trained model's card, which `folder` has, say how the exported one is used, which will stand there."""
    card = ModelCard.load(folder / "README.md")
    card.data.library_name = "transformers" if loadable else "onnx"
    if card.data.base_model:
        card.data.base_model_relation = "finetune"
    use = USE.format(
        trained=trained.as_posix(),
        exported=exported.as_posix(),
        transformers=TRANSFORMERS.format(exported=exported.as_posix()) if loadable else "",
        fp32=FP32,
        int8=INT8,
        temperature=read_json(folder / "config.json")["tunediff"]["temperature"],
    )
    before, after = card.text.index("## How to use\n"), card.text.index("## Training data\n")
    card.text = card.text[:before] + use + card.text[after:]
    card.save(folder / "README.md")


# --- what it costs and what it gains


def compare(
    test: "Dataset", expected: np.ndarray, answers: dict[str, np.ndarray], sizes: dict[str, int], params: Params
) -> dict[str, dict[str, float]]:
    """By system: accuracy on `test`, and of the exported ones how it differs from PyTorch's, with its interval.

    `expected` and `answers` are logits, shape [rows, labels]; `sizes` are of the weights, in bytes.
    """
    actual, labels = np.array(test["label"][:]), expected.shape[1]
    found = {"pytorch": {"accuracy": float(np.mean(expected.argmax(1) == actual)), "bytes": sizes["pytorch"]}}
    for name, logits in answers.items():
        predicted, other = logits.argmax(1)[None], expected.argmax(1)[None]
        confidence = params.report.confidence
        change = uncertainty.differences(actual, predicted, other, labels, confidence, params.seed)["accuracy"]
        found[name] = {
            "accuracy": float(np.mean(predicted[0] == actual)),
            "accuracy_difference": change.value,
            "accuracy_difference_low": change.low,
            "accuracy_difference_high": change.high,
            "changed_answers": int(np.sum(predicted != other)),
            "largest_logit_difference": float(np.abs(logits - expected).max()),
            "bytes": sizes[name],
        }
    return found


def eager(
    model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase
) -> Callable[[list[str]], np.ndarray]:
    """Probabilities of a batch of texts, as PyTorch computes them: fp32, one operator after the other."""

    def answer(texts: list[str]) -> np.ndarray:
        batch = tokenizer(texts, padding=True, truncation=True, return_token_type_ids=False, return_tensors="pt")
        with torch.inference_mode():
            return model(**batch).logits.softmax(-1).numpy()

    return answer


def speed(
    systems: dict[str, Callable[[list[str]], np.ndarray]], texts: list[str], seed: int
) -> dict[str, dict[str, float]]:
    """By system, from text to probabilities: latency of one text in milliseconds, and texts per second in batches.

    Figures are medians over the rounds. `speedup` is the first system's median latency by this one's, in the same
    round; `speedup_low` and `speedup_high` are the least and the most of any round.
    """
    random = np.random.default_rng(seed)
    rounds = {name: {"p50_ms": [], "p95_ms": [], "texts_per_second": []} for name in systems}
    for _ in range(ROUNDS):
        single, batch = (random.choice(texts, size).tolist() for size in (TEXTS, BATCH_SIZE))
        for name in random.permutation(list(systems)):
            for text in single:  # until the threads of the one before, which wait awake for more, have gone to sleep
                systems[name]([text])
            seconds = [timed(systems[name], [text]) for text in single]
            p50, p95 = np.percentile(seconds, [50, 95])
            rounds[name]["p50_ms"].append(1000 * p50)
            rounds[name]["p95_ms"].append(1000 * p95)
            rounds[name]["texts_per_second"].append(BATCH_SIZE / timed(systems[name], batch))

    first, *others = systems
    found = {name: {key: float(np.median(values)) for key, values in each.items()} for name, each in rounds.items()}
    for name in others:
        ratios = np.divide(rounds[first]["p50_ms"], rounds[name]["p50_ms"])
        found[name] |= {
            "speedup": float(np.median(ratios)),
            "speedup_low": float(ratios.min()),
            "speedup_high": float(ratios.max()),
        }
    return found


def timed(answer: Callable[[list[str]], np.ndarray], texts: list[str]) -> float:
    started = time.perf_counter()
    answer(texts)
    return time.perf_counter() - started


if __name__ == "__main__":
    run(main)

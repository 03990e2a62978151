"""The folder of an exported model that writes: an adapter merged into the weights, and the same as a GGUF file.

Both are read again, and must answer as the trained model does.
"""

import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tunediff.core.errors import UserError
from tunediff.core.files import atomic
from tunediff.models import gguf_file
from tunediff.models.generation import generation_config
from tunediff.models.inference import device
from tunediff.models.saved import load_saved, task_of
from tunediff.models.saving import SHARD
from tunediff.tasks.settings import Generate
from tunediff.use import export_gguf
from tunediff.use.export_card import write_writers_card
from tunediff.use.export_folder import is_loadable, merged
from tunediff.use.generation_answers import Writer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunediff.tasks.generation import Generation

ROWS = 16  # texts of test that are asked
ROUNDS = 3  # of timing
# Differences of logits by their range: a lost adapter, or rows in another order, change them by far more.
MERGED, GGUF = 1e-3, 1e-2


@dataclass(frozen=True)
class Asked:
    """What a model answers."""

    logits: np.ndarray
    """Of each answer's first token, float32, shape [prompts, vocabulary]."""
    texts: list[str]
    seconds: float
    """To write the texts: the median of some rounds."""

    def beside(self, other: "Asked") -> dict[str, float]:
        """How it answers otherwise than another model."""
        changed = sum(one != before for one, before in zip(self.texts, other.texts, strict=True))
        return {"changed_answers": changed, "largest_logit_difference": float(np.abs(self.logits - other.logits).max())}


def export(trained: Path, exported: Path, texts: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Export the model of the folder `trained` to the folder `exported`; its figures and its costs, by what was made.

    Raises UserError if the model cannot be exported, or if the exported one answers otherwise.
    """
    original, tokenizer = load_saved(trained)
    task, generate = task_of(original.config), original.config.tunediff["generate"]
    texts = texts[:ROWS]
    before = ask(original, tokenizer, task, generate, texts)
    del original
    model = merged(trained)
    if not is_loadable(model):
        raise UserError(f"{trained}: cannot be exported: what it learnt is not in its weights; use the folder as it is")
    with atomic(exported) as folder:
        left_out = shutil.ignore_patterns("*.safetensors", "adapter_*", "seed-*")
        shutil.copytree(trained, folder, ignore=left_out, copy_function=shutil.copyfile)  # writable, unlike DVC's
        model.config.tunediff.pop("adapter", None)  # which is in the weights now
        model.generation_config = generation_config(task.prompt(tokenizer), tokenizer, Generate(**generate))
        model.save_pretrained(folder, max_shard_size=SHARD)
        file = folder / export_gguf.FILE
        problem = export_gguf.why_not(model.config, tokenizer)
        if not problem:
            export_gguf.write_gguf(model, tokenizer, task.prompt(tokenizer).end, exported.name, file)
        del model
        after = ask(*load_saved(folder), task, generate, texts)
        figures = {"merged": {"bytes": size(folder.glob("*.safetensors")), **after.beside(before)}}
        change = figures["merged"]["largest_logit_difference"]
        if not change <= MERGED * np.ptp(before.logits):
            raise UserError(
                f"{trained}: cannot be exported: the exported model answers otherwise (logits differ by up to "
                f"{change:.3g}); use the folder as it is"
            )
        if not problem:
            problem, differences = from_gguf(file, tokenizer, task, generate, texts, before)
            figures["gguf"] = {"bytes": size([file]), **differences}
        if problem:
            print(f"{exported}: without a GGUF file: {problem}")
            file.unlink(missing_ok=True)
            figures.pop("gguf", None)
        write_writers_card(folder, trained, exported, gguf=not problem)
    speeds = {
        name: {"texts_per_second": len(texts) / each.seconds} for name, each in (("pytorch", before), ("merged", after))
    }
    return {"rows": len(texts), **figures}, speeds


def ask(
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    task: "Generation",
    generate: dict[str, Any],
    texts: list[str],
) -> Asked:
    """What the model answers to the texts; `generate` is how it writes."""
    place = device()
    model.to(place).eval()
    prompt, architecture = task.prompt(tokenizer), task.architecture
    logits = []
    with torch.inference_mode():
        for text in texts:
            batch = architecture.batch(tokenizer, [architecture.row(prompt.parts(text), [prompt.end])])
            labels = batch.pop("labels")
            batch = {name: value.to(place) if hasattr(value, "to") else value for name, value in batch.items()}
            logits.append(architecture.aligned(model(**batch).logits, labels)[0][0, -1].float().cpu())
    writer = Writer(model, tokenizer, task, {"generate": generate})
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        written = writer.predict(texts)
        seconds.append(time.perf_counter() - started)
    return Asked(np.stack(logits), written, statistics.median(seconds))


def from_gguf(
    file: Path,
    tokenizer: "PreTrainedTokenizerBase",
    task: "Generation",
    generate: dict[str, Any],
    texts: list[str],
    before: Asked,
) -> tuple[str, dict[str, float]]:
    """What is wrong with the file as transformers reads it, empty if nothing is; and how it answers otherwise."""
    model, read = gguf_file.read(file)
    read.model_max_length = tokenizer.model_max_length
    theirs, own = task.prompt(read), task.prompt(tokenizer)
    if any(theirs.ids(text) != own.ids(text) for text in texts):
        return "transformers reads other tokens out of it", {}
    differences = ask(model, read, task, generate, texts).beside(before)
    if differences["largest_logit_difference"] <= GGUF * np.ptp(before.logits):
        return "", differences
    return f"its logits differ by up to {differences['largest_logit_difference']:.3g}", {}


def size(files: Any) -> int:
    return sum(file.stat().st_size for file in files)

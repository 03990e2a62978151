"""Texts per second in the training loop, padding not counted: the pipeline's own against what people write instead.

Each round trains ours for an epoch, then each peer for some steps, each in a process of its own, on the same texts:

python -m benchmarks.training --method full --peers a b c c-bf16 --rounds 5

With --quality all of them train to the end, and validation accuracy and macro F1 are printed too:

python -m benchmarks.training --method full --peers b c --rounds 1 --quality

The peers take the settings of params.yaml, and fp32, which is the Trainer's own choice; PEER-bf16 takes bf16. With
--splits FOLDER, all read another data set, which `prepare` wrote there.
"""

import argparse
import io
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    trainer,
)

from tunediff.core.splits import load_split
from tunediff.models import loading
from tunediff.models.inference import device, probabilities
from tunediff.settings import resolve
from tunediff.settings.study import load
from tunediff.tasks import TASKS
from tunediff.training.methods import method_of, train
from tunediff.training.settings import Training

PADDED = {"a": 512, "b": 128, "c": None}
"""Tokens to which a text is padded: as notebooks do, as run_classification.py does, and to the longest of its batch."""
STEPS = {"a": 8, "b": 25, "c": 60}
WARM_UP = 3


class Clock(TrainerCallback):
    """Counts texts and seconds of training after the warm-up, without the time between two epochs."""

    texts = 0
    seconds = 0.0
    best: ClassVar[dict[str, float]] = {}

    def on_epoch_begin(self, args, state, control, **kwargs):
        Clock.since = time.perf_counter()

    def on_step_end(self, args, state, control, train_dataloader, **kwargs):
        if state.global_step <= WARM_UP:
            self.on_epoch_begin(args, state, control)
            return
        now = time.perf_counter()
        Clock.seconds += now - Clock.since
        Clock.since = now
        batch_size = args.train_batch_size
        rows = len(train_dataloader.dataset)
        last = state.global_step % math.ceil(rows / batch_size) == 0
        Clock.texts += (rows - 1) % batch_size + 1 if last else batch_size

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        if metrics.get("eval_f1", 0) > Clock.best.get("eval_f1", -1):
            Clock.best = metrics


@dataclass(frozen=True)
class Figures:
    """The speed of one training, and the validation figures of its best epoch."""

    texts_per_second: float
    best: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="full", help="full, or lora-NAME of params.yaml")
    parser.add_argument("--peers", nargs="+", default=["a", "b", "c", "c-bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--splits", type=Path, default=Path("data/prepared"))
    parser.add_argument("--precision", help="of ours, if not that of params.yaml")
    parser.add_argument("--rows", type=int, help="only so many rows of train and validation")
    parser.add_argument("--quality", action="store_true", help="all epochs, all steps")
    args = parser.parse_args()
    training = training_of(args.method, args.precision, None if args.quality else 1)
    splits = [load_split(args.splits, name) for name in ("train", "validation")]
    splits = [split.select(range(min(len(split), args.rows or len(split)))) for split in splits]

    ratios = {peer: [] for peer in args.peers}
    for number in range(1, args.rounds + 1):
        mine = measure(ours, training, splits)
        print(f"round {number}: ours {described(mine)}", flush=True)
        for peer in args.peers:
            other = measure(theirs, training, splits, peer, args.quality)
            ratios[peer].append(mine.texts_per_second / other.texts_per_second)
            print(f"round {number}: {peer} {described(other)}: {ratios[peer][-1]:.2f} times", flush=True)
    for peer, times in ratios.items():
        print(f"{peer}: {statistics.median(times):.2f} times, {min(times):.2f} to {max(times):.2f}")


def described(figures: Figures) -> str:
    quality = {
        name: round(figures.best[f"eval_{name}"], 4) for name in ("accuracy", "f1") if f"eval_{name}" in figures.best
    }
    return f"{figures.texts_per_second:.2f} texts/s {quality or ''}"


def measure(run: Callable[..., None], *arguments: Any) -> Figures:
    """Run a training in a process of its own, where no other one has changed PyTorch, as `fast.on_cpu` does."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(clocked, run, *arguments).result()


def clocked(run: Callable[..., None], *arguments: Any) -> Figures:
    """Run a training, with a cache folder of its own."""
    trainer.DEFAULT_CALLBACKS.append(Clock)
    with tempfile.TemporaryDirectory(prefix="tunediff-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        with redirect_stdout(io.StringIO()):  # the Trainer prints its figures
            run(*arguments)
    return Figures(Clock.texts / Clock.seconds, Clock.best)


def ours(training: Training, splits: list[Dataset]) -> None:
    """Train as the pipeline does."""
    with tempfile.TemporaryDirectory(prefix="tunediff-") as folder:
        train(method_of(training), training, *splits, training.seeds[0], Path(folder)).checkpoints.remove()


def training_of(method: str, precision: str | None, epochs: int | None) -> Training:
    """The method's settings in that number format, for that many epochs without an early end, if they are given."""
    training = resolve.training(load(), method)
    lengths = {"patience": 0} if epochs is None else {"patience": 0, "epochs": epochs}
    changes = {} if precision is None else {"precision": precision}
    return training.model_copy(update={"train": training.train.model_copy(update=lengths), **changes})


def build(training: Training, train: Dataset) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The tokenizer, and the model that the stage trains."""
    task = TASKS[training.task].of(train.features)
    tokenizer = loading.load_tokenizer(training.model, training.model_path)
    model = loading.load_pretrained(training.model, training.model_path, tokenizer, task, training.seeds[0])
    return tokenizer, method_of(training)(model, tokenizer, training)[0]


def theirs(training: Training, splits: list[Dataset], peer: str, quality: bool) -> None:
    """Train as a plain script with the Trainer does. `peer` is a key of PADDED, with -bf16 for that number format."""
    peer, _, precision = peer.partition("-")
    values = training.train
    tokenizer, model = build(training, splits[0])
    task = TASKS[training.task].of(splits[0].features)
    writes = task.name == "generation"

    def figures(prediction: EvalPrediction) -> dict[str, float]:
        scores = task.score(prediction.label_ids, probabilities(prediction.predictions))
        return {name: scores[name] for name in task.headline}

    def encoded(split: Dataset) -> Dataset:
        # No more tokens are read than ours reads; the rest is padding.
        if writes:
            return task.encode(tokenizer, split).select_columns(["input_ids", "labels"])
        ids = tokenizer(split["text"][:], truncation=True, return_token_type_ids=False)
        if PADDED[peer]:
            ids = tokenizer.pad(ids, padding="max_length", max_length=PADDED[peer])
        return Dataset.from_dict({**ids, "labels": split["label"][:]})

    with tempfile.TemporaryDirectory(prefix="tunediff-") as folder:
        Trainer(
            model,
            TrainingArguments(
                folder,
                max_steps=-1 if quality else min(STEPS[peer], math.ceil(len(splits[0]) / values.batch_size)),
                num_train_epochs=values.epochs,
                per_device_train_batch_size=values.batch_size,
                per_device_eval_batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                weight_decay=values.weight_decay,
                warmup_steps=values.warmup,
                use_cpu=device().type == "cpu",  # bf16 is refused without
                bf16=precision == "bf16",
                eval_strategy="epoch" if quality else "no",
                save_strategy="no",
                dataloader_pin_memory=False,
                seed=training.seeds[0],
                report_to="none",
            ),
            train_dataset=encoded(splits[0]),
            eval_dataset=encoded(splits[1]),
            processing_class=tokenizer,
            data_collator=(DataCollatorForSeq2Seq if writes else DataCollatorWithPadding)(tokenizer),
            compute_metrics=None if writes else figures,
        ).train()


if __name__ == "__main__":
    main()

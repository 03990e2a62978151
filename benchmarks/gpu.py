"""Speed and memory of a training step on one GPU: ours beside a plain Trainer in bf16, also with torch.compile.

bash benchmarks/gpu.sh            # at most eight minutes; prints a table in Markdown, row by row
python -m benchmarks.gpu --tiny   # small models, which a CPU can train: whether it works, not how fast it is

Random weights in the shapes of bert-base, SmolLM2-135M and Llama 3.2 1B classify random texts. All texts of a row have
the same number of tokens, so padding plays no part. MFU (model FLOPs utilisation) is the operations per second that the
layers need (`limit.operations`, and attention's own products), as a share of what the GPU can do: in bf16 by its maker,
or else in a product of two large matrices. QLoRA (nf4) is measured where bitsandbytes is installed, and compared with
the Trainer's LoRA.
"""

import argparse
import dataclasses
import gc
import io
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features, Value
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    BertConfig,
    DataCollatorWithPadding,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.limit import operations, product_rate, synchronize
from benchmarks.training import WARM_UP, build, training_of
from tunediff.core.cost import peak_memory_bytes
from tunediff.models.inference import choose_precision, device
from tunediff.models.settings import Adapted
from tunediff.tasks import task_of
from tunediff.training.loop import arguments, faster, make_trainer
from tunediff.training.settings import Training

SHAPES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "bert-base": (BertConfig, {}),
    "SmolLM2-135M": (
        LlamaConfig,
        {"vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536}
        | {"num_attention_heads": 9, "num_key_value_heads": 3},
    ),
    "Llama 1B": (  # the last one, for QLoRA
        LlamaConfig,
        {"vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192}
        | {"num_attention_heads": 32, "num_key_value_heads": 8},
    ),
}
WORDS = 5000  # that the texts are made of
COLUMNS = ("model", "tokens", "method", "step", "tokens/s", "Trainer = 1", "MFU", "peak GiB")
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Operations per second in bf16, by what is in a GPU's name."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured."""

    lengths: tuple[int, int]
    """Tokens of a text."""
    step: int
    """Tokens of an optimizer step."""
    steps: int
    """How many are timed."""
    matrix: int
    """Rows of the matrices whose product is the limit."""
    smaller: dict[str, int]
    """What the models' configs have instead."""


FULL = Size((128, 512), 16384, 20, 8192, {})
SMALL = {"vocab_size": WORDS + 2, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
TINY = Size((8, 16), 64, 2, 256, {**SMALL, "num_attention_heads": 2, "num_key_value_heads": 1})


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table."""

    shape: str
    tokens: int
    method: str
    step: str
    """Whose training step: `Trainer` or `ours`."""
    compiled: bool = False


class Clock(TrainerCallback):
    """Seconds of all steps after the warm-up."""

    seconds = 0.0

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in (WARM_UP, state.max_steps):
            synchronize()
            now = time.perf_counter()
            self.seconds = now - getattr(self, "since", now)
            self.since = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small models and few steps")
    parser.add_argument("--minutes", type=float, default=7, help="begin no row after them (default: 7)")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    size = TINY if args.tiny else FULL
    peak, source = limit(size)
    print(f"A step has {size.step:,} tokens. MFU 100%: {peak / 1e12:.4g} TFLOP/s, {source}.\n")
    print("|" + "|".join(COLUMNS) + "|\n" + "|---" * len(COLUMNS) + "|", flush=True)

    rates: dict[Case, float] = {}
    work: dict[tuple[str, str], int] = {}  # operations per token of a model's layers
    left = 0
    with tempfile.TemporaryDirectory(prefix="tunediff-") as folder:
        for case in cases(size):
            if time.monotonic() > until:
                left += 1
                continue
            named = f"|{case.shape}|{case.tokens}|{case.method}|{case.step}{', compiled' if case.compiled else ''}|"
            try:
                rates[case], layers, memory = measure(case, size, Path(folder))
            except torch.OutOfMemoryError:
                print(f"{named}out of memory||||", flush=True)
                continue
            if case.method != "QLoRA":  # whose packed weights tell no shape
                work[case.shape, case.method] = layers
            beside = case.method.removeprefix("Q")  # QLoRA is LoRA, of the same shapes
            layers = work.get((case.shape, beside))
            mfu = f"{rates[case] * (layers + attention(case, size)) / peak:.1%}" if layers else ""
            peer = rates.get(dataclasses.replace(case, method=beside, step="Trainer", compiled=False))
            ratio = f"{rates[case] / peer:.2f}" if peer else ""
            print(f"{named}{rates[case]:.0f}|{ratio}|{mfu}|{memory / 2**30:.2f}|", flush=True)
    if find_spec("bitsandbytes") is None:
        print("\nQLoRA is left out: bitsandbytes is not installed.")
    if left:
        print(f"\nThe time was over before {left} more rows.")


def limit(size: Size) -> tuple[float, str]:
    """Operations per second in bf16 that are called 100%, and who says so."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "this processor"
    for part, peak in PEAKS.items():
        if part in name:
            return peak, f"as the maker says of {name}"
    return product_rate(torch.bfloat16, size.matrix), f"a product of two large matrices on {name}"


def cases(size: Size) -> Iterator[Case]:
    """All rows: first those without torch.compile, which takes up to a minute to begin."""
    for shape in SHAPES:
        for tokens in size.lengths:
            for method in ("full", "LoRA"):
                yield from (Case(shape, tokens, method, step) for step in ("Trainer", "ours"))
    if find_spec("bitsandbytes"):
        yield from (Case(shape, tokens, "QLoRA", "ours") for tokens in size.lengths)
    for shape in SHAPES:
        for method in ("full", "LoRA"):
            yield from (Case(shape, size.lengths[-1], method, step, True) for step in ("Trainer", "ours"))


def config_of(case: Case, size: Size) -> PreTrainedConfig:
    return SHAPES[case.shape][0](**{**SHAPES[case.shape][1], **size.smaller}, pad_token_id=0)


def attention(case: Case, size: Size) -> int:
    """Operations per token of attention's own products, forward and backward; all places, also for a decoder."""
    config = config_of(case, size)
    return 12 * config.num_hidden_layers * config.hidden_size * case.tokens


def measure(case: Case, size: Size, root: Path) -> tuple[float, int, int]:
    """Tokens per second of the steps after the warm-up, operations per token of the layers, and most bytes held.

    The pretrained model is made in a folder of `root`, if it is not there.
    """
    folder = root / case.shape.replace(" ", "-")
    if not folder.exists():
        save(config_of(case, size), folder)
    training = settings(case, size, folder)
    texts = random_texts(case.tokens, training.train.batch_size * (WARM_UP + size.steps))
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    tokenizer, model = build(training, texts)
    layers = operations(model)
    clock = Clock()
    more = {"max_steps": WARM_UP + size.steps, "torch_compile": case.compiled}
    with redirect_stdout(io.StringIO()):  # the Trainer prints its figures
        (ours if case.step == "ours" else theirs)(training, tokenizer, model, texts, clock, more)
    return size.steps * training.train.batch_size * case.tokens / clock.seconds, layers, peak_memory_bytes()


def save(config: PreTrainedConfig, folder: Path) -> None:
    """Write a model with random weights, and a tokenizer that makes one token of each word."""
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *map(word, range(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    with device():
        AutoModel.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def word(number: int) -> str:
    return f"w{number}"


def random_texts(tokens: int, rows: int) -> Dataset:
    draw = random.Random(0)
    texts = [" ".join(word(draw.randrange(WORDS)) for _ in range(tokens)) for _ in range(rows)]
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    return Dataset.from_dict({"text": texts, "label": [row % 2 for row in range(rows)]}, features)


def settings(case: Case, size: Size, folder: Path) -> Training:
    """The settings of params.yaml for the method, with the model in `folder` and steps of the given size."""
    quantize = "nf4" if case.method == "QLoRA" else None
    conf = Adapted(name=str(folder), max_length=case.tokens, targets={"all-linear": "all-linear"}, quantize=quantize)
    training = training_of("full" if case.method == "full" else "lora-v2", "auto", epochs=1)
    values = {"batch_size": size.step // case.tokens, "accumulation": 1, "recompute": False}
    return training.model_copy(
        update={
            "model": conf,
            "task": "classification",
            "learning_rate": 1e-6,  # so that random weights do not diverge
            "train": training.train.model_copy(update=values),
        }
    )


def ours(training: Training, tokenizer: Any, model: Any, texts: Dataset, clock: Clock, more: dict[str, Any]) -> None:
    """Train as `loop.fit` does, without validation and checkpoints."""
    task = task_of(model.config)
    seed = training.seeds[0]
    precision = choose_precision(training.precision)
    encoded = [task.encode(tokenizer, texts)] * 2
    with faster(model, tokenizer, encoded, precision):
        args = dataclasses.replace(arguments(training, task, seed, precision, None), eval_strategy="no", **more)
        trainer = make_trainer(model, tokenizer, task, encoded, training, args, task.loss(texts), [clock])
        Trainer.train(trainer)  # without what follows a validation


def theirs(training: Training, tokenizer: Any, model: Any, texts: Dataset, clock: Clock, more: dict[str, Any]) -> None:
    """Train as a plain script with the Trainer does."""
    with tempfile.TemporaryDirectory(prefix="tunediff-") as folder:
        Trainer(
            model,
            TrainingArguments(
                folder,
                per_device_train_batch_size=training.train.batch_size,
                learning_rate=training.learning_rate,
                weight_decay=training.train.weight_decay,
                use_cpu=device().type == "cpu",  # bf16 is refused without
                bf16=True,
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                report_to="none",
                **more,
            ),
            train_dataset=task_of(model.config).encode(tokenizer, texts).remove_columns("length"),
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[clock],
        ).train()


if __name__ == "__main__":
    main()

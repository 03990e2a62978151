"""How near training comes to what the machine's matrix products allow, and where the rest goes.

python -m benchmarks.limit --method full --precision fp32

Epochs of the pipeline's own training, and one more under PyTorch's profiler. The limit is the rate of a product of two
large square matrices in the same number format, in the same process before each epoch. The work is what the encoder's
matrices need for its texts without padding: 2 operations a weight and token forward, 2 for the gradient of the input,
and 2 for that of the weight where it is trained. Attention's own products are left out.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import trainer

from benchmarks.training import WARM_UP, Clock, build, measure, ours, training_of
from tunediff.core.splits import load_split
from tunediff.models.inference import HALVES, choose_precision, device
from tunediff.tasks.features import encode
from tunediff.training.ranks import GlobalBatches

PARTS = {
    "matrix products": ("aten::mm", "aten::addmm"),
    "attention": ("aten::bmm", "aten::_softmax", "aten::_scaled_dot", "aten::scaled_dot"),
    "dropout": ("aten::random_", "aten::bernoulli_", "aten::lt"),
    "optimizer and clipping": ("aten::_fused_adamw_", "Optimizer.", "aten::_foreach", "aten::linalg_vector_norm"),
    "casts and copies": ("aten::copy_", "aten::_to_copy", "aten::fill_", "aten::empty"),
    "norms and activations": ("aten::native_layer_norm", "aten::gelu", "aten::tanh"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="full", help="full, or lora-NAME of params.yaml")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--splits", type=Path, default=Path("data/prepared"))
    args = parser.parse_args()
    precision = choose_precision(args.precision)
    training = training_of(args.method, precision, epochs=1)
    splits = [load_split(args.splits, name) for name in ("train", "validation")]
    tokenizer, model = build(training, splits[0])
    lengths = encode(tokenizer, splits[0]["text"])["length"][:]
    batches = list(GlobalBatches(lengths, training.train.batch_size, training.seeds[0], 1))[WARM_UP:]
    texts = sum(map(len, batches))
    tokens = sum(lengths[row] for batch in batches for row in batch)
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    work = operations(model)

    def epoch() -> float:
        """Train for one epoch. Return texts per second."""
        return measure(lambda: ours(training, splits)).texts_per_second

    trainer.DEFAULT_CALLBACKS.append(Clock)
    ratios = []
    for number in range(1, args.rounds + 1):
        limit = product_rate(HALVES.get(precision, torch.float32))
        rate = epoch() / texts * tokens * work
        ratios.append(rate / limit)
        print(
            f"round {number}: {rate / 1e9:.0f} of {limit / 1e9:.0f} GFLOP/s in {precision}: {ratios[-1]:.1%}",
            flush=True,
        )
    print(
        f"{statistics.median(ratios):.1%}, {min(ratios):.1%} to {max(ratios):.1%}; padding: {padded / tokens - 1:.1%}"
    )

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        epoch()
    times = {event.key: event.self_cpu_time_total / 1e6 for event in profiled.key_averages()}
    total = sum(times.values())
    for part, names in PARTS.items():
        print(f"{part:24} {sum(seconds for key, seconds in times.items() if key.startswith(names)) / total:6.1%}")


def operations(model: nn.Module) -> int:
    """Operations per token that the matrices of the model's layers need in a training step."""
    return sum(
        weights.numel() * (6 if weights.requires_grad else 4)
        for name, weights in model.named_parameters()
        if weights.ndim == 2 and (".layer." in name or ".layers." in name)
    )


def product_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Measure the operations per second in products of two square matrices: the best of five tries."""
    count = 20
    a, b = (torch.randn(size, size, dtype=dtype, device=device()) for _ in range(2))
    best = 0.0
    for _ in range(5):
        synchronize()
        started = time.perf_counter()
        for _ in range(count):
            a @ b
        synchronize()
        best = max(best, count * 2 * size**3 / (time.perf_counter() - started))
    return best


def synchronize() -> None:
    """Wait for what an accelerator has been given to do."""
    if device().type != "cpu":
        torch.accelerator.synchronize()


if __name__ == "__main__":
    main()

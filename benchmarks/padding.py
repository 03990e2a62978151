"""How much of training's batches is padding: what packing several texts into a row could save at most.

dvc exp run -S data=briefs -S model=smollm2 prepare && python -m benchmarks.padding
"""

from pathlib import Path

from benchmarks.training import training_of
from tunediff.core.splits import load_split
from tunediff.models.loading import load_tokenizer
from tunediff.tasks import TASKS
from tunediff.training.ranks import GlobalBatches


def main() -> None:
    training = training_of("full", None, None)
    train = load_split(Path("data/prepared"), "train")
    tokenizer = load_tokenizer(training.model, training.model_path)
    lengths = TASKS[training.task].of(train.features).encode(tokenizer, train)["length"][:]
    for size in sorted({8, 32, training.train.batch_size}):
        batches = list(GlobalBatches(lengths, size, training.seeds[0], 1))
        padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
        print(f"batches of {size}: {1 - sum(lengths) / padded:.1%} of {padded:,} tokens are padding")


if __name__ == "__main__":
    main()

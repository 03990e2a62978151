"""Fine-tune every weight of the pretrained model.

dvc repro train_full
"""

from pathlib import Path

from datasets import Dataset

from stages.common import devices, training
from stages.common.data import label_names, load_split
from stages.common.errors import run
from stages.common.models import load_classifier, load_tokenizer
from stages.common.params import Settings, load
from stages.common.seeds import folder


def main() -> None:
    args = training.arguments(__doc__)
    settings = load()
    devices.take()
    method, seeds = args.model.name, settings.params.seeds

    train, validation = (load_split(args.splits, name) for name in ("train", "validation"))

    fits = (fit(settings, method, train, validation, seed, folder(args.curves, seed, seeds)) for seed in seeds)
    training.save(fits, seeds, args)


def fit(settings: Settings, method: str, train: Dataset, validation: Dataset, seed: int, curves: Path) -> training.Fit:
    """One training; see `training.fit`."""
    learning_rate = settings.model.learning_rate_of(method, settings.model_path)

    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_classifier(settings.model, settings.model_path, tokenizer, label_names(train), seed)

    return training.fit(model, tokenizer, train, validation, settings.params, learning_rate, seed, curves)


if __name__ == "__main__":
    run(main)

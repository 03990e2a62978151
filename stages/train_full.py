"""Fine-tune every weight of the pretrained model.

dvc repro train_full
"""

from pathlib import Path

from datasets import Dataset

from tunediff.core import devices
from tunediff.core.process import run
from tunediff.core.seeds import folder
from tunediff.core.splits import label_names, load_split
from tunediff.models.loading import load_classifier, load_tokenizer
from tunediff.settings.params import Settings, load
from tunediff.training import loop


def main() -> None:
    args = loop.arguments(__doc__)
    settings = load()
    devices.take()
    method, seeds = args.model.name, settings.params.seeds

    train, validation = (load_split(args.splits, name) for name in ("train", "validation"))

    fits = (fit(settings, method, train, validation, seed, folder(args.curves, seed, seeds)) for seed in seeds)
    loop.save(fits, seeds, args)


def fit(settings: Settings, method: str, train: Dataset, validation: Dataset, seed: int, curves: Path) -> loop.Fit:
    """One training; see `loop.fit`."""
    learning_rate = settings.model.learning_rate_of(method, settings.model_path)

    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_classifier(settings.model, settings.model_path, tokenizer, label_names(train), seed)

    return loop.fit(model, tokenizer, train, validation, settings.params, learning_rate, seed, curves)


if __name__ == "__main__":
    run(main)

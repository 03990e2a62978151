"""Train one entry of `train_peft`: any method of PEFT, bottleneck adapters, or a rule that freezes all but a part.

dvc exp run -S 'train_peft.methods=[dora,ia3]'
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from datasets import Dataset

from tunediff.core import devices
from tunediff.core.errors import UserError
from tunediff.core.process import run
from tunediff.core.seeds import folder
from tunediff.core.splits import label_names, load_split
from tunediff.models.adapters import adapt
from tunediff.models.loading import load_classifier, load_tokenizer
from tunediff.settings.params import Settings, load
from tunediff.training import loop
from tunediff.training.ranks import sharded
from tunediff.training.settings import PeftMethod

if TYPE_CHECKING:
    from peft import PeftModel


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
    entry = settings.params.train_peft.entries[method]
    where = f"params.yaml: train_peft.entries.{method}"

    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_classifier(settings.model, settings.model_path, tokenizer, label_names(train), seed)
    model = adapt(model, tokenizer, entry.peft_type, entry.model_extra, settings.model, where)
    optimizer = make_optimizer(model, entry, settings.params.train.weight_decay, where)

    return loop.fit(model, tokenizer, train, validation, settings.params, entry.learning_rate, seed, curves, optimizer)


def make_optimizer(
    model: "PeftModel", entry: PeftMethod, weight_decay: float, where: str
) -> torch.optim.Optimizer | None:
    """What the entry asks for beside AdamW, for which None stands. Raises UserError if it is not for its method."""
    if entry.optimizer == "adamw":
        return None
    if entry.peft_type.upper() != "LORA":
        raise UserError(f"{where}.optimizer: {entry.optimizer} is for peft_type LORA, not {entry.peft_type}")
    if entry.optimizer == "loraplus":
        from peft.optimizers import create_loraplus_optimizer

        return create_loraplus_optimizer(
            model,
            torch.optim.AdamW,
            lr=entry.learning_rate,
            loraplus_lr_ratio=entry.loraplus_lr_ratio,
            loraplus_weight_decay=weight_decay,
        )
    if sharded():
        raise UserError(f"{where}.optimizer: lorafa needs whole weights, and the launcher of params.yaml shards them")
    from peft.optimizers import create_lorafa_optimizer

    lora = model.peft_config["default"]
    return create_lorafa_optimizer(
        model, lora.r, lora.lora_alpha, entry.learning_rate, weight_decay, use_rslora=lora.use_rslora
    )


if __name__ == "__main__":
    run(main)

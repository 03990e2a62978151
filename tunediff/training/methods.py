"""What each method makes of a pretrained model before the one loop trains what it leaves trainable.

The three functions are the whole difference between methods: each gives the model and, where it is not AdamW, the
optimizer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunediff.core.errors import UserError
from tunediff.models import trial
from tunediff.models.adapters import adapt
from tunediff.models.heads import set_bias
from tunediff.models.loading import load_pretrained, load_tokenizer
from tunediff.tasks import TASKS, task_of
from tunediff.training.ranks import sharded
from tunediff.training.settings import PeftMethod, Training

if TYPE_CHECKING:
    from peft import PeftModel

    from tunediff.training.loop import Fit

Adapted = tuple["PreTrainedModel | PeftModel", torch.optim.Optimizer | None]
Method = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Training], Adapted]


def full(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, training: Training) -> Adapted:
    """Every weight is trained."""
    return model, None


def lora(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, training: Training) -> Adapted:
    """Low-rank updates of chosen layers are trained, and the head."""
    variant = training.lora
    fields = {
        "r": variant.rank,
        "lora_alpha": variant.alpha,
        "lora_dropout": variant.dropout,
        "target_modules": variant.targets,
    }
    place = f"params.yaml: train_lora.{training.method.removeprefix('lora-')}"
    return adapt(model, tokenizer, "LORA", fields, training.model, place), None


def peft(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, training: Training) -> Adapted:
    """What an entry of `train_peft` says is trained: a method of PEFT, or one of `own_methods`."""
    entry = training.entry
    place = f"params.yaml: train_peft.entries.{training.method}"
    adapted = adapt(model, tokenizer, entry.peft_type, entry.model_extra, training.model, place)
    return adapted, make_optimizer(adapted, entry, training.train.weight_decay, place)


def make_optimizer(
    model: "PeftModel", entry: PeftMethod, weight_decay: float, place: str
) -> torch.optim.Optimizer | None:
    """The optimizer that the entry asks for; None stands for AdamW. Raises UserError if it is not for its method."""
    if entry.optimizer == "adamw":
        return None
    if entry.peft_type.upper() != "LORA":
        raise UserError(f"{place}.optimizer: {entry.optimizer} is for peft_type LORA, not {entry.peft_type}")
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
        raise UserError(f"{place}.optimizer: lorafa needs whole weights, and the launcher of params.yaml shards them")
    from peft.optimizers import create_lorafa_optimizer

    config = model.peft_config["default"]
    return create_lorafa_optimizer(
        model, config.r, config.lora_alpha, entry.learning_rate, weight_decay, use_rslora=config.use_rslora
    )


def method_of(training: Training) -> Method:
    """The method that a stage's settings are for."""
    return peft if training.entry else lora if training.lora else full


def train(
    method: Method, training: Training, train: Dataset, validation: Dataset, seed: int, curves: Path | None
) -> "Fit | None":
    """One training of a method, from the pretrained model to the best epoch's weights; see `loop.fit`."""
    from tunediff.training.loop import fit  # here: the Trainer imports PEFT, for which see `models/adapters.py`

    task = TASKS[training.task].of(train.features)
    tokenizer = load_tokenizer(training.model, training.model_path)
    model = load_pretrained(training.model, training.model_path, tokenizer, task, seed)
    if not (task.writes or training.model.keep_head):
        set_bias(model, task.prior(train, training.train.class_weights))
    model, optimizer = method(model, tokenizer, training)
    trial.check(model, tokenizer, training.model, training.model_path)
    return fit(model, tokenizer, task_of(model.config), train, validation, training, seed, curves, optimizer)

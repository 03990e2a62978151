"""How a model was made, the same for equal runs: for training.json beside it, and for its checkpoints' key."""

import dataclasses
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from tunediff.training.trainer import ResumableTrainer

PACKAGES = ("torch", "transformers", "peft")


def hyperparameters(trainer: "ResumableTrainer") -> dict[str, Any]:
    """What a training that has ended was run with."""
    args = trainer.args
    groups = trainer.optimizer.param_groups
    return {
        "learning_rates": sorted({group["initial_lr"] for group in groups if group["params"]}),
        "schedule": args.lr_scheduler_type.value,
        "warmup": args.warmup_steps,
        "optimizer": type(trainer.optimizer.optimizer).__name__,
        "weight_decay": args.weight_decay,
        "batch_size": trainer.batch_size,
        "epochs": args.num_train_epochs,
        "select_by": args.metric_for_best_model.removeprefix("eval_"),
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
    }


def optimizer(made: torch.optim.Optimizer) -> list[Any]:
    """The optimizer's class, and what each group of its parameters is stepped by, with the shapes of these."""
    groups = [{**group, "params": [tuple(weights.shape) for weights in group["params"]]} for group in made.param_groups]
    return [type(made).__name__, *groups]


def versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def adapter(model: "PreTrainedModel | PeftModel") -> dict[str, Any] | None:
    """An adapter's `peft_type` and the `fields` that it is saved with: numbers, and what is not PEFT's default.

    None if every weight was trained.
    """
    if own := model.config.tunediff.get("adapter"):
        return {"peft_type": own["peft_type"], "fields": {**own["fields"], "modules_to_save": own["head"]}}
    if not hasattr(model, "peft_config"):
        return None
    from peft import PeftConfig

    config = model.peft_config["default"]
    shared = {field.name for field in dataclasses.fields(PeftConfig)}
    fields = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.name not in shared and (type(value) in (int, float) or value != default):
            fields[field.name] = sorted(value) if isinstance(value, set) else value
    return {"peft_type": config.peft_type.value, "fields": fields}

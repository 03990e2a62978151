"""The model card: README.md beside a trained model, in the format of the Hugging Face Hub.

Equal runs give equal bytes: it has no date, commit, time or machine; nor has it a text of the data or a path of this
machine. Its figures are those of validation, because the test split is read by `baseline` and `evaluate` alone.
"""

import dataclasses
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel, Trainer

from tunediff.core.files import read_json
from tunediff.core.splits import label_names, load_split
from tunediff.report.markdown import cell

if TYPE_CHECKING:
    from peft import PeftModel

    from tunediff.training.loop import Fit

# What loads the folder: PEFT does not know the methods of `adapters.OWN`.
LIBRARY = {"full": "transformers", "peft": "peft", "own": "tunediff"}
NAMED = 8  # of a longer list of layers, the card says its length


def hyperparameters(trainer: Trainer) -> dict[str, str]:
    """Of a training that has run, as words."""
    args = trainer.args
    rates = sorted({group["initial_lr"] for group in trainer.optimizer.param_groups if group["params"]})
    return {
        "peak learning rate": " and ".join(f"{rate:g}" for rate in rates),
        "schedule": f"{args.lr_scheduler_type.value}, with a warm-up over {100 * args.warmup_steps:g}% of the steps",
        "optimizer": type(trainer.optimizer.optimizer).__name__,
        "weight decay": f"{args.weight_decay:g}",
        "texts per step": str(trainer.batch_size),
        "epochs": f"{args.num_train_epochs} at most",
        "epoch kept": f"the best by validation {args.metric_for_best_model.removeprefix('eval_')}",
        "number format": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "seed": str(args.seed),
    }


def write(folder: Path, place: Path, method: str, splits: Path, fitted: "Fit") -> None:
    """Write README.md to `folder`, which `models.save` has filled and which will stand at `place`.

    `splits` is the folder that `prepare` wrote.
    """
    model, origin = fitted.model, fitted.model.config.tunediff
    kind = "own" if "adapter" in origin else "peft" if hasattr(model, "peft_config") else "full"
    peft_type, settings = ("", {}) if kind == "full" else adapter(model)
    base = pretrained(origin["pretrained"], origin["revision"])
    data = read_json(splits / "source.json")
    train, validation = (load_split(splits, name) for name in ("train", "validation"))
    card = ModelCard.from_template(
        metadata(method, kind, peft_type, base, data, fitted.best),
        template_path=str(Path(__file__).with_name("card.md.j2")),
        kind=kind,
        method=method,
        place=place.as_posix(),
        peft_type=peft_type,
        settings=settings,
        parameters=fitted.parameters,
        base=base,
        sha256=origin["sha256"],
        max_length=fitted.tokenizer.model_max_length,
        data=data,
        source=source(data),
        rows=rows(train, validation),
        hyperparameters=fitted.hyperparameters,
        best=fitted.best,
        temperature=fitted.temperature,
        versions={package: version(package) for package in ("torch", "transformers", "peft")},
    )
    card.save(folder / "README.md")


def metadata(
    method: str, kind: str, peft_type: str, base: "Pretrained", data: dict[str, Any], best: dict[str, float]
) -> ModelCardData:
    """What the Hub reads. It refuses names that are no ids of its own, so what has none there is left to the text."""
    validation = data["splits"]["validation"]
    on_hub = {
        "dataset_type": data["source"],
        "dataset_revision": data["revision"],
        # The source's own split, where it is one: its name there need not be `validation`.
        "dataset_split": validation if isinstance(validation, str) else None,
    }
    return ModelCardData(
        base_model=base.hub,
        base_model_relation=base.hub and ("finetune" if kind == "full" else "adapter"),
        datasets=[data["source"]] if data["hub"] else None,
        library_name=LIBRARY[kind],
        license="unknown",
        metrics=["accuracy", "f1"],
        model_name=f"{data['data']}-{method}",
        pipeline_tag="text-classification",
        tags=["tunediff", *filter(None, [peft_type.lower()])],
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_name=data["data"],
                **(on_hub if data["hub"] else {"dataset_type": "unknown"}),
                metric_type=figure,
                metric_name=f"{name}, on the rows that chose the epoch",
                metric_value=best[figure],
                metric_args={"average": "macro"} if figure == "f1" else None,
            )
            for figure, name in (("accuracy", "Accuracy"), ("f1", "Macro F1"), ("loss", "Loss"))
        ],
    )


# --- what it was made from


@dataclass(frozen=True)
class Pretrained:
    words: str
    code: str
    """Arguments of `from_pretrained`."""
    imports: str = ""
    """What the code needs."""
    hub: str | None = None
    """Its id there."""


def pretrained(name: str, revision: str) -> Pretrained:
    """Of what is no model of the Hub, no more is told than the last part of its path."""
    if name.startswith("package:"):
        module, _, folder = name.removeprefix("package:").partition("/")
        return Pretrained(
            words=f"the folder `{folder}` of the Python package `{module}`; its id on the Hub is not known here",
            code=f'find_spec("{module}").submodule_search_locations[0] + "/{folder}"',
            imports="from importlib.util import find_spec\n\n",
        )
    if Path(name).is_dir():
        return Pretrained(
            words=f"a local folder named `{Path(name).name}`; its id on the Hub is not known here",
            code='config.tunediff["pretrained"]',
        )
    return Pretrained(
        words=f"[{name}](https://huggingface.co/{name}), revision `{revision}`",
        code=f'"{name}", revision="{revision}"',
        hub=name,
    )


def source(data: dict[str, Any]) -> str:
    where = data["source"]
    if data["hub"]:
        return f"the Hub's [{where}](https://huggingface.co/datasets/{where}), revision `{data['revision']}`"
    return ", ".join(f"`{file}`" for file in ([where] if isinstance(where, str) else where.values()))


def rows(train: Dataset, validation: Dataset) -> list[tuple[str, int, int]]:
    """For each label its name, and how many rows of both splits have it."""
    labels = label_names(train)
    counts = (np.bincount(split["label"][:], minlength=len(labels)).tolist() for split in (train, validation))
    return list(zip(map(cell, labels), *counts, strict=True))


def adapter(model: "PreTrainedModel | PeftModel") -> tuple[str, dict[str, str]]:
    """An adapter's type and its settings, as they are saved: numbers, and what is not PEFT's default."""
    if own := model.config.tunediff.get("adapter"):
        peft_type, settings = own["peft_type"], {**own["fields"], "modules_to_save": own["head"]}
    else:
        from peft import PeftConfig

        config = model.peft_config["default"]
        shared = {field.name for field in dataclasses.fields(PeftConfig)}
        peft_type, settings = config.peft_type.value, {}
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            if field.name not in shared and (type(value) in (int, float) or value != default):
                settings[field.name] = value
    return peft_type, {name: readable(value) for name, value in settings.items()}


def readable(value: object) -> str:
    if not isinstance(value, list | set):
        return str(value)
    names = sorted(set(value))
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} names"

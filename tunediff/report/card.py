"""The model card: README.md beside a trained model, in the format of the Hugging Face Hub.

Equal runs give equal bytes: it has no date, commit, time or machine. It has no text of the data and no path of this
machine either.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tunediff.core.files import read_json
from tunediff.report import card_words
from tunediff.report.markdown import cell, code
from tunediff.tasks import TASKS
from tunediff.tasks.interface import Task

# What loads the folder: PEFT does not know the methods of `own_methods`.
LIBRARY = {"full": "transformers", "peft": "peft", "own": "tunediff", "linear": "tunediff"}
NAMED = 8  # of a longer list of layers, the card says its length


@dataclass(frozen=True)
class Results:
    """What the stages wrote of one method and its data."""

    training: dict[str, Any]
    """training.json of the trained model."""
    source: dict[str, Any]
    """data/prepared/source.json"""
    profile: dict[str, Any]
    """data/profile.json"""
    detail: dict[str, Any]
    """metrics/detail/METHOD.json"""


def write(folder: Path, place: Path, seed: str, results: Results) -> None:
    """Write README.md to `folder`, which has the model's other files and will stand at `place`.

    `seed` is that of its training.
    """
    training, source = results.training, results.source
    config = read_json(folder / "config.json")
    origin = config["tunediff"]
    adapter = training["adapter"] or {"peft_type": "", "fields": {}}
    kind = kind_of(origin, training)
    base = pretrained(origin["pretrained"], origin["revision"]) if "pretrained" in origin else None
    figures = results.detail["seeds"][seed]
    task = TASKS[training["task"]]
    if task.writes and "linear" not in origin:  # where no model is kept, the class serves
        task = task.of_config(SimpleNamespace(**config))
    words = card_words.of_task(task)
    counts = card_words.rows(results.profile)
    generate = origin.get("generate")
    between = " " if config.get("is_encoder_decoder") else "\n\n"
    card = ModelCard.from_template(
        metadata(training["method"], kind, adapter["peft_type"], base, source, figures, task),
        template_path=str(Path(__file__).with_name("card.md.j2")),
        cell=cell,
        code=code,
        kind=kind,
        method=training["method"],
        place=place.as_posix(),
        peft_type=adapter["peft_type"],
        settings={name: readable(value) for name, value in adapter["fields"].items()},
        parameters=training["parameters"],
        base=base,
        sha256=origin.get("sha256"),
        linear=origin.get("linear"),
        max_length=longest(folder, origin),
        data=source,
        source=where_from(source),
        rows=counts,
        words=words,
        gives=words.gives([label for label, *_ in counts]),
        task=task,
        hyperparameters={**hyperparameters(training["hyperparameters"]), "seed": seed},
        best=training["seeds"][seed] if "seeds" in training else None,
        figures=[(task.figures[name].words, value) for name, value in figures.items()],
        tested=results.profile["splits"]["test"]["rows"],
        temperature=origin.get("temperature"),
        asked=json.dumps("".join(f"{part}{between}" for part in [origin.get("instruction")] if part)),
        encoder_decoder=generate and config.get("is_encoder_decoder", False),
        generate=generate,
        versions=training["versions"],
    )
    card.save(folder / "README.md")


def kind_of(origin: dict[str, Any], training: dict[str, Any]) -> str:
    """A key of `LIBRARY`; `origin` is what config.json says of where the model comes from."""
    if "linear" in origin:
        return "linear"
    return "own" if "adapter" in origin else "peft" if training["adapter"] else "full"


def longest(folder: Path, origin: dict[str, Any]) -> int | None:
    """How many tokens of a text the model reads; None for all of it."""
    if "linear" in origin:
        return (origin["linear"] or {}).get("max_length")
    return read_json(folder / "tokenizer_config.json")["model_max_length"]


def metadata(
    method: str,
    kind: str,
    peft_type: str,
    base: "Pretrained | None",
    source: dict[str, Any],
    figures: dict[str, float],
    task: Task | type[Task],
) -> ModelCardData:
    """What the Hub reads. It refuses names that are no ids of its own, so what has none there is left to the text."""
    test = source["splits"]["test"]
    hub = base.hub if base else None
    on_hub = {
        "dataset_type": source["source"],
        "dataset_config": source.get("config"),
        "dataset_revision": source["revision"],
        # The source's own split, where it is one: its name there need not be `test`.
        "dataset_split": test if isinstance(test, str) else None,
    }
    return ModelCardData(
        base_model=hub,
        base_model_relation=hub and ("finetune" if kind == "full" else "adapter"),
        datasets=[source["source"]] if source["hub"] else None,
        library_name=LIBRARY[kind],
        license="unknown",
        metrics=list(task.headline),
        model_name=f"{source['data']}-{method}",
        pipeline_tag=task.pipeline,
        tags=["tunediff", *filter(None, [peft_type.lower()])],
        eval_results=[
            EvalResult(
                task_type=task.pipeline,
                dataset_name=source["data"],
                **(on_hub if source["hub"] else {"dataset_type": "unknown"}),
                metric_type=name,
                metric_name=task.figures[name].words,
                metric_value=value,
                metric_args={"average": "macro"} if "macro" in task.figures[name].words else None,
            )
            for name, value in figures.items()
        ],
    )


def hyperparameters(values: dict[str, Any]) -> dict[str, str]:
    """What a training was run with, as words."""
    if "learning_rates" not in values:  # a regression's, which are words
        return values
    return {
        "peak learning rate": " and ".join(f"{rate:g}" for rate in values["learning_rates"]),
        "schedule": f"{values['schedule']}, with a warm-up over {100 * values['warmup']:g}% of the steps",
        "optimizer": values["optimizer"],
        "weight decay": f"{values['weight_decay']:g}",
        "texts per step": str(values["batch_size"]),
        "epochs": f"{values['epochs']} at most",
        "epoch kept": f"the best by validation {values['select_by']}",
        "number format": values["precision"],
    }


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
    by_name: bool = True
    """Whether a library finds it by the name that is saved with an adapter."""


def pretrained(name: str, revision: str) -> Pretrained:
    """A pretrained model as a reader and as code find it.

    If it is not on the Hub, no more is told than the last part of its path. A GGUF file is loaded out of its folder.
    """
    gguf = name.endswith(".gguf")
    file = f", gguf_file={json.dumps(name.rpartition('/')[2])}" if gguf else ""
    kind = "file" if gguf else "folder"
    if name.startswith("package:"):
        module, _, path = name.removeprefix("package:").partition("/")
        inside = path.rpartition("/")[0] if gguf else path
        folder = f"find_spec({json.dumps(module)}).submodule_search_locations[0]"
        return Pretrained(
            words=f"the {kind} {code(path)} of the Python package {code(module)}; its id on the Hub is not known",
            code=f"{folder} + {json.dumps(f'/{inside}')}{file}" if inside else f"{folder}{file}",
            imports="from importlib.util import find_spec\n\n",
            by_name=False,
        )
    if Path(name).is_file() if gguf else Path(name).is_dir():
        path = 'config.tunediff["pretrained"]'
        return Pretrained(
            words=f"a local {kind} named {code(Path(name).name)}; its id on the Hub is not known",
            code=f"Path({path}).parent{file}" if gguf else path,
            imports="from pathlib import Path\n\n" if gguf else "",
            by_name=not gguf,
        )
    hub = "/".join(name.split("/")[:2]) if gguf else name
    path = name.removeprefix(f"{hub}/")
    return Pretrained(
        words=f"{f'the file {code(path)} of ' if gguf else ''}[{cell(hub)}](https://huggingface.co/{quote(hub)}), "
        f"revision {code(revision)}",
        code=f"{json.dumps(hub)}{f', gguf_file={json.dumps(path)}' if gguf else ''}, revision={json.dumps(revision)}",
        hub=hub,
        by_name=not gguf,
    )


def where_from(source: dict[str, Any]) -> str:
    """The data's source, in Markdown."""
    name = source["source"]
    if source["hub"]:
        link = f"[{cell(name)}](https://huggingface.co/datasets/{quote(name)})"
        config = f", configuration {code(source['config'])}" if "config" in source else ""
        return f"the Hub's {link}{config}, revision {code(source['revision'])}"
    named = name.values() if isinstance(name, dict) else [name]
    files = [file for each in named for file in ([each] if isinstance(each, str) else each)]
    return ", ".join(map(code, files))


def readable(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    names = sorted(set(map(str, value)))
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} names"

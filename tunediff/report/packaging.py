"""The folder that people use: a trained model's weights, its config with what was fitted, tokenizer and model card."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tunediff.core.files import atomic, read_json, write_json
from tunediff.core.methods import ENCODER
from tunediff.core.seeds import folder
from tunediff.report import card

WEIGHTS = ".safetensors"


def package(trained: Path, model: Path, results: card.Results) -> None:
    """Put together `model` from what training wrote to `trained`, with a folder in it for each further seed."""
    fitted = results.detail.get("fitted", {})  # of a baseline it is in the config already
    columns = {key: results.profile[key] for key in ("text", "label") if key in results.profile}
    seeds = list(results.detail["seeds"])
    with atomic(model) as made:
        for seed in seeds:
            source, target = (folder(path, seed, seeds) for path in (trained, made))
            fill(target, source)
            if (source / ENCODER).is_dir():
                fill(target / ENCODER, source / ENCODER)
            found = dict(fitted.get(seed, {}))
            if "generation_config" in found:  # in the place of the pretrained model's, which may punish repetitions
                write_json(target / "generation_config.json", found.pop("generation_config"))
            add_fitted(target / "config.json", found | columns)
            card.write(target, folder(model, seed, seeds), seed, results)


def fill(target: Path, source: Path) -> None:
    """Put the files of `source` into `target`, but for training.json."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.suffix == WEIGHTS:
            link(path, target / path.name)
        elif path.is_file() and path.name != "training.json":
            shutil.copyfile(path, target / path.name)  # writable, which DVC's outputs are not


def link(path: Path, target: Path) -> None:
    """A second name for the file, which takes no room on the disk; a copy where the disk cannot do that."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def add_fitted(config: Path, fitted: dict[str, Any]) -> None:
    """Write what was fitted on validation into a config, in the form in which transformers writes it.

    Numbers of labels stay in their order, in which some readers take the names: as text "10" is before "2".
    """
    values = read_json(config)
    values["tunediff"] = dict(sorted((values["tunediff"] | fitted).items()))
    config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

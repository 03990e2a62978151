"""The values that a sweep searches, as they stand in params.yaml and conf/: reads the defaults, writes the best."""

import sys
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from tunediff.core.errors import UserError
from tunediff.core.files import atomic
from tunediff.experiments.sweep_settings import CONF, Sweep, on_validation
from tunediff.settings.params import Params
from tunediff.settings.study import Study


def training_stage(params: Params, method: str) -> str:
    """The stage of dvc.yaml that trains the method. Raises UserError if there is none."""
    stages = {
        "full": "train_full",
        **{f"lora-{variant}": f"train_lora@{variant}" for variant in params.train_lora},
        **{entry: f"train_peft@{entry}" for entry in params.train_peft.entries},
    }
    if method not in stages:
        raise UserError(f"{CONF}: methods: nothing trains '{method}'; there are: {', '.join(stages)}")
    return stages[method]


def default_values(study: Study, conf: Sweep, method: str) -> dict[str, Any]:
    """The value that each key of the method's space has in its file now.

    Raises UserError naming each key whose value is not there or is not among those to search.
    """
    known = on_validation(study.task) if study.params.generate.validation_rows else study.task.each_epoch
    if conf.quality not in known:
        raise UserError(
            f"{CONF}: quality: {study.task.name} has on validation {', '.join(known)}, and not '{conf.quality}'"
        )
    sections = {"params.yaml": study.params, study.data_path: study.data, study.model_path: study.model}
    contents = {Path(path): section.model_dump() for path, section in sections.items()}
    values, problems = {}, []
    for key, searched in conf.space(method).items():
        path, dotted = _file_and_key(key)
        try:
            values[key] = reduce(getitem, dotted.split("."), contents[path])
        except (KeyError, TypeError):
            in_use = ", ".join(map(str, contents))
            problems.append(f"{CONF}: {method}: {key}: there is no such key; the files in use are {in_use}")
            continue
        if values[key] not in searched:
            problems.append(f"{CONF}: {method}: {key}: {path} has {values[key]}, which is not among those to search")
    if problems:
        raise UserError(*problems)
    return values


def write_values(trials: pd.DataFrame, methods: list[str]) -> None:
    """Put the best values of these methods into params.yaml and conf/, whose comments stay.

    `trials` is what `sweep_results.table` gives. Raises UserError if the methods' best values for a key differ.
    """
    wanted: dict[str, Any] = {}
    for method, values in trials[trials.best].set_index("method")["values"].loc[methods].items():
        for key, value in values.items():
            if wanted.setdefault(key, value) != value:
                raise UserError(
                    f"--write: {key} is one value for all methods, and the best is {wanted[key]} for one of them and "
                    f"{value} for {method}; choose whose values to take: --write {method}"
                )
    files: dict[Path, dict[str, Any]] = {}
    for key, value in wanted.items():
        path, dotted = _file_and_key(key)
        files.setdefault(path, {})[dotted] = value
    for path, values in files.items():
        _edit(path, values)
        print(f"{path}: {', '.join(f'{dotted}={value}' for dotted, value in values.items())}", file=sys.stderr)


def _edit(path: Path, values: dict[str, Any]) -> None:
    """Set dotted keys of a YAML file and leave the rest as it is."""
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096  # else long lines are broken
    content = editor.load(path)
    for dotted, value in values.items():
        *above, last = dotted.split(".")
        reduce(getitem, above, content)[last] = value
    with atomic(path) as partial:
        editor.dump(content, partial)


def _file_and_key(key: str) -> tuple[Path, str]:
    """File and dotted key of `conf/model/minilm.yaml:learning_rate.full`; without a file, `-S` means params.yaml."""
    path, _, dotted = key.rpartition(":")
    return Path(path or "params.yaml"), dotted

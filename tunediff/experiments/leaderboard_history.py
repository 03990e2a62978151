"""The results that the repository has: those of each commit, each experiment and the workspace, by git and DVC."""

import re
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from tqdm import tqdm

from tunediff.core.errors import UserError, reason
from tunediff.core.methods import BASELINES, MORE_BASELINES, WITHOUT_LEARNING, WITHOUT_MODEL
from tunediff.experiments.repository import git
from tunediff.models.settings import ModelConf
from tunediff.sources.settings import DataConf
from tunediff.tasks import TASKS, with_keys
from tunediff.tasks.interface import Figure, Task

AT_ONCE = 10  # commits per call of DVC, of which each takes about a third of a second
PANEL = ["data", "model"]  # figures are compared within one data set and model
MORE = [method for methods in MORE_BASELINES.values() for method in methods]

# The figures of all tasks, as columns of the leaderboard.
TEST = list(dict.fromkeys(name for task in TASKS.values() for name in task.figures))
VALIDATION = [f"validation_{name}" for name in dict.fromkeys(n for task in TASKS.values() for n in task.each_epoch)]
DEVIATION = [f"{name}_deviation" for name in dict.fromkeys(n for task in TASKS.values() for n in task.headline)]
FOLDS = [f"folds_{task.headline[0]}" for task in TASKS.values()]
COST = ["trainable_parameters", "train_seconds"]
COMPARED = "quality"  # the first of the task's headline, on test: methods are set side by side by it
IN_FOLDS = "quality_in_folds"  # the same of all rows, where folds made each of them a test row
FINEST = "validation_loss"  # it differs between any two trainings
FORMER = {"baseline": "untrained"}  # names of methods in older commits
KEYS = {key for task in TASKS for key in with_keys(DataConf, task).model_fields}


def chooser(task: type[Task]) -> Figure:
    """The figure on validation that chooses the run of a method, where there are several."""
    return task.figures["f1" if "f1" in task.each_epoch else "loss"]


METRIC = re.compile(r"metrics/(?:(validation|cost|folds)/)?([^/:]+)\.json:(\w+)")
FILE = re.compile(r"^(params\.yaml|conf/(data|model)/[^:]+):")  # before a setting whose name several files have


def all_results() -> pd.DataFrame:
    """The rows of `results` for all `revisions`, the oldest first. Raises UserError if none has figures on test."""
    rows = pd.DataFrame([result for revision in revisions() for result in results(revision)])
    if rows.empty or rows[COMPARED].isna().all():
        raise UserError("no commit or experiment has figures on test; `dvc repro` makes some, in metrics/")
    return rows


def revisions() -> list[dict[str, Any]]:
    """What `dvc.api.exp_show` says of each commit, each experiment and the workspace: a row each, the oldest first.

    Raises UserError if this is no project of DVC's, or no git repository.
    """
    every = commits()
    rows = []
    try:
        for start in tqdm(range(0, len(every), AT_ONCE), desc=f"commits, {AT_ONCE} at a time"):
            shown = dvc.api.exp_show(revs=every[start : start + AT_ONCE])
            rows += shown if start == 0 else shown[1:]  # without the workspace, which always comes first
    except DvcException as error:
        raise UserError(f"DVC cannot show the experiments: {reason(error)}") from None

    # The newest commit came first, and behind each commit its experiments.
    blocks = []
    for row in rows:
        if row["typ"] == "baseline":
            blocks.append([row])
        else:
            blocks[-1].insert(1, row)
    return [row for block in reversed(blocks) for row in block]


def commits() -> list[str]:
    """The commits with results of their own, the newest first: most only repeat the figures of the one before.

    Those that a branch or a tag names, or that experiments began from, are there in any case. Raises UserError outside
    of git.
    """

    def words(*command: str) -> list[str]:
        return git(*command).stdout.split()

    if git("rev-parse", check=False).returncode:
        raise UserError("git has no repository here; run from the project's top folder")
    refs = ("--exclude=refs/exps/*", "--exclude=refs/stash", "--all")
    # A rebase may have taken these off every branch.
    begun = words("log", "--no-walk", "--format=%P", "--glob=refs/exps/[0-9a-f][0-9a-f]/*")
    named = words("log", "--no-walk", "--format=%H", *refs)
    changed = words("rev-list", "--full-history", *refs, *begun, "--", "metrics")
    wanted = {*begun, *named, *changed}
    return [commit for commit in words("rev-list", "--date-order", *refs, *begun) if commit in wanted]


def results(revision: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each method with figures: the figures, their revision, and the settings that the method depends on."""
    if revision["State"] not in (None, "Success"):  # queued, running, failed
        return []
    figures, settings = {}, {}
    for column, value in revision.items():
        if metric := METRIC.fullmatch(column):
            kind, method, name = metric.groups()
            method = FORMER.get(method, method)
            name = f"{kind}_{name}" if kind in ("validation", "folds") else name
            if isinstance(value, float) and name in TEST + VALIDATION + DEVIATION + COST + FOLDS:
                figures.setdefault(method, {})[name] = value
        elif value not in (None, "None"):
            settings[FILE.sub("", column)] = f"{value:.10g}" if isinstance(value, float) else value
    if not {*PANEL, "seed"} <= set(settings):
        return []
    task = settings.get("task", DataConf.model_fields["task"].default)
    main, chosen_by = TASKS[task].headline[0], f"validation_{chooser(TASKS[task]).name}"
    return [
        {
            **{key: settings[key] for key in PANEL},
            "task": task,
            "method": method,
            "seeds": settings.get("seeds", settings["seed"]).strip("[]"),
            "settings": {key: value for key, value in settings.items() if concerns(key, method)},
            **dict.fromkeys(TEST + DEVIATION + VALIDATION + COST, np.nan),
            **{name: value for name, value in values.items() if name not in FOLDS},
            COMPARED: values.get(main, np.nan),
            IN_FOLDS: values.get(f"folds_{main}", np.nan),
            f"{COMPARED}_deviation": values.get(f"{main}_deviation", np.nan),
            "revision": revision["Experiment"] or revision["rev"],
            # Several revisions can have a result: it is named by a commit, else an experiment, else the workspace.
            "standing": 0 if revision["rev"] == "workspace" else 1 if revision["Experiment"] else 2,
        }
        for method, values in figures.items()
        if main in values or chosen_by in values
    ]


def concerns(setting: str, method: str) -> bool:
    """Whether a run of the method depends on the setting, which is a key of params.yaml or of a file in conf/."""
    match setting.split("."):
        case ["seed" | "precision"]:
            return True
        case ["train", "class_weights"]:
            return method not in WITHOUT_LEARNING
        case ["train", _]:
            return method not in (*BASELINES, *MORE)
        case ["train_lora", variant, _]:
            return method == f"lora-{variant}"
        case ["train_peft", "entries", entry, *_]:
            return method == entry
        case ["baseline", "more"]:
            return False
        case ["baseline", "setfit", _]:
            return method == "setfit"
        case ["baseline", name]:
            return method == ("probe" if name == "probe_C" else "tfidf")
        case ["learning_rate", name]:
            return name in (method, method.partition("-")[0])
        case [name, *_] if name in ModelConf.model_fields:
            return method not in WITHOUT_MODEL
        case [name, *_]:
            return name in KEYS

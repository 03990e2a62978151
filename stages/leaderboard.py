"""Compare the results of all commits and experiments: methods x data sets x models x seeds.

python -m stages.leaderboard
python -m stages.leaderboard --out plots/leaderboard
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from tqdm import tqdm

from tunediff.core.errors import UserError, reason
from tunediff.core.files import atomic
from tunediff.core.methods import BASELINES
from tunediff.core.process import run
from tunediff.models.settings import ModelConf
from tunediff.report import page, plots
from tunediff.sources.settings import DataConf

AT_ONCE = 10  # commits per call of DVC, of which each takes about a third of a second
PANEL = ["data", "model"]  # what figures can be compared within
TEST = ["accuracy", "f1", "precision", "recall", "loss"]
VALIDATION = ["validation_accuracy", "validation_f1", "validation_loss"]
DEVIATION = ["accuracy_deviation", "f1_deviation"]
COST = ["trainable_parameters", "train_seconds"]
DECIMALS = 5  # to which figures are compared: those that follow change with the machine
WITHOUT_MODEL = ("majority", "tfidf")  # the same with every pretrained model

METRIC = re.compile(r"metrics/(?:(validation|cost)/)?([^/:]+)\.json:(\w+)")
FILE = re.compile(r"^(params\.yaml|conf/(data|model)/[^:]+):")  # before a setting whose name several files have


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("plots/leaderboard"), help="folder for leaderboard.csv, .md, .html and .png"
    )
    args = parser.parse_args()

    found = pd.DataFrame([result for revision in revisions() for result in results(revision)])
    if found.empty or found.accuracy.isna().all():
        raise UserError("no commit or experiment has figures on test; `dvc repro` makes some, in metrics/")
    table = ranked(distinct(found))
    across = compared(table)

    with atomic(args.out / "leaderboard.csv") as partial:
        table.to_csv(partial, index=False)
    with atomic(args.out / "leaderboard.png") as partial:
        plots.leaderboard(table, list(across.index), partial)
    page.write(
        "Leaderboard",
        f"{len(table)} results of all commits and experiments, each with the first and the newest that has it. Of each "
        "method the run is chosen that has the best macro F1 on validation. Choose the method by that too: the first "
        "of several by a figure on test is also the luckiest.",
        [
            page.Section(
                "Methods across data sets",
                "Accuracy on test of the chosen runs. First is what lacks least, on average, to the best of a column.",
                [["method", *across.columns], *percent(across).reset_index().to_numpy().tolist()],
                [args.out / "leaderboard.png"],
            ),
            *(page.Section(", ".join(names), table=page_table(rows)) for names, rows in table.groupby(PANEL)),
        ],
        args.out / "leaderboard.html",
        args.out / "leaderboard.md",
    )
    print(percent(across).to_string())
    print(f"{args.out}: {len(table)} results", file=sys.stderr)


# --- what the repository has


def revisions() -> list[dict[str, Any]]:
    """What `dvc.api.exp_show` says of each commit, each experiment and the workspace: a row each, the oldest first.

    Raises UserError where DVC has no project, or git no repository.
    """
    every, rows = commits(), []
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
    """The newest first, without those that only repeat the figures of the one before, as most of a history does.

    Those are kept that a branch or a tag names, or that experiments began from. Raises UserError outside of git.
    """

    def git(*command: str) -> list[str]:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.split()

    refs = ("--exclude=refs/exps/*", "--exclude=refs/stash", "--all")
    try:
        # A rebase may have taken these off every branch.
        begun = git("log", "--no-walk", "--format=%P", "--glob=refs/exps/[0-9a-f][0-9a-f]/*")
        named = git("log", "--no-walk", "--format=%H", *refs)
        changed = git("rev-list", "--full-history", *refs, *begun, "--", "metrics")
        wanted = {*begun, *named, *changed}
        return [commit for commit in git("rev-list", "--date-order", *refs, *begun) if commit in wanted]
    except (OSError, subprocess.CalledProcessError):
        raise UserError("git has no repository here; run from the project's top folder") from None


def results(revision: dict[str, Any]) -> list[dict[str, Any]]:
    """One for each method with figures: these, where they are from, and the settings that the method depends on."""
    if revision["State"] not in (None, "Success"):  # queued, running, failed
        return []
    figures, settings = {}, {}
    for column, value in revision.items():
        if metric := METRIC.fullmatch(column):
            kind, method, name = metric.groups()
            name = f"validation_{name}" if kind == "validation" else name
            if isinstance(value, float) and name in TEST + VALIDATION + DEVIATION + COST:
                figures.setdefault(method, {})[name] = value
        elif value not in (None, "None"):
            settings[FILE.sub("", column)] = f"{value:.10g}" if isinstance(value, float) else value
    if not {*PANEL, "seed"} <= set(settings):
        return []
    return [
        {
            **{key: settings[key] for key in PANEL},
            "method": method,
            "seeds": settings.get("seeds", settings["seed"]).strip("[]"),
            "settings": {key: value for key, value in settings.items() if concerns(key, method)},
            **dict.fromkeys(TEST + DEVIATION + VALIDATION + COST, np.nan),
            **values,
            "revision": revision["Experiment"] or revision["rev"],
            # Several revisions can have a result: it is named by a commit, else an experiment, else the workspace.
            "standing": 0 if revision["rev"] == "workspace" else 1 if revision["Experiment"] else 2,
        }
        for method, values in figures.items()
        if "accuracy" in values or "validation_f1" in values
    ]


def concerns(setting: str, method: str) -> bool:
    """Whether a run of the method depends on the setting, which is a key of params.yaml or of a file in conf/."""
    match setting.split("."):
        case ["seed" | "precision"]:
            return True
        case ["train", "class_weights"]:
            return method not in ("majority", "baseline")
        case ["train", _]:
            return method not in BASELINES
        case ["train_lora", variant, _]:
            return method == f"lora-{variant}"
        case ["train_peft", "entries", entry, *_]:
            return method == entry
        case ["baseline", name]:
            return method == ("probe" if name == "probe_C" else "tfidf")
        case ["learning_rate", name]:
            return name in (method, method.partition("-")[0])
        case [name, *_] if name in ModelConf.model_fields:
            return method not in WITHOUT_MODEL
        case [name, *_]:
            return name in DataConf.model_fields


# --- the table


def distinct(found: pd.DataFrame) -> pd.DataFrame:
    """Each result once, with the data, model and settings of the first revision that has it: there it was made.

    A revision has figures of all methods, of those too that nothing trained anew. So the same figures of the same
    method are one result, even where params.yaml names other data by then. Takes the rows of `results`, the oldest
    first; `revision` becomes `made_in` and `newest_in`.
    """
    model = found.model.where(found.method.isin(WITHOUT_MODEL), "")
    same = found.groupby([found.method, model, *(found[name].round(DECIMALS) for name in TEST)], dropna=False)
    theirs = same[VALIDATION].transform("first")
    # Trained anew but not evaluated: the figures on test are still those of an earlier training.
    stale = (found.validation_loss - theirs.validation_loss).abs() > 0.1**DECIMALS
    found = found.fillna(theirs)  # from commits of before `baseline` had figures on validation
    found.loc[stale, TEST + DEVIATION + COST] = np.nan
    # Evaluated in another revision.
    trainings = found.groupby(["method", *(found[name].round(DECIMALS) for name in VALIDATION)], dropna=False)
    known = found.accuracy.isna() & (trainings.accuracy.transform("count") > 0)

    figures = found[["method", *TEST, *VALIDATION]].round(DECIMALS).assign(model=model)
    number = figures.groupby(list(figures), dropna=False, sort=False).ngroup()
    newest = found.sort_values("standing", kind="stable").groupby(number).revision.last()
    table = found.assign(newest_in=number.map(newest)).rename(columns={"revision": "made_in"})
    table = table.astype({"trainable_parameters": "Int64"}).drop(columns="standing")
    return table[~number.duplicated() & ~known]


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each data set and model together, the most accurate on test first.

    Of `settings` those are kept, as text, that differ in these rows. Adds `chosen`: the run of each method that has the
    best macro F1 on validation of those with figures on test, or the newest where none has any on validation.
    """
    parts = []
    for _, rows in table.groupby(PANEL):
        settings = pd.DataFrame(rows.settings.tolist())
        differ = [key for key in settings if settings[key].nunique() > 1]
        tested = rows[rows.accuracy.notna()].sort_values("validation_f1", na_position="first", kind="stable")
        rows = rows.assign(
            settings=[" ".join(f"{key}={each[key]}" for key in differ if key in each) for each in rows.settings],
            chosen=rows.index.isin(tested.groupby("method").tail(1).index),
        )
        parts.append(rows.sort_values(["accuracy", "validation_f1"], ascending=False, kind="stable"))
    return pd.concat(parts)


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on test of the chosen runs: a row per method, a column per data set and model.

    First is the method that lacks least, on average, to the best of its column.
    """
    across = table[table.chosen].pivot(index="method", columns=PANEL, values="accuracy")
    across.columns = [", ".join(names) for names in across.columns]
    return across.loc[(across.max() - across).mean(axis=1).sort_values(kind="stable").index]


# --- the page


def percent(figures: pd.DataFrame) -> pd.DataFrame:
    return figures.map(lambda value: "" if pd.isna(value) else f"{value:.1%}")


def page_table(rows: pd.DataFrame) -> list[list[str]]:
    """The rows of one data set and model below their head."""
    figures = percent(rows[["accuracy", "f1", "validation_f1"]])
    for name in ("accuracy", "f1"):
        deviation = rows[f"{name}_deviation"]
        figures[name] += deviation.map(lambda value: "" if pd.isna(value) else f" ± {100 * value:.1f}")
    table = pd.DataFrame(
        {
            "method": rows.method,
            "chosen": rows.chosen.map({True: "✓", False: ""}),
            "accuracy": figures.accuracy,
            "macro F1": figures.f1,
            "validation F1": figures.validation_f1,
            "trainable parameters": rows.trainable_parameters.map(lambda n: "" if pd.isna(n) else f"{n:,.0f}"),
            "training, s": rows.train_seconds.map(lambda n: "" if pd.isna(n) else f"{n:,.0f}"),
            "seeds": rows.seeds,
            "settings that differ": rows.settings,
            "made in": rows.made_in,
            "newest in": rows.newest_in,
        }
    )
    return [list(table), *table.to_numpy().tolist()]


if __name__ == "__main__":
    run(main)

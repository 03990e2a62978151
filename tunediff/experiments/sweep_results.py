"""What came out of a sweep: a table of its trials, the pictures, the best trial of each method, its figures on test."""

import warnings
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from tunediff.core.errors import UserError
from tunediff.core.files import atomic, read_json
from tunediff.evidence.comparison import on_front
from tunediff.experiments import pictures
from tunediff.experiments.clones import clone, dvc, keep
from tunediff.experiments.repository import git, reference
from tunediff.experiments.sweep_budget import ERROR, budget_number, finished, first_number
from tunediff.experiments.sweep_settings import COST, COUNTS, VALIDATION, Sweep
from tunediff.experiments.sweep_studies import COMMIT, STAGE, TEST
from tunediff.experiments.sweep_trials import experiment_name, values_of

OUT = Path("plots/sweep")  # a folder for each study
COST_SHOWN = "train_seconds"  # against the quality, where no cost is an objective

warnings.filterwarnings("ignore", module=r"optuna\.importance")  # that few trials say little; docs/scaling.md says it


def table(conf: Sweep, studies: dict[str, optuna.Study]) -> pd.DataFrame:
    """A row for each finished trial: the methods one after the other, each in the order of its proposals.

    Columns method, trial, state, experiment, values, the figures VALIDATION and COST, which are missing for what was
    pruned or failed, and `best`, which is true for one trial of each method.
    """
    return pd.concat([_trials(conf, method, study) for method, study in studies.items()], ignore_index=True)


def _trials(conf: Sweep, method: str, study: optuna.Study) -> pd.DataFrame:
    rows = [
        {
            "method": method,
            "trial": budget_number(study, trial),
            "state": "failed" if ERROR in trial.user_attrs else trial.state.name.lower(),
            "experiment": (experiment_name(conf, method, study, trial) if trial.state == TrialState.COMPLETE else None),
            "values": values_of(trial),
            **{name: trial.user_attrs.get(name) for name in (*VALIDATION, *COST)},
        }
        for trial in sorted(finished(study), key=first_number)
    ]
    types = {**dict.fromkeys((*VALIDATION, *COST), float), **dict.fromkeys(COUNTS, "Int64")}
    trials = pd.DataFrame(rows).astype(types)
    return trials.assign(best=trials.index == (conf.sign * trials[conf.quality]).idxmax())


def importances(conf: Sweep, studies: dict[str, optuna.Study]) -> pd.DataFrame:
    """Columns method, objective, hyperparameter, importance; the importances of a method and objective add up to 1."""
    rows = []
    for method, study in studies.items():
        if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 2:
            continue
        for index, objective in enumerate(conf.objectives):
            # Optuna asks what it takes to get low values.
            sign = 1 if study.directions[index] == optuna.study.StudyDirection.MINIMIZE else -1
            by_key = optuna.importance.get_param_importances(
                study, target=lambda trial, i=index, sign=sign: sign * trial.values[i]
            )
            rows += [(method, objective, key, importance) for key, importance in by_key.items()]
    return pd.DataFrame(rows, columns=["method", "objective", "hyperparameter", "importance"])


def write(conf: Sweep, trials: pd.DataFrame, importance: pd.DataFrame) -> None:
    """Write trials.csv and importance.csv, a picture of each, and one of quality against cost, into OUT/STUDY."""
    out = OUT / conf.study
    cost = conf.cost or COST_SHOWN
    complete = trials[trials.state == "complete"]
    front = complete[on_front(complete.assign(quality=conf.sign * complete[conf.quality]), "quality", cost)]
    flat = pd.concat([trials.drop(columns="values"), pd.DataFrame(trials["values"].tolist())], axis=1)
    with atomic(out / "trials.csv") as partial:
        flat.assign(front=flat.index.isin(front.index)).to_csv(partial, index=False)
    with atomic(out / "importance.csv") as partial:
        importance.to_csv(partial, index=False)
    with atomic(out / "history.png") as partial:
        pictures.sweep_history(trials, conf.quality, partial)
    if len(importance):
        with atomic(out / "importance.png") as partial:
            pictures.sweep_importance(importance, partial)
    with atomic(out / "pareto.png") as partial:
        pictures.sweep_pareto(complete, front, conf.quality, cost, partial)


def summary(conf: Sweep, trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each method: its best trial beside the first, which had the defaults."""
    rows = []
    for method, its_trials in trials.groupby("method", sort=False):
        default = its_trials.iloc[0]
        best = its_trials[its_trials.best].iloc[0]
        rows.append(
            {
                "method": method,
                "trials": len(its_trials),
                "pruned": (its_trials.state == "pruned").sum(),
                "failed": (its_trials.state == "failed").sum(),
                f"{conf.quality} of the defaults": default[conf.quality],
                "of the best": best[conf.quality],
                "experiment": best.experiment,
                "values": ", ".join(f"{key.rpartition(':')[2]}={value}" for key, value in best["values"].items()),
            }
        )
    return pd.DataFrame(rows)


def on_test(conf: Sweep, studies: dict[str, optuna.Study], trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each method: the figures of its best trial on test.

    A trial is evaluated when its figures are first asked for, in an experiment NAME-test. Raises UserError if the
    trial's experiment is not in this repository.
    """
    best = trials[trials.best].set_index("method").experiment
    return pd.DataFrame(
        {"method": method, **_figures_on_test(conf, method, study, best[method])} for method, study in studies.items()
    )


def _figures_on_test(conf: Sweep, method: str, study: optuna.Study, name: str) -> dict[str, Any]:
    """`experiment` and the figures; `name` is that of the best trial's experiment."""
    if TEST not in study.user_attrs:
        commit = study.user_attrs[COMMIT]
        ref = reference(commit, name)
        stage = "evaluate_peft" if study.user_attrs[STAGE].startswith("train_peft") else "evaluate"
        if git("rev-parse", "--verify", ref, check=False).returncode:
            raise UserError(f"--test: {name} ran elsewhere and is not here: dvc exp pull origin {name}")
        with clone(commit, f"{conf.study}.{method}.test") as folder:
            git("-C", folder, "fetch", "--quiet", "origin", ref)
            # Not `dvc exp apply`, which asks for the outputs of all stages, also of those that are not needed here.
            git("-C", folder, "checkout", "--quiet", "FETCH_HEAD", "--", ".")
            dvc(folder, name, "exp", "run", "--pull", f"{stage}@{method}", "--name", f"{name}-test")
            keep(folder, commit, f"{name}-test")
            study.set_user_attr(TEST, {"experiment": name, **read_json(folder / f"metrics/{method}.json")})
    return study.user_attrs[TEST]

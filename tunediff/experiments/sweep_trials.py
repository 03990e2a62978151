"""A sweep's trials: Optuna proposes values, and each trial trains with them in a DVC experiment."""

import json
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial
from tqdm import tqdm

from tunediff.core.errors import UserError
from tunediff.core.files import read_json
from tunediff.experiments.clones import clone, dvc, keep
from tunediff.experiments.sweep_budget import (
    ERROR,
    SURPLUS,
    begun,
    budget_number,
    finished,
    first_number,
    give_back_dead,
    take_up,
    waiting,
)
from tunediff.experiments.sweep_settings import Sweep, Values
from tunediff.experiments.sweep_studies import COMMIT, STAGE


def search(conf: Sweep, studies: dict[str, optuna.Study]) -> None:
    """Do trials until each method has its budget, counting those of other workers.

    Raises UserError if the first trial of a method fails, or two one after the other.
    """
    total = conf.trials * len(studies)
    with tqdm(desc="trials", total=total, initial=sum(len(finished(study)) for study in studies.values())) as bar:
        while bar.n < total:
            todo = {method: begun(study) - waiting(study) for method, study in studies.items()}
            todo = {method: count for method, count in todo.items() if count < conf.trials}
            if todo:
                method = min(todo, key=todo.get)
                one_trial(conf, method, studies[method])
            else:  # other workers are at the last ones, or were killed at them
                time.sleep(1)
                give_back_dead(conf.study, studies)
            bar.n = sum(len(finished(study)) for study in studies.values())
            bar.refresh()


class Surplus(Exception):
    """Another worker was faster to begin the last trial of the budget."""


def one_trial(conf: Sweep, method: str, study: optuna.Study) -> None:
    """Take up a trial that waits, or begin a new one.

    Raises UserError if the trial fails and is the method's first, or if the one before it failed too.
    """
    number = None

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        nonlocal number
        number = trial.number
        if first_number(study.trials[number]) == number and begun(study, number) >= conf.trials:
            trial.set_user_attr(SURPLUS, True)
            raise Surplus
        _propose(trial, conf.space(method))
        try:
            figures = train(conf, method, study, trial)
        except UserError as error:
            if not finished(study):
                raise  # not for the values: they are the defaults
            trial.set_user_attr(ERROR, str(error))
            raise optuna.TrialPruned from None  # for TPE among the worst
        for key, value in figures.items():
            trial.set_user_attr(key, value)
        return tuple(figures[name] for name in conf.objectives)

    try:
        study.optimize(objective, n_trials=1, catch=Surplus)
    except (KeyboardInterrupt, UserError):
        take_up(study, study.trials[number])
        raise
    last = sorted(finished(study), key=lambda trial: trial.datetime_complete)[-2:]
    if last and last[-1].number == number and all(ERROR in trial.user_attrs for trial in last):
        raise UserError(f"two trials of {method} failed, one after the other: {last[-1].user_attrs[ERROR]}")


def _propose(trial: optuna.Trial, space: dict[str, Values]) -> None:
    for key, searched in space.items():
        match searched.distribution:
            case CategoricalDistribution(choices=choices):
                trial.suggest_categorical(key, choices)
            case IntDistribution(low=low, high=high, log=log):
                trial.suggest_int(key, low, high, log=log)
            case FloatDistribution(low=low, high=high, log=log):
                trial.suggest_float(key, low, high, log=log)


def values_of(trial: FrozenTrial) -> dict[str, Any]:
    """The values that the trial is run with: three digits of a proposal, the defaults as they are.

    No sweep can tell values apart that differ in the fourth digit.
    """
    rounded = first_number(trial) > 0
    return {
        key: float(f"{value:.3g}") if rounded and isinstance(value, float) else value
        for key, value in trial.params.items()
    }


def experiment_name(conf: Sweep, method: str, study: optuna.Study, trial: FrozenTrial) -> str:
    return f"sweep-{conf.study}-{method}-{budget_number(study, trial)}"


def train(conf: Sweep, method: str, study: optuna.Study, trial: optuna.Trial) -> dict[str, float]:
    """Run the trial as a DVC experiment; its figures on validation and its costs.

    Raises TrialPruned, and then leaves nothing of the training, and UserError if it fails.
    """
    commit, stage = study.user_attrs[COMMIT], study.user_attrs[STAGE]
    frozen = study.trials[trial.number]
    name = experiment_name(conf, method, study, frozen)
    with clone(commit, f"{conf.study}.{method}.{trial.number}") as folder:
        progress = _Progress(conf, trial, folder / f"plots/curves/{method}")

        def poor() -> bool:
            return progress.begun() and progress.report() and first_number(frozen) > 0 and trial.should_prune()

        changes = _changes(method, stage, values_of(frozen))
        if not dvc(folder, name, "exp", "run", "--pull", stage, "--name", name, *changes, stop=poor):
            raise optuna.TrialPruned
        progress.report()
        keep(folder, commit, name)
        validation = read_json(folder / f"metrics/validation/{method}.json")
        return validation | read_json(folder / f"metrics/cost/training/{method}.json")


def _changes(method: str, stage: str, values: dict[str, Any]) -> list[str]:
    """Options of `dvc exp run` that set the values, and that add the method to the pipeline if it is one of PEFT."""
    changes = [f"--set-param={key}={json.dumps(value)}" for key, value in values.items()]
    if stage.startswith("train_peft"):
        changes.append(f"--set-param=train_peft.methods=[{method}]")
    return changes


class _Progress:
    """Tells Optuna the figure of each epoch, from the curve that a training writes while it runs."""

    def __init__(self, conf: Sweep, trial: optuna.Trial, curves: Path):
        self.conf, self.trial, self.curves = conf, trial, curves
        self.reported = 0
        self.committed = curve(curves, conf.quality)

    def begun(self) -> bool:
        """Whether the curve is of this training. One that was committed is not; DVC removes it first of all."""
        if curve(self.curves, self.conf.quality) != self.committed:
            self.committed = None
        return self.committed is None

    def report(self) -> bool:
        """Tell the epochs since the last call; whether there are any. With two objectives Optuna takes none."""
        new = [] if self.conf.cost else curve(self.curves, self.conf.quality)[self.reported :]
        for epoch, value in new:
            self.trial.report(value, epoch)
        self.reported += len(new)
        return bool(new)


def curve(folder: Path, quality: str) -> list[tuple[int, float]]:
    """The epochs so far, from the file that DVCLive adds a line to after each; an unfinished line is left out."""
    path = folder / f"plots/metrics/validation/{quality}.tsv"
    lines = path.read_text().splitlines(keepends=True)[1:] if path.is_file() else []
    complete = (line.split("\t") for line in lines if line.endswith("\n"))
    return [(int(epoch), float(value)) for epoch, value in complete]

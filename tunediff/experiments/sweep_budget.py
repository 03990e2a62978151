"""A sweep's trials counted against the budget, and what is done about those at which a sweep was killed.

Optuna cannot go on with a trial. So one that was killed is given back: it fails, and a new trial with the same values
waits until a worker takes it up. Both are one trial of the budget.
"""

import shutil
import warnings
from contextlib import suppress
from datetime import datetime, timedelta

import optuna
import psutil
from filelock import FileLock
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from tunediff.experiments.clones import SCRATCH

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

GRACE = 60  # seconds: a trial without a heartbeat for so long is given back
SURPLUS = "surplus"  # the attribute of a trial that began when the budget was used up
ERROR = "error"  # that of a trial that failed: what it failed by
take_up = RetryHeartbeatStaleTrialCallback()


def begun(study: optuna.Study, before: int | None = None) -> int:
    """How many trials of the budget were begun; with `before`, how many of them have a lower number than that.

    A trial that is taken up again counts once. A surplus one does not count.
    """
    return sum(
        first_number(trial) == trial.number and SURPLUS not in trial.user_attrs
        for trial in study.get_trials(deepcopy=False)[:before]
    )


def first_number(trial: FrozenTrial) -> int:
    """The trial's own number, or that of the trial which it takes up again."""
    earlier = take_up.retried_trial_number(trial)
    return trial.number if earlier is None else earlier


def budget_number(study: optuna.Study, trial: FrozenTrial) -> int:
    """0 for the trial with the defaults, `trials` - 1 for the last, however often some were taken up again."""
    return begun(study, first_number(trial))


def finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def waiting(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def give_back_dead(name: str, studies: dict[str, optuna.Study]) -> None:
    """Give back what a killed sweep was at: at once if it ran in this folder, after GRACE seconds if elsewhere.

    `name` is that of the sweep; `studies` has one for each of its methods.
    """
    for study in studies.values():
        optuna.storages.fail_stale_trials(study)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Optuna goes by heartbeats. Before the first one a trial has no values either.
            if not trial.params and datetime.now() - trial.datetime_start > timedelta(seconds=GRACE):
                _give_back(study, trial.number)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with FileLock(SCRATCH / "lock"):
        for folder in SCRATCH.glob(f"*.{name}.*.*"):
            process, _, method, number = folder.name.split(".")
            if not psutil.pid_exists(int(process)):
                study = studies.get(method)
                if study and study.trials[int(number)].state == TrialState.RUNNING:
                    _give_back(study, int(number))
                shutil.rmtree(folder)


def _give_back(study: optuna.Study, number: int) -> None:
    with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another worker was faster
        study.tell(number, state=TrialState.FAIL)
        take_up(study, study.trials[number])

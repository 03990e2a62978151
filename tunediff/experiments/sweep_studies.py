"""A sweep's studies, one for each method, in Optuna's database: begun, or opened again and checked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from tunediff.core.errors import UserError, reason
from tunediff.experiments.repository import INPUTS, git
from tunediff.experiments.sweep_budget import GRACE, begun, give_back_dead, take_up
from tunediff.experiments.sweep_settings import CONF, Sweep
from tunediff.experiments.sweep_values import default_values, training_stage
from tunediff.settings.study import load

HEARTBEAT = 10  # seconds between two signs of life of a trial
STARTUP = 4  # random trials of a method, the defaults among them, before TPE proposes
# Attributes of a study.
SPACE = "space"  # what `search_space` gives
STAGE = "stage"  # that trains the method
COMMIT = "commit"  # of which all trials are
TEST = "test"  # figures of the best trial on test


@contextmanager
def database_errors() -> Iterator[None]:
    """Raises UserError if the database fails in the block."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        why = reason(error.__cause__ or error)
        raise UserError(f"{CONF}: storage: {why}; nothing is lost: run it again when the database answers") from error


def open_studies(conf: Sweep) -> dict[str, optuna.Study]:
    """The study of each method, begun now or earlier.

    Raises UserError if conf/sweep.yaml or the repository does not fit a study that was begun earlier.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = _open_storage(conf.storage)
    studies = {method: _open_study(conf, method, storage) for method in conf.methods}
    for method, study in studies.items():
        if study.user_attrs[SPACE] != search_space(conf, method):
            raise UserError(
                f"{CONF}: the space or the objectives of {method} are not those that study '{conf.study}' was begun "
                "with; put them back, or give `study` another name"
            )
        if TEST in study.user_attrs and begun(study) < conf.trials:
            raise UserError(
                f"{CONF}: trials: the test split was read at the end of study '{conf.study}': more trials would no "
                "longer be tested by it; give `study` another name"
            )
        commit = study.user_attrs[COMMIT]
        if git("cat-file", "-e", f"{commit}^{{commit}}", check=False).returncode:
            raise UserError(f"study '{conf.study}' is of commit {commit[:7]}, which is not here; `git fetch` it")
    give_back_dead(conf.study, studies)
    return studies


def _open_storage(url: str) -> RDBStorage:
    def storage() -> RDBStorage:
        return RDBStorage(
            url,
            engine_kwargs={"pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=take_up,
        )

    try:
        return storage()
    except ImportError as error:
        install = "pip install -r requirements-cluster.txt"
        raise UserError(f"{CONF}: storage: {reason(error)}; for PostgreSQL run: {install}") from None
    except (IntegrityError, ProgrammingError):  # another worker makes the tables at the same time
        time.sleep(1)
        return storage()


def _open_study(conf: Sweep, method: str, storage: RDBStorage) -> optuna.Study:
    """The method's study. The worker that makes it also enqueues the defaults; the others wait until that is done."""
    if conf.cost or not conf.prune_after:
        pruner = optuna.pruners.NopPruner()
    else:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=conf.prune_after, n_warmup_steps=2)
    # Without a seed: of two workers, or of one that goes on, each must propose something else.
    sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP)
    name = f"{conf.study}/{method}"
    if name not in optuna.get_all_study_names(storage):
        _begin_study(conf, method, name, storage)
    study = optuna.load_study(storage=storage, study_name=name, sampler=sampler, pruner=pruner)
    until = time.monotonic() + GRACE
    while COMMIT not in study.user_attrs:
        if time.monotonic() > until:
            raise UserError(f"study '{conf.study}' was begun and left; give `study` another name in {CONF}")
        time.sleep(0.2)
    return study


def _begin_study(conf: Sweep, method: str, name: str, storage: RDBStorage) -> None:
    """Make the study unless another worker is faster; its first trial will have the default values."""
    commit = committed()
    settings = load()
    stage = training_stage(settings.params, method)
    values = default_values(settings, conf, method)
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=list(conf.objectives.values()))
    except optuna.exceptions.DuplicatedStudyError:
        return
    study.enqueue_trial(values)
    study.set_user_attr(SPACE, search_space(conf, method))
    study.set_user_attr(STAGE, stage)
    study.set_user_attr(COMMIT, commit)  # the last one: others wait for it


def search_space(conf: Sweep, method: str) -> dict[str, Any]:
    """What a study searches and by which figures, as it is written into the database."""
    space = {key: values.model_dump() for key, values in conf.space(method).items()}
    return {"objectives": list(conf.objectives), "space": space}


def committed() -> str:
    """The commit that is checked out. Raises UserError outside of git, or if what trials read is not committed."""
    status = git("status", "--porcelain", "--", *INPUTS, f":!{CONF}", check=False)
    if status.returncode:
        raise UserError(f"git has no repository here: {reason(Exception(status.stderr))}")
    if status.stdout:
        changed = ", ".join(line[3:] for line in status.stdout.splitlines())
        raise UserError(f"the trials of a sweep are of one commit, and this is not committed: {changed}")
    return git("rev-parse", "HEAD").stdout.strip()

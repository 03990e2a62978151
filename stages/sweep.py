"""Search hyperparameters: Optuna proposes, each trial is a DVC experiment, each method has the same budget.

python -m stages.sweep                    # conf/sweep.yaml says what; run again after an interruption, it goes on
python -m stages.sweep --write            # and put the best values into params.yaml and conf/
python -m stages.sweep --test             # and evaluate the best of each method on test, once
"""

import argparse
import json
import shutil
import signal
import sys
import time
import warnings
from contextlib import suppress
from datetime import datetime, timedelta
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
import pandas as pd
import psutil
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from ruamel.yaml import YAML
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from tqdm import tqdm

from tunediff.core.errors import UserError, reason
from tunediff.core.files import atomic, read_json
from tunediff.core.process import run
from tunediff.core.settings import Count, MethodName, Scalar, Section, number, read
from tunediff.evidence.comparison import on_front
from tunediff.experiments.clones import SCRATCH, clone, dvc, git, keep, reference
from tunediff.report import plots
from tunediff.settings.params import Params
from tunediff.settings.study import load

CONF = Path("conf/sweep.yaml")
OUT = Path("plots/sweep")  # a folder for each study
READ = ("params.yaml", "dvc.yaml", "conf", "stages", "tunediff", "data/raw")  # what a trial's result depends on
HEARTBEAT = 10  # seconds: so often a trial says that it runs
GRACE = 60  # seconds: without a word for so long it is taken up again
VALIDATION = ("f1", "accuracy", "loss", "best_epoch", "epochs")
COST = ("train_seconds", "trainable_parameters", "peak_memory_bytes")
STARTUP = 4  # random trials of a method, the defaults among them, before TPE proposes

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", module=r"optuna\.importance")  # that few trials say little; docs/scaling.md says it
take_up = RetryHeartbeatStaleTrialCallback()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", nargs="*", metavar="METHOD", help="put the best values of these methods, or of all, where -S would"
    )
    parser.add_argument("--test", action="store_true", help="evaluate the best trial of each method on test")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    conf = read(CONF, Sweep)
    if unknown := [method for method in args.write or () if method not in conf.methods]:
        raise UserError(f"--write: {CONF} has no method {unknown[0]}; there are: {', '.join(conf.methods)}")
    try:
        studies = open_studies(conf)
        search(conf, studies)

        table = pd.concat([results(conf, method, study) for method, study in studies.items()], ignore_index=True)
        write_figures(conf, table, importances(conf, studies), OUT / conf.study)
        print(summary(conf, table).to_string(index=False))
        if args.write is not None:
            write_values(conf, table, args.write or list(conf.methods))
        if args.test:
            best = table[table.best].set_index("method")
            figures = [test(conf, method, study, best.loc[method]) for method, study in studies.items()]
            print("\non test", pd.DataFrame(figures).to_string(index=False), sep="\n")
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        why = reason(error.__cause__ or error)
        raise UserError(f"{CONF}: storage: {why}; nothing is lost: run it again when the database answers") from error


# --- conf/sweep.yaml


class Range(Section):
    """Whole numbers if both ends are, else all between."""

    low: Annotated[int | float, BeforeValidator(number)]
    high: Annotated[int | float, BeforeValidator(number)]
    log: bool = False
    """Whether 1 to 10 is as much to search as 10 to 100."""

    @model_validator(mode="after")
    def _low_to_high(self) -> "Range":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"expected low < high{' and, with log, low > 0' if self.log else ''}")
        return self

    def __contains__(self, value: object) -> bool:
        return not isinstance(value, bool | str) and self.low <= value <= self.high

    @property
    def distribution(self) -> BaseDistribution:
        kind = IntDistribution if isinstance(self.low, int) and isinstance(self.high, int) else FloatDistribution
        return kind(self.low, self.high, log=self.log)


class Choices(Section):
    choices: list[Scalar] = Field(min_length=2)

    def __contains__(self, value: object) -> bool:
        return value in self.choices

    @property
    def distribution(self) -> BaseDistribution:
        return CategoricalDistribution(self.choices)


def _kind(values: object) -> str:
    return "choices" if isinstance(values, Choices) or (isinstance(values, dict) and "choices" in values) else "range"


Values = Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)]


class Sweep(Section):
    study: MethodName
    storage: str
    """URL of a database, as SQLAlchemy takes it."""
    trials: Count
    """Budget of each method, those that are pruned or fail included."""
    quality: Literal["f1", "accuracy", "loss"]
    """Of the best epoch on validation."""
    cost: Literal["train_seconds", "trainable_parameters", "peak_memory_bytes"] | None = None
    """A second objective, to be low."""
    prune_after: Annotated[int, BeforeValidator(number), Field(ge=0)]
    """Trials of a method before any is pruned; 0 prunes none."""
    shared: dict[str, Values]
    """Searched for each method: keys as `dvc exp run -S` takes them."""
    methods: dict[MethodName, dict[str, Values]] = Field(min_length=1)
    """Those that only one method has."""

    @model_validator(mode="after")
    def _something_to_search(self) -> "Sweep":
        if empty := [method for method in self.methods if not self.space(method)]:
            raise ValueError(f"methods.{empty[0]}: no values to search, here or under `shared`")
        return self

    def space(self, method: str) -> dict[str, Values]:
        return {**self.shared, **self.methods[method]}

    @property
    def objectives(self) -> dict[str, str]:
        """Names and directions: the quality, then the cost if it is one."""
        quality = {self.quality: "minimize" if self.quality == "loss" else "maximize"}
        return quality | ({self.cost: "minimize"} if self.cost else {})


# --- a study for each method


def open_studies(conf: Sweep) -> dict[str, optuna.Study]:
    """Begun, or as they are. Raises UserError where conf/sweep.yaml or the repository does not fit them."""
    storage = open_storage(conf.storage)
    studies = {method: open_study(conf, method, storage) for method in conf.methods}
    for method, study in studies.items():
        made = study.user_attrs
        if made["space"] != asked(conf, method):
            raise UserError(
                f"{CONF}: the space or the objectives of {method} are not those that study '{conf.study}' was begun "
                "with; put them back, or give `study` another name"
            )
        if "test" in made and begun(study) < conf.trials:
            raise UserError(
                f"{CONF}: trials: the test split was read at the end of study '{conf.study}': more trials would no "
                "longer be tested by it; give `study` another name"
            )
        if git("cat-file", "-e", f"{made['commit']}^{{commit}}", check=False).returncode:
            raise UserError(
                f"study '{conf.study}' is of commit {made['commit'][:7]}, which is not here; `git fetch` it"
            )
    give_back_dead(conf, studies)
    return studies


def open_storage(url: str) -> RDBStorage:
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
        raise UserError(f"{CONF}: storage: {reason(error)}") from None
    except (IntegrityError, ProgrammingError):  # another worker makes the tables at the same time
        time.sleep(1)
        return storage()


def open_study(conf: Sweep, method: str, storage: RDBStorage) -> optuna.Study:
    """Whoever makes it also enqueues the defaults; the others wait until that is done."""
    if conf.cost or not conf.prune_after:
        pruner = optuna.pruners.NopPruner()
    else:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=conf.prune_after, n_warmup_steps=2)
    # Without a seed: of two workers, or of one that goes on, each must propose something else.
    sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP)
    name = f"{conf.study}/{method}"
    if name not in optuna.get_all_study_names(storage):
        commit, stage, values = committed(), *defaults(conf, method)
        try:
            study = optuna.create_study(storage=storage, study_name=name, directions=list(conf.objectives.values()))
        except optuna.exceptions.DuplicatedStudyError:
            pass  # another worker was faster
        else:
            study.enqueue_trial(values)
            for key, value in {"space": asked(conf, method), "stage": stage, "commit": commit}.items():
                study.set_user_attr(key, value)
    study = optuna.load_study(storage=storage, study_name=name, sampler=sampler, pruner=pruner)
    until = time.monotonic() + GRACE
    while "commit" not in study.user_attrs:
        if time.monotonic() > until:
            raise UserError(f"study '{conf.study}' was begun and left; give `study` another name in {CONF}")
        time.sleep(0.2)
    return study


def asked(conf: Sweep, method: str) -> dict[str, Any]:
    space = {key: values.model_dump() for key, values in conf.space(method).items()}
    return {"objectives": list(conf.objectives), "space": space}


def committed() -> str:
    """HEAD. Raises UserError if git has no repository, or what trials read is not committed."""
    found = git("status", "--porcelain", "--", *READ, f":!{CONF}", check=False)
    if found.returncode:
        raise UserError(f"git has no repository here: {reason(Exception(found.stderr))}")
    if found.stdout:
        changed = ", ".join(line[3:] for line in found.stdout.splitlines())
        raise UserError(f"the trials of a sweep are of one commit, and this is not committed: {changed}")
    return git("rev-parse", "HEAD").stdout.strip()


def defaults(conf: Sweep, method: str) -> tuple[str, dict[str, Any]]:
    """The stage that trains the method, and for each key the value that stands in the file now.

    Raises UserError for a method that nothing trains, and for a key whose value is not there or not in its range.
    """
    settings = load()
    stages = stages_of(settings.params)
    if method not in stages:
        raise UserError(f"{CONF}: methods: nothing trains '{method}'; there are: {', '.join(stages)}")
    files = {"params.yaml": settings.params, settings.data_path: settings.data, settings.model_path: settings.model}
    found = {Path(path): section.model_dump() for path, section in files.items()}
    values, problems = {}, []
    for key, searched in conf.space(method).items():
        path, dotted = file_of(key)
        try:
            values[key] = reduce(getitem, dotted.split("."), found[path])
        except (KeyError, TypeError):
            chosen = ", ".join(map(str, found))
            problems.append(f"{CONF}: {method}: {key}: there is no such key; the files in use are {chosen}")
            continue
        if values[key] not in searched:
            problems.append(f"{CONF}: {method}: {key}: {path} has {values[key]}, which is not among those to search")
    if problems:
        raise UserError(*problems)
    return stages[method], values


def stages_of(params: Params) -> dict[str, str]:
    """For each method that can be trained, its stage in dvc.yaml."""
    return {
        "full": "train_full",
        **{f"lora-{variant}": f"train_lora@{variant}" for variant in params.train_lora},
        **{entry: f"train_peft@{entry}" for entry in params.train_peft.entries},
    }


def file_of(key: str) -> tuple[Path, str]:
    """File and dotted key of `conf/model/minilm.yaml:learning_rate.full`; without a file, `-S` means params.yaml."""
    path, _, dotted = key.rpartition(":")
    return Path(path or "params.yaml"), dotted


# --- the budget


def begun(study: optuna.Study, before: int | None = None) -> int:
    """Trials of the budget that were begun, or those of them with a number before that one.

    A trial that is taken up again is not one more, and one beyond the budget is none.
    """
    return sum(
        first_number(trial) == trial.number and "surplus" not in trial.user_attrs
        for trial in study.get_trials(deepcopy=False)[:before]
    )


def first_number(trial: FrozenTrial) -> int:
    """The trial's own, or that of the one which it takes up again."""
    earlier = take_up.retried_trial_number(trial)
    return trial.number if earlier is None else earlier


def place_of(study: optuna.Study, trial: FrozenTrial) -> int:
    """0 is the trial with the defaults, and the last is `trials` - 1, however often some were taken up again."""
    return begun(study, first_number(trial))


def finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def waiting(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def give_back_dead(conf: Sweep, studies: dict[str, optuna.Study]) -> None:
    """What a killed sweep was at is to be taken up: at once if it ran in this folder, and after GRACE if elsewhere."""
    for study in studies.values():
        optuna.storages.fail_stale_trials(study)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Optuna goes by heartbeats. Before the first one a trial has no values either.
            if not trial.params and datetime.now() - trial.datetime_start > timedelta(seconds=GRACE):
                give_back(study, trial.number)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with FileLock(SCRATCH / "lock"):
        for folder in SCRATCH.glob(f"*.{conf.study}.*.*"):
            process, _, method, number = folder.name.split(".")
            if not psutil.pid_exists(int(process)):
                study = studies.get(method)
                if study and study.trials[int(number)].state == TrialState.RUNNING:
                    give_back(study, int(number))
                shutil.rmtree(folder)


def give_back(study: optuna.Study, number: int) -> None:
    with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another worker was faster
        study.tell(number, state=TrialState.FAIL)
        take_up(study, study.trials[number])


def search(conf: Sweep, studies: dict[str, optuna.Study]) -> None:
    """Do trials until each method has its budget, with those of other workers.

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
                give_back_dead(conf, studies)
            bar.n = sum(len(finished(study)) for study in studies.values())
            bar.refresh()


# --- one trial


class Surplus(Exception):
    """Another worker was faster to begin the last trial of the budget."""


def one_trial(conf: Sweep, method: str, study: optuna.Study) -> None:
    """Take up one that waits, or a new one. Raises UserError if it is the first and fails, or the second to do so."""
    number = None

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        nonlocal number
        number = trial.number
        if first_number(study.trials[number]) == number and begun(study, number) >= conf.trials:
            trial.set_user_attr("surplus", True)
            raise Surplus
        propose(trial, conf.space(method))
        try:
            figures = train(conf, method, study, trial)
        except UserError as error:
            if not finished(study):
                raise  # not for the values: they are the defaults
            trial.set_user_attr("error", str(error))
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
    if last and last[-1].number == number and all("error" in trial.user_attrs for trial in last):
        raise UserError(f"two trials of {method} failed, one after the other: {last[-1].user_attrs['error']}")


def propose(trial: optuna.Trial, space: dict[str, Values]) -> None:
    for key, searched in space.items():
        match searched.distribution:
            case CategoricalDistribution(choices=choices):
                trial.suggest_categorical(key, choices)
            case IntDistribution(low=low, high=high, log=log):
                trial.suggest_int(key, low, high, log=log)
            case FloatDistribution(low=low, high=high, log=log):
                trial.suggest_float(key, low, high, log=log)


def values_of(trial: FrozenTrial) -> dict[str, Any]:
    """What it is run with: three digits of a proposal, as no sweep can tell values apart that differ in the fourth."""
    rounded = first_number(trial) > 0  # the defaults are as they are
    return {
        key: float(f"{value:.3g}") if rounded and isinstance(value, float) else value
        for key, value in trial.params.items()
    }


def name_of(conf: Sweep, method: str, study: optuna.Study, trial: FrozenTrial) -> str:
    return f"sweep-{conf.study}-{method}-{place_of(study, trial)}"


def train(conf: Sweep, method: str, study: optuna.Study, trial: optuna.Trial) -> dict[str, float]:
    """Run the trial as a DVC experiment; its figures on validation and its costs.

    Raises TrialPruned, and then leaves nothing of the training, and UserError if it fails.
    """
    made, this, reported = study.user_attrs, study.trials[trial.number], 0
    name = name_of(conf, method, study, this)
    settings = [f"--set-param={key}={json.dumps(value)}" for key, value in values_of(this).items()]
    if made["stage"].startswith("train_peft"):
        settings.append(f"--set-param=train_peft.methods=[{method}]")

    def report() -> bool:
        """The epochs since the last time; whether there are any."""
        nonlocal reported
        new = [] if conf.cost else curve(curves, conf.quality)[reported:]
        for epoch, value in new:
            trial.report(value, epoch)
        reported += len(new)
        return bool(new)

    def poor() -> bool:
        """Report; whether it is below the median of the others after as many."""
        nonlocal committed
        if curve(curves, conf.quality) == committed:  # of another training; DVC removes it when this one begins
            return False
        committed = None
        return report() and first_number(this) > 0 and trial.should_prune()

    with clone(made["commit"], f"{conf.study}.{method}.{trial.number}") as folder:
        curves = folder / f"plots/curves/{method}"
        committed = curve(curves, conf.quality)
        if not dvc(folder, name, "exp", "run", "--pull", made["stage"], "--name", name, *settings, stop=poor):
            raise optuna.TrialPruned
        report()
        keep(folder, made["commit"], name)
        return read_json(folder / f"metrics/validation/{method}.json") | read_json(
            folder / f"metrics/cost/training/{method}.json"
        )


def curve(folder: Path, quality: str) -> list[tuple[int, float]]:
    """The epochs so far, from the file that DVCLive adds a line to after each."""
    path = folder / f"plots/metrics/validation/{quality}.tsv"
    lines = path.read_text().splitlines(keepends=True)[1:] if path.is_file() else []
    whole_lines = (line.split("\t") for line in lines if line.endswith("\n"))
    return [(int(epoch), float(value)) for epoch, value in whole_lines]


# --- what came out


def results(conf: Sweep, method: str, study: optuna.Study) -> pd.DataFrame:
    """A row for each trial, in the order of the proposals, with its values, its figures and whether it is the best.

    Of those that were pruned or failed, the figures are missing.
    """
    rows = [
        {
            "method": method,
            "trial": place_of(study, trial),
            "state": "failed" if "error" in trial.user_attrs else trial.state.name.lower(),
            "experiment": name_of(conf, method, study, trial) if trial.state == TrialState.COMPLETE else None,
            "values": values_of(trial),
            **{name: trial.user_attrs.get(name) for name in (*VALIDATION, *COST)},
        }
        for trial in sorted(finished(study), key=first_number)
    ]
    counts = ("best_epoch", "epochs", "trainable_parameters", "peak_memory_bytes")
    table = pd.DataFrame(rows).astype({**dict.fromkeys((*VALIDATION, *COST), float), **dict.fromkeys(counts, "Int64")})
    sign = -1 if conf.quality == "loss" else 1
    return table.assign(best=table.index == (sign * table[conf.quality]).idxmax())


def importances(conf: Sweep, studies: dict[str, optuna.Study]) -> pd.DataFrame:
    """Columns method, objective, hyperparameter and importance; those of a method and objective add up to 1."""
    rows = []
    for method, study in studies.items():
        if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 2:
            continue
        for index, objective in enumerate(conf.objectives):
            # Optuna asks what it takes to get low values.
            sign = 1 if study.directions[index] == optuna.study.StudyDirection.MINIMIZE else -1
            shares = optuna.importance.get_param_importances(
                study, target=lambda trial, i=index, sign=sign: sign * trial.values[i]
            )
            rows += [(method, objective, key, share) for key, share in shares.items()]
    return pd.DataFrame(rows, columns=["method", "objective", "hyperparameter", "importance"])


def write_figures(conf: Sweep, table: pd.DataFrame, shares: pd.DataFrame, out: Path) -> None:
    """trials.csv, importance.csv, and the pictures of both, and of quality against cost."""
    cost = conf.cost or "train_seconds"
    done = table[table.state == "complete"]
    sign = -1 if conf.quality == "loss" else 1
    front = done[on_front(done.assign(accuracy=sign * done[conf.quality]), cost)]
    flat = pd.concat([table.drop(columns="values"), pd.DataFrame(table["values"].tolist())], axis=1)
    with atomic(out / "trials.csv") as partial:
        flat.assign(front=flat.index.isin(front.index)).to_csv(partial, index=False)
    with atomic(out / "importance.csv") as partial:
        shares.to_csv(partial, index=False)
    with atomic(out / "history.png") as partial:
        plots.sweep_history(table, conf.quality, partial)
    if len(shares):
        with atomic(out / "importance.png") as partial:
            plots.sweep_importance(shares, partial)
    with atomic(out / "pareto.png") as partial:
        plots.sweep_pareto(done, front, conf.quality, cost, partial)


def summary(conf: Sweep, table: pd.DataFrame) -> pd.DataFrame:
    """A row for each method: the best trial beside the first, which had the defaults."""
    rows = []
    for method, trials in table.groupby("method", sort=False):
        default, best = trials.iloc[0], trials[trials.best].iloc[0]
        rows.append(
            {
                "method": method,
                "trials": len(trials),
                "pruned": (trials.state == "pruned").sum(),
                "failed": (trials.state == "failed").sum(),
                f"{conf.quality} of the defaults": default[conf.quality],
                "of the best": best[conf.quality],
                "experiment": best.experiment,
                "values": ", ".join(f"{key.rpartition(':')[2]}={value}" for key, value in best["values"].items()),
            }
        )
    return pd.DataFrame(rows)


def write_values(conf: Sweep, table: pd.DataFrame, methods: list[str]) -> None:
    """Put the best values of these methods into params.yaml and conf/, where comments stay.

    Raises UserError where the methods' values for the same key differ.
    """
    wanted: dict[str, Any] = {}
    for method, values in table[table.best].set_index("method")["values"].loc[methods].items():
        for key, value in values.items():
            if wanted.setdefault(key, value) != value:
                raise UserError(
                    f"--write: {key} is one value for all methods, and the best is {wanted[key]} for one of them and "
                    f"{value} for {method}; choose whose values to take: --write {method}"
                )
    files: dict[Path, dict[str, Any]] = {}
    for key, value in wanted.items():
        path, dotted = file_of(key)
        files.setdefault(path, {})[dotted] = value
    editor = YAML()
    editor.preserve_quotes, editor.width = True, 4096  # else long lines are broken
    for path, values in files.items():
        content = editor.load(path)
        for dotted, value in values.items():
            *above, last = dotted.split(".")
            reduce(getitem, above, content)[last] = value
        with atomic(path) as partial:
            editor.dump(content, partial)
        print(f"{path}: {', '.join(f'{dotted}={value}' for dotted, value in values.items())}", file=sys.stderr)


def test(conf: Sweep, method: str, study: optuna.Study, best: pd.Series) -> dict[str, Any]:
    """Figures of the best trial on test: evaluated when they are first asked for, in an experiment NAME-test."""
    made = study.user_attrs
    if "test" not in made:
        name, commit = best.experiment, made["commit"]
        stage = "evaluate_peft" if made["stage"].startswith("train_peft") else "evaluate"
        if git("rev-parse", "--verify", reference(commit, name), check=False).returncode:
            raise UserError(f"--test: {name} ran elsewhere and is not here: dvc exp pull origin {name}")
        with clone(commit, f"{conf.study}.{method}.test") as folder:
            ref = reference(commit, name)
            git("-C", folder, "fetch", "--quiet", "origin", ref)
            # Not `dvc exp apply`, which asks for the outputs of all stages, also of those that are not needed here.
            git("-C", folder, "checkout", "--quiet", "FETCH_HEAD", "--", ".")
            dvc(folder, name, "exp", "run", "--pull", f"{stage}@{method}", "--name", f"{name}-test")
            keep(folder, commit, f"{name}-test")
            study.set_user_attr("test", {"experiment": name, **read_json(folder / f"metrics/{method}.json")})
    return {"method": method, **study.user_attrs["test"]}


if __name__ == "__main__":
    run(main)

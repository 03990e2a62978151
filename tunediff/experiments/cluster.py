"""DVC's queue on a Dask cluster: reads what waits, submits it to the workers, and brings the results home."""

import configparser
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cloudpickle
from distributed import Client, Future, as_completed
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.experiments.refs import ExpRefInfo
from tqdm import tqdm

from tunediff.core.errors import UserError, reason
from tunediff.experiments import cluster_worker
from tunediff.experiments.cluster_worker import queue_ref, run_experiment
from tunediff.experiments.repository import INPUTS


@dataclass(frozen=True)
class Experiment:
    """One experiment of DVC's queue."""

    name: str
    stash: str
    """The commit in which `dvc exp run --queue` put all tracked files; its parent is where the experiment begins."""
    ref: str
    """The git ref that DVC will give to the result."""
    switches: list[str]
    """Switches of `dvc exp run`, such as --force; the settings are in the files."""
    stages: list[str]
    """The stages to run; all, if empty."""


def queued() -> list[Experiment]:
    """The experiments that wait. Raises UserError if none does, if they cannot run elsewhere, or outside a project."""
    try:
        with Repo() as repo:
            entries = list(repo.experiments.celery_queue.iter_queued())
    except DvcException as error:
        raise UserError(f"DVC cannot show its queue: {reason(error)}") from None
    if not entries:
        raise UserError("nothing waits in DVC's queue; `dvc exp run --queue -S KEY=VALUE` puts an experiment there")
    if folder := _here("git", "rev-parse", "--show-prefix").strip():
        raise UserError(
            f"workers need the project at the top of its git repository, and this one is in {folder}; `dvc queue "
            "start` runs its queue here"
        )
    experiments = [
        Experiment(each.name, each.stash_rev, str(ExpRefInfo(each.baseline_rev, each.name)), *_given(each.stash_rev))
        for each in entries
    ]
    for experiment in experiments:
        _check_storage(experiment)
    return experiments


def _given(stash: str) -> tuple[list[str], list[str]]:
    """Switches and stages that `dvc exp run --queue` was called with: DVC has them in a file beside the user's."""
    packed = subprocess.check_output(["git", "cat-file", "blob", f"{stash}:.dvc/tmp/repro.dat"])
    arguments = pickle.loads(packed)["kwargs"]
    switches = [f"--{name.replace('_', '-')}" for name, value in arguments.items() if value is True]
    return switches, arguments["targets"]


def _check_storage(experiment: Experiment) -> None:
    """Raises UserError if the experiment's default DVC remote is a folder whose name is relative to the project."""
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(_here("git", "show", f"{experiment.stash}:.dvc/config"))
    name = config.get("core", "remote", fallback="")
    url = config.get(f"'remote \"{name}\"'", "url", fallback="/")
    if "://" not in url and not PurePosixPath(url).is_absolute():
        raise UserError(
            f".dvc/config: the remote '{name}' is {url}, beside this project, where no worker finds it; name a place "
            f"that all reach (s3://, ssh://, or a shared folder from / on): `dvc remote modify {name} url URL`; then "
            f"`dvc push`, and queue {experiment.name} again"
        )


def run_all(experiments: list[Experiment], scheduler: str, remote: str) -> list[str]:
    """Run the experiments on the cluster, and bring home those that end well; the names of those that failed.

    `scheduler` is Dask's address, `remote` the git remote through which workers get an experiment and give its result.
    Raises UserError if one of the two cannot be reached.
    """
    url = _here("git", "remote", "get-url", remote).strip()
    _here("git", "push", "-q", remote, *(f"{each.stash}:{queue_ref(each.stash)}" for each in experiments))
    try:
        with _connect(scheduler) as client:
            return _finish(client, url, experiments, remote)
    except OSError as error:
        raise UserError(f"{scheduler} was lost: {reason(error)}; start a scheduler and run this again") from None


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise UserError(f"--scheduler {address}: {reason(error)}; `dask scheduler` starts one") from None


def _finish(client: Client, url: str, experiments: list[Experiment], remote: str) -> list[str]:
    """Run what does not run yet, and bring home what ends well; the names of those that failed, after saying why."""
    print(f"{len(experiments)} experiments, {len(client.nthreads())} workers", file=sys.stderr)
    failed = []
    futures = {_submit(client, url, experiment): experiment for experiment in experiments}
    for future in tqdm(as_completed(futures), desc="experiments", total=len(futures)):
        experiment = futures[future]
        try:
            future.result()
            _bring_home(experiment, remote)
        except Exception as error:  # whatever a worker may raise: the others go on
            tqdm.write(f"{experiment.name}: {error}", file=sys.stderr)
            failed.append(experiment.name)
        client.unpublish_dataset(experiment.stash)
    return failed


def _submit(client: Client, url: str, experiment: Experiment) -> Future:
    """Publish the run by its name: it goes on when this command is interrupted, and the next one waits for it."""
    if experiment.stash in client.list_datasets():
        return client.get_dataset(experiment.stash)
    # Dask asks pickle first, which sends only the name of a function that this project has. It has none of a copy, so
    # that cloudpickle, which Dask asks next, sends the code.
    cloudpickle.register_pickle_by_value(cluster_worker)
    copy = pickle.loads(cloudpickle.dumps(run_experiment))
    task = (url, experiment.stash, experiment.ref, experiment.switches, experiment.stages, INPUTS)
    future = client.submit(copy, *task, key=experiment.stash, pure=False)
    client.publish_dataset(future, name=experiment.stash)
    return future


def _bring_home(experiment: Experiment, remote: str) -> None:
    _here("dvc", "exp", "pull", "-q", remote, experiment.ref)
    _here("dvc", "queue", "remove", "-q", experiment.stash)
    _here("git", "push", "-q", remote, f":{queue_ref(experiment.stash)}")


def _here(*words: str) -> str:
    """What the command prints, run in this folder. Raises UserError."""
    try:
        return cluster_worker.command(Path(), *words)
    except RuntimeError as error:
        raise UserError(*str(error).splitlines()) from None

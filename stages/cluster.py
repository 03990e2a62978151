"""Run the experiments that wait in DVC's queue on the workers of a Dask cluster, and bring the results home.

dvc exp run --queue -S 'train.epochs=3,6'
python -m stages.cluster --scheduler tcp://HOST:8786
"""

import argparse
import configparser
import os
import pickle
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from distributed import Client, Future, as_completed, get_worker
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.experiments.refs import ExpRefInfo
from tqdm import tqdm

from tunediff.core.errors import UserError, reason
from tunediff.core.process import run

INPUTS = (
    "conf",
    "data/raw",
    "dvc.yaml",
    "params.yaml",
    "stages",
    "tunediff",
)  # in git: what makes an experiment what it is
LAST = 15  # lines of a failed command's output that are shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheduler", required=True, metavar="ADDRESS", help="Dask's, such as tcp://HOST:8786")
    parser.add_argument("--git-remote", default="origin", help="which workers can reach (default: origin)")
    args = parser.parse_args()

    experiments = queued()
    for experiment in experiments:
        check_storage(experiment)
    url = here("git", "remote", "get-url", args.git_remote).strip()
    here("git", "push", "-q", args.git_remote, *(f"{each.stash}:{sent(each.stash)}" for each in experiments))

    try:
        with connect(args.scheduler) as client:
            failed = finish(client, url, experiments, args.git_remote)
    except OSError as error:
        raise UserError(f"{args.scheduler} was lost: {reason(error)}; start a scheduler and run this again") from None
    if failed:
        raise UserError(
            f"{len(failed)} of {len(experiments)} experiments failed and still wait in the queue: {', '.join(failed)}; "
            "run this again, or forget them with `dvc queue remove`"
        )


# --- here


@dataclass(frozen=True)
class Experiment:
    """One of DVC's queue."""

    name: str
    stash: str
    """The commit in which `dvc exp run --queue` put all tracked files; its parent is where the experiment begins."""
    ref: str
    """What DVC will call the result."""
    switches: list[str]
    """Of `dvc exp run`, such as --force; the settings are in the files."""
    stages: list[str]
    """All, if empty."""


def queued() -> list[Experiment]:
    """Raises UserError if nothing is, or here is no project."""
    try:
        with Repo() as repo:
            entries = list(repo.experiments.celery_queue.iter_queued())
    except DvcException as error:
        raise UserError(f"DVC cannot show its queue: {reason(error)}") from None
    if not entries:
        raise UserError("nothing waits in DVC's queue; `dvc exp run --queue -S KEY=VALUE` puts an experiment there")
    return [
        Experiment(each.name, each.stash_rev, str(ExpRefInfo(each.baseline_rev, each.name)), *given(each.stash_rev))
        for each in entries
    ]


def given(stash: str) -> tuple[list[str], list[str]]:
    """Switches and stages that `dvc exp run --queue` was called with: DVC has them in a file beside the user's."""
    packed = subprocess.check_output(["git", "cat-file", "blob", f"{stash}:.dvc/tmp/repro.dat"])
    arguments = pickle.loads(packed)["kwargs"]
    switches = [f"--{name.replace('_', '-')}" for name, value in arguments.items() if value is True]
    return switches, arguments["targets"]


def check_storage(experiment: Experiment) -> None:
    """Raises UserError if the experiment's default DVC remote is a folder that is named from the project's."""
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(here("git", "show", f"{experiment.stash}:.dvc/config"))
    name = config.get("core", "remote", fallback="")
    url = config.get(f"'remote \"{name}\"'", "url", fallback="/")
    if "://" not in url and not PurePosixPath(url).is_absolute():
        raise UserError(
            f".dvc/config: the remote '{name}' is {url}, beside this project, where no worker finds it; name a place "
            f"that all reach (s3://, ssh://, or a shared folder from / on): `dvc remote modify {name} url URL`; then "
            f"`dvc push`, and queue {experiment.name} again"
        )


def connect(address: str) -> Client:
    """Raises UserError."""
    try:
        return Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise UserError(f"--scheduler {address}: {reason(error)}; `dask scheduler` starts one") from None


def finish(client: Client, url: str, experiments: list[Experiment], remote: str) -> list[str]:
    """Run what does not run yet, and bring home what ends well; the names of those that failed, after saying why."""
    print(f"{len(experiments)} experiments, {len(client.nthreads())} workers", file=sys.stderr)
    failed = []
    futures = {submit(client, url, experiment): experiment for experiment in experiments}
    for future in tqdm(as_completed(futures), desc="experiments", total=len(futures)):
        experiment = futures[future]
        try:
            future.result()
            bring_home(experiment, remote)
        except Exception as error:  # whatever a worker may raise: the others go on
            tqdm.write(f"{experiment.name}: {error}", file=sys.stderr)
            failed.append(experiment.name)
        client.unpublish_dataset(experiment.stash)
    return failed


def submit(client: Client, url: str, experiment: Experiment) -> Future:
    """Published by its name, so that it goes on when this command is interrupted, and the next one waits for it."""
    if experiment.stash in client.list_datasets():
        return client.get_dataset(experiment.stash)
    task = (url, experiment.stash, experiment.ref, experiment.switches, experiment.stages)
    future = client.submit(on_worker, *task, key=experiment.stash, pure=False)
    client.publish_dataset(future, name=experiment.stash)
    return future


def bring_home(experiment: Experiment, remote: str) -> None:
    here("dvc", "exp", "pull", "-q", remote, experiment.ref)
    here("dvc", "queue", "remove", "-q", experiment.stash)
    here("git", "push", "-q", remote, f":{sent(experiment.stash)}")


def here(*command: str) -> str:
    """What the command prints. Raises UserError."""
    try:
        return step(Path(), *command)
    except RuntimeError as error:
        raise UserError(*str(error).splitlines()) from None


# --- on a worker, which has this file's functions as the client sends them, and no other of the project's


def on_worker(url: str, stash: str, ref: str, switches: list[str], stages: list[str]) -> None:
    """Run the experiment in a clone and push the result: the git ref comes last, so that what has one is whole.

    Raises RuntimeError with the last lines of a command that failed.
    """
    worker = get_worker()
    if worker.state.nthreads > 1:
        raise RuntimeError("a worker of several threads would run several trainings: `dask worker --nthreads 1`")
    # A clone for each: one of which a worker was killed has locks of git and DVC, and DVC would go on with both.
    with TemporaryDirectory(dir=worker.local_directory) as folder:
        clone = Path(folder)
        step(clone, "git", "init", "-q")
        step(clone, "git", "remote", "add", "origin", url)
        step(clone, "git", "fetch", "-q", "origin", sent(stash))
        if step(clone, "git", "ls-remote", "origin", ref):  # of a worker that was lost before it could say so
            step(clone, "git", "fetch", "-q", "origin", ref)
            if step(clone, "git", "diff", "--name-only", stash, "FETCH_HEAD", "--", *INPUTS):
                raise RuntimeError("another experiment of this name is on the git remote: queue it with another --name")
            return
        for key in ("name", "email"):  # whose the experiment is; a worker may have neither, and DVC commits
            author = step(clone, "git", "log", "-1", f"--format=%a{key[0]}", stash)
            step(clone, "git", "config", f"user.{key}", author.strip())
        step(clone, "git", "checkout", "-q", "--detach", f"{stash}^1")
        step(clone, "git", "read-tree", "-u", "--reset", stash)
        step(clone, "git", "rm", "-qf", ".dvc/tmp/repro.dat")
        # Kept: what one experiment pulled or computed, the next has. Not shared: two pulls at once break each other.
        cache = f"[cache]\n    dir = {worker.local_directory}/cache\n"
        (clone / ".dvc/config.local").write_text(cache, encoding="utf-8")
        concerned = ["--with-deps", *stages] if stages else []
        step(clone, "dvc", "pull", "-q", "--allow-missing", *concerned)  # what lacks is computed
        step(clone, "dvc", "exp", "run", "--name", PurePosixPath(ref).name, *switches, *stages)
        step(clone, "dvc", "push", "-q", *concerned)
        step(clone, "dvc", "exp", "push", "-q", "--no-cache", "origin", ref)


def sent(stash: str) -> str:
    """The git remote's ref by which workers fetch a queued experiment."""
    return f"refs/tunediff/queue/{stash}"


def step(folder: Path, *command: str) -> str:
    """What the command prints. Raises RuntimeError with its last lines if it fails."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment, "GIT_TERMINAL_PROMPT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError("\n".join([shlex.join(command), *lines[-LAST:]]))
    return done.stdout


if __name__ == "__main__":
    run(main)

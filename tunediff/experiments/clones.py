"""DVC experiments in clones of this repository, which leave its workspace to the user.

Not `dvc exp run --temp`: for each experiment that puts what the user is editing into git's stash and back, and where it
is killed, its folder stays behind, with an experiment that `dvc exp show` takes to be running.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from dvc.config import Config, merge
from dvc.repo import Repo

from tunediff.core.errors import UserError

SCRATCH = Path(".dvc/tmp/sweep")  # the clones, named PID.NAME after their process, and the output of what failed
# `process.run` ends DVC with the process that started it, and then the stage with DVC.
DVC = "import sys; from dvc.cli import main; from tunediff.core.process import run; run(lambda: sys.exit(main()))"


def git(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess:
    """Raises UserError with what git says, unless its failure is an answer."""
    done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise UserError(f"git {command[0]}: {' '.join(done.stderr.split())}")
    return done


@contextmanager
def clone(commit: str, name: str) -> Iterator[Path]:
    """A folder with the commit and with this project's cache and remotes; it is there as long as the block."""
    folder = SCRATCH / f"{os.getpid()}.{name}"
    user = {f"user.{key}": git("config", f"user.{key}", check=False).stdout.strip() for key in ("name", "email")}
    config = [f"--config={key}={value}" for key, value in user.items() if value]
    try:
        git("clone", "--quiet", "--shared", "--no-checkout", *config, ".", folder)
        git("-C", folder, "checkout", "--quiet", "--detach", commit)
        with Repo() as here, Config(str(folder / ".dvc")).edit("local") as local:
            remotes = {key: {"url": remote["url"]} for key, remote in here.config["remote"].items()}
            merge(local, here.config.read("local"))
            merge(local, {"cache": {"dir": here.cache.local_cache_dir}, "remote": remotes})
        yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def dvc(folder: Path, name: str, *command: str, stop: Callable[[], bool] = lambda: False) -> bool:
    """Run DVC there, in a process that ends when this one does. False if `stop`, asked now and then, ended it.

    What ran is then gone with its checkpoints; after an exception here these stay, for the same training to go on.
    Raises UserError with what DVC says, if it fails; all of that is in SCRATCH/NAME.log.
    """
    log = SCRATCH / f"{name}.log"
    with log.open("w", encoding="utf-8") as file:
        process = psutil.Popen(
            [sys.executable, "-c", DVC, *command],
            cwd=folder,
            env={**os.environ, "DVC_STAGE": name, "DVC_SITE_CACHE_DIR": str(folder / ".dvc/tmp/site")},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is not for it
        )
    try:
        while process.poll() is None:
            time.sleep(0.2)
            if stop():
                _end(process, forget=True)
                log.unlink()
                return False
    except BaseException:
        _end(process, forget=False)
        log.unlink()
        raise
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in said if line.lower().startswith("error")]
        raise UserError(f"{name}: {(errors or said or ['without a word'])[0]} (more in {log})")
    log.unlink()
    return True


def _end(process: psutil.Popen, forget: bool) -> None:
    """Kill it and all that it started, and remove the checkpoints of the trainings among them."""
    with suppress(psutil.NoSuchProcess):  # it came to its end by itself
        processes = [process, *process.children(recursive=True)]
        locks = [lock for each in processes for lock in _checkpoint_locks(each)]
        for each in processes:
            each.kill()
        psutil.wait_procs(processes)
        for lock in locks if forget else ():
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


def _checkpoint_locks(process: psutil.Process) -> list[Path]:
    """A training holds a lock with the name of the folder of its checkpoints: `checkpoints.Checkpoints`."""
    with suppress(psutil.NoSuchProcess):
        paths = [Path(file.path) for file in process.open_files()]
        return [path for path in paths if path.suffix == ".lock" and path.parent.name == "checkpoints"]
    return []


def reference(commit: str, name: str) -> str:
    """Where DVC has an experiment that began from the commit."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def keep(folder: Path, commit: str, name: str) -> None:
    """The experiment of a clone becomes one of this repository."""
    ref = reference(commit, name)
    git("fetch", "--quiet", "--no-write-fetch-head", folder, f"+{ref}:{ref}")

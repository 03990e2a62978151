"""DVC experiments in clones of this repository, which leave its workspace to the user.

`dvc exp run --temp` would not do. For each experiment it puts what the user is editing into git's stash and back. Where
it is killed, its folder stays behind, with an experiment that `dvc exp show` takes to be running.
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
from tunediff.experiments.repository import git, reference, top_folder

SCRATCH = Path(".dvc/tmp/sweep")  # the clones, named PID.NAME after their process, and the output of what failed
# `process.run` ends DVC with the process that started it, and then the stage with DVC.
DVC = "import sys; from tunediff.core.process import run; from dvc.cli import main; run(lambda: sys.exit(main()))"


@contextmanager
def clone(commit: str, name: str) -> Iterator[Path]:
    """The project's folder in a clone with the commit and with this project's cache and remotes.

    The clone is there as long as the block. Raises UserError with what git says.
    """
    clone_folder = SCRATCH / f"{os.getpid()}.{name}"
    user = {f"user.{key}": git("config", f"user.{key}", check=False).stdout.strip() for key in ("name", "email")}
    config = [f"--config={key}={value}" for key, value in user.items() if value]
    top = top_folder()
    try:
        git("clone", "--quiet", "--shared", "--no-checkout", *config, top, clone_folder)
        git("-C", clone_folder, "checkout", "--quiet", "--detach", commit)
        project = clone_folder.resolve() / Path().resolve().relative_to(top.resolve())
        with Repo() as here, Config(str(project / ".dvc")).edit("local") as local:
            remotes = {key: {"url": remote["url"]} for key, remote in here.config["remote"].items()}
            merge(local, here.config.read("local"))
            merge(local, {"cache": {"dir": here.cache.local_cache_dir}, "remote": remotes})
        yield project
    finally:
        shutil.rmtree(clone_folder, ignore_errors=True)


def dvc(folder: Path, name: str, *command: str, stop: Callable[[], bool] = lambda: False) -> bool:
    """Run a DVC command in the folder, in a process that ends when this one does.

    `stop` is asked now and then. If it returns True, the command and all that it started are killed, their checkpoints
    are removed, and the result is False. After an exception here the checkpoints stay, for the same training to go on.
    Raises UserError with what DVC says if it fails; all of its output is then in SCRATCH/NAME.log.
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
        output = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in output if line.lower().startswith("error")]
        raise UserError(f"{name}: {(errors or output or ['without a word'])[0]} (more in {log})")
    log.unlink()
    return True


def _end(process: psutil.Popen, forget: bool) -> None:
    """Kill the process and all that it started; `forget` removes the checkpoints of the trainings among them."""
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
    """Files that the process locks, each named after the folder of its checkpoints: see `checkpoints.Checkpoints`."""
    with suppress(psutil.NoSuchProcess):
        paths = [Path(file.path) for file in process.open_files()]
        return [path for path in paths if path.suffix == ".lock" and path.parent.name == "checkpoints"]
    return []


def keep(project: Path, commit: str, name: str) -> None:
    """Make the experiment of a clone one of this repository. `project` is what `clone` gave."""
    ref = reference(commit, name)
    git("fetch", "--quiet", "--no-write-fetch-head", top_folder(project), f"+{ref}:{ref}")

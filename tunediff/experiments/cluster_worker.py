"""What a worker of a cluster does: one experiment, in a clone of the git remote.

Workers have these functions as the client sends them, and no other code of the project. So nothing of the project is
imported here.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from distributed import get_worker

LAST = 15  # lines of a failed command's output that are shown


def run_experiment(
    url: str, stash: str, ref: str, switches: list[str], stages: list[str], inputs: tuple[str, ...]
) -> None:
    """Run a queued experiment in a clone of `url` and push the result; see `cluster.Experiment` for the next four.

    `inputs` is what its result depends on. The data is pushed first and the git ref last, so that an experiment that
    has a ref has all of its data. Raises RuntimeError with the last lines of a command that failed.
    """
    worker = get_worker()
    if worker.state.nthreads > 1:
        raise RuntimeError("a worker of several threads would run several trainings: `dask worker --nthreads 1`")
    # A clone for each: one of which a worker was killed has locks of git and DVC, and DVC would go on with both.
    with TemporaryDirectory(dir=worker.local_directory) as folder:
        clone = Path(folder)
        command(clone, "git", "init", "-q")
        command(clone, "git", "remote", "add", "origin", url)
        command(clone, "git", "fetch", "-q", "origin", queue_ref(stash))
        if command(clone, "git", "ls-remote", "origin", ref):  # of a worker that was lost before it could say so
            command(clone, "git", "fetch", "-q", "origin", ref)
            if command(clone, "git", "diff", "--name-only", stash, "FETCH_HEAD", "--", *inputs):
                raise RuntimeError("another experiment of this name is on the git remote: queue it with another --name")
            return
        check_out(clone, stash)
        # Kept: what one experiment pulled or computed, the next has. Not shared: two pulls at once break each other.
        cache = f"[cache]\n    dir = {worker.local_directory}/cache\n"
        (clone / ".dvc/config.local").write_text(cache, encoding="utf-8")
        concerned = ["--with-deps", *stages] if stages else []
        command(clone, "dvc", "pull", "-q", "--allow-missing", *concerned)  # what lacks is computed
        command(clone, "dvc", "exp", "run", "--name", PurePosixPath(ref).name, *switches, *stages)
        command(clone, "dvc", "push", "-q", *concerned)
        command(clone, "dvc", "exp", "push", "-q", "--no-cache", "origin", ref)


def check_out(clone: Path, stash: str) -> None:
    """Check out the commit that the experiment begins from, with its files in the workspace, as its author."""
    for key in ("name", "email"):  # a worker may have neither, and DVC commits
        author = command(clone, "git", "log", "-1", f"--format=%a{key[0]}", stash)
        command(clone, "git", "config", f"user.{key}", author.strip())
    command(clone, "git", "checkout", "-q", "--detach", f"{stash}^1")
    command(clone, "git", "read-tree", "-u", "--reset", stash)
    command(clone, "git", "rm", "-qf", ".dvc/tmp/repro.dat")


def queue_ref(stash: str) -> str:
    """The git remote's ref by which workers fetch a queued experiment."""
    return f"refs/tunediff/queue/{stash}"


def command(folder: Path, *words: str) -> str:
    """What the command prints, run in the folder. Raises RuntimeError with its last lines if it fails."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        words,
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
        raise RuntimeError("\n".join([shlex.join(words), *lines[-LAST:]]))
    return done.stdout

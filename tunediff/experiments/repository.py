"""This project's git repository: its commands, and what in it a result depends on."""

import subprocess
from pathlib import Path

from tunediff.core.errors import UserError
from tunediff.report.provenance import CODE

INPUTS = (*CODE, "data/raw")  # what is in git and makes the result of an experiment what it is


def git(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess:
    """Run git in this folder. Raises UserError with what git says if it fails, unless `check` is False."""
    try:
        done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not installed") from None
    if check and done.returncode:
        raise UserError(f"git {command[0]}: {' '.join(done.stderr.split())}")
    return done


def top_folder(folder: Path = Path()) -> Path:
    """The top folder of the git repository that has `folder`, of which a DVC project may be a subfolder."""
    return Path(git("-C", folder, "rev-parse", "--show-toplevel").stdout.removesuffix("\n"))


def reference(commit: str, name: str) -> str:
    """The git ref under which DVC keeps the experiment `name` that began from `commit`."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"

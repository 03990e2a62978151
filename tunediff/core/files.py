"""Outputs appear whole or not at all: they are written beside their place and renamed into it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tunediff.core.errors import UserError, reason
from tunediff.core.processes import check_dvc

DECIMALS = 6  # of figures in files
FULL = 2**20  # bytes that are free, or fewer: a library that could not write more says so in words of its own


def output(path: str) -> Path:
    """A path of the command line that the stage will write a file or a folder to.

    Raises UserError if nothing can be written there: before hours of work, not after.
    """
    place = Path(path)
    try:
        beside = next(folder for folder in place.absolute().parents if folder.exists())
        for folder in {beside, place} if place.is_dir() else {beside}:
            with TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; make its folder writable for you") from None
    return place


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a path to write a file or a folder to; it replaces `path` if the block ends without an error.

    Raises UserError if the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.partial"):
        process = left.name.split(".")[-2]
        if process.isdecimal() and not _runs(int(process)):
            _remove(left)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        check_dvc()
        if path.is_dir() and partial.exists():
            shutil.rmtree(path)
        partial.replace(path)
    except UserError:
        raise
    except Exception as error:  # each library its own, and not all with the reason
        if shutil.disk_usage(path.parent).free < FULL:
            raise UserError(f"{path}: cannot be written: the disk is full; make room and run it again") from error
        raise
    finally:
        _remove(partial)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(*paths: Path) -> str:
    """The SHA-256 of a file, or of several one after the other, in hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    with atomic(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_figures(path: Path, value: Any) -> None:
    """Write JSON with numbers rounded to `DECIMALS`: what another machine computes otherwise only in the last digits
    leaves the file as it is.
    """
    write_json(path, rounded(value))


def rounded(value: Any) -> Any:
    """The value with each float in it rounded to `DECIMALS`."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list | tuple) else value


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises UserError if it holds none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {reason(error)}; make it again with `dvc repro`, or fetch it") from None

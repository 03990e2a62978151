"""Checkpoints: an interrupted training goes on after its last complete epoch.

After each epoch, all that the rest depends on goes to a folder in the user's cache, since DVC deletes a stage's outputs
before it runs it, and a queued experiment's workspace when it fails. The folder is named after all that the
result depends on, so that no other training takes it up, and is removed when the stage has written its outputs.
"""

import hashlib
import re
import shutil
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import pyarrow as pa
import torch
from datasets import Dataset
from filelock import FileLock, Timeout

from tunediff.core.files import read_json, sha256
from tunediff.core.processes import check_dvc
from tunediff.models.pretrained import hub_id

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

NOTE = "whole.json"  # written last, with the digests of the other files
KEPT_DAYS = 30  # of an interrupted training that nobody goes on with
PACKAGES = ("torch", "transformers", "accelerate", "peft")
COMMIT = re.compile(r"[0-9a-f]{40}")


class Checkpoints:
    """A folder for the checkpoints of one training, which no other process uses at the same time.

    `folder` is None if another process has it, or if none can be made: no checkpoints are written then.
    """

    def __init__(self, key: str):
        """`key` is that of `made_from`."""
        root = platformdirs.user_cache_path("tunediff") / "checkpoints"
        folder, self._lock = root / key, FileLock(root / f"{key}.lock", blocking=False)
        self.folder: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except (OSError, Timeout) as error:
            busy = isinstance(error, Timeout)
            why = "another process is at this same training" if busy else f"{root}: {error.strerror}"
            print(f"{why}: this one cannot go on if it is interrupted", file=sys.stderr)
        else:
            self.folder = folder
            _forget(root)

    def last(self) -> Path | None:
        """The newest checkpoint that is complete; those that are not are removed."""
        folders = self.folder.glob("checkpoint-*") if self.folder else ()
        for folder in sorted(folders, key=lambda path: -int(path.name.split("-")[1])):
            note = folder / NOTE
            if note.is_file() and digests(folder) == read_json(note)["sha256"]:
                return folder
            print(f"{folder}: a checkpoint that is not whole; ignored", file=sys.stderr)
            shutil.rmtree(folder)
        return None

    def remove(self) -> None:
        check_dvc()  # which else does not know that the outputs are there, and the next one trains again
        if self.folder:
            shutil.rmtree(self.folder)
            Path(self._lock.lock_file).unlink()
            self._lock.release()


def _forget(root: Path) -> None:
    """Remove what was left long ago, unless a process has it."""
    for folder in root.iterdir():
        if folder.is_dir() and folder.stat().st_mtime < time.time() - 86400 * KEPT_DAYS:
            lock = FileLock(root / f"{folder.name}.lock", blocking=False)
            try:
                with lock:
                    shutil.rmtree(folder)
                    Path(lock.lock_file).unlink()
            except Timeout:
                continue


def made_from(model: "PreTrainedModel | PeftModel", splits: Iterable[Dataset], settings: tuple) -> str:
    """The SHA-256 of everything that a result depends on: weights, splits, settings, code, versions, machine.

    Frozen weights of a model that its SHA-256 or the Hub's commit pins are not read for it: `settings` has the rest of
    what makes them, the adapter and its seed.
    """
    digest = hashlib.sha256()
    threads = (torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())
    digest.update(repr((settings, [(name, version(name)) for name in PACKAGES], threads)).encode())
    for name, module in sorted(sys.modules.items()):
        if name.startswith("tunediff.") and module.__file__:
            digest.update(Path(module.__file__).read_bytes())
    origin = _pinned(model)
    digest.update(repr(origin).encode())
    trained = {name for name, weights in model.named_parameters() if weights.requires_grad}
    for name, weights in model.state_dict().items():
        digest.update(f"{name} {name in trained} {weights.dtype} {tuple(weights.shape)}".encode())
        if origin and name not in trained:
            continue
        digest.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    for split in splits:
        with pa.ipc.new_stream(pa.PythonFile(_Sink(digest), mode="w"), split.data.table.schema) as stream:
            stream.write_table(split.data.table)
    return digest.hexdigest()


def _pinned(model: "PreTrainedModel | PeftModel") -> tuple | None:
    """What says which pretrained weights these are; None if only the weights do, as those of a local folder."""
    origin = getattr(getattr(model, "config", None), "tunediff", {})
    if origin.get("sha256") or (origin and hub_id(origin["pretrained"]) and COMMIT.fullmatch(origin["revision"])):
        return tuple(origin.get(key) for key in ("pretrained", "revision", "sha256", "seed"))
    return None


class _Sink:
    """A file that is only digested."""

    closed = False

    def __init__(self, digest: Any):
        self.write = digest.update

    def close(self) -> None:
        pass

    def flush(self) -> None:
        pass


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != NOTE)
    return {str(path.relative_to(folder)): sha256(path) for path in files}

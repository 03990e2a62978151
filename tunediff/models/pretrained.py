"""Find a pretrained model: a folder, a GGUF file, either of them in an installed Python package, or one on the Hub.

This file imports neither torch nor transformers, so that `prepare` starts fast.
"""

import re
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from tunediff.core.errors import UserError, reason
from tunediff.core.files import read_json, sha256
from tunediff.models.settings import Pretrained

GGUF = ".gguf"


def locate(conf: Pretrained, place: Path) -> str:
    """Return what `from_pretrained` takes for a model: a folder or a Hub id. `place` is the file that names the model.

    A GGUF file becomes a folder in the user's cache (`gguf_file.py`), for which the Hub may be asked; for no other
    model is it. Raises UserError if a folder is no model folder, a package is not installed, or a GGUF file has not
    the pinned hash or cannot be read.
    """
    if conf.name.endswith(GGUF):
        from tunediff.models.gguf_file import as_folder

        file = _gguf_path(conf, place)
        digest = _digest(file, file.stat().st_mtime_ns)
        check_hash(digest, conf, place)
        return str(as_folder(file, digest, conf.name, place))
    path = _local_path(conf.name, place)
    if path is None:
        return conf.name
    if not path.is_dir():
        raise UserError(f"{place}: name: there is no folder {conf.name}; correct the path")
    if not (path / "config.json").is_file():
        raise UserError(f"{place}: name: {conf.name} is not a model folder: it has no config.json")
    if not any(path.glob("*.safetensors")):
        raise UserError(
            f"{place}: name: {conf.name} has no weights (*.safetensors); pickled weights (*.bin, *.pt) are not loaded"
        )
    return str(path)


def hub_id(name: str) -> str | None:
    """The id of the Hub's repository that a model is in; None if it is on this machine.

    A name that begins with a folder of this machine is a path: mistyped, it is no repository of a stranger.
    """
    is_gguf = name.endswith(GGUF)
    folder, inside, _ = name.partition("/")
    if name.startswith(("package:", ".", "/")) or (inside and Path(folder).is_dir()):
        return None
    if Path(name).is_file() if is_gguf else Path(name).is_dir():
        return None
    return ("/".join(name.split("/")[:-1][:2]) or None) if is_gguf else name


def _local_path(name: str, place: Path) -> Path | None:
    """Where a model is on this machine, if it is not on the Hub."""
    if name.startswith("package:"):
        return _package_path(name, place)
    return None if hub_id(name) else Path(name)


def _gguf_path(conf: Pretrained, place: Path) -> Path:
    """The GGUF file, which is downloaded if it is on the Hub."""
    path = _local_path(conf.name, place)
    if path is None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils import httpx

        id = hub_id(conf.name)
        try:
            return Path(hf_hub_download(id, conf.name.removeprefix(f"{id}/"), revision=conf.revision))
        except (OSError, ValueError, httpx.HTTPError) as error:
            raise hub_error(conf.name, conf.revision, place, error) from None
    if not path.is_file():
        raise UserError(f"{place}: name: there is no file {conf.name}; give the path of a GGUF file, or of a folder")
    return path


def _package_path(name: str, place: Path) -> Path:
    """The folder or file that package:MODULE/PATH names.

    Nothing is imported, which would run a package's code: the folder is looked up in what installers have written
    beside the packages, and never in the working folder, which may hold a stranger's files.
    """
    module, _, inside = name.removeprefix("package:").partition("/")
    if ".." in Path(inside).parts or inside.startswith("/"):
        raise UserError(f"{place}: name: {name} leads out of the package; give the model's own path")
    searched = [entry for entry in sys.path if Path(entry).resolve() != Path.cwd()]
    for distribution in distributions(path=searched) if module.isidentifier() else ():
        if re.search(rf"^{module}/", distribution.read_text("RECORD") or "", re.MULTILINE):
            return Path(distribution.locate_file(module), inside)
    raise UserError(
        f"{place}: name: the Python package '{module}' is not installed; give the top-level name of one that is, "
        "or install it as the README says"
    )


def weights_hash(conf: Pretrained, place: Path) -> str | None:
    """The SHA-256 of a model's weights, as `check_hash` takes it.

    None for a model on the Hub, whose revision names them, and for one that is not there, of which loading will tell.
    """
    try:
        path = _local_path(conf.name, place)
    except UserError:
        return None
    files = _weight_files(path) if path else []
    return sha256(*files) if files else None


def _weight_files(path: Path) -> list[Path]:
    """Those of a GGUF file or a model's folder: all its parts, by name."""
    one, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if path.is_file() or one.is_file():
        return [path if path.is_file() else one]
    if not index.is_file():
        return []
    listed = read_json(index)
    named = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        return []  # named as broken where it is loaded
    parts = sorted({path / name for name in named.values()})
    return parts if all(part.is_file() for part in parts) else []


@cache
def _digest(file: Path, changed: int) -> str:
    """The SHA-256 of a file, computed once in a process as long as `changed`, the file's time, stays."""
    return sha256(file)


def check_hash(actual: str, conf: Pretrained, place: Path) -> None:
    """Raises UserError if the weights have not the SHA-256 that the model's file pins, if it pins one."""
    if conf.sha256 not in (None, actual):
        raise UserError(
            f"{place}: sha256: the weights of {conf.name} have SHA-256 {actual}, expected {conf.sha256}; reinstall "
            "the model, or correct the value if you mean these weights (dvc repro -f settings, if it has none)"
        )


def hub_error(name: str, revision: str, place: Path, error: Exception) -> UserError:
    """The message for an error of a library that loads `name`, a Hub id or a folder."""
    from huggingface_hub.errors import RevisionNotFoundError

    wrong_revision = any(isinstance(e, RevisionNotFoundError) for e in (error, error.__cause__))
    key = "revision" if wrong_revision else "name"
    return UserError(
        f"{place}: {key}: cannot load '{name}' (revision {revision}): {reason(error)}. Check the name and the network, "
        "log in with `hf auth login` if the model is gated, or give a local folder"
    )

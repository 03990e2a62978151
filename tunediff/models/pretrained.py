"""Find a pretrained model: a folder, a part of an installed Python package, or a model on the Hub.

This file imports neither torch nor transformers, so that `prepare` starts fast.
"""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

from tunediff.core.errors import UserError, reason


def locate(name: str, place: Path) -> str:
    """Return what `from_pretrained` takes for `name`: a folder or a Hub id. `place` is the file that names the model.

    Raises UserError if a folder is no model folder, or a package is not installed. Nothing is asked of the Hub.
    """
    if name.startswith("package:"):
        path = _package_folder(name, place)
    elif Path(name).is_dir() or name.startswith((".", "/")):
        path = Path(name)
    else:
        return name
    if not (path / "config.json").is_file():
        raise UserError(f"{place}: name: {name} is not a model folder: it has no config.json")
    if not any(path.glob("*.safetensors")):
        raise UserError(
            f"{place}: name: {name} has no weights (*.safetensors); pickled weights (*.bin, *.pt) are not loaded"
        )
    return str(path)


def _package_folder(name: str, place: Path) -> Path:
    """The folder that package:MODULE/FOLDER names.

    Nothing is imported, which would run a package's code: the folder is looked up in what installers have written
    beside the packages, and never in the working folder, which may hold a stranger's files.
    """
    module, _, folder = name.removeprefix("package:").partition("/")
    if ".." in Path(folder).parts or folder.startswith("/"):
        raise UserError(f"{place}: name: {name} leads out of the package; give the folder's own path")
    searched = [entry for entry in sys.path if Path(entry).resolve() != Path.cwd()]
    for distribution in distributions(path=searched) if module.isidentifier() else ():
        if re.search(rf"^{module}/", distribution.read_text("RECORD") or "", re.MULTILINE):
            return Path(distribution.locate_file(module), folder)
    raise UserError(
        f"{place}: name: the Python package '{module}' is not installed; give the top-level name of one that is, "
        "or install it as the README says"
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

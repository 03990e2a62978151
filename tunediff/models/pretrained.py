"""Find a pretrained model, and count its tokens. No torch here, nor transformers, which imports it."""

import importlib.util
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from tunediff.core.errors import UserError, reason
from tunediff.models.settings import ModelConf

CHUNK = 250  # texts whose tokens are held at once; a token takes some 250 bytes


def locate(name: str, where: Path) -> str:
    """What `from_pretrained` takes for `name`: a folder or a Hub id. `where` is the file that names it."""
    if name.startswith("package:"):
        module, _, folder = name.removeprefix("package:").partition("/")
        if ".." in Path(folder).parts or folder.startswith("/"):
            raise UserError(f"{where}: name: {name} leads out of the package; give the folder's own path")
        try:
            spec = importlib.util.find_spec(module)  # found, never imported: its own code does not run
        except (ImportError, ValueError):  # a parent package is missing, or it is no module's name
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"{where}: name: the Python package '{module}' is not installed; run `pip install -r requirements.txt`"
            )
        path = Path(spec.submodule_search_locations[0], folder)
    elif Path(name).is_dir() or name.startswith((".", "/")):
        path = Path(name)
    else:
        return name
    if not (path / "config.json").is_file():
        raise UserError(f"{where}: name: {name} is not a model folder: it has no config.json")
    if not any(path.glob("*.safetensors")):
        raise UserError(
            f"{where}: name: {name} has no weights (*.safetensors); pickled weights (*.bin, *.pt) are not loaded"
        )
    return str(path)


def hub_error(name: str, revision: str, where: Path, error: Exception) -> UserError:
    from huggingface_hub.errors import RevisionNotFoundError

    wrong_revision = any(isinstance(e, RevisionNotFoundError) for e in (error, error.__cause__))
    key = "revision" if wrong_revision else "name"
    return UserError(
        f"{where}: {key}: cannot load '{name}' (revision {revision}): {reason(error)}. Check the name and the network, "
        "log in with `hf auth login` if the model is gated, or give a local folder"
    )


def token_lengths(texts: Iterable[str], conf: ModelConf, where: Path) -> list[int]:
    """Length of each text in the model's tokens, special tokens included, before anything is cut."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError
    from huggingface_hub.utils import httpx
    from tokenizers import Tokenizer

    source = locate(conf.name, where)
    try:
        file = (
            Path(source, "tokenizer.json")
            if Path(source).is_dir()
            else hf_hub_download(source, "tokenizer.json", revision=conf.revision)
        )
    except RemoteEntryNotFoundError:
        file = ""
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise hub_error(conf.name, conf.revision, where, error) from None
    if not Path(file).is_file():
        raise UserError(
            f"{where}: name: {conf.name} has no tokenizer.json; save a fast tokenizer there with "
            "`tokenizer.save_pretrained`"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{where}: name: {file} is not a tokenizer: {error}; save or download it again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = iter(texts)
    chunks = iter(lambda: list(islice(texts, CHUNK)), [])
    return [len(encoding) for chunk in chunks for encoding in tokenizer.encode_batch_fast(chunk)]

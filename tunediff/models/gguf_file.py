"""A GGUF file as an ordinary model folder: the float weights, config and tokenizer that transformers reads from it.

Reading one takes 10 s and more, so the folder is made once and kept in the user's cache, by the file's SHA-256.
"""

import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs
from filelock import FileLock

from tunediff.core.errors import UserError, reason
from tunediff.core.files import atomic
from tunediff.models.weights import difference_of


def as_folder(file: Path, digest: str, name: str, place: Path) -> Path:
    """The folder of a GGUF file, which one process makes while others wait for it.

    `digest` is the file's SHA-256, `name` its name in the file `place`, for messages. Raises UserError if the file
    cannot be read, or the folder cannot be written.
    """
    # Another version may read the same file otherwise.
    folder = platformdirs.user_cache_path("tunediff") / "gguf" / f"{digest}-transformers-{version('transformers')}"
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not folder.is_dir():
                    _write(file, folder, name, place)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written: {reason(error)}; make its folder writable, or set XDG_CACHE_HOME to "
                "one that is"
            ) from None
    return folder


def _write(file: Path, folder: Path, name: str, place: Path) -> None:
    print(f"reads {name} into {folder}, once; this takes a while", file=sys.stderr, flush=True)
    with atomic(folder) as partial:
        try:
            model, tokenizer = read(file)
        except Exception as error:  # of its readers each raises its own
            raise UserError(
                f"{place}: name: {name} cannot be read as a GGUF file: {reason(error)}; give another one, or a folder "
                "with safetensors"
            ) from None
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)


def read(file: Path) -> tuple:
    """The causal language model in fp32, and its tokenizer. Raises ValueError if the file has not all its weights."""
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parts = GGUFReader(file).get_field("split.count")
    if parts and (count := parts.contents()) > 1:
        raise ValueError(f"it is one of {count} parts, which `llama-gguf-split --merge` puts together")
    with TemporaryDirectory() as alone:  # what else lies in the file's own folder is no part of the model
        Path(alone, file.name).symlink_to(file.resolve())
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=file.name, trust_remote_code=False)
        model, loading = AutoModelForCausalLM.from_pretrained(
            alone, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
    if problem := difference_of(loading):  # transformers would begin with random ones
        raise ValueError(f"its weights are not those that its header means ({problem})")
    # The weights are floats now; transformers would refuse to save what calls itself quantized.
    del model.config.quantization_config
    model.hf_quantizer = None
    return model, tokenizer

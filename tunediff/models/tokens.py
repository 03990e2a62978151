"""Count the tokens of texts as a pretrained model would read them.

This file imports neither torch nor transformers, so that `prepare` starts fast.
"""

from collections.abc import Iterable
from pathlib import Path

from tunediff.core.errors import UserError
from tunediff.core.limits import batches
from tunediff.models.pretrained import hub_error, locate
from tunediff.models.settings import Pretrained


def token_lengths(texts: Iterable[str], conf: Pretrained, place: Path) -> list[int]:
    """Return the length of each text in the model's tokens, special tokens included, before anything is cut.

    `place` is the model's file. Raises UserError if the model has no tokenizer that can be read.
    """
    from tokenizers import Tokenizer

    file = _tokenizer_file(conf, place)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{place}: name: {file} is not a tokenizer: {error}; save or download it again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(encoding) for batch in batches(texts) for encoding in tokenizer.encode_batch_fast(batch)]


def _tokenizer_file(conf: Pretrained, place: Path) -> Path:
    """The model's tokenizer.json, which is downloaded if it is not on this machine."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError
    from huggingface_hub.utils import httpx

    source = locate(conf, place)
    try:
        if Path(source).is_dir():
            file = Path(source, "tokenizer.json")
        else:
            file = Path(hf_hub_download(source, "tokenizer.json", revision=conf.revision))
    except RemoteEntryNotFoundError:
        file = None
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise hub_error(conf.name, conf.revision, place, error) from None
    if file is None or not file.is_file():
        raise UserError(
            f"{place}: name: {conf.name} has no tokenizer.json; save a fast tokenizer there with "
            "`tokenizer.save_pretrained`"
        )
    return file

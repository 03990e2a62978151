"""Count the tokens of texts as a pretrained model would read them.

This file imports neither torch nor transformers, so that `prepare` starts fast.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tunediff.core.errors import UserError, reason
from tunediff.core.limits import batches
from tunediff.models.pretrained import hub_error, locate
from tunediff.models.settings import Pretrained

if TYPE_CHECKING:
    import pandas as pd

    from tunediff.tasks.interface import Task


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


def lengths(
    task: "Task",
    rows: "pd.DataFrame",
    conf: Pretrained,
    path: Path,
    place: Callable[["pd.Series"], str],
    max_new_tokens: int | None,
) -> dict[str, list[int]]:
    """The length of what the model reads of each row, before anything is cut; `rows` has columns text and label.

    It is under `tokens`; of chats, `dropped` says how many turns are cut. Of a text to be written it is the prompt's,
    and `too_long` says whether the target has more than `max_new_tokens`, the end's token included; a target is never
    cut. Raises UserError if the model has no room for prompt and answer, or, naming a row by `place`, for a target.
    """
    if not task.writes:
        return {"tokens": token_lengths(rows.text, conf, path)}
    from tunediff.models.generation import check_room
    from tunediff.models.loading import load_tokenizer, load_writer_config

    config = load_writer_config(conf, path)
    longest = getattr(config, "max_position_embeddings", None)
    tokenizer = load_tokenizer(conf, path)
    task = task.on(config)
    try:
        prompt = task.prompt(tokenizer)
    except Exception as error:  # a template is a program
        raise UserError(f"{path}: name: no prompt can be made for {conf.name}: {reason(error)}") from None
    check_room(config, task.architecture.before(conf.max_length), max_new_tokens)
    counted: dict[str, list[int]] = {"tokens": [], "too_long": [], **({"dropped": []} if task.chat else {})}
    for _, row in rows.iterrows():
        try:
            tokens = len(prompt.ids(row.text, cut=False))
            prompt.ids(row.text)
        except ValueError as error:
            raise UserError(f"{path}: {f'{place(row)}: ' if task.chat else ''}{error}") from None
        counted["tokens"].append(tokens)
        if task.chat:
            counted["dropped"].append(prompt.dropped(row.text) if tokens > conf.max_length else 0)
        target = len(prompt.target(task.learnt(row.label)))
        counted["too_long"].append(target > max_new_tokens)
        before = task.architecture.before(min(tokens, conf.max_length))
        if longest and before + target > longest:
            prompt_s = f", of which the prompt may take {conf.max_length} (max_length in {path}): lower max_length, or"
            raise UserError(
                f"{place(row)}: the target has {target} tokens, and the model reads {longest}"
                f"{prompt_s if before else ':'} shorten the target"
            )
    return counted

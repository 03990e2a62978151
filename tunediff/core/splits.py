"""The prepared splits as `datasets` tables, and their texts as token ids: on disk, mapped into memory as they are read.

What is mapped is the operating system's to keep or to forget, so a split may be larger than memory.
"""

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import pyarrow as pa
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint

from tunediff.core.errors import UserError, reason
from tunediff.core.parquet import read_batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 250  # texts that are held at once; a token takes some 250 bytes
ENCODED = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("attention_mask", pa.list_(pa.int8())), ("length", pa.int64())]
)


def load_split(folder: Path, name: str) -> Dataset:
    """One of `train`, `validation`, `test`: columns split, row, text, tokens, label (`datasets.ClassLabel`)."""
    advice = "fetch it with `dvc pull`, or make it again with `dvc repro --force prepare`"
    schema, batches = read_batches(folder / f"{name}.parquet", CHUNK, advice)
    # Not `Dataset.from_parquet`, which leaves a copy in the user's cache folder for each version of the file.
    return _mapped(schema, (batch for _, batch in batches))


def label_names(split: Dataset) -> list[str]:
    return split.features["label"].names


def rarer_label(train: Dataset) -> int | None:
    """Of two labels the one that fewer rows have, which is what one looks for; None if there are more labels."""
    counts = np.bincount(train["label"][:], minlength=len(label_names(train)))
    return int(np.argmin(counts)) if len(counts) == 2 else None


def encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], labels: Sequence[int] | None = None) -> Dataset:
    """Each text as columns input_ids, attention_mask, length and labels, cut at the tokenizer's `model_max_length`.

    Texts and labels may be columns of a `Dataset`, which are read as they are needed.
    """
    schema = ENCODED if labels is None else ENCODED.append(pa.field("labels", pa.int64()))

    def rows() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(texts), CHUNK):
            columns = dict(tokenizer(texts[start : start + CHUNK], truncation=True, return_token_type_ids=False))
            columns["length"] = [len(ids) for ids in columns["input_ids"]]
            if labels is not None:
                columns["labels"] = labels[start : start + CHUNK]
            yield pa.RecordBatch.from_pydict(columns, schema)

    return _mapped(schema, rows())


def _mapped(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Dataset:
    """The batches, in a file without a name, which is gone when nothing uses the rows any more, however that ends."""
    folder = _cache()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            with pa.ipc.new_stream(file, schema) as stream:
                for batch in batches:
                    stream.write_batch(batch)
            file.flush()
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UserError(f"{folder}: rows cannot be kept there: {reason(error)}; make room and run it again") from None
    # Without a fingerprint, the library makes one of all that the rows hold.
    return Dataset(pa.ipc.open_stream(pa.py_buffer(content)).read_all(), fingerprint=generate_random_fingerprint())


def _cache() -> Path:
    """The user's folder for it, or if that cannot be written the one for temporary files, which may be in memory."""
    folder = platformdirs.user_cache_path("tunediff")
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.gettempdir())

"""The prepared splits as `datasets` tables: on disk, and mapped into memory as they are read.

What is mapped is the operating system's to keep or to forget, so a split may be larger than memory.
"""

import mmap
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import platformdirs
import pyarrow as pa
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint

from tunediff.core.errors import UserError, reason
from tunediff.core.parquet import read_batches

CHUNK = 250  # texts that are read at once


def load_split(folder: Path, name: str) -> Dataset:
    """A prepared split, `train`, `validation` or `test`.

    Its columns are split, row, text, tokens, label, whose type is of the task, and group, if the data file names one.
    Raises UserError if it is torn.
    """
    advice = "fetch it with `dvc pull`, or make it again with `dvc repro --force prepare`"
    schema, batches = read_batches(folder / f"{name}.parquet", CHUNK, advice)
    # Not `Dataset.from_parquet`, which leaves a copy in the user's cache folder for each version of the file.
    return mapped(schema, (batch for _, batch in batches))


def save_split(rows: pd.DataFrame, label: Any, path: Path) -> None:
    """Write a split as `load_split` reads it; `label` is the type of that column."""
    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "split": datasets.Value("string"),
            "row": datasets.Value("int64"),
            "text": datasets.Value("string"),
            "tokens": datasets.Value("int64"),
            **({"group": datasets.Value("string")} if "group" in rows else {}),
            "label": label,
        }
    )
    Dataset.from_pandas(rows[list(features)], features, preserve_index=False).to_parquet(path)


def mapped(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Dataset:
    """A table of the batches, in a file without a name: it is gone when nothing uses the rows any more."""
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

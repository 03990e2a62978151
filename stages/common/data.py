"""The prepared splits as `datasets` tables, and their texts as token ids."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from stages.common.errors import UserError, reason

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_split(folder: Path, name: str) -> Dataset:
    """One of `train`, `validation`, `test`: columns split, row, text, tokens, label (`datasets.ClassLabel`)."""
    path = folder / f"{name}.parquet"
    try:
        # Not `Dataset.from_parquet`, which leaves a copy in the user's cache folder for each version of the file.
        return Dataset(pq.read_table(path))
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: not a whole Parquet file: {reason(error)}; fetch it with `dvc pull`, or make it again with `dvc "
            "repro --force prepare`"
        ) from None


def label_names(split: Dataset) -> list[str]:
    return split.features["label"].names


def rarer_label(train: Dataset) -> int | None:
    """Of two labels the one that fewer rows have, which is what one looks for; None if there are more labels."""
    counts = np.bincount(train["label"][:], minlength=len(label_names(train)))
    return int(np.argmin(counts)) if len(counts) == 2 else None


def encode(tokenizer: "PreTrainedTokenizerBase", texts: list[str], labels: list[int] | None = None) -> Dataset:
    """Each text as columns input_ids, attention_mask, length and labels, cut at the tokenizer's `model_max_length`."""
    columns = dict(tokenizer(texts, truncation=True, return_token_type_ids=False))
    columns["length"] = [len(ids) for ids in columns["input_ids"]]
    if labels is not None:
        columns["labels"] = labels
    return Dataset.from_dict(columns)

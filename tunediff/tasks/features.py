"""Texts as token ids, on disk and mapped into memory as they are read."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from datasets import Dataset

from tunediff.core.limits import batches
from tunediff.core.splits import CHUNK, mapped

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENCODED = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("attention_mask", pa.list_(pa.int8())), ("length", pa.int64())]
)
ONE, SEVERAL = pa.int64(), pa.list_(pa.float32())
"""What is in the column labels: a class number; or for each label whether it is there, as a loss takes it."""


def encode(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], labels: Sequence | None = None, kind: pa.DataType = ONE
) -> Dataset:
    """Each text as columns input_ids, attention_mask, length and labels, cut at the tokenizer's `model_max_length`.

    Texts and labels may be columns of a `Dataset`, which are read as they are needed; labels are of that `kind`.
    """
    schema = ENCODED if labels is None else ENCODED.append(pa.field("labels", kind))

    def encoded() -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in batches(text for start in range(0, len(texts), CHUNK) for text in texts[start : start + CHUNK]):
            columns = dict(tokenizer(batch, truncation=True, return_token_type_ids=False))
            columns["length"] = [len(ids) for ids in columns["input_ids"]]
            if labels is not None:
                columns["labels"] = labels[done : done + len(batch)]
            done += len(batch)
            yield pa.RecordBatch.from_pydict(columns, schema)

    return mapped(schema, encoded())

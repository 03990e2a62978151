"""Texts as token ids, on disk and mapped into memory as they are read."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset

from tunediff.core.limits import batches
from tunediff.core.splits import CHUNK, mapped
from tunediff.tasks.spans import words
from tunediff.tasks.windows import HEAD, IGNORED, Window, windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENCODED = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("attention_mask", pa.list_(pa.int8())), ("length", pa.int64())]
)
WINDOWS = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("attention_mask", pa.list_(pa.int8())),
        ("length", pa.int64()),
        ("text", pa.int64()),  # the text's number
        ("words", pa.list_(pa.int32())),  # numbers of the words that this window answers for, and ...
        ("places", pa.list_(pa.int32())),  # ... the place of each one's first token, and ...
        ("roles", pa.list_(pa.int8())),  # ... how it reads the tag there
        ("all_words", pa.int64()),  # how many the text has
        ("labels", pa.list_(pa.int64())),
    ]
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


def encode_windows(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], tags: Sequence[Sequence[int]] | None = None
) -> "Dataset":
    """The windows of all texts, in order, in the columns of `WINDOWS`; `tags` has a number for each word of a text."""

    def encoded() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            made = tokenizer(
                chunk,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
                return_token_type_ids=False,
                verbose=False,
            )
            rows = []
            for number, text in enumerate(chunk):
                parts = (made[key][number] for key in ("input_ids", "offset_mapping", "special_tokens_mask"))
                own = None if tags is None else tags[start + number]
                all_words = len(words(text))
                for window in windows(*parts, text, tokenizer.model_max_length):
                    rows.append(_row(window, start + number, all_words, own))
            yield pa.RecordBatch.from_pylist(rows, WINDOWS)

    return mapped(WINDOWS, encoded())


def _row(window: Window, text: int, all_words: int, tags: Sequence[int] | None) -> dict[str, Any]:
    labels = [IGNORED] * len(window.ids)
    for word, place, role in zip(window.words, window.places, window.roles, strict=True):
        if role == HEAD:
            labels[place] = 0 if tags is None else tags[word]
    return {
        "input_ids": window.ids,
        "attention_mask": [1] * len(window.ids),
        "length": len(window.ids),
        "text": text,
        "words": window.words,
        "places": window.places,
        "roles": window.roles,
        "all_words": all_words,
        "labels": labels,
    }

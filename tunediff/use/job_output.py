"""The output of a job of any length: rows with their answers, written in chunks; a job that broke goes on."""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TextIO

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from tunediff.core.errors import UserError
from tunediff.core.files import atomic, read_json, write_json
from tunediff.use import job_input
from tunediff.use.job_formats import BY_ENDING, Csv
from tunediff.use.job_input import Input, Row

Answer = Callable[[list[str]], list[Row]]
"""Gives the new columns' values for each text."""


def check_place(out: Path) -> None:
    """Raises UserError if no file of answers can be written to `out`; before hours of work, not after."""
    if out.suffix.lower() not in BY_ENDING:
        raise UserError(f"--out {out}: the name ends in none of {', '.join(BY_ENDING)}")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written there: {error.strerror}; name another folder") from None


def save(
    out: Path,
    source: Input,
    answer: Answer,
    new: dict[str, pa.DataType],
    options: dict[str, Any],
    size: int | None = None,
) -> int:
    """Write the rows with their answers, which are columns `new`, to `out`; return how many they are.

    Until all are there, chunks of `size` rows (see `job_input.chunks`) are kept in a folder beside it. If an earlier
    run left some, of the same input and with the same `options`, they are not asked for again.
    """
    folder = out.with_name(f".{out.name}.partial")
    ending = out.suffix.lower()
    output = BY_ENDING[ending](source, new)
    chunks = _earlier_chunks(folder, ending, source, {**options, "rows": size or job_input.CHUNK})
    rows = int(chunks[-1].stem) if chunks else 0
    if chunks:
        print(f"{folder}: {rows:,} rows are there from an earlier run; it goes on after them", file=sys.stderr)
    for chunk in _labelled(source, answer, rows, size):
        rows += len(chunk)
        chunks.append(folder / f"{rows:012}{ending}")
        with atomic(chunks[-1]) as partial:
            output.write(partial, chunk)
    with atomic(out) as partial:
        output.join(partial, chunks)
    shutil.rmtree(folder)
    return rows


def _earlier_chunks(folder: Path, ending: str, source: Input, options: dict[str, Any]) -> list[Path]:
    """The chunks in `folder` that an earlier run of the same job left, named by how many rows are done with each.

    Those of another job are removed.
    """
    note = folder / "made-from.json"
    of_input = {"input": source.sha256, "text": source.text_columns, "keys": source.keys}
    made_from = {**of_input, "characters": job_input.CHARACTERS, **options}
    if folder.exists() and not (source.sha256 and note.is_file() and read_json(note) == made_from):
        print(f"{folder}: left by a run on another input, model or option; begun anew", file=sys.stderr)
        shutil.rmtree(folder)
    write_json(note, made_from)
    return sorted(folder.glob(f"*{ending}"))


def stream(file: TextIO, source: Input, answer: Answer, new: dict[str, pa.DataType], size: int | None = None) -> None:
    """Write the rows with their answers to `file` as CSV, each chunk of `size` rows as soon as it is answered."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end without a word when nobody reads on, as in `| head`
    output = Csv(source, new)
    output.write_header(file)
    for chunk in _labelled(source, answer, size=size):
        output.write_rows(file, chunk)
        file.flush()


def as_table(source: Input, answer: Answer) -> str:
    """The rows with their answers as a table for a terminal."""
    table = pd.DataFrame(row for chunk in _labelled(source, answer) for row in chunk)
    return table.to_string(index=False, float_format=lambda value: f"{value:.3f}")


def _labelled(source: Input, answer: Answer, done: int = 0, size: int | None = None) -> Iterator[list[Row]]:
    """Chunks of the input's rows, from row `done` on, with what `answer` says of their texts."""
    rows = islice(source.rows(), done, None)
    with tqdm(total=source.total, initial=done, unit="text") as progress:
        for chunk in job_input.chunks(rows, size):
            answers = answer(source.texts(chunk))
            yield [row | answered for row, answered in zip(chunk, answers, strict=True)]
            progress.update(len(chunk))

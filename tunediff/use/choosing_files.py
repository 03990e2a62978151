"""Texts to label next, from a file of any length, and written for a spreadsheet or for Label Studio."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import pyarrow as pa
from tqdm import tqdm

from tunediff.core.csv_cells import original
from tunediff.core.errors import UserError
from tunediff.core.files import atomic
from tunediff.core.values import as_text
from tunediff.use import job_input
from tunediff.use.choosing import EACH, LEAST, Candidates, digest
from tunediff.use.job_formats import Jsonl, SpreadsheetCsv
from tunediff.use.job_input import Input, Row
from tunediff.use.of_task import of_task

if TYPE_CHECKING:
    from tunediff.use.classifier import Classifier

ENDINGS = (".csv", ".jsonl", ".json")
NEW = {"predicted": pa.string(), "uncertainty": pa.float64()}


def check(out: Path, source: Input, label: str, inputs: Iterable[Path]) -> None:
    """Raises UserError if `out` is not what can be written, or names of columns clash."""
    if out.suffix.lower() not in ENDINGS:
        raise UserError(f"--out {out}: the name ends in none of {', '.join(ENDINGS)}")
    for path in (out, out.with_suffix(".xml")) if out.suffix.lower() == ".json" else (out,):
        if path.is_dir() or (path.exists() and any(path.samefile(file) for file in inputs)):
            raise UserError(f"--out {out}: {path} is a folder or an input; name another file")
    if label in NEW:
        raise UserError(f"--label {label}: is the name of another new column; choose another")
    if label in source.text_columns:
        raise UserError(f"--label {label}: is the column of texts; name the one of labels")
    if clash := [name for name in NEW if name in source.header]:
        raise UserError(f"{source.place}: the column {clash[0]} is there already; rename it, or leave it out")


def choose(model: "Classifier", source: Input, label: str, labelled: Iterable[Input], wanted: int) -> list[Row]:
    """The rows to label, with the columns NEW and an empty one named `label`; those that have one are left out.

    Nor do they repeat a text of the inputs `labelled`. Raises UserError if the task cannot say how unsure it is.
    """
    answers = of_task(model.task)
    if not hasattr(answers, "uncertainty"):
        raise UserError(
            f"--model: a model for the task `{model.task.name}` does not say how unsure it is; give one that classifies"
        )
    known = (text for each in labelled for chunk in job_input.chunks(each.rows()) for text in each.texts(chunk))
    candidates = Candidates(max(EACH * wanted, LEAST), known)
    with tqdm(total=source.total, unit="text") as progress:
        for chunk in job_input.chunks(source.rows()):
            candidates.labelled.update(map(digest, source.texts([row for row in chunk if has_label(row, label)])))
            rows = [row for row in chunk if not has_label(row, label)]
            if rows:
                texts = source.texts(rows)
                predicted = model.predict(texts)
                (names, *_) = answers.columns(model, "predicted", "", None).values(predicted)
                kept = [row | {"predicted": name} for row, name in zip(rows, names, strict=True)]
                candidates.add(texts, answers.uncertainty(predicted), kept)
            progress.update(len(chunk))
    return [row | {"uncertainty": round(unsure, 4), label: ""} for unsure, row in candidates.chosen(wanted)]


def cell(record: Row, column: str) -> str:
    """A value as text, without what `SpreadsheetCsv` puts before a formula."""
    return original(as_text(record, column))


def has_label(row: Row, label: str) -> bool:
    value = row.get(label)
    return value == value and value not in (None, "", [])  # NaN is not equal to itself


def write(out: Path, rows: list[Row], source: Input, label: str, names: list[str], version: str) -> list[Path]:
    """Write the rows to `out`, and for Label Studio the labelling interface beside it; return what was written.

    `names` are the labels, and `version` is the model's name.
    """
    if out.suffix.lower() == ".json":
        interface = out.with_suffix(".xml")
        tasks = [task(row, source.text_columns[0], label, version) for row in rows]
        _save(out, json.dumps(_without_nan(tasks), ensure_ascii=False, indent=1, default=str, allow_nan=False))
        _save(interface, labelling_interface(source.text_columns, label, names))
        return [out, interface]
    new = NEW if label in source.header else {**NEW, label: pa.string()}
    output = (SpreadsheetCsv if out.suffix.lower() == ".csv" else Jsonl)(source, new)
    with atomic(out) as partial, TemporaryDirectory() as folder:
        chunk = Path(folder, "chunk")
        output.write(chunk, rows)
        output.join(partial, [chunk])
    return [out]


def task(row: Row, text: str, label: str, version: str) -> dict[str, Any]:
    """A task of Label Studio with the model's answer, which it shows as a suggestion."""
    data = {name: value for name, value in row.items() if name not in ("predicted", label)}
    choice = {"from_name": label, "to_name": text, "type": "choices", "value": {"choices": [row["predicted"]]}}
    return {
        "data": data,
        "predictions": [{"model_version": version, "score": 1 - row["uncertainty"], "result": [choice]}],
    }


def labelling_interface(texts: list[str], label: str, names: list[str]) -> str:
    """What Label Studio calls the labelling interface. It names its export's columns as those of the file."""
    shown = [f"  <Text name={quoteattr(name)} value={quoteattr(f'${name}')}/>" for name in texts]
    choices = [f"    <Choice value={quoteattr(name)}/>" for name in names]
    head = f'  <Choices name={quoteattr(label)} toName={quoteattr(texts[0])} choice="single">'
    return "\n".join(["<View>", *shown, head, *choices, "  </Choices>", "</View>"])


def _without_nan(value: Any) -> Any:
    """The value with null for numbers that JSON does not have, such as empty cells of a Parquet file."""
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _save(path: Path, text: str) -> None:
    with atomic(path) as partial:
        partial.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")

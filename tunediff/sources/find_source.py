"""Read labelled texts where they are: files under data/raw/ or a Hub data set. `formats.py` has the file formats.

Everything is read as text, so that a label `NA`, `007` or `1e5` stays what it is. Malformed input raises UserError with
the place: byte, line, row or column.
"""

import hashlib
from pathlib import Path

import pandas as pd

from tunediff.core.errors import UserError
from tunediff.core.files import sha256
from tunediff.sources import hub, saved_dataset
from tunediff.sources.columns import RAW, Rows, Target, columns, needed
from tunediff.sources.formats import is_format, read_records
from tunediff.sources.settings import DataConf
from tunediff.sources.text_lines import ending


def read(conf: DataConf, conf_path: Path, task: Target) -> dict[str, Rows]:
    """Return the rows of each split that the source has. A single file is one split named `all`.

    Raises UserError if the source cannot be read or lacks a column that `conf` names.
    """
    if on_hub(conf):
        return hub.read(conf, conf_path, task)
    if not conf.source:
        raise UserError(f"{conf_path}: source: names no file; write a file under {RAW}/, or one for each split")
    if conf.config is not None:
        raise UserError(
            f"{conf_path}: config: names a part of a Hub data set, and `source` is a file: take one of them out"
        )
    wanted = {column for _, column in needed(conf, task)}
    if isinstance(conf.source, str) and not is_format(Path(conf.source)):
        folder = _under_raw(conf.source, conf_path)
        if saved_dataset.is_saved(folder):
            origin = f"{folder.name} sha256:{_sha256_of_files(folder)}"
            return {
                split: columns(table, conf, conf_path, task, f"{folder} ({split})", origin)
                for split, table in saved_dataset.read(folder, wanted).items()
            }
    files = conf.source if isinstance(conf.source, dict) else {"all": conf.source}

    def rows_of(file: str, before: int = 0) -> Rows:
        path = raw_file(file, conf_path)
        advice = f"write its encoding in {conf_path}, for example `encoding: ENCODING`"
        table = read_records(path, conf, advice, wanted, needed_alone=True)
        return columns(table, conf, conf_path, task, str(path), f"{path.name} sha256:{sha256(path)}", before=before)

    def rows_of_all(named: list[str]) -> Rows:
        each: dict[str, Rows] = {}
        before = 0
        for file in named:
            each[file] = rows_of(file, before)
            before = each[file].taken
        return one_after_the_other(each)

    return {split: rows_of_all(named) if isinstance(named, list) else rows_of(named) for split, named in files.items()}


def one_after_the_other(files: dict[str, Rows]) -> Rows:
    """The rows of several files as those of one, numbered on from file to file."""
    tables, before, number = [], {}, 0
    for file, rows in files.items():
        tables.append(rows.table.assign(row=rows.table.row + number))
        before[file] = number
        number += int(rows.table.row.max())
    decided = {f"{key} of {file}": value for file, rows in files.items() for key, value in rows.decided.items()}
    origin = ", ".join(rows.origin for rows in files.values())
    return Rows(pd.concat(tables, ignore_index=True), origin, decided, before)


def _sha256_of_files(folder: Path) -> str:
    """The SHA-256 of a list of the folder's files with theirs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = "".join(f"{path.relative_to(folder)} {sha256(path)}\n" for path in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def on_hub(conf: DataConf) -> bool:
    """Whether the source is a Hub data set, and neither a file nor a saved data set under data/raw/."""
    if not isinstance(conf.source, str) or is_format(Path(conf.source)):
        return False
    path = _in_raw(conf.source)
    try:
        return not ((not ending(path) and path.is_file()) or saved_dataset.is_saved(path))
    except (OSError, ValueError):  # a name that no file can have
        return True


def _in_raw(source: str) -> Path:
    return Path(source) if Path(source).is_relative_to(RAW) else RAW / source


def _under_raw(source: str, conf_path: Path, key: str = "source") -> Path:
    """The place under data/raw/ that `source` names. DVC watches that folder, so that a change there is seen."""
    path = _in_raw(source)
    if ".." in path.parts or not path.is_relative_to(RAW):
        raise UserError(
            f"{conf_path}: {key}: {source} is not under {RAW}/; copy or link the file there, so that DVC sees it change"
        )
    return path


def raw_file(source: str, conf_path: Path, key: str = "source") -> Path:
    """The file under data/raw/ that a key of the data file names. Raises UserError if there is none."""
    path = _under_raw(source, conf_path, key)
    try:
        exists = path.is_file()
    except OSError as error:
        raise UserError(f"{conf_path}: {key}: {path}: cannot be read: {error.strerror}") from None
    if not exists:
        present = ", ".join(sorted(p.name for p in RAW.glob("*") if is_format(p))) or "no data file"
        raise UserError(f"{conf_path}: {key}: there is no file {path}; {RAW}/ has: {present}")
    return path

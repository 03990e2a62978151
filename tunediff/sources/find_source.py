"""Read labelled texts where they are: files under data/raw/ or a Hub data set. `formats.py` has the file formats.

Everything is read as text, so that a label `NA`, `007` or `1e5` stays what it is. Malformed input raises UserError with
the place: byte, line, row or column.
"""

from pathlib import Path

from tunediff.core.errors import UserError
from tunediff.core.files import sha256
from tunediff.sources import hub
from tunediff.sources.columns import RAW, Rows, Target, columns, needed
from tunediff.sources.formats import FORMATS, read_records
from tunediff.sources.settings import DataConf


def read(conf: DataConf, conf_path: Path, task: Target) -> dict[str, Rows]:
    """Return the rows of each split that the source has. A single file is one split named `all`.

    Raises UserError if the source cannot be read or lacks a column that `conf` names.
    """
    if on_hub(conf):
        return hub.read(conf, conf_path, task)
    if not conf.source:
        raise UserError(f"{conf_path}: source: names no file; write a file under {RAW}/, or one for each split")
    files = conf.source if isinstance(conf.source, dict) else {"all": conf.source}
    return {split: _read_file(_raw_file(file, conf_path), conf, conf_path, task) for split, file in files.items()}


def on_hub(conf: DataConf) -> bool:
    """Whether the source is a Hub data set and not a file."""
    return isinstance(conf.source, str) and Path(conf.source).suffix.lower() not in FORMATS


def _raw_file(source: str, conf_path: Path) -> Path:
    """The file under data/raw/ that `source` names. DVC watches that folder, so that a change there is seen."""
    path = Path(source) if Path(source).is_relative_to(RAW) else RAW / source
    if ".." in path.parts or not path.is_relative_to(RAW):
        raise UserError(
            f"{conf_path}: source: {source} is not under {RAW}/; copy or link the file there, so that DVC sees it "
            "change"
        )
    try:
        exists = path.is_file()
    except OSError as error:
        raise UserError(f"{conf_path}: source: {path}: cannot be read: {error.strerror}") from None
    if not exists:
        present = ", ".join(sorted(p.name for p in RAW.glob("*") if p.suffix.lower() in FORMATS)) or "no data file"
        raise UserError(f"{conf_path}: source: there is no file {path}; {RAW}/ has: {present}")
    return path


def _read_file(path: Path, conf: DataConf, conf_path: Path, task: Target) -> Rows:
    advice = f"write its encoding in {conf_path}, for example `encoding: cp1252`"
    wanted = {column for _, column in needed(conf, task)}
    header, records = read_records(path, conf.encoding, advice, wanted)
    return columns(header, records, conf, conf_path, task, str(path), f"{path.name} sha256:{sha256(path)}")

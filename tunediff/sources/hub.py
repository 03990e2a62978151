"""Read a Hub data set: all of it, or part of a large one (`hub_part.py`)."""

import re
from pathlib import Path

from tunediff.core.errors import UserError, reason
from tunediff.sources import hub_part
from tunediff.sources.class_labels import nested, with_label_names
from tunediff.sources.columns import RAW, Rows, Target, columns, needed
from tunediff.sources.formats import FORMATS
from tunediff.sources.json_reader import with_nested
from tunediff.sources.settings import DataConf
from tunediff.sources.table import Table


def read(conf: DataConf, conf_path: Path, task: Target) -> dict[str, Rows]:
    """Return the rows of each split. If `rows` asks for few of them, only part of each split that `splits` names.

    Raises UserError if the data set cannot be read or lacks a column that `conf` names.
    """
    import datasets
    from huggingface_hub.errors import RevisionResolutionError
    from huggingface_hub.utils import httpx

    _check_id(conf, conf_path)
    try:
        if conf.rows is not None and (part := hub_part.load_kept(conf, task)) is not None:
            return part
        # With hf://, a folder of that name here is not taken for the data set.
        builder = datasets.load_dataset_builder(f"hf://datasets/{conf.source}", conf.config, revision=conf.revision)
        if conf.rows is not None and (part := hub_part.fetch(builder, conf, conf_path, task)) is not None:
            return part
        builder.download_and_prepare()
        tables = builder.as_dataset()
    except (
        OSError,
        ValueError,
        RuntimeError,
        httpx.HTTPError,
        RevisionResolutionError,
        datasets.exceptions.DatasetsError,
    ) as error:
        raise _unreadable(conf, conf_path, error) from None

    # Without a network, the library falls back on whatever commit it has.
    commit = builder.hash
    if re.fullmatch("[0-9a-f]{40}", conf.revision) and commit != conf.revision:
        raise UserError(
            f"{conf_path}: revision: {_place(conf)}: the Hub is out of reach, and the copy on this machine is commit "
            f"{commit}; connect to the network, or name that commit"
        )
    origin = f"{conf.source} {commit}"
    asked = [column for _, column in needed(conf, task)]
    return {
        split: columns(
            Table(
                table.column_names,
                nested(table.features),
                with_nested(with_label_names(table, table.features), asked),
            ),
            conf,
            conf_path,
            task,
            f"{conf.source} ({split})",
            origin,
        )
        for split, table in tables.items()
    }


def _check_id(conf: DataConf, conf_path: Path) -> None:
    """Raises UserError if the source cannot be the id of a Hub data set."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(conf.source)
        if Path(conf.source).is_relative_to(RAW) or (RAW / conf.source).exists():
            raise HFValidationError
    except HFValidationError:
        raise UserError(
            f"{conf_path}: source: '{conf.source}' is neither a data file, whose name ends in {', '.join(FORMATS)}, "
            "nor the id of a Hub data set"
        ) from None


def _unreadable(conf: DataConf, conf_path: Path, error: Exception) -> UserError:
    from huggingface_hub.errors import RevisionNotFoundError

    wrong_revision = any(isinstance(e, RevisionNotFoundError) for e in (error, error.__cause__))
    key = "revision" if wrong_revision else "source"
    return UserError(
        f"{conf_path}: {key}: {_place(conf)}: cannot be read: {reason(error)}. Check its name and the network, log in "
        f"with `hf auth login` if it is gated, or put a file under {RAW}/ and name that"
    )


def _place(conf: DataConf) -> str:
    return f"Hub data set {conf.source} at revision {conf.revision}"

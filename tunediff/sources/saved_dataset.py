"""Reader of data sets that the library datasets saved: folders that `save_to_disk` wrote."""

from collections.abc import Collection
from pathlib import Path

from tunediff.core.errors import UserError, reason
from tunediff.sources.class_labels import with_label_names
from tunediff.sources.table import Table


def is_saved(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def read(folder: Path, wanted: Collection[str]) -> dict[str, Table]:
    """The rows of each split, or of one named `all`, with the columns that are wanted. Raises UserError if damaged."""
    import datasets
    import pyarrow as pa

    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(f"{folder}: not a whole saved data set: {reason(error)}; copy or save it again") from None
    splits = saved if isinstance(saved, dict) else {"all": saved}
    tables = {}
    for split, rows in splits.items():
        columns = [name for name in rows.column_names if name in wanted]
        records = with_label_names(rows.select_columns(columns), rows.features) if columns else iter(())
        tables[split] = Table(rows.column_names, [], records)
    return tables

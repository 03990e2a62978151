"""Reader of Excel's workbooks: xlsx and xls."""

import zipfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tunediff.core import limits
from tunediff.core.errors import UserError, reason
from tunediff.core.values import as_text
from tunediff.sources.settings import FileKeys
from tunediff.sources.table import Table, unique


def read(path: Path, keys: FileKeys, wanted: Collection[str] | None) -> Table:
    """The columns and rows of the sheet that `keys` names, or of the only one with values; read whole.

    Empty rows are none. Raises UserError if the file is damaged or too large, or if it is not clear which sheet.
    """
    rows, sheet = _sheet(path, keys.sheet)
    rows = [row for row in rows if any(value != "" for value in row)]
    if not rows:
        raise UserError(f"{path}: sheet '{sheet}' is empty; expected rows with a column of texts")
    width = max(len(row) for row in rows)
    if keys.columns and len(keys.columns) != width:
        raise UserError(f"{path}: sheet '{sheet}' has {width} columns; `columns` names {len(keys.columns)}")
    names = keys.columns or [as_text({0: value}, 0) for value in rows.pop(0)]
    header = unique(names)
    records = [dict(zip(header, map(_value, row), strict=True)) for row in rows]
    repeated = {name for name, times in Counter(names).items() if times > 1}
    return Table(header, [], records, {"sheet": sheet, "header": not keys.columns}, repeated)


def _sheet(path: Path, name: str | None) -> tuple[list[list[Any]], str]:
    """The rows of a sheet, and its name."""
    import python_calamine as calamine

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(part.file_size for part in archive.infolist())
        else:
            size = path.stat().st_size
        if size > limits.JSON:
            raise UserError(
                f"{path}: {size:,} bytes; a workbook is read whole and may have {limits.JSON:,}: save the sheet as CSV"
            )
        with calamine.load_workbook(str(path)) as book:
            sheets = {each: book.get_sheet_by_name(each).to_python() for each in ([name] if name else book.sheet_names)}
    except calamine.WorksheetNotFound:
        with calamine.load_workbook(str(path)) as book:
            raise UserError(f"{path}: no sheet '{name}'; it has: {', '.join(book.sheet_names)}") from None
    except (calamine.CalamineError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(f"{path}: not a workbook that can be read: {reason(error)}; save it again, or as CSV") from None
    filled = [each for each, rows in sheets.items() if rows] or list(sheets)
    if len(filled) > 1:
        raise UserError(f"{path}: has the sheets {', '.join(filled)}: say which is meant, as in `sheet: {filled[0]}`")
    return sheets[filled[0]], filled[0]


def _value(value: Any) -> Any:
    return value if isinstance(value, str | bool | int | float) else str(value)

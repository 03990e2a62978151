"""What a reader of a file gives: column names, rows, and what it decided."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunediff.core.errors import UserError


@dataclass
class Table:
    """The columns and rows of one file. Values may be of any type that `columns.as_text` takes."""

    header: list[str]
    """Names, each once."""
    nested: list[str]
    """Columns in the values of others; a row has them if they are asked for."""
    rows: Iterable[dict[str, Any]]
    """May be read as they are asked for, and only once."""
    decided: dict[str, Any] = field(default_factory=dict)
    """How the file was read, for data/profile.json; complete after the last row."""
    repeated: Collection[str] = ()
    """Names that several columns have in the file: `unique` tells them apart."""
    first_row_is_data: bool = False
    """Whether the row that was taken for column names looks like the rows below it."""

    @property
    def names(self) -> list[str]:
        """All columns that may be asked for."""
        return [*self.header, *self.nested]

    def check(self, path: Path, asked: Collection[str]) -> None:
        """Raises UserError if a column that is asked for is there twice."""
        if twice := sorted(set(self.repeated) & set(asked)):
            raise UserError(f"{path}: two columns are named '{twice[0]}'; rename one of them")


def unique(header: list[str]) -> list[str]:
    """The names, and others for those that are empty or there already: `Unnamed: 2` and `name.1`, as pandas does."""
    taken = Counter(header)
    names: list[str] = []
    seen: Counter[str] = Counter()
    for place, name in enumerate(header):
        if not name.strip():
            name = f"Unnamed: {place}"
        elif seen[name]:
            base, number = name, seen[name]
            while (name := f"{base}.{number}") in taken:
                number += 1
            seen[base] = number
            taken[name] += 1
        seen[name] += 1
        names.append(name)
    return names

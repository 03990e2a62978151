"""Every row as a test row: what each fold tests, validates with and trains on."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from tunediff.core.errors import UserError
from tunediff.sources import splitting
from tunediff.sources.settings import SPLITS


def assign(table: pd.DataFrame, number: int, validation: float, seed: int) -> pd.DataFrame:
    """The side of each row in each fold: columns split and row, as in `table`, and "1", "2" and so on.

    Folds are stratified, and divide no unit: see `splitting.assign`. `validation` is its share of what a fold does not
    test. `table` has columns split, row, text, group, stratum.
    """
    names = [str(fold + 1) for fold in range(number)]
    tested = splitting.assign(table, dict.fromkeys(names, 1 / number), seed)
    sides = {}
    for name in names:
        side = np.full(len(table), "test", dtype=object)
        rest = tested != name
        side[rest] = splitting.assign(table[rest], {"train": 1 - validation, "validation": validation}, seed)
        sides[name] = pd.Categorical(side, SPLITS)
    return table[["split", "row"]].assign(**sides)


def check(sides: pd.DataFrame, labels: Iterable[tuple[str, np.ndarray]]) -> None:
    """Raises UserError if a fold would have to answer a label that it trains on no row of.

    `sides` is what `assign` gives, `labels` each label and which rows have it: true or false, shape [rows].
    """
    folds = sides.drop(columns=["split", "row"])
    trains = (folds == "train").to_numpy()
    for label, rows in labels:
        count = int(rows.sum())
        if count and not trains[rows].any(axis=0).all():
            raise UserError(
                f"params.yaml: folds: label '{label}' has {count} row{'s'[: count != 1]}, too few to train on in "
                f"each of {folds.shape[1]} folds; add rows of it in other groups, leave it out (`rare: "
                "drop` in the data file), or set folds to []"
            )

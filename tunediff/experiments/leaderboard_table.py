"""The leaderboard's table: each result once, the chosen run of each method, the methods across data sets and models."""

import numpy as np
import pandas as pd

from tunediff.experiments.leaderboard_history import (
    COMPARED,
    COST,
    DEVIATION,
    FINEST,
    IN_FOLDS,
    PANEL,
    TEST,
    VALIDATION,
    WITHOUT_MODEL,
    chooser,
)
from tunediff.tasks import TASKS

DECIMALS = 5  # to which figures are compared: those that follow change with the machine


def distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """Each result once, with the data, model and settings of the first revision that has it: there it was made.

    A revision has figures of all methods, also of those that nothing trained anew. So the same figures of the same
    method are one result, even if params.yaml names other data by then. `rows` are those of
    `leaderboard_history.results`, the oldest first; their `revision` becomes `made_in` and `newest_in`.
    """
    model = rows.model.where(rows.method.isin(WITHOUT_MODEL), "")
    same = rows.groupby([rows.method, model, *(rows[name].round(DECIMALS) for name in TEST)], dropna=False)
    first = same[[*VALIDATION, IN_FOLDS]].transform("first")
    # Trained anew but not evaluated: the figures on test are still those of an earlier training.
    stale = (rows[FINEST] - first[FINEST]).abs() > 0.1**DECIMALS
    rows = rows.fillna(first)  # from commits of before there were folds, or figures of `baseline` on validation
    rows.loc[stale, [COMPARED, IN_FOLDS, f"{COMPARED}_deviation", *TEST, *DEVIATION, *COST]] = np.nan
    # Evaluated in another revision.
    trainings = rows.groupby(["method", *(rows[name].round(DECIMALS) for name in VALIDATION)], dropna=False)
    known = rows[COMPARED].isna() & (trainings[COMPARED].transform("count") > 0)

    figures = rows[["method", *TEST, *VALIDATION, IN_FOLDS]].round(DECIMALS).assign(model=model)
    number = figures.groupby(list(figures), dropna=False, sort=False).ngroup()
    newest = rows.sort_values("standing", kind="stable").groupby(number).revision.last()
    table = rows.assign(newest_in=number.map(newest)).rename(columns={"revision": "made_in"})
    table = table.astype({"trainable_parameters": "Int64"}).drop(columns="standing")
    return table[~number.duplicated() & ~known]


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each data set and model together, in the order of COMPARED on test.

    Of `settings` those are kept, as text, that differ in these rows. A column `chosen` is added: it is true for the run
    of each method that is best by its task's `chooser`, of those with figures on test, or the newest where none has
    that figure.
    """
    parts = []
    for (*_, task), rows in table.groupby([*PANEL, "task"]):
        figure = chooser(TASKS[task])
        chosen_by, better = f"validation_{figure.name}", figure.higher_is_better
        settings = pd.DataFrame(rows.settings.tolist())
        differ = [key for key in settings if settings[key].nunique() > 1]
        tested = rows[rows[COMPARED].notna()].sort_values(
            chosen_by, ascending=better, na_position="first", kind="stable"
        )
        rows = rows.assign(
            settings=[" ".join(f"{key}={each[key]}" for key in differ if key in each) for each in rows.settings],
            chosen=rows.index.isin(tested.groupby("method").tail(1).index),
        )
        parts.append(rows.sort_values([COMPARED, chosen_by], ascending=[False, not better], kind="stable"))
    return pd.concat(parts)


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """COMPARED on test of the chosen runs of one task: a row per method, a column per data set and model.

    The first method is the one that lacks least, on average, to the best of each column.
    """
    across = table[table.chosen].pivot(index="method", columns=PANEL, values=COMPARED)
    across.columns = [", ".join(names) for names in across.columns]
    return across.loc[(across.max() - across).mean(axis=1).sort_values(kind="stable").index]

"""The leaderboard as files: the table, the picture, and a page of both."""

from pathlib import Path

import pandas as pd

from tunediff.core.files import atomic
from tunediff.experiments import pictures
from tunediff.experiments.leaderboard_history import CHOSEN_BY, COMPARED, DEVIATION, PANEL, TASK
from tunediff.report import page

CHOOSER = TASK.figures[CHOSEN_BY.removeprefix("validation_")]
# Columns and their titles.
SHOWN = {**{name: TASK.figures[name].words for name in TASK.headline}, CHOSEN_BY: f"{CHOOSER.words} on validation"}
HEADLINE = "{} results of all commits and experiments"
REASON = (
    "Each has the first and the newest commit that has it. Of each method the run is chosen that has the best {} on "
    "validation. Choose the method by that too: the first of several by a figure on test is also the luckiest."
)


def write(table: pd.DataFrame, across: pd.DataFrame, out: Path) -> None:
    """Write leaderboard.csv, .png, .html and .md into the folder `out`.

    `table` is what `leaderboard_table.ranked` gives, `across` what `leaderboard_table.compared` gives.
    """
    with atomic(out / "leaderboard.csv") as partial:
        table.to_csv(partial, index=False)
    with atomic(out / "leaderboard.png") as partial:
        pictures.leaderboard(table, list(across.index), COMPARED, partial)
    page.write(
        "Leaderboard",
        page.Verdict(HEADLINE.format(len(table)), REASON.format(CHOOSER.words)),
        [
            page.Section(
                "Methods across data sets",
                f"{SHOWN[COMPARED].capitalize()} on test of the chosen runs. First is what lacks least, on average, to "
                "the best of a column.",
                [["method", *across.columns], *percent(across).reset_index().to_numpy().tolist()],
                [out / "leaderboard.png"],
            ),
            *(page.Section(", ".join(names), table=page_table(rows)) for names, rows in table.groupby(PANEL)),
        ],
        out / "leaderboard.html",
        out / "leaderboard.md",
    )


def percent(figures: pd.DataFrame) -> pd.DataFrame:
    """The figures as text; nothing where one is missing."""
    return figures.map(lambda value: "" if pd.isna(value) else f"{value:.1%}")


def page_table(rows: pd.DataFrame) -> list[list[str]]:
    """The head and the rows of one data set and model."""
    figures = percent(rows[list(SHOWN)])
    for name in SHOWN:
        if f"{name}_deviation" in DEVIATION:
            deviation = rows[f"{name}_deviation"]
            figures[name] += deviation.map(lambda value: "" if pd.isna(value) else f" ± {100 * value:.1f}")
    table = pd.DataFrame(
        {
            "method": rows.method,
            "chosen": rows.chosen.map({True: "✓", False: ""}),
            **{title: figures[name] for name, title in SHOWN.items()},
            "trainable parameters": rows.trainable_parameters.map(lambda n: "" if pd.isna(n) else f"{n:,.0f}"),
            "training, s": rows.train_seconds.map(lambda n: "" if pd.isna(n) else f"{n:,.0f}"),
            "seeds": rows.seeds,
            "settings that differ": rows.settings,
            "made in": rows.made_in,
            "newest in": rows.newest_in,
        }
    )
    return [list(table), *table.to_numpy().tolist()]

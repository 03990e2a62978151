"""The leaderboard as files: the table, the picture, and a page of both."""

from pathlib import Path

import pandas as pd

from tunediff.core.files import atomic
from tunediff.experiments import pictures
from tunediff.experiments.leaderboard_history import DEVIATION, IN_FOLDS, PANEL, TEST, VALIDATION, chooser
from tunediff.experiments.leaderboard_table import compared
from tunediff.report import page
from tunediff.tasks import TASKS
from tunediff.tasks.classification import Classification
from tunediff.tasks.interface import Task

# Figures that are columns even where no run has them; those of other tasks are where one has.
EVERY = [*Classification.figures, *(f"{name}_deviation" for name in Classification.headline)]
EVERY += [f"validation_{name}" for name in Classification.each_epoch]
HEADLINE = "{} results of all commits and experiments"
REASON = (
    "Each has the first and the newest commit that has it. Of each method the run is chosen that has the best {} on "
    "validation. Choose the method by that too: the first of several by a figure on test is also the luckiest."
)


def write(table: pd.DataFrame, out: Path) -> None:
    """Write leaderboard.csv, .html, .md, and a picture for each task into the folder `out`.

    `table` is what `leaderboard_table.ranked` gives. Figures are compared within a task.
    """
    with atomic(out / "leaderboard.csv") as partial:
        of_others = {*TEST, *VALIDATION, *DEVIATION} - {*EVERY}
        empty = [name for name in table if name in of_others and table[name].isna().all()]
        table.drop(columns=empty).to_csv(partial, index=False)
    tasks = [(TASKS[name], rows) for name, rows in table.groupby("task")]
    sections = [section_across(task, rows, out, several=len(tasks) > 1) for task, rows in tasks]
    for task, rows in tasks:
        for names, panel in rows.groupby(PANEL):
            sections.append(page.Section(", ".join(names), table=page_table(panel, task)))
    choosers = dict.fromkeys(chooser(task).words for task, _ in tasks)
    verdict = page.Verdict(HEADLINE.format(len(table)), REASON.format(" or ".join(choosers)))
    page.write("Leaderboard", verdict, sections, out / "leaderboard.html", out / "leaderboard.md")


def section_across(task: type[Task], rows: pd.DataFrame, out: Path, several: bool) -> page.Section:
    """The methods of one task across data sets, with their picture; the first words say which task of `several`."""
    across = compared(rows)
    picture = out / (f"leaderboard-{task.name}.png" if several else "leaderboard.png")
    main = task.figures[task.headline[0]]
    with atomic(picture) as partial:
        pictures.leaderboard(rows, list(across.index), main, partial)
    return page.Section(
        f"Methods across data sets{f', {task.name}' if several else ''}",
        f"{main.title} on test of the chosen runs. First is what lacks least, on average, to the best of a column.",
        [["method", *across.columns], *percent(across).reset_index().to_numpy().tolist()],
        [picture],
    )


def percent(figures: pd.DataFrame) -> pd.DataFrame:
    """The figures as text; nothing where one is missing."""
    return figures.map(lambda value: "" if pd.isna(value) else f"{value:.1%}")


def page_table(rows: pd.DataFrame, task: type[Task]) -> list[list[str]]:
    """The head and the rows of one data set and model."""
    shown, by = {name: task.figures[name].words for name in task.headline}, chooser(task)
    figures = percent(rows[list(shown)])
    for name in shown:
        if f"{name}_deviation" in DEVIATION:
            deviation = rows[f"{name}_deviation"]
            figures[name] += deviation.map(lambda value: "" if pd.isna(value) else f" ± {100 * value:.1f}")
    in_folds = percent(rows[[IN_FOLDS]])[IN_FOLDS]
    table = pd.DataFrame(
        {
            "method": rows.method,
            "chosen": rows.chosen.map({True: "✓", False: ""}),
            **{title: figures[name] for name, title in shown.items()},
            **({f"{shown[task.headline[0]]} of all rows, in folds": in_folds} if in_folds.any() else {}),
            f"{by.words} on validation": rows[f"validation_{by.name}"].map(
                lambda value: "" if pd.isna(value) else by.show(value)
            ),
            "trainable parameters": rows.trainable_parameters.map(lambda n: "" if pd.isna(n) else f"{n:,.0f}"),
            "training, s": rows.train_seconds.map(lambda n: "" if pd.isna(n) else f"{n:,.0f}"),
            "seeds": rows.seeds,
            "settings that differ": rows.settings,
            "made in": rows.made_in,
            "newest in": rows.newest_in,
        }
    )
    return [list(table), *table.to_numpy().tolist()]

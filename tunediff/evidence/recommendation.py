"""Which method to use: the cheapest whose quality is not worse than the best one's by more than a margin."""

import numpy as np
import pandas as pd

from tunediff.evidence.classification import CONSTANT
from tunediff.evidence.settings import Report
from tunediff.evidence.uncertainty import Interval
from tunediff.tasks.interface import Figure

ON_WORDS = {"tfidf": "TF-IDF", "dictionary": "The dictionary", "crf": "The conditional random field"}
NAMED = 3  # of many methods that may or may not do, the intervals of the closest are said


def by_cost(table: pd.DataFrame) -> list[str]:
    """Methods, the cheapest first: the majority class, those on words, then by how much of the model is trained.

    `table` has columns method and trainable_parameters. Seconds are not used: they differ from run
    to run.
    """
    rank = {"majority": 0, **dict.fromkeys(ON_WORDS, 1)}
    ordered = table.assign(rank=table.method.map(rank).fillna(2)).sort_values(
        ["rank", "trainable_parameters", "method"]
    )
    return ordered.method.tolist()


def recommend(
    order: list[str],
    best: str,
    intervals: dict[str, Interval],
    to_best: dict[str, Interval],
    report: Report,
    figure: Figure,
    rows: int,
    constant: str = CONSTANT,
) -> tuple[str, str]:
    """The method, and a paragraph that says why, from the figures of `rows` test texts.

    `order` has the methods as `by_cost` gives them; `intervals` each one's `report.figure`; `to_best` its difference to
    that of `best`, the method with the highest, which has no entry itself. A method is good enough if the whole
    interval of its difference lies above -`report.margin`, too poor if the whole lies below, and else the texts are too
    few to tell. `constant` says what the method `majority` does.
    """
    margin = report.margin
    enough = [method for method in order if method == best or to_best[method].low >= -margin]
    choice = enough[0]
    cheaper = order[: order.index(choice)]
    unclear = [method for method in cheaper if to_best[method].high >= -margin]
    poor = [method for method in cheaper if method not in unclear]

    points = f"{100 * margin:g} points"
    sure = f"{100 * report.confidence:g}%"
    chosen = intervals[choice]
    about = f"its {figure.words} on {rows:,} test texts is {chosen.value:.1%} ({sure} interval {_range(chosen)})"
    if choice == "majority":
        text = f"No method is worth its cost: {constant} does as well ({about})"
    elif choice in ON_WORDS:
        text = f"{ON_WORDS[choice]} is enough, no pretrained model is needed: {about}"
    elif choice == "untrained":
        text = f"The model needs no training: {about}"
    else:
        text = f"Use `{choice}`: {about}"
    if choice == best:
        text += ", the best of all. "
    else:
        text += (
            f"; the best, `{best}`, has {intervals[best].value:.1%}, and that `{choice}` is worse by more than "
            f"{points} is ruled out at {sure} confidence (difference {_range(to_best[choice], '+')}). "
        )
    if poor:
        verb = "is" if len(poor) == 1 else "are"
        text += f"{_list(poor)} would be cheaper and {verb} worse by more than {points}, at {sure} confidence. "
    if unclear:
        closest = sorted(unclear, key=lambda method: to_best[method].value)[-NAMED:]
        text += (
            f"The data cannot tell whether the cheaper {_list(unclear)} would do: "
            + "; ".join(
                f"`{method}` differs by {_range(to_best[method], '+')}" for method in unclear if method in closest
            )
            + f" points, with a margin of {points}. "
        )
        needed = {method: _rows_needed(to_best[method], margin, rows) for method in unclear}
        if promising := {method: count for method, count in needed.items() if count}:
            first = min(promising, key=promising.get)
            text += f"If it is as it looks, about {promising[first]:,} test texts would settle it for `{first}`. "
    return choice, text.strip()


def _rows_needed(difference: Interval, margin: float, rows: int) -> int | None:
    """Test texts with which the interval of this difference would end above -margin; None if it lies below itself."""
    if difference.value <= -margin:
        return None
    times = ((difference.value - difference.low) / (difference.value + margin)) ** 2
    return int(np.ceil(rows * times / 100) * 100)


def _range(interval: Interval, sign: str = "") -> str:
    return f"{100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f}"


def _list(methods: list[str]) -> str:
    quoted = [f"`{method}`" for method in methods]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"

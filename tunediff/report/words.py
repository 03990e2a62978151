"""Figures, sizes and times in words."""

import pandas as pd


def mean(row: pd.Series, figure: str) -> str:
    """The figure in percent, with its deviation over the trainings if there are several."""
    deviation = row.get(f"{figure}_deviation")
    return f"{row[figure]:.1%}" + (f" ± {100 * deviation:.1f}" if pd.notna(deviation) else "")


def between(row: pd.Series | dict, figure: str, sign: str = "") -> str:
    """The figure's interval in points."""
    low, high = (row[f"{figure}_{end}".lstrip("_")] for end in ("low", "high"))
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"


def percent(probability: float) -> str:
    """Never certain: it comes from resamples."""
    return "over 99%" if probability > 0.99 else "under 1%" if probability < 0.01 else f"{probability:.0%}"


def of_rows(count: int, all_rows: bool) -> str:
    """How many rows were judged: all of them, or those of train. A noun follows."""
    return f"all {count:,}" if all_rows else f"{count:,} training"


def grown_on(folds: int | None) -> str:
    """What the methods are judged on that were trained on shares of the rows."""
    return "all texts" if folds else "validation"


def size(count: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count:.0f} bytes" if count else "nothing"


def duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:,.1f} hours"
    if seconds >= 600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s" if seconds >= 0.05 else "under 0.1 s"


def names(methods: list[str]) -> str:
    quoted = [f"`{method}`" for method in methods]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"

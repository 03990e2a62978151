"""What the stages wrote of all methods, read for the report."""

from pathlib import Path

import pandas as pd

from tunediff.core.files import read_json
from tunediff.evidence.comparison import on_front
from tunediff.report.settings import Reporting


def methods_table(methods: list[str], metrics: Path, cost: Path, quality: str) -> pd.DataFrame:
    """Figures and cost of each method, and whether it is on the front of `quality` and a cost; the worst first."""
    rows = [
        {"method": method, **read_json(metrics / f"{method}.json"), **read_json(cost / f"{method}.json")}
        for method in methods
    ]
    table = pd.DataFrame(rows).sort_values(quality)
    return table.assign(
        front_parameters=on_front(table, quality, "trainable_parameters"),
        front_time=on_front(table, quality, "train_seconds"),
    )


def growth_with_rows(settings: Reporting, metrics: Path, all_rows: int, figures: tuple[str, ...]) -> pd.DataFrame:
    """Figures on validation by training rows: columns method, rows and `figures`; empty if none was asked for.

    `all_rows` is how many rows the methods' own stages trained on.
    """
    results = {}
    for share in settings.shares:
        part = read_json(metrics / "training_rows" / f"{share}.json")
        results |= {(method, part["rows"]): part[method] for method in settings.growing}
    if results:
        own = {method: read_json(metrics / "validation" / f"{method}.json") for method in settings.growing}
        results |= {(method, all_rows): values for method, values in own.items()}
    rows = [{"method": method, "rows": rows, **values} for (method, rows), values in results.items()]
    return pd.DataFrame(rows, columns=["method", "rows", *figures])


def learning_curves(folder: Path) -> pd.DataFrame:
    """One method's curves from DVCLive: columns method, epoch, train_loss, validation_loss and so on.

    Those of its first seed: what further ones wrote is in folders of their own.
    """
    files = sorted(folder.glob("plots/metrics/*/*.tsv"))
    series = {
        f"{path.parent.name}_{path.stem}": pd.read_csv(path, sep="\t", index_col="step")[path.stem] for path in files
    }
    return pd.DataFrame(series).rename_axis("epoch").reset_index().assign(method=folder.name)

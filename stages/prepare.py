"""Read the labelled texts, check and clean them, and split them into train, validation and test.

python -m stages.prepare --splits data/prepared --profile data/profile.json
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from tunediff.core.errors import UserError
from tunediff.core.files import atomic, write_json
from tunediff.core.process import run
from tunediff.models import tokens
from tunediff.settings.params import Settings, load
from tunediff.sources import readers, splitting
from tunediff.sources.settings import SPLITS, DataConf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--splits",
        type=Path,
        required=True,
        help="folder for train.parquet, validation.parquet, test.parquet, and source.json for model cards",
    )
    parser.add_argument(
        "--profile", type=Path, required=True, help="JSON file: what was read, kept and dropped, and how long texts are"
    )
    args = parser.parse_args()
    settings = load()
    conf = settings.data

    # Read: every row of the source, with its place.
    read = used_splits(readers.read(conf, settings.data_path), settings)
    table = pd.concat([rows.table.assign(split=split) for split, rows in read.items()], ignore_index=True)
    rows_read, origins = len(table), {name: rows.origin for name, rows in read.items()}
    del read  # the texts as they were before they are cleaned

    # Clean and check.
    for step in conf.clean:
        table["text"] = splitting.STEPS[step](table.text)
    table, empty = splitting.drop_empty(table)
    labels, table["label"] = label_names(table, conf, settings)
    table, duplicates = splitting.drop_duplicates(table)
    dropped = empty + duplicates
    disputed = splitting.contradictions(table)

    # Split, and take the subset asked for.
    table = split(table, settings)
    table, subset = take_rows(table, conf, settings.params.seed)
    check_labels(table, labels, settings)
    splits = {name: with_tokens(table[table.side == name], settings) for name in SPLITS}

    profile = {
        "data": settings.params.data,
        "source": origins,
        "rows": {
            "read": rows_read,
            "kept": len(table),
            "dropped": sum(d.rows for d in dropped),
            "outside_subset": subset,
        },
        "dropped": [dataclasses.asdict(d) for d in dropped],
        "same_text_other_label": {
            "rows": len(disputed),
            "first": splitting.first_places(disputed),
        },
        "labels": labels,
        "splits": {name: describe(rows, settings.model.max_length) for name, rows in splits.items()},
    }

    # Save, now that nothing can be wrong any more.
    with atomic(args.splits) as folder:
        folder.mkdir()
        for name, rows in splits.items():
            save(rows, labels, folder / f"{name}.parquet")
        write_json(folder / "source.json", source(settings))
        write_json(args.profile, profile)
    report(profile)


def used_splits(read: dict[str, readers.Rows], settings: Settings) -> dict[str, readers.Rows]:
    """Those splits of the source that `splits` names, or its only one. Raises UserError if they do not fit."""
    where = f"{settings.data_path}: splits"
    named = settings.data.named_splits
    if not named:
        if len(read) > 1:
            raise UserError(
                f"{where}: the source has the splits {', '.join(read)}: say which is train, validation and test, or "
                "give a share that is cut from train, as in {train: train, validation: 0.2, test: test}"
            )
        return read
    for side, name in named.items():
        if name not in read:
            raise UserError(f"{where}.{side}: the source has no split '{name}'; it has: {', '.join(read)}")
        if twin := next((other for other in named if other != side and named[other] == name), None):
            raise UserError(f"{where}: {side} and {twin} are both '{name}'; each needs rows of its own")
    return {name: rows for name, rows in read.items() if name in named.values()}


def label_names(table: pd.DataFrame, conf: DataConf, settings: Settings) -> tuple[list[str], pd.Series]:
    """The labels' names in order, and each row's name. Raises UserError if a row's label is none of them."""
    found = splitting.natural_order(table.label.unique().tolist())
    if conf.labels is None:
        names = {label: label for label in found}
    elif isinstance(conf.labels, dict):
        names = {str(v): str(n) for v, n in conf.labels.items()}
    else:
        names = {str(v): str(v) for v in conf.labels}
    if unknown := [label for label in found if label not in names]:
        row = table[table.label == unknown[0]].iloc[0]
        quotes = "" if all(isinstance(v, str) for v in conf.labels) else ", in quotes if it is like yes, true or 007"
        raise UserError(
            f"{settings.data_path}: labels: {place(row, conf)} has label '{unknown[0]}', which is not in the list "
            f"({', '.join(names)}); add it{quotes}, or correct the row"
        )
    present = list(dict.fromkeys(names[label] for label in found))
    if len(present) < 2:
        raise UserError(
            f"{settings.data_path}: label: column '{conf.label}' has {len(present)} label{'s'[: len(present) != 1]} "
            f"({', '.join(present) or 'none'}); classification needs at least 2: name another column, or add rows"
        )
    return list(dict.fromkeys(names.values())), table.label.map(names)


def place(row: pd.Series, conf: DataConf) -> str:
    """Where a row comes from, for a message."""
    if isinstance(conf.source, dict):
        return f"{conf.source[row.split]} row {row.row}"
    return f"{conf.source} row {row.row}" + (f" of {row.split}" if row.split != "all" else "")


def split(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Add the column `side`: the source's own splits by name, shares cut from what `train` names, or from all rows."""
    named, shares = settings.data.named_splits, settings.data.cut_splits
    parts = []
    for side, name in named.items():
        part = table[table.split == name]
        if part.empty:
            raise UserError(
                f"{settings.data_path}: splits.{side}: every row of the source's split '{name}' is dropped: it has no "
                "text or no label, or stands in another split"
            )
        if side == "train" and shares:
            part = part.assign(
                side=splitting.assign(part, {"train": 1 - sum(shares.values()), **shares}, settings.params.seed)
            )
        parts.append(part.assign(side=side) if "side" not in part else part)
    if not named:
        parts = [table.assign(side=splitting.assign(table, shares, settings.params.seed))]
    return pd.concat(parts)


def take_rows(table: pd.DataFrame, conf: DataConf, seed: int) -> tuple[pd.DataFrame, int]:
    """The subset that `rows` asks for, and how many rows it leaves out. One number is divided by the splits' sizes."""
    if conf.rows is None:
        return table, 0
    wanted = conf.rows
    if not isinstance(wanted, dict):
        # Rounding the running total, not each part, gives as many as were asked for.
        sizes = table.side.value_counts().reindex(SPLITS, fill_value=0)
        ends = (sizes.cumsum() * min(conf.rows, len(table)) / len(table)).round().astype(int)
        wanted = ends.diff().fillna(ends).astype(int).to_dict()
    kept = pd.concat(splitting.sample(part, wanted.get(side, len(part)), seed) for side, part in table.groupby("side"))
    return kept.sort_index(), len(table) - len(kept)


def check_labels(table: pd.DataFrame, labels: list[str], settings: Settings) -> None:
    """Every split must hold every label, but that validation and test of the source's own may lack one."""
    counts = {side: table[table.side == side].label.value_counts() for side in SPLITS}
    subset = "" if settings.data.rows is None else " in the subset that `rows` asks for"
    for side in SPLITS:
        if counts[side].empty:
            raise UserError(f"{settings.data_path}: splits.{side}: too few rows{subset}: none is left for it")
    for label in labels:
        where = f"{settings.data_path}: label '{label}'"
        total = sum(int(counts[side].get(label, 0)) for side in SPLITS)
        lacking = [side for side in SPLITS if label not in counts[side]]
        if not total:
            raise UserError(f"{where} is in `labels`, but no row{subset} has it; correct the list or the rows")
        if "train" in lacking:
            row = table[table.label == label].iloc[0]
            raise UserError(
                f"{where} is in {row.side} ({place(row, settings.data)}), but no row of train{subset} has it, and "
                "nothing can be learnt about it; add such rows to train, or leave them out of the others"
            )
        if any(isinstance(settings.data.splits[side], float) for side in lacking):
            raise UserError(
                f"{where} has too few rows ({total}{subset}) to be in each of train, validation and test; give it "
                "more rows, merge it with another label, or leave its rows out"
            )


def with_tokens(rows: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Add the column `tokens`: each text's length in the model's tokens, special ones too, before anything is cut."""
    return rows.assign(tokens=tokens.token_lengths(rows.text, settings.model, settings.model_path))


def save(rows: pd.DataFrame, labels: list[str], path: Path) -> None:
    """Write the columns split, row (in the source, from 1), text, tokens and label (a `datasets.ClassLabel`)."""
    from datasets import ClassLabel, Dataset, Features, Value, disable_progress_bars

    disable_progress_bars()

    features = Features(
        {
            "split": Value("string"),
            "row": Value("int64"),
            "text": Value("string"),
            "tokens": Value("int64"),
            "label": ClassLabel(names=labels),
        }
    )
    columns = rows[list(features)].assign(label=rows.label.map(labels.index))
    Dataset.from_pandas(columns, features, preserve_index=False).to_parquet(path)


def source(settings: Settings) -> dict:
    """What model cards say of the data: as its file names it, without hash or commit.

    So a source that changes and still gives the same rows trains nothing again; data/profile.json has the hash.
    """
    conf = settings.data
    return {
        "data": settings.params.data,
        "hub": readers.on_hub(conf),
        **conf.model_dump(include={"source", "revision", "splits", "rows", "clean"}),
    }


def describe(rows: pd.DataFrame, max_length: int) -> dict:
    """Rows per label, and how many tokens the texts have."""
    lengths = rows.tokens.to_numpy()
    return {
        "rows": len(rows),
        "labels": rows.label.value_counts().sort_index().to_dict(),
        "tokens": {
            "mean": round(float(lengths.mean()), 1),
            **{f"p{q}": int(np.percentile(lengths, q, method="higher")) for q in (50, 95, 99)},
            "max": int(lengths.max()),
            "rows_over_max_length": int((lengths > max_length).sum()),
        },
    }


def report(profile: dict) -> None:
    rows = profile["rows"]
    print(
        f"{profile['data']}: {rows['read']} rows read, {rows['kept']} kept, {rows['dropped']} dropped, "
        f"{rows['outside_subset']} outside the subset"
    )
    for dropped in profile["dropped"]:
        print(
            f"  dropped {dropped['rows']}: {dropped['reason']} "
            f"({', '.join(dropped['first'][:5])}{', ...' if dropped['rows'] > 5 else ''})"
        )
    if disputed := profile["same_text_other_label"]["rows"]:
        print(
            f"  {disputed} rows share their text with a row of another label: they stay, together where the split is "
            "drawn here; see the profile"
        )
    for name, part in profile["splits"].items():
        print(
            f"  {name}: {part['rows']} rows, {part['tokens']['mean']} tokens on average, "
            f"{part['tokens']['rows_over_max_length']} longer than max_length"
        )


if __name__ == "__main__":
    run(main)

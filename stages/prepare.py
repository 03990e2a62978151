"""Read the labelled texts, check and clean them, and split them into train, validation and test.

    python -m stages.prepare --splits data/prepared --profile data/profile.json
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from stages.common import pretrained, sources, splitting
from stages.common.errors import UserError, run
from stages.common.files import whole, write_json
from stages.common.params import SPLITS, DataConf, Settings, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=Path, required=True, help="folder for train.parquet, validation.parquet and test.parquet")
    parser.add_argument("--profile", type=Path, required=True, help="JSON file: what was read, kept and dropped, and how long texts are")
    args = parser.parse_args()
    settings = load()
    conf = settings.data

    # Read: every row of the source, with its place.
    read = sources.read(conf, settings.data_path)
    table = pd.concat(
        [pd.DataFrame({"split": split, "row": np.arange(1, len(rows.texts) + 1), "text": rows.texts, "label": rows.labels, "group": rows.groups}) for split, rows in read.items()],
        ignore_index=True,
    )
    rows_read = len(table)

    # Clean and check.
    for step in conf.clean:
        table["text"] = splitting.STEPS[step](table.text)
    table, dropped = splitting.drop_unusable(table)
    labels, table["label"] = label_names(table, conf, settings)
    disputed = splitting.contradictions(table)

    # Split, and take the subset asked for.
    table = split(table, conf, settings)
    table, subset = take_rows(table, conf, settings.params.seed)
    check_labels(table, labels, settings)

    # Save.
    with whole(args.splits) as folder:
        folder.mkdir()
        for name in SPLITS:
            save(table[table.side == name], labels, folder / f"{name}.parquet")
    profile = {
        "data": settings.params.data,
        "source": {name: rows.origin for name, rows in read.items()},
        "rows": {"read": rows_read, "kept": len(table), "dropped": sum(d.rows for d in dropped), "outside_subset": subset},
        "dropped": [dataclasses.asdict(d) for d in dropped],
        "same_text_other_label": {"rows": len(disputed), "first": [f"{s}:{r}" for s, r in disputed[["split", "row"]].head(20).itertuples(index=False)]},
        "labels": labels,
        "splits": {name: describe(table[table.side == name], settings) for name in SPLITS},
    }
    write_json(args.profile, profile)
    report(profile)


def label_names(table: pd.DataFrame, conf: DataConf, settings: Settings) -> tuple[list[str], pd.Series]:
    """The labels' names in order, and each row's name. Raises UserError if a row's label is none of them."""
    found = splitting.natural_order(table.label.unique().tolist())
    if len(found) < 2:
        raise UserError(f"{settings.data_path}: label: column '{conf.label}' has {len(found)} label{'s'[: len(found) != 1]} ({', '.join(found) or 'none'}); classification needs at least 2")
    if conf.labels is None:
        return found, table.label
    names = {str(v): str(n) for v, n in conf.labels.items()} if isinstance(conf.labels, dict) else {str(v): str(v) for v in conf.labels}
    if unknown := [label for label in found if label not in names]:
        row = table[table.label == unknown[0]].iloc[0]
        raise UserError(f"{settings.data_path}: labels: row {row.row} of the source has label '{unknown[0]}', which is not in the list ({', '.join(names)}); add it or correct the row")
    return list(dict.fromkeys(names.values())), table.label.map(names)


def split(table: pd.DataFrame, conf: DataConf, settings: Settings) -> pd.DataFrame:
    """Add the column `side`. Named splits are the source's own; shares are cut from what `train` names, or from all rows."""
    named = {side: name for side, name in conf.splits.items() if isinstance(name, str)}
    shares = {side: share for side, share in conf.splits.items() if isinstance(share, float)}
    present = table.split.unique().tolist()
    for side, name in named.items():
        if name not in present:
            raise UserError(f"{settings.data_path}: splits.{side}: the source has no split '{name}'; it has: {', '.join(present)}")
    if not named and len(present) > 1:
        raise UserError(f"{settings.data_path}: splits: the source has the splits {', '.join(present)}: say which is train, validation and test")
    parts = []
    for side, name in named.items():
        part = table[table.split == name]
        if side == "train" and shares:
            part = part.assign(side=splitting.assign(part, {"train": 1 - sum(shares.values()), **shares}, settings.params.seed))
        parts.append(part.assign(side=side) if "side" not in part else part)
    if not named:
        parts = [table.assign(side=splitting.assign(table, shares, settings.params.seed))]
    return pd.concat(parts)


def take_rows(table: pd.DataFrame, conf: DataConf, seed: int) -> tuple[pd.DataFrame, int]:
    """The subset that `rows` asks for, and how many usable rows that leaves out. One number is shared by the splits' sizes."""
    if conf.rows is None:
        return table, 0
    sizes = table.side.value_counts()
    wanted = conf.rows if isinstance(conf.rows, dict) else {side: max(1, round(conf.rows * sizes[side] / len(table))) for side in sizes.index}
    kept = pd.concat(splitting.sample(part, wanted.get(side, len(part)), seed) for side, part in table.groupby("side"))
    return kept.sort_index(), len(table) - len(kept)


def check_labels(table: pd.DataFrame, labels: list[str], settings: Settings) -> None:
    """Every split must hold every label, but that validation and test of the source's own may lack one."""
    counts = {side: table[table.side == side].label.value_counts() for side in SPLITS}
    for side in SPLITS:
        if counts[side].empty:
            raise UserError(f"{settings.data_path}: splits.{side}: no row is left for it; the source has too few rows")
    for label in labels:
        total = sum(int(counts[side].get(label, 0)) for side in SPLITS)
        for side in SPLITS:
            if label in counts[side]:
                continue
            if side == "train" and total:
                raise UserError(f"{settings.data_path}: label '{label}' is in validation or test, but no row of train has it; nothing can be learnt about it")
            if isinstance(settings.data.splits[side], float):
                raise UserError(
                    f"{settings.data_path}: label '{label}' has too few rows ({total}) to be in each of train, validation and test; "
                    f"give it more rows, merge it with another label, or leave its rows out"
                )


def save(rows: pd.DataFrame, labels: list[str], path: Path) -> None:
    """Write the columns split, row (in the source, from 1), text and label (a `datasets.ClassLabel`)."""
    from datasets import ClassLabel, Dataset, Features, Value, disable_progress_bars

    disable_progress_bars()

    features = Features({"split": Value("string"), "row": Value("int64"), "text": Value("string"), "label": ClassLabel(names=labels)})
    columns = {"split": rows.split.tolist(), "row": rows.row.tolist(), "text": rows.text.tolist(), "label": rows.label.map(labels.index).tolist()}
    Dataset.from_dict(columns, features=features).to_parquet(path)


def describe(rows: pd.DataFrame, settings: Settings) -> dict:
    """Rows per label, and lengths in the model's tokens with its special tokens, before anything is cut."""
    lengths = np.array(pretrained.token_lengths(rows.text.tolist(), settings.model, settings.model_path))
    return {
        "rows": len(rows),
        "labels": rows.label.value_counts().sort_index().to_dict(),
        "tokens": {
            "mean": round(float(lengths.mean()), 1),
            **{f"p{q}": int(np.percentile(lengths, q, method="higher")) for q in (50, 95, 99)},
            "max": int(lengths.max()),
            "rows_over_max_length": int((lengths > settings.model.max_length).sum()),
        },
    }


def report(profile: dict) -> None:
    rows = profile["rows"]
    print(f"{profile['data']}: {rows['read']} rows read, {rows['kept']} kept, {rows['dropped']} dropped, {rows['outside_subset']} outside the subset")
    for dropped in profile["dropped"]:
        print(f"  dropped {dropped['rows']}: {dropped['reason']} ({', '.join(dropped['first'][:5])}{', ...' if dropped['rows'] > 5 else ''})")
    if disputed := profile["same_text_other_label"]["rows"]:
        print(f"  {disputed} rows share their text with a row of another label: they stay, on one side of the split; see the profile")
    for name, part in profile["splits"].items():
        print(f"  {name}: {part['rows']} rows, {part['tokens']['mean']} tokens on average, {part['tokens']['rows_over_max_length']} longer than max_length")


if __name__ == "__main__":
    run(main)

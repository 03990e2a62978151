"""What data/profile.json and data/prepared/source.json say of the data, and what the log does."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tunediff.sources import find_source, overlap, preparing, splitting
from tunediff.sources.columns import Rows
from tunediff.sources.settings import DataConf

SHOWN = 20  # labels in the log; the profile has all


def of_rows(
    name: str,
    conf: DataConf,
    sources: dict[str, Rows],
    split: preparing.Split,
    kept: pd.DataFrame,
    dropped: list[splitting.Dropped],
) -> dict[str, Any]:
    """How many rows were read, which were `dropped` before the `split` and by it, and how many are `kept`."""
    table = split.table
    dropped = dropped + split.dropped
    disputed = splitting.contradictions(table)
    shared = overlap.with_train(kept)
    return {
        "data": name,
        "text": conf.text,
        **({"label": conf.label} if hasattr(conf, "label") else {}),
        "source": {split: rows.origin for split, rows in sources.items()},
        "read_as": {split: rows.decided for split, rows in sources.items() if rows.decided},
        "rows": {
            "read": sum(len(rows.table) for rows in sources.values()),
            "kept": len(kept),
            "dropped": sum(part.rows for part in dropped),
            "outside_subset": len(table) - len(kept),
        },
        "dropped": [dataclasses.asdict(part) for part in dropped],
        "same_text_other_label": {"rows": len(disputed), "first": splitting.first_places(disputed)},
        "rare_labels": split.rare,
        "overlap_with_train": shared,
        "remarks": overlap.remarks(shared),
    }


def add_split(profile: dict[str, Any], side: str, rows: pd.DataFrame, targets: dict[str, Any], max_length: int) -> None:
    """Add how many rows a split has, their `targets`, and their texts' lengths before any is cut at `max_length`.

    `rows` has a column `tokens`, with special tokens counted, and of chats `dropped`: turns that are left out for it.
    Of texts to be written it has `too_long`: whether no answer can be as long as the target, which is worth a remark.
    """
    lengths = rows.tokens.to_numpy()
    dropped = {"turns_dropped": int(rows.dropped.sum())} if "dropped" in rows else {}
    if "too_long" in rows and (over := int(rows.too_long.sum())):
        profile["remarks"].append(
            f"{over:,} targets of {side} are longer than `generate.max_new_tokens`, at which answers are cut: raise it "
            "in params.yaml"
        )
    profile["splits"][side] = {
        "rows": len(rows),
        **targets,
        "tokens": {
            "mean": round(float(lengths.mean()), 1),
            **{f"p{q}": int(np.percentile(lengths, q, method="higher")) for q in (50, 95, 99)},
            "max": int(lengths.max()),
            "rows_over_max_length": int((lengths > max_length).sum()),
            **dropped,
        },
    }


def source(name: str, conf: DataConf) -> dict[str, Any]:
    """What model cards say of the data: as its file names it, without hash or commit.

    So a source that changes and still gives the same rows trains nothing again; data/profile.json has the hash.
    """
    return {
        "data": name,
        "hub": find_source.on_hub(conf),
        **conf.model_dump(include={"source", "revision", "splits", "rows", "clean"}),
        **({"config": conf.config} if conf.config else {}),
    }


def log(profile: dict[str, Any], file: Path) -> None:
    """Print the profile, which is in `file`, for a reader of the log."""
    rows = profile["rows"]
    print(
        f"{profile['data']}: {rows['read']} rows read, {rows['kept']} kept, {rows['dropped']} dropped, "
        f"{rows['outside_subset']} outside the subset"
    )
    for split, decided in profile["read_as"].items():
        told = ", ".join(f"{key} {value}" for key, value in decided.items() if key not in ("header", "rows_over_lines"))
        header = "" if decided.get("header", True) else ", no header"
        print(f"  {split} read as: {told}{header}")
        if over := decided.get("rows_over_lines"):
            print(f"  {split}: {over} rows go over several lines, in quotes")
    for dropped in profile["dropped"]:
        print(
            f"  dropped {dropped['rows']}: {dropped['reason']} "
            f"({', '.join(dropped['first'][:5])}{', ...' if dropped['rows'] > 5 else ''})"
        )
    if told := profile.get("corrections"):
        by = "".join(f", {name or 'someone'} {rows}" for name, rows in told["by"].items())
        equal = f", and {told['equal_rows']} equal rows" if told["equal_rows"] else ""
        print(f"  {told['file']}: {told['read_again']} labels read again, {told['changed']} of them changed{equal}{by}")
    if disputed := profile["same_text_other_label"]["rows"]:
        print(
            f"  {disputed} rows share their text with a row of another label: they stay, together where the split is "
            "drawn here; see the profile"
        )
    for remark in profile["remarks"]:
        print(f"  {remark}")
    if profile["rare_labels"] and not any("too few rows" in dropped["reason"] for dropped in profile["dropped"]):
        print(f"  rare labels: {preparing.listed(profile['rare_labels'])}")
    counts: Counter[str] = Counter()
    for part in profile["splits"].values():
        counts.update(part.get("labels", {}))
    if counts:
        more = f", and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
        print(f"  labels: {', '.join(f'{label} {rows}' for label, rows in counts.most_common(SHOWN))}{more}")
    for name, part in profile["splits"].items():
        print(
            f"  {name}: {part['rows']} rows, {part['tokens']['mean']} tokens on average, "
            f"{part['tokens']['rows_over_max_length']} longer than max_length"
            + (f", so that {dropped} turns are left out" if (dropped := part["tokens"].get("turns_dropped")) else "")
        )
    print(f"  more in {file}")

"""What a split has in common with train: texts up to case and spaces, groups, and texts that are nearly the same."""

from typing import Any

import pandas as pd

from tunediff.sources import splitting
from tunediff.sources.settings import DataConf

NEAR = 0.7
"""From this share of common runs of words on (of Jaccard, estimated by MinHash), texts nearly repeat each other."""
RUN = 3  # words, or characters where texts have few spaces
KINDS = ("texts", "groups", "nearly")
COMPARED = 100_000  # rows; among more of them, near repetitions are not looked for


def apart(table: pd.DataFrame, conf: DataConf) -> tuple[pd.DataFrame, list[splitting.Dropped]]:
    """The table without what the source's own splits share with train, if `overlap` says from which side to drop it."""
    named = conf.named_splits
    if conf.overlap == "keep" or len(named) < 2:
        return table, []
    train = table.split == named["train"]
    others = table.split.isin([name for side, name in named.items() if side != "train"])
    side, other = (train, others) if conf.overlap == "drop_from_train" else (others, train)
    shared = _stands_in(table[side], table[other]).any(axis=1).reindex(table.index, fill_value=False)
    split = "test or validation" if conf.overlap == "drop_from_train" else "train"
    return splitting.drop(table, shared, f"a text or group that stands in {split} too")


def _stands_in(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Whether each row's text, and its group, stands in the others; columns texts, groups."""
    return pd.DataFrame(
        {
            "texts": splitting.plain(rows.text).isin(set(splitting.plain(others.text))),
            "groups": (rows.group != "") & rows.group.isin(set(others.group)),
        }
    )


def with_train(kept: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """For validation and test: how many rows, and how many of these train has too, or nearly.

    `kept` has a column side. `nearly` is None if there are too many rows to look for that. `first` has places.
    """
    train = kept[kept.side == "train"]
    near = _near(kept[kept.side != "train"].text, train.text) if len(kept) <= COMPARED else None
    counts = {}
    for side in ("validation", "test"):
        rows = kept[kept.side == side]
        shared = _stands_in(rows, train)
        if near is not None:
            shared["nearly"] = ~shared.texts & rows.index.isin(near)
        counts[side] = {
            "rows": len(rows),
            **{kind: int(shared[kind].sum()) if kind in shared else None for kind in KINDS},
            "first": {kind: splitting.first_places(rows[shared[kind]]) for kind in shared if shared[kind].any()},
        }
    return counts


def _near(held_out: pd.Series, train: pd.Series) -> set[int]:
    """The index of those texts held out that nearly repeat one of train's."""
    from rensa import RMinHash, RMinHashLSH

    few_spaces = train.str.count(r"\s").sum() < train.str.len().sum() / 15

    def digest(text: str) -> "RMinHash":
        words = text.casefold() if few_spaces else text.casefold().split()
        joint = "" if few_spaces else " "
        made = RMinHash(num_perm=128, seed=1)
        made.update([joint.join(words[i : i + RUN]) for i in range(max(1, len(words) - RUN + 1))])
        return made

    # A text in the index takes some 4 KB, so that is of the fewer.
    indexed, asked = sorted((held_out, train), key=len)
    digests = {place: digest(text) for place, text in indexed.items()}
    index = RMinHashLSH(threshold=NEAR, num_perm=128, num_bands=32)
    for place, each in digests.items():
        index.insert(place, each)
    near: set[int] = set()
    for place, text in asked.items():
        own = digest(text)
        alike = (other for other in index.query(own) if own.jaccard(digests[other]) >= NEAR)
        if indexed is held_out:
            near.update(alike)
        elif next(alike, None) is not None:
            near.add(place)
    return near


def remarks(counts: dict[str, dict[str, Any]]) -> list[str]:
    """Sentences about what splits share with train."""
    advice = "; figures on these flatter: `overlap: drop_from_train` or `drop_from_test` takes them out"
    words = {
        "texts": ("stand in train too, up to case and spaces", advice),
        "groups": ("are of groups that train has too", advice),
        "nearly": ("nearly repeat one of train", ""),
    }
    said = []
    for side, count in counts.items():
        for kind, first in count["first"].items():
            what, then = words[kind]
            places = f"{', '.join(first[:5])}{', ...' if count[kind] > 5 else ''}"
            said.append(f"{count[kind]} of {count['rows']} {side} texts {what} ({places}){then}")
    return said

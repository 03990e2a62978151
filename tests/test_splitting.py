"""Splitting: no text leaks between sides, labels keep their shares, and a subset is part of the same split."""

import random
from collections import Counter
from collections.abc import Callable

import pandas as pd
import pytest
from conftest import SIDES, Project

from tunediff.sources import splitting

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def leaky_table(seed: int, rows: int = 300) -> pd.DataFrame:
    """Random texts, each in several spellings, with groups that tie some of them together, and labels at random."""
    rng = random.Random(seed)
    words = [f"word{i}" for i in range(40)]
    spellings = [str, str.upper, str.title, lambda text: f" {text}", lambda text: text.replace(" ", "  \n")]
    records = []
    for number in range(rows):
        text = f"{rng.choice(words)} {rng.choice(words[:5])} straße"
        group = f"g{rng.randrange(rows)}" if rng.random() < 0.3 else ""
        records.append([number + 1, rng.choice(spellings)(text), rng.choice("aab"), group])
    return pd.DataFrame(records, columns=["row", "text", "stratum", "group"])


@pytest.mark.parametrize("seed", range(8))
def test_variants_of_a_text_and_groups_are_never_on_two_sides(seed: int) -> None:
    table = leaky_table(seed)
    table["side"] = splitting.assign(table, SHARES, seed)
    same_text = [" ".join(text.casefold().split()) for text in table.text]
    assert len(set(same_text)) < len(set(table.text))  # there are variants
    assert (table.groupby(same_text).side.nunique() == 1).all()
    grouped = table[table.group != ""]
    assert grouped.group.duplicated().any()
    assert (grouped.groupby("group").side.nunique() == 1).all()
    assert set(table.side) == set(SIDES)  # not by leaving all on one side


def test_rows_without_a_group_are_not_tied_together() -> None:
    table = pd.DataFrame({"text": [f"text {i}" for i in range(10)], "group": ""})
    assert len(set(splitting.units(table))) == 10


def test_ties_are_followed_through_texts_and_groups() -> None:
    rows = [("one", "g"), ("ONE", "h"), ("two", "h"), ("other", ""), ("two ", "")]
    table = pd.DataFrame(rows, columns=["text", "group"])
    unit = splitting.units(table)
    assert len({*unit[[0, 1, 2, 4]]}) == 1
    assert unit[3] != unit[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [{"a": 500, "b": 500}, {"a": 900, "b": 77, "c": 23}, {"a": 20, "b": 20}])
def test_shares_hold_for_each_label_within_two_rows(sizes: dict[str, int], seed: int) -> None:
    labels = [label for label, rows in sizes.items() for _ in range(rows)]
    table = pd.DataFrame({"text": [f"text {i}" for i in range(len(labels))], "stratum": labels, "group": ""})
    sides = splitting.assign(table, SHARES, seed)
    found = Counter(zip(labels, sides, strict=True))
    for label, rows in sizes.items():
        for side, share in SHARES.items():
            assert abs(found[label, side] - share * rows) <= 2


def test_exact_duplicates_are_dropped_and_the_first_stays() -> None:
    rows = [("a", "x"), ("a", "x"), ("A", "x"), ("a", "y"), ("a", "x")]
    table = pd.DataFrame(rows, columns=["text", "label"]).assign(split="all", row=range(1, 6), group="")
    kept, dropped = splitting.drop_duplicates(table)
    assert kept.row.tolist() == [1, 3, 4]
    assert [(d.rows, d.first) for d in dropped] == [(2, ["all:2", "all:5"])]


def test_same_seed_same_bytes_other_seed_other_split(project: Project, run_prepare: Callable) -> None:
    def outputs() -> list[bytes]:
        paths = [
            *(project.folder / f"data/prepared/{side}.parquet" for side in SIDES),
            project.folder / "data/profile.json",
        ]
        return [path.read_bytes() for path in paths]

    first = run_prepare()
    written = outputs()
    run_prepare()
    assert outputs() == written
    project.edit_yaml("params.yaml", seed=18)
    other = run_prepare()
    assert outputs() != written
    assert set(other[other.side == "test"].row) != set(first[first.side == "test"].row)
    assert set(other.row) == set(first.row)


# --- subsets


@pytest.mark.parametrize("rows", [20, 30, 41, 199, 200, 1000])
def test_rows_keeps_that_many_by_share(project: Project, run_prepare: Callable, rows: int) -> None:
    kept = run_prepare(rows=rows)
    expected = min(rows, 200)
    assert len(kept) == expected
    assert project.profile()["rows"] == {"read": 200, "kept": expected, "dropped": 0, "outside_subset": 200 - expected}
    for side, share in SHARES.items():
        part = kept[kept.side == side]
        assert abs(len(part) - share * expected) <= 1
        assert abs((part.name == "bullish").sum() - len(part) / 2) <= 1


def test_rows_of_some_splits(run_prepare: Callable) -> None:
    kept = run_prepare(rows={"train": 24, "test": 10})
    assert kept.side.value_counts().to_dict() == {"train": 24, "validation": 30, "test": 10}
    assert kept[kept.side == "train"].name.value_counts().to_dict() == {"bullish": 12, "bearish": 12}


def test_a_subset_is_part_of_the_same_split(run_prepare: Callable) -> None:
    whole = run_prepare()
    part = run_prepare(rows=60)
    side = dict(zip(whole.row, whole.side, strict=True))
    assert [side[row] for row in part.row] == part.side.tolist()

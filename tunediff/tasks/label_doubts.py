"""What labels look like that are probably not meant as they are written."""

import json
import re
from collections.abc import Mapping

MISSING = {"nan", "none", "n/a", "na", "null", "nil", "missing", "unknown", "-", "?"}
"""What a missing label is often written as."""
MANY = 20  # labels; so many, on half the rows or more, are no labels


def alike(counts: Mapping[str, int]) -> list[list[str]]:
    """Sets of labels that differ only in case, spaces or the writing of a number, or that all say "none"."""
    sets: dict[str, list[str]] = {}
    for label in counts:
        sets.setdefault(_key(label), []).append(label)
    return [labels for labels in sets.values() if len(labels) > 1]


def _key(label: str) -> str:
    text = " ".join(label.casefold().split())
    if text in MISSING:
        return "missing"
    return f"{float(text):g}" if re.fullmatch(r"[+-]?\d{1,15}(\.\d+)?", text) else text


def likely_same(counts: Mapping[str, int]) -> list[str]:
    """A sentence on labels that are likely the same, with the line that merges them; none if there are none."""
    if not (sets := alike(counts)):
        return []
    same = "; ".join(", ".join(f"'{label}' ({counts[label]})" for label in labels) for labels in sets)
    return [
        f"labels that are likely the same: {same}; they stay apart, unless the data file merges them: "
        f"{merging(counts, sets)}"
    ]


def merging(counts: Mapping[str, int], sets: list[list[str]]) -> str:
    """The line of a data file that merges each set into its most frequent label."""
    into = {label: max(labels, key=counts.__getitem__) for labels in sets for label in labels}
    pairs = (f"{_yaml(label)}: {_yaml(into.get(label, label))}" for label in counts)
    return f"labels: {{{', '.join(pairs)}}}"


def _yaml(label: str) -> str:
    """In quotes if YAML could take it for something else."""
    plain = re.fullmatch(r"[^\W\d_][\w /-]*", label) and label.casefold() not in {"yes", "no", "on", "off", "y", "n"}
    plain = plain and label.casefold() not in {"true", "false", "null", "none", "nan"} and label == label.strip()
    return label if plain else json.dumps(label, ensure_ascii=False)


def several(counts: Mapping[str, int]) -> list[str]:
    """Labels that look like several in one: `["a", "b"]`, or `4,27` where 4 and 27 are labels or numbers as well."""
    parts = {label: [part.strip() for part in re.split(r"[,;|#]", label)] for label in counts}
    single = {label for label, each in parts.items() if len(each) == 1}
    return [
        label
        for label, each in parts.items()
        if re.fullmatch(r"\[.*,.*\]", label)
        or (len(each) > 1 and all(part.isdigit() or part in single for part in each) and len(label) > 1)
    ]


def looks_like(counts: Mapping[str, int]) -> str | None:
    """What a column with as many values as rows looks like; None if it looks like labels."""
    rows = sum(counts.values())
    if len(counts) < MANY or 2 * len(counts) <= rows:
        return None
    if several(counts):
        return "lists of labels"
    if all(re.fullmatch(r"[+-]?\d+([.,]\d+)?(e[+-]?\d+)?", label) for label in counts):
        return "numbers or ids"
    return "texts" if sum(" " in label for label in counts) > len(counts) / 2 else "ids or names"

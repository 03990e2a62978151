"""Spans and tags that are probably not meant as they are written."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from tunediff.tasks.spans import words

if TYPE_CHECKING:
    import pandas as pd

IOB2 = "BI"
"""What the first and the last tag of a span begin with. One of a single word, `BB`, is written so, too."""
# Which of these a span has in each scheme, by whether it stands right behind one of its type; and that in words.
SCHEMES: dict[str, tuple[Callable[[str, bool], bool], str]] = {
    "IOB2": (lambda ends, behind: ends == IOB2, "in which a span begins with B"),
    "BIOES": (lambda ends, behind: ends in ("BE", "SS"), "in which a span is B to E, or S"),
    "BILOU": (lambda ends, behind: ends in ("BL", "UU"), "in which a span is B to L, or U"),
    "IOB1": (
        lambda ends, behind: ends == (IOB2 if behind else "II"),
        "in which a span begins with I, or with B right behind one of its type",
    ),
}


def tags_that_do_not_fit(table: "pd.DataFrame", place: "Callable[[pd.Series], str]") -> list[str]:
    """A sentence on spans whose tags are not those of the scheme that most spans have; none if there are none.

    `table` has columns text and label, as `tagging.Tagging.target` gives it, and `place` says where a row comes from.
    """
    spans, wrong, first = 0, Counter(), {}
    for number, row in enumerate(map(json.loads, table.label)):
        for before, span in pairwise([None, *row]):
            spans += 1
            start, _, kind, *ends = span
            behind = before is not None and before[1] + 1 == start and before[2] == kind  # a space is between tokens
            for scheme, (fits, _) in SCHEMES.items():
                if not fits(*(ends or [IOB2]), behind):
                    wrong[scheme] += 1
                    first.setdefault(scheme, (number, span))
    scheme = min(SCHEMES, key=wrong.__getitem__)
    if not wrong[scheme]:
        return []
    number, (start, end, kind, *_) = first[scheme]
    row = table.iloc[number]
    return [
        f"{wrong[scheme]:,} of {spans:,} spans have tags that do not fit {scheme}, {SCHEMES[scheme][1]}: the first is "
        f"'{row.text[start:end]:.40}', {kind} ({place(row)}); each is read as a span all the same: correct the tags "
        "where that is wrong"
    ]


def edges_within_words(table: "pd.DataFrame", place: "Callable[[pd.Series], str]") -> list[str]:
    """A sentence on spans that begin or end within a word; none if there are none. Arguments as above."""
    spans, cut, said = 0, 0, ""
    for number, (text, row) in enumerate(zip(table.text, map(json.loads, table.label), strict=True)):
        places = words(text) if row else []
        starts, ends = ({word[edge] for word in places} for edge in (0, 1))
        for start, end, kind, *_ in row:
            spans += 1
            if start in starts and end in ends:
                continue
            cut += 1
            if cut == 1:
                touched = [word for word in places if word[0] < end and word[1] > start]
                around = text[touched[0][0] : touched[-1][1]]
                said = f"'{text[start:end]:.40}' of '{around:.40}', {kind} ({place(table.iloc[number])})"
    if not cut:
        return []
    return [
        f"{cut:,} of {spans:,} spans begin or end within a word: the first is {said}; words are marked whole, so no "
        "answer can have these, and each counts as missed: correct their edges if they are not meant so"
    ]

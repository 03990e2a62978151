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
    No text is quoted: data/profile.json, which has the sentence, is for all who may read the repository.
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
    number, span = first[scheme]
    return [
        f"{wrong[scheme]:,} of {spans:,} spans have tags that do not fit {scheme}, {SCHEMES[scheme][1]}: the first is "
        f"{_named(span)} ({place(table.iloc[number])}); each is read as a span all the same: correct the tags where "
        "that is wrong"
    ]


def edges_within_words(table: "pd.DataFrame", place: "Callable[[pd.Series], str]") -> list[str]:
    """A sentence on spans that begin or end within a word; none if there are none. Arguments as above."""
    spans, cut = 0, []
    for number, (text, row) in enumerate(zip(table.text, map(json.loads, table.label), strict=True)):
        places = words(text) if row else []
        starts, ends = ({word[edge] for word in places} for edge in (0, 1))
        spans += len(row)
        cut += [(number, span) for span in row if not (span[0] in starts and span[1] in ends)]
    if not cut:
        return []
    number, span = cut[0]
    return [
        f"{len(cut):,} of {spans:,} spans begin or end within a word: the first is {_named(span)} "
        f"({place(table.iloc[number])}); words are marked whole, so no answer can have these, and each counts as "
        "missed: correct their edges if they are not meant so"
    ]


def _named(span: list) -> str:
    start, end, kind, *_ = span
    return f"{kind} {start} to {end}"

"""Spans as a language model writes them, a line `TYPE: SPAN` for each, and where they stand in the text.

A quote stands for its first occurrence in the text that begins and ends at the edges of words and that no quote before
it has taken.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tunediff.prompting.parsing import AROUND, NONE
from tunediff.tasks.spans import Span, overlap, words

INVALID = ("unreadable", "unknown_type", "not_in_text", "repeated")
"""What is wrong with a line: it has no type, or one that there is not; its quote stands nowhere, or is all taken."""
LINES = 200
"""So many lines of an answer are read; one that repeats itself has more."""
BULLET = re.compile(r"(?:[-*•]|\d+[.)])\s+")


@dataclass
class Quoted:
    """What an answer says of one text."""

    spans: list[Span] = field(default_factory=list)
    """In characters, in the order of the text."""
    invalid: Counter[str] = field(default_factory=Counter)
    """Lines that give no span, by the kind in `INVALID`."""
    nothing: bool = False
    """Whether it says that there is none."""

    @property
    def valid(self) -> bool:
        return bool(self.spans) or (self.nothing and not self.invalid)


def instruction(types: Sequence[str]) -> str:
    """For a data file without `prompt`."""
    return (
        f"Find the spans of these types in the text: {', '.join(types)}. Answer with a line `TYPE: SPAN` for each, in "
        f"the words of the text, or with {NONE}."
    )


def listed(text: str, spans: Sequence[Span]) -> str:
    """The answer that has these spans of characters."""
    return "\n".join(f"{kind}: {' '.join(text[start:end].split())}" for start, end, kind in sorted(spans)) or NONE


def left(answer: str, text: str) -> str:
    """An answer of `listed`, without what the text no longer has."""
    flat = " ".join(text.split())
    return "\n".join(line for line in answer.splitlines() if line.partition(": ")[2] in flat) or NONE


def read(answer: str, text: str, types: Sequence[str]) -> Quoted:
    quoted = Quoted()
    lines = answer.replace("**", "").splitlines()
    if len(lines) > LINES:
        quoted.invalid["unreadable"] = len(lines) - LINES
    for line in lines[:LINES]:
        line = BULLET.sub("", line.strip(), count=1)
        if line.strip(AROUND).casefold() == NONE:
            quoted.nothing = True
        elif line:
            _read_line(line, text, types, quoted)
    quoted.spans.sort()
    return quoted


def _read_line(line: str, text: str, types: Sequence[str], quoted: Quoted) -> None:
    for kind in sorted(types, key=len, reverse=True):
        if match := re.fullmatch(rf"{re.escape(kind)}\s*:\s*(.*)", line, re.IGNORECASE):
            said = match[1].strip(f"{AROUND}-").casefold()
            places = list(_occurrences(match[1], text)) if said else []
            free = (place for place in places if not any(overlap((*place, ""), span) for span in quoted.spans))
            place = next(free, None)
            if place:
                quoted.spans.append((*place, kind))
            elif not places and said in (NONE, ""):
                quoted.nothing = True
            else:
                quoted.invalid["repeated" if places else "not_in_text"] += 1
            return
    quoted.invalid["unknown_type" if ":" in line else "unreadable"] += 1


def _occurrences(quote: str, text: str) -> Iterator[tuple[int, int]]:
    """Where a quote stands as whole words: as it is, else without the signs around it, else in any case."""
    places = words(text)
    starts = {start for start, _ in places}
    ends = {end for _, end in places}
    for flags in (0, re.IGNORECASE):
        for said in (quote, quote.strip(AROUND)):
            if not said.strip():
                continue
            pattern = r"\s+".join(map(re.escape, said.split()))
            found = [match.span(1) for match in re.finditer(f"(?=({pattern}))", text, flags)]
            found = [(start, end) for start, end in found if start in starts and end in ends]
            if found:
                yield from found
                return

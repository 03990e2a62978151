"""Spans in a text: its words, tags of words, spans of tags, and which spans match which."""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence

from tunediff.core.values import UNSPACED, characters_of

OUTSIDE = "O"
BEGINS = {"B", "S", "U"}
"""What a tag begins with at the first word of a span: those of IOB2, BIOES and BILOU."""
ENDS = {"E", "L", "S", "U"}
INSIDE = {"I", "M"}

Span = tuple[float, float, str]
"""First place, the place behind the last one, type. Places are characters, tokens or words."""


def words(text: str) -> list[tuple[int, int]]:
    """Beginning and end of each word, in characters: what has a tag of its own.

    That is letters and digits in a row, with the marks on them and soft hyphens and joiners between them; one letter of
    a script without spaces between words; or one other character.
    """
    return [match.span() for match in _word().finditer(text)]


@functools.cache
def _word() -> re.Pattern:
    marks, hidden = characters_of("M"), characters_of("Cf").replace("\u200b", "")  # a space without width
    letters = f"[^\\W{UNSPACED}]"
    run = f"{letters}+(?:(?:[{marks}]+|[{hidden}]+(?={letters})){letters}*)*"
    return re.compile(f"{run}|[{UNSPACED}][{marks}]*|[^\\w\\s]")


def of_tags(tags: Sequence[str], strict: bool = False) -> list[Span]:
    """The spans that tags of any scheme mean.

    As conlleval reads them: a span also begins with a tag for its inside that stands after another type or none. If
    `strict`, as seqeval's strict mode reads IOB2, it does not, and such tags mean nothing.
    """
    spans: list[Span] = []
    first, kind = None, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, own = tag.partition("-")
        goes_on = first is not None and own == kind and prefix in INSIDE | ENDS - BEGINS
        if first is not None and not goes_on:
            spans.append((first, place, kind))
            first = None
        if first is None and prefix != OUTSIDE and (prefix in BEGINS or not strict):
            first, kind = place, own
        if first is not None and prefix in ENDS:
            spans.append((first, place + 1, kind))
            first = None
    return spans


def misfit(tags: Iterable[str]) -> str:
    """The first tag of no scheme; empty if there is none."""
    known = BEGINS | ENDS | INSIDE
    for tag in tags:
        prefix, dash, kind = tag.partition("-")
        if tag != OUTSIDE and not (prefix in known and dash and kind):
            return tag
    return ""


def tags_of(spans: Iterable[tuple[int, int, str]], length: int) -> list[str]:
    """Tags in IOB2 of that many places."""
    tags = [OUTSIDE] * length
    for first, end, kind in spans:
        tags[first] = f"B-{kind}"
        tags[first + 1 : end] = [f"I-{kind}"] * (end - first - 1)
    return tags


def in_words(spans: Iterable[Span], places: list[tuple[int, int]]) -> list[Span]:
    """Spans of characters as spans of words. An edge within word k is k + 0.5, which no answer has."""
    begins = {start: number for number, (start, _) in enumerate(places)}
    ends = {end: number + 1 for number, (_, end) in enumerate(places)}
    found = []
    for start, end, kind in spans:
        touched = [number for number, (first, last) in enumerate(places) if first < end and last > start]
        if touched:
            one, other = begins.get(start, touched[0] + 0.5), ends.get(end, touched[-1] + 0.5)
            found.append((one, max(other, one + 0.25), kind))
    return found


def pairs(actual: Sequence[Span], answered: Sequence[Span]) -> Iterator[tuple[Span | None, Span | None]]:
    """Each span with its counterpart: the same span, else the first that overlaps and has none yet, else None."""
    left = list(actual)
    rest = []
    for span in answered:
        if span in left:
            left.remove(span)
            yield span, span
        else:
            rest.append(span)
    for span in rest:
        other = next((one for one in left if overlap(one, span)), None)
        if other is not None:
            left.remove(other)
        yield other, span
    yield from ((span, None) for span in left)


def overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def by_edges(actual: Sequence[Span], answered: Sequence[Span]) -> float:
    """nervaluate's partial matches, whatever the types: 1 for each with the same edges, 1/2 for one that overlaps."""
    left = list(actual)
    credit = 0.0
    for span in answered:
        overlapping = [one for one in left if overlap(one, span)]
        match = next((one for one in overlapping if one[:2] == span[:2]), None)
        if overlapping:
            credit += 0.5 if match is None else 1
            left.remove(overlapping[0] if match is None else match)
    return credit


def by_type(actual: Sequence[Span], answered: Sequence[Span]) -> int:
    """nervaluate's matches by type: how many overlap a span of their type, each with the nearest edges first."""
    left = list(actual)
    matches = 0
    for span in answered:
        overlapping = [one for one in left if overlap(one, span)]
        alike = [one for one in overlapping if one[2] == span[2]]
        if alike:
            matches += 1
            left.remove(min(alike, key=lambda one, span=span: abs(one[0] - span[0]) + abs(one[1] - span[1])))
        elif overlapping:
            left.remove(overlapping[0])
    return matches

"""Long texts as overlapping windows of tokens, so that every word is read: as input of a model, and joined again."""

import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tunediff.tasks.spans import words as words_of

if TYPE_CHECKING:
    from datasets import Dataset

OVERLAP = 4  # a window shares a quarter of its tokens with the next one
IGNORED = -100  # the label of a token that none is asked of
UNREAD = -20.0  # logit of all tags but the first for a last word that the tokenizer drops
HEAD, BEFORE, WITHIN, OUTSIDE = range(4)
"""How a word reads the tag of its token. The head of a token has that tag. Of the other words that begin in the same
token, one before the head is in the same span only if that began earlier, one `WITHIN` is in the head's span, and one
`OUTSIDE` is in none.
"""


@dataclass(frozen=True)
class Window:
    ids: list[int]
    words: list[int]
    places: list[int]
    roles: list[int]
    """Of each of the words: `HEAD` and so on."""


def windows(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], special: Sequence[int], text: str, longest: int
) -> list[Window]:
    """A text's windows of at most `longest` tokens, each between the same special tokens.

    The text's tokens are given with their places in it and with whether they are special. A word is answered by the
    window in which its first token is farthest from an edge.
    """
    inner = [place for place, flag in enumerate(special) if not flag]
    begin, end = (inner[0], inner[-1] + 1) if inner else (len(ids), len(ids))
    before, body, after = list(ids[:begin]), list(ids[begin:end]), list(ids[end:])
    words = words_of(text)
    firsts = first_tokens(offsets[begin:end], words)
    known = dict(roles(firsts, offsets[begin:end], words, text))
    room = max(1, longest - len(before) - len(after))
    step = max(1, room - room // OVERLAP)
    starts = list(range(0, max(1, len(body) - room + step), step)) if len(body) > room else [0]
    own_words: list[list[int]] = [[] for _ in starts]
    for word, token in firsts.items():
        own_words[_answering(token, len(starts), room, step)].append(word)
    made = []
    for start, own in zip(starts, own_words, strict=True):
        places = [len(before) + firsts[word] - start for word in own]
        window = [*before, *body[start : start + room], *after]
        made.append(Window(window, own, places, [known[word] for word in own]))
    return made


def first_tokens(offsets: Sequence[tuple[int, int]], words: Sequence[tuple[int, int]]) -> dict[int, int]:
    """The first token of each word, by the word's number; both are given with their places in the text.

    A word of which the tokenizer makes nothing has that of the next word, or none at the end.
    """
    firsts: dict[int, int] = {}
    token, unread = 0, []
    for number, (start, end) in enumerate(words):
        while token < len(offsets) and offsets[token][1] <= start:
            token += 1
        unread.append(number)
        if token < len(offsets) and offsets[token][0] < end:
            firsts |= dict.fromkeys(unread, token)
            unread = []
    return firsts


def roles(
    firsts: dict[int, int], offsets: Sequence[tuple[int, int]], words: Sequence[tuple[int, int]], text: str
) -> Iterator[tuple[int, int]]:
    """How each word that has a token reads its tag: pairs of the word's number and `HEAD` and so on.

    A perfect model finds the spans of texts such as `fell 5%, to ($3m)` and `the U.S. fell`, of which a token may be
    `%,`, ` ($` or ` U.S.`: the head is the first word that is no opening sign. Behind it, punctuation is outside, if
    the token has no letter or digit.
    """
    for token, sharing in itertools.groupby(firsts, key=firsts.__getitem__):
        own = {number: text[slice(*words[number])] for number in sharing}
        read = [number for number in own if words[number][1] > offsets[token][0]]
        head = next((number for number in read if not _opens(own[number])), read[0])
        signs = not any(own[number][0].isalnum() for number in read)
        behind = WITHIN
        for number, word in own.items():
            if number > head and signs and unicodedata.category(word[0]).startswith("P"):
                behind = OUTSIDE
            yield number, HEAD if number == head else BEFORE if number < head else behind


def _opens(word: str) -> bool:
    return word in "\"'" or unicodedata.category(word[0]) in {"Ps", "Pi"}


def _answering(token: int, count: int, room: int, step: int) -> int:
    """The number of the window, of `count`, that answers for this token. It looks only at those that read it."""
    first, last = max(0, -(-(token - room + 1) // step)), min(token // step, count - 1)
    return max(range(first, last + 1), key=lambda n: min(token - n * step, n * step + room - 1 - token))


def joined(
    texts: Sequence[int], made: Sequence[Window], sizes: Sequence[int], logits: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What a model gives at the token of each word of all texts, and the words' roles.

    Shapes [words, 1 + tags], of which the text's number comes first, and [words]. Each window stands beside the number
    of its text and its logits, shape [tokens, tags]; `sizes` are how many words each text has.
    """
    begins = np.concatenate([[0], np.cumsum(sizes)])
    table = np.full((begins[-1], 1 + logits[0].shape[-1]), UNREAD, dtype=np.float32)
    table[:, 0] = np.repeat(np.arange(len(sizes)), sizes)
    table[:, 1] = 0
    own = np.full(begins[-1], HEAD)
    for text, window, given in zip(texts, made, logits, strict=True):
        rows = begins[text] + np.array(window.words, dtype=int)
        table[rows, 1:] = given[window.places]
        own[rows] = window.roles
    return table, own


def at_words(encoded: "Dataset", given: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What a model gives for the tokens of the windows of `features.encode_windows`, in their order, as `joined`."""
    texts, sizes = encoded["text"][:], encoded["all_words"][:]
    columns = (encoded[name][:] for name in ("words", "places", "roles"))
    made = [Window([], *each) for each in zip(*columns, strict=True)]
    first = np.flatnonzero(np.diff(texts, prepend=-1))
    return joined(texts, made, np.array(sizes)[first], given)


def read(table: np.ndarray, own: np.ndarray) -> np.ndarray:
    """What each word makes, by its role, of what a model gives at its token: both are what `joined` gives.

    The most probable tag becomes the one that it means for the word; a word that is no head begins no span.
    """
    table = table.copy()
    low = table[:, 1:].min(1, keepdims=True)
    outside, begins, inside = table[:, 1], table[:, 2::2], table[:, 3::2]
    before, within, apart = (own == role for role in (BEFORE, WITHIN, OUTSIDE))
    outside[before] = np.maximum(outside[before], begins[before].max(1, initial=-np.inf))
    inside[within] = np.maximum(inside[within], begins[within])
    outside[apart] = table[apart, 1:].max(1, initial=-np.inf)
    inside[apart] = low[apart]
    begins[own != HEAD] = low[own != HEAD]
    return table


def split(table: np.ndarray) -> list[np.ndarray]:
    """Its rows text by text, without the texts' numbers; each text has a word."""
    ends = np.flatnonzero(np.diff(table[:, 0])) + 1
    return np.split(table[:, 1:], ends)

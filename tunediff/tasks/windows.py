"""Long texts as overlapping windows of tokens, so that every word is read: as input of a model, and joined again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunediff.tasks.spans import words

OVERLAP = 4  # a window shares a quarter of its tokens with the next one
IGNORED = -100  # the label of a token that none is asked of
UNREAD = -20.0  # logit of all tags but the first for a word that the tokenizer drops


@dataclass(frozen=True)
class Window:
    ids: list[int]
    words: list[int]
    places: list[int]


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
    firsts = first_tokens(offsets[begin:end], text)
    room = max(1, longest - len(before) - len(after))
    step = max(1, room - room // OVERLAP)
    starts = list(range(0, max(1, len(body) - room + step), step)) if len(body) > room else [0]
    own_words: list[list[int]] = [[] for _ in starts]
    for word, token in firsts.items():
        own_words[_answering(token, len(starts), room, step)].append(word)
    made = []
    for start, own in zip(starts, own_words, strict=True):
        places = [len(before) + firsts[word] - start for word in own]
        made.append(Window([*before, *body[start : start + room], *after], own, places))
    return made


def first_tokens(offsets: Sequence[tuple[int, int]], text: str) -> dict[int, int]:
    """The first token of each word, by the word's number; none for a word of which the tokenizer makes nothing."""
    firsts, token = {}, 0
    for number, (start, end) in enumerate(words(text)):
        while token < len(offsets) and offsets[token][1] <= start:
            token += 1
        if token < len(offsets) and offsets[token][0] < end:
            firsts[number] = token
    return firsts


def _answering(token: int, count: int, room: int, step: int) -> int:
    """The number of the window, of `count`, that answers for this token. It looks only at those that read it."""
    first, last = max(0, -(-(token - room + 1) // step)), min(token // step, count - 1)
    return max(range(first, last + 1), key=lambda n: min(token - n * step, n * step + room - 1 - token))


def joined(
    texts: Sequence[int], made: Sequence[Window], sizes: Sequence[int], logits: Sequence[np.ndarray]
) -> np.ndarray:
    """What a model gives for each word of all texts, shape [words, 1 + tags]: the text's number comes first.

    Each window stands beside the number of its text and its logits, shape [tokens, tags]; `sizes` are how many words
    each text has.
    """
    begins = np.concatenate([[0], np.cumsum(sizes)])
    table = np.full((begins[-1], 1 + logits[0].shape[-1]), UNREAD, dtype=np.float32)
    table[:, 0] = np.repeat(np.arange(len(sizes)), sizes)
    table[:, 1] = 0
    for text, window, given in zip(texts, made, logits, strict=True):
        table[begins[text] + np.array(window.words, dtype=int), 1:] = given[window.places]
    return table


def split(table: np.ndarray) -> list[np.ndarray]:
    """Its rows text by text, without the texts' numbers; each text has a word."""
    ends = np.flatnonzero(np.diff(table[:, 0])) + 1
    return np.split(table[:, 1:], ends)

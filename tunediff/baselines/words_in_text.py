"""What words and their neighbours say of spans: features, a dictionary, a conditional random field."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pycrfsuite
from datasets import Dataset

from tunediff.core.files import DECIMALS
from tunediff.tasks.spans import tags_of
from tunediff.tasks.spans import words as words_of
from tunediff.tasks.tagging import Tagging

REACH = 2  # words on each side that are features of a word
CRF = {"c1": 0.1, "c2": 0.1, "max_iterations": 100, "feature.possible_transitions": True}


def features(text: str) -> list[dict[str, float]]:
    """Features of each word: itself, its beginning and end, its shape, and its neighbours."""
    own = [text[start:end] for start, end in words_of(text)]
    padded = ["<s>"] * REACH + own + ["</s>"] * REACH
    made = []
    for place, word in enumerate(own):
        each = {"bias": 1.0, "title": float(word.istitle()), "digit": float(word.isdigit())}
        for size in (1, 2, 3):
            each[f"begin={word[:size].lower()}"] = each[f"end={word[-size:].lower()}"] = 1.0
        for step in range(-REACH, REACH + 1):
            near = padded[place + REACH + step]
            each[f"{step}:{near.lower()}"] = 1.0
            each[f"{step}:shape={shape(near)}"] = 1.0
        each[f"both:{padded[place + REACH - 1].lower()} {padded[place + REACH + 1].lower()}"] = 1.0
        made.append(each)
    return made


def shape(word: str) -> str:
    """`Xx` for `Acme`, `d` for `2024`: kinds of characters, those in a row once."""
    kinds = "".join("X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else c for c in word[:20])
    return "".join(kind for place, kind in enumerate(kinds) if not place or kind != kinds[place - 1])


def look_up(text: str, entries: Mapping[tuple[str, ...], str], task: Tagging) -> np.ndarray:
    """One-hot tags of each word: at each place the longest of the entries, which are words in small letters."""
    lowered = [text[start:end].lower() for start, end in words_of(text)]
    longest = max(map(len, entries), default=0)
    found, place = [], 0
    while place < len(lowered):
        for length in range(min(longest, len(lowered) - place), 0, -1):
            if kind := entries.get(tuple(lowered[place : place + length])):
                found.append((place, place + length, kind))
                place += length
                break
        else:
            place += 1
    return np.eye(len(task.tags))[[task.tags.index(tag) for tag in tags_of(found, len(lowered))]]


def of_known(given: np.ndarray, known: Sequence[int], task: Tagging, sizes: list[int]) -> np.ndarray:
    """Probabilities of the tags that a model knows, as those of all tags in the form that the task has."""
    full = np.zeros((len(given), len(task.tags)))
    full[:, list(known)] = given
    return table(np.split(full, np.cumsum(sizes)[:-1]))


def table(rows: list[np.ndarray]) -> np.ndarray:
    """Probabilities of each text's words, rounded, with the text's number before them."""
    numbers = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    return np.column_stack([numbers, np.concatenate(rows)]).round(DECIMALS)


# --- a conditional random field


def train_crf(task: Tagging, train: Dataset, path: Path) -> pycrfsuite.Tagger:
    trainer = pycrfsuite.Trainer(verbose=False)
    for text, one in zip(train["text"][:], task.targets(train), strict=True):
        trainer.append(pycrfsuite.ItemSequence(features(text)), [task.tags[number] for number in one.tags])
    trainer.set_params(CRF)
    trainer.train(str(path))
    tagger = pycrfsuite.Tagger()
    tagger.open(str(path))
    return tagger


def marginals(tagger: pycrfsuite.Tagger, task: Tagging, texts: list[str]) -> np.ndarray:
    """The marginal probabilities of each word's tags."""
    known = [task.tags.index(label) for label in tagger.labels()]
    rows = []
    for text in texts:
        tagger.set(pycrfsuite.ItemSequence(features(text)))
        own = np.zeros((len(words_of(text)), len(task.tags)))
        for place in range(len(own)):
            own[place, known] = [tagger.marginal(label, place) for label in tagger.labels()]
        rows.append(own)
    return table(rows)

"""Figures of written texts: ROUGE as rouge-score computes it, BLEU and chrF as sacrebleu does, from sums over rows.

`counts` gives one row of numbers for each text. ROUGE is a mean over rows; BLEU and chrF are those of all rows
together, from the sums of their n-grams. Of several targets, BLEU takes all together, as the library does; the length
ratio is to the first one's, and the others take the best one for each answer.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np

from tunediff.tasks.turns import latest

Pair = tuple[str, ...]
"""A source, its target, and further targets that are as good."""

ROUGES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
CHARACTERS = 6  # in chrF's longest n-grams
BETA = 2  # in chrF, recall counts twice as much as precision
DAMPING = 0.85  # in TextRank, as in PageRank
COPIED = 3  # words in a row that count as copied
# Where each figure's numbers stand in a row of counts: rows, four of ROUGE, exact, token F1; words of answer and
# target; copied n-grams and all; BLEU's matches, n-grams, lengths; chrF's n-grams of answer and target, and matches.
ROWS, EXACT, TOKEN_F1, WORDS, COPIES = 0, 5, 6, slice(7, 9), slice(9, 11)
MATCHES, TOTALS, BLEU_LENGTHS, CHRF = slice(11, 15), slice(15, 19), slice(19, 21), slice(21, 39)

LENGTHS = ((5, "1 to 5 words"), (10, "6 to 10"), (20, "11 to 20"), (50, "21 to 50"), (100, "51 to 100"), (None, "more"))
"""Longest text of each kind, in words, and its name."""


@cache
def scorers() -> tuple:
    """Those of rouge-score and of sacrebleu: ROUGE, BLEU and chrF."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    return RougeScorer(list(ROUGES)), BLEU(), CHRF()


def signatures(pairs: list[Pair]) -> dict[str, str]:
    """How the figures of the pairs are computed, as the libraries name it."""
    from importlib.metadata import version

    numbers = sorted({len(targets) for _, *targets in pairs})
    _, bleu, chrf = scorers()
    for scorer in (bleu, chrf):  # the signature has the number of references, which is not known before
        references = [["a" if place < number else None for number in numbers] for place in range(numbers[-1])]
        scorer.corpus_score(["a"] * len(numbers), references)
    best = ", the best of several references" if numbers[-1] > 1 else ""
    return {
        "rouge": f"rouge-score {version('rouge-score')}, F1, no stemmer{best}",
        "bleu": bleu.get_signature().format(),
        "chrf": chrf.get_signature().format(),
    }


def exact(target: str, answer: str) -> bool:
    """Whether the texts are the same, but for spaces."""
    return target.split() == answer.split()


def token_f1(target: str, answer: str) -> float:
    """F1 of the words in common, in lower case and without punctuation and articles, as SQuAD 2.0 computes it."""
    wanted, given = map(_squad_words, (target, answer))
    if not wanted or not given:
        return float(wanted == given)
    return 2 * (wanted & given).total() / (wanted.total() + given.total())


def _squad_words(text: str) -> Counter[str]:
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return Counter(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def is_json(text: str) -> bool:
    """Whether the text is an object or a list in JSON."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def length(text: str) -> str:
    """The name of the text's length in `LENGTHS`."""
    words = len(text.split())
    return next(name for longest, name in LENGTHS if longest is None or words <= longest)


def sentences(text: str) -> list[str]:
    """At least one; a full stop within a number or a short word ends none."""
    parts = re.split(r"(?<=\w[\w%)][.!?])[\"”’)]*\s+(?=[\"“‘(]?[A-ZÀ-Þ0-9])", text.strip())
    return [part for part in parts if part] or [""]


def foreign(text: str) -> bool:
    """Whether most letters of the text are none that rouge-score reads, which are a to z."""
    letters = re.findall(r"[^\W\d_]", text.lower())
    return 2 * sum(letter.isascii() for letter in letters) < len(letters)


def central(text: str) -> str:
    """The sentence that TextRank (Mihalcea and Tarau, 2004) ranks first: the first of those that are alike."""
    parts = sentences(text)
    words = [re.findall(r"\w+", part.lower()) for part in parts]
    places = {word: place for place, word in enumerate(dict.fromkeys(word for each in words for word in each))}
    has = np.zeros((len(parts), len(places)))
    for row, each in enumerate(words):
        has[row, [places[word] for word in each]] = 1
    common = has @ has.T
    np.fill_diagonal(common, 0)
    sizes = np.log([max(len(each), 1) for each in words])
    together = sizes[:, None] + sizes  # 0 of two that have a word each
    alike = np.divide(common, together, out=np.zeros_like(common), where=together > 0)
    steps = alike / np.maximum(alike.sum(0), 1e-9)
    ranks = np.linalg.solve(np.eye(len(parts)) - DAMPING * steps, np.ones(len(parts)))
    return parts[int(ranks.round(9).argmax())]


EXTRACTS: dict[str, Callable[[str], str]] = {
    "copy": latest,
    "lead": lambda source: sentences(latest(source))[0],
    "textrank": lambda source: central(latest(source)),
}
"""Answers taken from the source: itself, its first, its central sentence. A chat's is what the user said last."""


def numbers(text: str) -> set[str]:
    """The numbers in a text, as digits without commas: what is said in words is none."""
    return {found.replace(",", "") for found in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)}


def unread(source: str, target: str) -> list[str]:
    """The target's numbers that none of the source's is, or is when it is rounded."""
    read = np.array([float(number) for number in numbers(source)])
    return [
        number
        for number in sorted(numbers(target))
        if not (np.abs(read - float(number)) <= 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-9).any()
    ]


def counts(pairs: list[Pair], answers: list[str]) -> np.ndarray:
    """Shape [rows, counts]."""
    return np.array([_counts(pair, answer) for pair, answer in zip(pairs, answers, strict=True)], dtype=float)


@lru_cache(maxsize=100_000)
def _counts(pair: Pair, answer: str) -> tuple[float, ...]:
    source, *targets = pair
    references = [[target] for target in targets]
    rouge, bleu, chrf = scorers()
    scores = rouge.score_multi(targets, answer)
    grams = ngrams(answer)
    known = set(ngrams(source))
    # The statistics that sacrebleu itself sums up: of BLEU lengths of answer and target, matches, n-grams.
    answered, wanted, *rest = bleu._extract_corpus_statistics([answer], references)[0]
    return (
        1,
        *(scores[name].fmeasure for name in ROUGES),
        any(exact(target, answer) for target in targets),
        max(token_f1(target, answer) for target in targets),
        *(len(answer.split()), len(targets[0].split())),
        *(sum(gram in known for gram in grams), len(grams)),
        *rest,
        *(answered, wanted),
        *chrf._extract_corpus_statistics([answer], references)[0],
    )


def ngrams(text: str) -> list[tuple[str, ...]]:
    """Runs of `COPIED` words."""
    words = text.lower().split()
    return list(zip(*(words[start:] for start in range(COPIED)), strict=False))


def figures_of(sums: np.ndarray) -> dict[str, np.ndarray]:
    """From sums of counts, shape [..., counts], to each figure, shape [...]. Those in percent lie between 0 and 1."""
    sums = np.asarray(sums, dtype=float)
    rows = sums[..., ROWS]
    answered, wanted = np.moveaxis(sums[..., WORDS], -1, 0)
    copied, grams = np.moveaxis(sums[..., COPIES], -1, 0)
    rouge = {name: sums[..., place] / rows for place, name in enumerate(ROUGES, 1)}
    return {
        "rougeL": rouge["rougeL"],
        "rouge1": rouge["rouge1"],
        "rouge2": rouge["rouge2"],
        "rougeLsum": rouge["rougeLsum"],
        "chrf": chrf_of(sums[..., CHRF]),
        "bleu": bleu_of(sums[..., MATCHES], sums[..., TOTALS], sums[..., BLEU_LENGTHS]),
        "exact": sums[..., EXACT] / rows,
        "token_f1": sums[..., TOKEN_F1] / rows,
        "length_ratio": answered / np.maximum(wanted, 1),
        "copied": copied / np.maximum(grams, 1),
    }


def bleu_of(matches: np.ndarray, totals: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """BLEU, from 0 to 1; shapes [..., orders] and [..., 2]. An order without a match is smoothed as sacrebleu does."""
    missing = (matches == 0) & (totals > 0)
    smoothing = 2.0 ** missing.cumsum(-1)
    precisions = np.where(missing, 1 / smoothing, matches) / np.maximum(totals, 1)
    answered, wanted = np.moveaxis(lengths, -1, 0)
    brevity = np.where(answered < wanted, np.exp(1 - wanted / np.maximum(answered, 1)), 1)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precisions).mean(-1))
    return np.where((totals > 0).all(-1) & matches.any(-1), brevity * mean, 0)


def chrf_of(statistics: np.ndarray) -> np.ndarray:
    """chrF, from 0 to 1; shape [..., 3 * orders], n-grams of answer and target and matches for each order."""
    answered, wanted, matches = np.moveaxis(statistics.reshape(*statistics.shape[:-1], CHARACTERS, 3), -1, 0)
    there = (answered > 0) & (wanted > 0)
    orders = np.maximum(there.sum(-1), 1)
    precision = (there * matches / np.maximum(answered, 1)).sum(-1) / orders
    recall = (there * matches / np.maximum(wanted, 1)).sum(-1) / orders
    below = BETA**2 * precision + recall
    return np.where(below > 0, (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1), 0)

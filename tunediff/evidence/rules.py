"""How many of the texts that each method writes keep to the rules of the data file, such as those of a house style."""

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import regex

from tunediff.core.errors import UserError
from tunediff.core.methods import TARGETS
from tunediff.evidence import uncertainty
from tunediff.evidence.comparison import Predictions
from tunediff.evidence.uncertainty import Figures
from tunediff.tasks.settings import NOT_DUE, Rule

SECONDS = 10.0
"""What one rule may take on all texts: some expressions take longer than anyone waits."""


def kept(predictions: dict[str, Predictions], rules: dict[str, Rule], confidence: float, place: str) -> pd.DataFrame:
    """How often the targets and each method's answers keep to each rule: columns method, rule, rows, value, low, high.

    A rule with a condition is there twice: on the rows on which an answer should match, and on the others, on which it
    should not; what has no row is left out. `place` is the data file's, for messages. Raises UserError for a rule that
    takes too long.
    """
    first = next(iter(predictions.values()))
    actual = first.actual
    texts = {TARGETS: [[target for _, target, *_ in actual]]}
    texts |= {method: one.predicted for method, one in predictions.items()}
    columns = ["method", "rule", "rows", "value", "low", "high"]
    found = []
    for name, rule in rules.items():
        deadline = time.monotonic() + SECONDS
        try:
            due = np.ones(len(actual), bool)
            if condition := rule.source or rule.target:
                due = matches(condition, [pair[0 if rule.source else 1] for pair in actual], deadline)
            given = {
                who: np.stack([matches(rule.answer, one, deadline) for one in each]) for who, each in texts.items()
            }
        except TimeoutError:
            raise UserError(
                f"{place}: rules.{name}: takes more than {SECONDS:g} seconds on targets and answers; write it without "
                "one repetition inside of another, or take it out"
            ) from None
        for words, rows in ((name, due), (f"{name}{NOT_DUE}", ~due)):
            if rows.any():
                for who, each in given.items():
                    share = _share(each[:, rows] == due[rows], first.groups[rows], confidence)
                    found.append([who, words, int(rows.sum()), share.value, share.low, share.high])
    return pd.DataFrame(found, columns=columns)


def matches(expression: str, texts: Sequence[str], deadline: float) -> np.ndarray:
    """Whether each text matches somewhere, shape [texts]. Raises TimeoutError at the `deadline`."""
    compiled = regex.compile(expression)

    def matched(text: str) -> bool:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return bool(compiled.search(text, timeout=left))

    return np.array([matched(text) for text in texts])


def _share(right: np.ndarray, groups: np.ndarray, confidence: float) -> uncertainty.Interval:
    """Of what is true; shape [trainings, rows]. `groups` are the numbers of the rows' groups, shape [rows]."""
    counts = np.stack([right, np.ones_like(right)], axis=-1).astype(float)
    counts, _ = uncertainty.by_group(counts, groups, np.zeros(len(groups)))
    figures = Figures(["share"], lambda sums: {"share": sums[..., 0] / sums[..., 1]})
    return uncertainty.intervals(figures, counts, confidence)["share"]

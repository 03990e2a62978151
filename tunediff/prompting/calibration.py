"""A language model prefers some labels whatever the text: what it prefers is found without test, and taken out."""

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Texts that say nothing, of Zhao et al. 2021 (https://arxiv.org/abs/2102.09690)."""


def _mean(scores: np.ndarray) -> np.ndarray:
    """The logarithm of the mean probability of each label, from scores of shape [texts, labels]."""
    normalised = scores - logsumexp(scores, axis=1, keepdims=True)
    return logsumexp(normalised, axis=0) - np.log(len(scores))


PRIORS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "none": lambda validation, free: np.zeros(validation.shape[1]),
    "contextual": lambda validation, free: _mean(free),
    "batch": lambda validation, free: _mean(validation),
}
"""What a score is lessened by, from the scores on validation and of `CONTENT_FREE`, both of shape [texts, labels].

`contextual` (Zhao et al. 2021) is what the model answers to no text, `batch` (Zhou et al. 2023,
https://arxiv.org/abs/2309.17249) what it answers to all validation texts together. None of them reads a label.
"""

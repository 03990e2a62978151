"""What a model answered to many prompts, and what that took."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Usage:
    seconds: float
    input_tokens: int
    """0 if a server does not say how many it read."""
    output_tokens: int = 0
    refused: int = 0
    """Prompts that a server did not take."""
    cut: int = 0
    """Answers that the limit of tokens ended."""


@dataclass(frozen=True, kw_only=True)
class Scores(Usage):
    scores: np.ndarray
    """The higher, the likelier the label, shape [prompts, labels]; a row of NaN is no valid answer."""

    @property
    def unanswered(self) -> np.ndarray:
        """Whether a prompt has no valid answer, shape [prompts]."""
        return np.isnan(self.scores).any(1)


@dataclass(frozen=True, kw_only=True)
class Texts(Usage):
    texts: list[str]
    """As the model wrote them, one for each prompt."""

"""What a model answered to many prompts, and what that took."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    scores: np.ndarray
    """The higher, the likelier the label, shape [prompts, labels]; a row of NaN is no valid answer."""
    seconds: float
    input_tokens: int
    output_tokens: int = 0

    @property
    def unanswered(self) -> np.ndarray:
        """Whether a prompt has no valid answer, shape [prompts]."""
        return np.isnan(self.scores).any(1)

"""The section `baseline` of params.yaml, and what the stages that use it resolved to."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from tunediff.core.settings import Count, Positive, Precision, Section, Seed
from tunediff.models.settings import Pretrained
from tunediff.tasks.settings import Generate


class SetFit(Section):
    """How the encoder learns from pairs of texts; as published, but for the limit."""

    iterations: Count = 20
    """How often each text gets a partner of its label and one of another."""
    pairs: Count = 5000
    """At most so many in all, so that the time is bounded."""
    batch_size: Count = 16
    """Pairs per optimizer step."""
    learning_rate: Positive = 2e-5
    C: Positive = 1.0
    """Inverse regularisation of logistic regression on the encoder's states."""

    @property
    def texts(self) -> int:
        """From how many texts on more of them give no more pairs."""
        return self.pairs // (2 * self.iterations)


class Baseline(Section):
    ngrams: Count
    """TF-IDF counts runs of 1 to this many words."""
    tfidf_C: Positive
    """Inverse regularisation of logistic regression on TF-IDF."""
    probe_C: Positive
    """Inverse regularisation of logistic regression on frozen embeddings."""
    setfit: SetFit = Field(SetFit(), exclude=True)  # no part of what the others depend on, as what follows
    more: list[str] = Field([], exclude=True)
    """Further ones that the data's task has: `methods.MORE_BASELINES`."""


class WithoutFineTuning(Section):
    """Everything that `baseline` and `label_noise` depend on, beside the prepared splits."""

    task: str
    seed: Seed
    precision: Precision
    batch_size: Count
    """Texts per forward pass."""
    class_weights: Literal["none", "balanced"]
    baseline: Baseline
    model: Pretrained
    model_path: Path
    """The file that `model` comes from, for messages."""
    setfit: SetFit | None = None
    """None unless that method is among those that depend on this."""
    generate: Generate | None = None
    """How the untrained model writes, if the task is to write texts."""

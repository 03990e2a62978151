"""The sections `evaluate` and `report` of params.yaml, and what the stage `evaluate` resolved to."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from tunediff.core.settings import Count, Fraction, Precision, Section, Seed, number
from tunediff.tasks.settings import Generate


class Evaluate(Section):
    methods: list[str] = Field(min_length=1)
    """`full`, and `lora-NAME` for each NAME under `train_lora`; what `train_peft` trains is evaluated without it."""
    batch_size: Count
    """Texts per forward pass wherever nothing is trained."""


class Report(Section):
    figure: str
    """Test figure by which the recommendation compares methods: one of the task's `headline`, or `auto`."""
    margin: Fraction
    """How much less of it than the best method has is good enough, if it comes cheaper."""
    confidence: Annotated[float, BeforeValidator(number), Field(gt=0.5, lt=1)]
    """Confidence of all intervals, and so of what the report says."""


class Evaluation(Section):
    """Everything that the evaluation of a trained method depends on, beside the model and the prepared splits."""

    task: str
    seeds: list[Seed]
    precision: Precision
    batch_size: Count
    """Texts per forward pass."""
    generate: Generate | None = None
    """How the model writes, if the task is to write texts."""

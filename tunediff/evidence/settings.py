"""The sections `evaluate` and `report` of params.yaml."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunediff.core.settings import Count, Fraction, Section, number


class Evaluate(Section):
    methods: list[str] = Field(min_length=1)
    """`full`, and `lora-NAME` for each NAME under `train_lora`; what `train_peft` trains is evaluated without it."""
    batch_size: Count
    """Texts per forward pass wherever nothing is trained."""


class Report(Section):
    figure: Literal["accuracy", "f1"]
    """Test figure by which the recommendation compares methods."""
    margin: Fraction
    """How much less of it than the best method has is good enough, if it comes cheaper."""
    confidence: Annotated[float, BeforeValidator(number), Field(gt=0.5, lt=1)]
    """Of all intervals, and so of what the report says is so."""

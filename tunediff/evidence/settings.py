"""The sections `evaluate` and `report` of params.yaml, and what the stage `evaluate` resolved to."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from tunediff.core.settings import Count, Fraction, Precision, Section, Seed, number
from tunediff.tasks.settings import Generate

Sure = Annotated[float, BeforeValidator(number), Field(gt=0.5, lt=1)]
"""A probability from which on something is said."""
Cost = Literal[
    "answer_money", "answer_seconds", "artifact_bytes", "loaded_bytes", "train_seconds", "trainable_parameters"
]
"""What a method costs, as `report.results` has it: money for 1,000 answers of an endpoint with a price, else 0; seconds
for 1,000 answers; what is stored of one version; what is loaded to answer; seconds of training; weights that are
trained."""


class Evaluate(Section):
    methods: list[str] = Field(min_length=1)
    """`full`, and `lora-NAME` for each NAME under `train_lora`; what `train_peft` trains is evaluated without it."""
    batch_size: Count
    """Texts per forward pass wherever nothing is trained."""


class Report(Section):
    figure: str
    """Test figure by which the recommendation compares methods: one of the task's `headline`, or `auto`."""
    margin: Fraction
    """How much less of it than the best method has is still near it."""
    confidence: Sure
    """Confidence of all intervals, and so of what the report calls proven."""
    assurance: Sure = 0.7
    """How probable it must be that the recommended method is near the best."""
    cost_order: list[Cost] = Field(
        default=["answer_money", "answer_seconds", "artifact_bytes", "train_seconds"], min_length=1
    )
    """What makes a method cheap: the next one counts where methods are alike in those before it."""

    @field_validator("assurance")
    @classmethod
    def _no_more_than_proven(cls, assurance: float, info: ValidationInfo) -> float:
        if assurance > info.data.get("confidence", 1):
            raise ValueError(f"expected at most `confidence`, {info.data['confidence']:g}, found {assurance:g}")
        return assurance

    @field_validator("cost_order")
    @classmethod
    def _costs_differ(cls, costs: list[Cost]) -> list[Cost]:
        if twice := [cost for cost in costs if costs.count(cost) > 1]:
            raise ValueError(f"{twice[0]} is there twice; name each cost once")
        return costs


class Evaluation(Section):
    """Everything that the evaluation of a trained method depends on, beside the model and the prepared splits."""

    task: str
    seeds: list[Seed]
    precision: Precision
    batch_size: Count
    """Texts per forward pass."""
    generate: Generate | None = None
    """How the model writes, if the task is to write texts."""

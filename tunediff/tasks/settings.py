"""The section `generate` of params.yaml."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from tunediff.core.settings import Count, Section, Seed, number

NotNegative = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]


class Generate(Section):
    """How every method writes its answers, where the task is to write a text."""

    max_new_tokens: Count = 64
    """Of an answer at most, the end's token included."""
    beams: Count = 1
    """How many beginnings are kept at each token; with 1, the likeliest token is taken each time."""
    temperature: NotNegative = 0
    """Above 0, tokens are drawn: the larger, the more even the chances."""
    top_p: Annotated[float, BeforeValidator(number), Field(gt=0, le=1)] = 1
    """Only the likeliest tokens that together have this probability are drawn."""
    seed: Seed = 17
    """Of what is drawn."""
    stop: list[Annotated[str, Field(min_length=1)]] = []
    """An answer ends before the first of these."""

    @model_validator(mode="after")
    def _beams_or_drawn(self) -> "Generate":
        if self.beams > 1 and self.temperature:
            raise ValueError("generate.beams: beams are not drawn; set beams to 1, or temperature to 0")
        return self

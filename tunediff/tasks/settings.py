"""The section `generate` of params.yaml, and `rules` of a data file."""

from typing import Annotated, Any

import regex
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tunediff.core.settings import Count, Section, Seed, number

NotNegative = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]


def _expression(value: str) -> str:
    try:
        regex.compile(value)
    except regex.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


Expression = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_expression)]


NOT_DUE = ", not due"
"""Behind the name of a rule with a condition, for the texts that it does not ask anything of."""


def _rule_name(value: str) -> str:
    if value.endswith(NOT_DUE):
        raise ValueError(f"the report ends names with '{NOT_DUE}' itself; take another name")
    return value


RuleName = Annotated[str, Field(max_length=100), AfterValidator(_rule_name)]


class Rule(Section):
    """What answers should be like; an expression alone is `answer`, and every answer should match it.

    With one of the others, an answer should match where the source or the target matches that, and nowhere else.
    """

    answer: Expression
    source: Expression | None = None
    target: Expression | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_answer(cls, value: Any) -> Any:
        return {"answer": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_condition(self) -> "Rule":
        if self.source and self.target:
            raise ValueError("source and target both say where the rule holds; leave one out")
        return self


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
    validation_rows: Annotated[int, BeforeValidator(number), Field(ge=0)] = Field(64, exclude=True)  # of training alone
    """Rows of validation, at most, that each trained method's best epoch writes for; 0: none."""

    @model_validator(mode="after")
    def _beams_or_drawn(self) -> "Generate":
        if self.beams > 1 and self.temperature:
            raise ValueError("generate.beams: beams are not drawn; set beams to 1, or temperature to 0")
        return self

"""conf/sweep.yaml: which values a sweep tries, how often, and by which figures it judges them."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from tunediff.core.errors import nearest
from tunediff.core.settings import Count, MethodName, Scalar, Section, number
from tunediff.tasks import FIGURES, TASKS
from tunediff.tasks.interface import Task

CONF = Path("conf/sweep.yaml")

Cost = Literal["train_seconds", "trainable_parameters", "peak_memory_bytes"]


def on_validation(task: type[Task]) -> tuple[str, ...]:
    """The figures in metrics/validation/METHOD.json: those of an epoch, and those of what the best one writes."""
    return (*task.each_epoch, *(task.headline if task.writes else ()))


QUALITIES = tuple(dict.fromkeys(figure for task in TASKS.values() for figure in on_validation(task)))
VALIDATION = (*QUALITIES, "best_epoch", "epochs")
COST = get_args(Cost)
COUNTS = ("best_epoch", "epochs", "trainable_parameters", "peak_memory_bytes")  # those of both that are whole numbers


class Range(Section):
    """Whole numbers if both ends are, else all numbers between them."""

    low: Annotated[int | float, BeforeValidator(number)]
    high: Annotated[int | float, BeforeValidator(number)]
    log: bool = False
    """Whether 1 to 10 is as much to search as 10 to 100."""

    @model_validator(mode="after")
    def _low_to_high(self) -> "Range":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"expected low < high{' and, with log, low > 0' if self.log else ''}")
        return self

    def __contains__(self, value: object) -> bool:
        return not isinstance(value, bool | str) and self.low <= value <= self.high

    @property
    def distribution(self) -> BaseDistribution:
        kind = IntDistribution if isinstance(self.low, int) and isinstance(self.high, int) else FloatDistribution
        return kind(self.low, self.high, log=self.log)


class Choices(Section):
    choices: list[Scalar] = Field(min_length=2)

    def __contains__(self, value: object) -> bool:
        return value in self.choices

    @property
    def distribution(self) -> BaseDistribution:
        return CategoricalDistribution(self.choices)


def _kind(values: object) -> str:
    return "choices" if isinstance(values, Choices) or (isinstance(values, dict) and "choices" in values) else "range"


Values = Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)]


class Sweep(Section):
    study: MethodName
    storage: str
    """URL of a database, as SQLAlchemy takes it."""
    trials: Count
    """Budget of each method, including the trials that are pruned or fail."""
    quality: str
    """The figure on validation, in the best epoch, that is searched for."""
    cost: Cost | None = None
    """A second objective, to be low."""
    prune_after: Annotated[int, BeforeValidator(number), Field(ge=0)]
    """Trials of a method before any is pruned; 0 prunes none."""
    shared: dict[str, Values]
    """Values searched for each method: keys as `dvc exp run -S` takes them."""
    methods: dict[MethodName, dict[str, Values]] = Field(min_length=1)
    """For each method the values that only it has."""

    @field_validator("quality")
    @classmethod
    def _is_a_figure_of_validation(cls, quality: str) -> str:
        if quality not in QUALITIES:
            raise ValueError(f"there is no such figure on validation: '{quality}'; {nearest(quality, QUALITIES)}")
        return quality

    @model_validator(mode="after")
    def _something_to_search(self) -> "Sweep":
        if empty := [method for method in self.methods if not self.space(method)]:
            raise ValueError(f"methods.{empty[0]}: no values to search, here or under `shared`")
        return self

    def space(self, method: str) -> dict[str, Values]:
        """All values that are searched for the method."""
        return {**self.shared, **self.methods[method]}

    @property
    def sign(self) -> int:
        """-1 if a low quality is better, else 1: times the quality, high is better."""
        return FIGURES[self.quality].sign

    @property
    def objectives(self) -> dict[str, str]:
        """Names and directions: the quality, then the cost if it is an objective."""
        quality = {self.quality: "maximize" if FIGURES[self.quality].higher_is_better else "minimize"}
        return quality | ({self.cost: "minimize"} if self.cost else {})

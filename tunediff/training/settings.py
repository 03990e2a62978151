"""How methods are trained: sections of params.yaml, and what one method's training resolved to."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from tunediff.core.settings import (
    Count,
    Fraction,
    MethodName,
    Positive,
    Precision,
    Section,
    Seed,
    check_chosen,
    number,
)
from tunediff.models.settings import Adapted


class Train(Section):
    """What every trained method shares, so that only the trained parameters differ."""

    epochs: Count
    batch_size: Count
    """Texts per optimizer step, over all processes of the launcher."""
    accumulation: Count
    """Parts in which a process computes its share of a step, one after the other, where memory is short."""
    recompute: bool = False
    """Keep no values of a layer for the backward pass but compute them again: less memory, more time."""
    weight_decay: Fraction
    warmup: Fraction
    """Share of all steps in which the learning rate rises; afterwards it falls linearly to 0."""
    patience: Annotated[int, BeforeValidator(number), Field(ge=0)]
    """Stop after this many epochs without a better validation figure; 0 never stops early."""
    select_by: str
    """Validation figure that chooses the best epoch: one of the task's `each_epoch`, or `auto`."""
    class_weights: Literal["none", "balanced"]
    """`balanced`: a text counts in the loss by the inverse frequency of its label, for labels that are rare."""


class Lora(Section):
    """One variant of LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

    rank: Count
    alpha: Positive
    """The update is scaled by alpha / rank."""
    dropout: Fraction
    targets: str
    """A name under `targets` in conf/model/NAME.yaml: which layers get an adapter."""


class PeftMethod(Section):
    """A method of PEFT, or one of `adapters.OWN`: what is not named here is a field of that method's config class."""

    model_config = ConfigDict(extra="allow")

    peft_type: str
    learning_rate: Positive
    """Peak learning rate."""
    optimizer: Literal["adamw", "loraplus", "lorafa"] = "adamw"
    """LoRA+ (https://arxiv.org/abs/2402.12354) and LoRA-FA (https://arxiv.org/abs/2308.03303) are ways to step."""
    loraplus_lr_ratio: Positive = 16
    """LoRA+: learning rate of the B matrices by that of the others."""


class TrainPeft(Section):
    """The methods of PEFT that are trained beside `full` and LoRA."""

    methods: list[str]
    """Which of the entries are trained."""
    entries: dict[MethodName, PeftMethod]

    @model_validator(mode="after")
    def _methods_are_entries(self) -> "TrainPeft":
        check_chosen(self.methods, self.entries, "train_peft")
        return self


def as_written(share: object) -> object:
    """A share names a file, in dvc.yaml as it is written in params.yaml, and elsewhere as Python writes it."""
    value = number(share)
    if isinstance(share, str) and str(value) != share:
        raise ValueError(f"expected a number such as 0.5, found {share!r:.100}")
    return value


class TrainingRows(Section):
    """Whether more labels would help: the same methods with fewer of them."""

    shares: list[Annotated[float, BeforeValidator(as_written), Field(gt=0, lt=1)]]
    """Shares of the training rows; the methods' own stages train on all of them."""
    per_label: list[Annotated[int, Field(ge=1, strict=True)]] = []
    """Numbers of training rows for each label, each drawn at random several times."""
    draws: Annotated[int, BeforeValidator(number), Field(ge=2)] = 5
    """How often each number of `per_label` is drawn."""
    steps: Count = 100
    """Optimizer steps of a training with `per_label`, at least: few rows make few of them in `train.epochs`."""
    methods: list[str] = Field(min_length=1)
    """`tfidf`, `probe`, `setfit`, and any that is trained."""

    @field_validator("per_label")
    @classmethod
    def _numbers_differ(cls, numbers: list[int]) -> list[int]:
        if twice := [number for number in numbers if numbers.count(number) > 1]:
            raise ValueError(f"{twice[0]} is there twice")
        return numbers


class Training(Section):
    """Everything that the training of one method depends on, beside the prepared splits."""

    method: str
    task: str
    seeds: list[Seed]
    """The method is trained once with each."""
    precision: Precision
    train: Train
    batch_size: Count
    """Texts per forward pass on validation."""
    learning_rate: Positive
    """Peak learning rate."""
    model: Adapted
    model_path: Path
    """The file that `model` comes from, for messages."""
    lora: Lora | None = None
    """The variant, if the method is one of LoRA."""
    entry: PeftMethod | None = None
    """The entry of `train_peft`, if the method is one."""
    validation_rows: Count | None = None
    """Rows of validation, at most, that the best epoch's model writes for; None if it writes for none."""

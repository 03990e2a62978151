"""What config.json of a trained model says under `tunediff`: where it comes from, and what was fitted on validation.

This file imports neither torch nor transformers, so that an exported model does without them.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from tunediff.core.errors import UserError, nearest
from tunediff.core.settings import Section, check
from tunediff.tasks import TASKS
from tunediff.tasks.settings import Generate


def _known_task(name: str) -> str:
    if name not in TASKS:
        raise ValueError(f"there is no task '{name:.100}'; {nearest(name, TASKS)}")
    return name


Probability = Annotated[float, Field(ge=0, le=1)]


class _Strict(Section):
    """A program wrote these values, so text is no number."""

    model_config = ConfigDict(strict=True)


class OwnAdapter(_Strict):
    """How one of `own_methods` changed the model."""

    peft_type: str
    fields: dict[str, Any]
    head: list[str]


class Threshold(_Strict):
    label: str
    value: Probability
    """From which probability on the label is answered."""


class Trained(_Strict):
    pretrained: str
    """`name` in conf/model/NAME.yaml."""
    revision: str | None
    sha256: str | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Of the new head, and of the training."""
    task: Annotated[str, AfterValidator(_known_task)] = "classification"
    keep_head: bool = False
    """As in the model's file."""
    quantize: Literal["nf4", "int8"] | None = None
    head: list[str] = Field(default_factory=list)
    """As in the model's file; kept where weights are quantized."""
    instruction: str | None = None
    """What a model that writes texts was told to do."""
    chat: bool = False
    """Whether it was told so in chats of several turns."""
    generate: Generate | None = None
    """How it writes."""
    generating: dict[str, Any] = Field(default_factory=dict)
    """Of older folders; generation_config.json has it now."""
    text: str | list[str] | None = None
    """The source's column of the texts, or several, as in the data's file."""
    label: str | None = None
    """That of the labels."""
    adapter: OwnAdapter | None = None
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1
    """What logits are divided by."""
    confidences: dict[Annotated[str, Field(pattern=r"^0\.\d+$")], Probability] = Field(default_factory=dict)
    """From which probability on answers have this accuracy."""
    threshold: Threshold | None = None
    thresholds: dict[str, Probability] = Field(default_factory=dict)
    """Of each label, where a text may have several: from which probability on it is answered."""


class _Config(Section):
    tunediff: Trained


def check_trained(origin: object, path: Path) -> None:
    """Raises UserError with a line for each wrong value of `origin`, the value of `tunediff` in the file `path`."""
    try:
        check({"tunediff": origin}, _Config, path)
    except UserError as error:
        raise UserError(*(f"{line}; fetch the file with `dvc pull`, or train again" for line in error.lines)) from None

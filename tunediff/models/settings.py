"""conf/model/NAME.yaml: which pretrained model, pinned, and what depends on it."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from tunediff.core.errors import UserError
from tunediff.core.settings import Count, Positive, Section, Seed, number

NotNegative = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]


class Pretrained(Section):
    """Which pretrained model, and how much of a text it reads."""

    name: str
    """Hub id, a local folder, or package:MODULE/FOLDER for one that comes inside an installed Python package."""
    revision: str = "main"
    """Commit, tag or branch of a Hub model."""
    sha256: str | None = None
    """SHA-256 of model.safetensors; checked at every load."""
    max_length: Count = 256
    """Longer texts are cut to this many tokens."""


class Adapted(Pretrained):
    """A pretrained model, and which of its layers adapters train."""

    head: list[str] = []
    """Modules of the pretrained model that every adapter trains completely, as it does the new head."""
    targets: dict[str, str | list[str]] = {}
    """Named sets of layers for adapters: module names, or `all-linear`. `layers.CONVENTIONS` has common ones."""


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


class ModelConf(Adapted):
    """All of conf/model/NAME.yaml."""

    learning_rate: dict[str, Positive] = {"full": 3e-5, "lora": 3e-4}
    """Peak learning rate per method (`full`, `lora-v1`); `lora` serves the variants that have no line of their own."""

    def learning_rate_of(self, method: str, path: Path) -> float:
        """Raises UserError, which names the file `path`, if there is none."""
        family = method.partition("-")[0]
        keys = list(dict.fromkeys((method, family)))
        for key in keys:
            if key in self.learning_rate:
                return self.learning_rate[key]
        lines = " or ".join(f"`{key}: ...`" for key in keys)
        raise UserError(f"{path}: learning_rate: no value for '{method}'; add a line {lines}")

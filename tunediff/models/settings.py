"""conf/model/NAME.yaml: which pretrained model, pinned, and what depends on it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tunediff.core.errors import UserError
from tunediff.core.settings import Count, Positive, Section


class Pretrained(Section):
    """Which pretrained model, and how much of a text it reads."""

    name: str
    """Hub id, a folder, a GGUF file (on the Hub: ID/FILE.gguf), or package:MODULE/PATH in a Python package."""
    revision: str = "main"
    """Commit, tag or branch of a Hub model."""
    sha256: str | None = None
    """SHA-256 of the weights, checked at every load: of model.safetensors, all its parts, or the GGUF file."""
    max_length: Annotated[Count, Field(le=2**20)] = 256
    """Longer texts are cut to this many tokens."""
    source_language: str | None = None
    """Code of the texts' language, for a tokenizer that has such codes (mBART, NLLB)."""
    target_language: str | None = None
    """Code of the language that is to be written."""
    keep_head: bool = False
    """Begin with the head of a model that is a classifier already, matched by the names of the labels."""

    @model_validator(mode="after")
    def _both_languages(self) -> "Pretrained":
        if bool(self.source_language) != bool(self.target_language):
            raise ValueError("target_language: a translation has two languages; set source_language and this, or none")
        return self


class Adapted(Pretrained):
    """A pretrained model, and which of its layers adapters train."""

    head: list[str] = []
    """Modules of the pretrained model that every adapter trains completely, as it does the new head."""
    quantize: Literal["nf4", "int8"] | None = None
    """Number format of the frozen weights, by bitsandbytes; only adapters train over such weights (QLoRA)."""
    targets: dict[str, str | list[str]] = {}
    """Named sets of layers for adapters: module names, or `all-linear`. `layers.CONVENTIONS` has common ones."""


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

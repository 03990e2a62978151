"""conf/model/NAME.yaml: which pretrained model, pinned, and what depends on it."""

from pathlib import Path

from tunediff.core.errors import UserError
from tunediff.core.settings import Count, Positive, Section


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

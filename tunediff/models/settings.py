"""conf/model/NAME.yaml: which pretrained model, pinned, and what depends on it."""

from pathlib import Path

from tunediff.core.errors import UserError
from tunediff.core.settings import Count, Positive, Section


class ModelConf(Section):
    """Which pretrained model, pinned, and what depends on it."""

    name: str
    """Hub id, a local folder, or package:MODULE/FOLDER for one that comes inside an installed Python package."""
    revision: str = "main"
    """Commit, tag or branch of a Hub model."""
    sha256: str | None = None
    """Of model.safetensors; checked at every load."""
    max_length: Count = 256
    """Longer texts are cut to this many tokens."""
    learning_rate: dict[str, Positive] = {"full": 3e-5, "lora": 3e-4}
    """Peak learning rate per method (`full`, `lora-v1`); `lora` serves the variants that have no line of their own."""
    head: list[str] = []
    """Modules of the pretrained model that every adapter trains whole, as it does the new classification head."""
    targets: dict[str, str | list[str]] = {}
    """Named sets of layers for adapters: module names, or `all-linear`. `adapters.layers` knows common ones."""

    def learning_rate_of(self, method: str, path: Path) -> float:
        family = method.partition("-")[0]
        keys = list(dict.fromkeys((method, family)))
        for key in keys:
            if key in self.learning_rate:
                return self.learning_rate[key]
        lines = " or ".join(f"`{key}: ...`" for key in keys)
        raise UserError(f"{path}: learning_rate: no value for '{method}'; add a line {lines}")

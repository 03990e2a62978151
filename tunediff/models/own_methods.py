"""Methods that PEFT does not have: BitFit, a linear probe, bottleneck adapters.

Each is a config class like those of PEFT, and can also change a model.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from tunediff.core.errors import nearest
from tunediff.core.files import read_json
from tunediff.models.layers import CONVENTIONS, ends_in
from tunediff.models.weights import check_all


@dataclass
class Own:
    """What all of these methods have in common."""

    modules_to_save: list[str] | None = None
    """Modules trained whole, beside the classification head, in place of those that the model's file lists."""

    def change(self, model: PreTrainedModel) -> None:
        """Make trainable what the method trains of `model`, all of which is frozen.

        Raises ValueError if the model has no such part.
        """


@dataclass
class BitFit(Own):
    """Train the biases (Ben Zaken et al. 2021, https://arxiv.org/abs/2106.10199)."""

    def change(self, model: PreTrainedModel) -> None:
        biases = [weights for name, weights in model.base_model.named_parameters() if name.endswith(".bias")]
        if not biases:
            raise ValueError("it has no biases")
        for weights in biases:
            weights.requires_grad = True


@dataclass
class LinearProbe(Own):
    """Train nothing but the head, on what the top layer gives."""


@dataclass
class Bottleneck(Own):
    """Train small networks behind each block's output (Houlsby et al. 2019, https://arxiv.org/abs/1902.00751)."""

    size: int = 32
    """Units of each bottleneck."""
    activation: str = "gelu"
    target_modules: list[str] = field(default_factory=lambda: CONVENTIONS["outputs"])
    """Ends of the names of the layers behind which a bottleneck is put."""

    def change(self, model: PreTrainedModel) -> None:
        if self.activation not in ACT2FN:
            raise ValueError(f"no activation is named '{self.activation}'; {nearest(self.activation, ACT2FN)}")
        targets = [name for name, _ in model.base_model.named_modules() if ends_in(name, self.target_modules)]
        if not targets:
            raise ValueError(f"no layer's name ends in one of {', '.join(self.target_modules)}")
        for name in targets:
            layer = model.base_model.get_submodule(name)
            model.base_model.set_submodule(name, BottleneckLayer(layer, self.size, self.activation))


class BottleneckLayer(nn.Module):
    """A layer, and behind it x + up(activation(down(x))), which at first returns x."""

    def __init__(self, layer: nn.Module, size: int, activation: str):
        super().__init__()
        self.layer = layer
        width = layer.nf if hasattr(layer, "nf") else layer.out_features  # GPT-2's Conv1D, or Linear
        self.down = nn.Linear(width, size)
        self.activation = ACT2FN[activation]
        self.up = nn.Linear(size, width)
        nn.init.normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    @property
    def weight(self) -> torch.Tensor:
        """The layer's, of which T5 asks the number format."""
        return self.layer.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Take what `layer` takes, and return a tensor of the shape that `layer` returns: (..., width)."""
        hidden = self.layer(hidden)
        return hidden + self.up(self.activation(self.down(hidden)))


OWN = {"BITFIT": BitFit, "LINEAR_PROBE": LinearProbe, "BOTTLENECK": Bottleneck}


def apply(model: PreTrainedModel, peft_type: str, fields: dict[str, Any], head: list[str]) -> PreTrainedModel:
    """Change `model` in place and return it: what the method trains and the modules in `head` are left trainable.

    `model.config.tunediff` then says how to do it again. Raises ValueError if the method does not fit the model.
    """
    OWN[peft_type](**fields).change(model.requires_grad_(False))
    for name, module in model.named_modules():
        if ends_in(name, head):
            module.requires_grad_(True)
    model.config.tunediff["adapter"] = {"peft_type": peft_type, "fields": fields, "head": head}
    return model


def load(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Change `model`, the pretrained one, into the one that `save` wrote to `folder`, and return it.

    Raises UserError if config.json and the weights there do not agree.
    """
    own = read_json(folder / "config.json")["tunediff"]["adapter"]
    model = apply(model, own["peft_type"], own["fields"], own["head"])
    weights = load_file(folder / "adapter_model.safetensors")
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    check_all(folder, trained - weights.keys(), weights.keys() - trained)
    model.load_state_dict(weights, strict=False)
    return model

"""Parameter-efficient methods by name: all of PEFT's, and three that it has not.

An entry of `train_peft` in params.yaml is a `peft_type` with the fields of that method's own config class. `adapt`
checks them, fills in what follows from the model, and tries the adapted model on two texts before it is trained.
"""

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from tunediff.core.errors import UserError, reason
from tunediff.core.files import read_json
from tunediff.models.settings import ModelConf

if TYPE_CHECKING:
    from peft import PeftModel

# Sets of layers that an entry can name, for models whose file does not list them: the ends of the layers' names in
# common encoders and decoders. Where none of them occurs, all linear layers are taken.
TOGETHER = ["c_attn", "Wqkv", "query_key_value"]  # query, key and value in one layer
FEEDFORWARD = ["output.dense", "lin2", "mlp.c_proj", "mlp.Wo", "down_proj", "fc2"]
CONVENTIONS = {
    "attention": ["query", "value", "q_lin", "v_lin", "q_proj", "v_proj", *TOGETHER],
    "keys-values-feedforward": ["key", "value", "k_lin", "v_lin", "k_proj", "v_proj", *TOGETHER, *FEEDFORWARD],
    "feedforward": FEEDFORWARD,
    # What each attention and feed-forward block adds to the residual stream.
    "outputs": ["output.dense", "out_lin", "lin2", "c_proj", "Wo", "o_proj", "out_proj", "down_proj", "fc2"],
}

# Methods that an entry alone cannot run, and why.
NEED_MORE = {
    "ADALORA": "its ranks are redistributed at every step, which the shared training loop does not do",
    "MULTITASK_PROMPT_TUNING": "it trains on several tasks at once; here is one",
    "POLY": "it trains on several tasks at once; here is one",
    "XLORA": "it mixes adapters that were trained before",
    # Values of LORA's `init_lora_weights`.
    **dict.fromkeys(("corda", "eva", "lora_ga"), "its first weights are computed from the data"),
}


# --- methods that PEFT has not: the same kind of config, and the change that they make to a model


@dataclass
class Own:
    modules_to_save: list[str] | None = None
    """Modules trained whole, beside the classification head, in place of those that the model's file lists."""

    def change(self, model: PreTrainedModel) -> None:
        """Make trainable what the method trains of `model`, all of it frozen. Raises ValueError if there is no such."""


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
        found = [name for name, module in model.base_model.named_modules() if ends(name, self.target_modules)]
        if not found:
            raise ValueError(f"no layer's name ends in one of {', '.join(self.target_modules)}")
        for name in found:
            layer = model.base_model.get_submodule(name)
            model.base_model.set_submodule(name, BottleneckLayer(layer, self.size, self.activation))


class BottleneckLayer(nn.Module):
    """`layer`, and behind it x + up(activation(down(x))), which starts as x."""

    def __init__(self, layer: nn.Module, size: int, activation: str):
        super().__init__()
        self.layer = layer
        width = layer.nf if hasattr(layer, "nf") else layer.out_features  # GPT-2's Conv1D, or Linear
        self.down, self.activation, self.up = nn.Linear(width, size), ACT2FN[activation], nn.Linear(size, width)
        nn.init.normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.layer(hidden)
        return hidden + self.up(self.activation(self.down(hidden)))


OWN = {"BITFIT": BitFit, "LINEAR_PROBE": LinearProbe, "BOTTLENECK": Bottleneck}


def apply_own(model: PreTrainedModel, peft_type: str, fields: dict[str, Any], head: list[str]) -> PreTrainedModel:
    """`model`, changed in place; what is left trainable is what the method trains, with the modules in `head`.

    Raises ValueError if the method does not fit the model. `model.config.tunediff` says how to do it again.
    """
    OWN[peft_type](**fields).change(model.requires_grad_(False))
    for name, module in model.named_modules():
        if ends(name, head):
            module.requires_grad_(True)
    model.config.tunediff["adapter"] = {"peft_type": peft_type, "fields": fields, "head": head}
    return model


def load_own(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`model`, the original one, with what `models.save` wrote. Raises ValueError if the two files do not agree."""
    own = read_json(folder / "config.json")["tunediff"]["adapter"]
    model = apply_own(model, own["peft_type"], own["fields"], own["head"])
    weights = load_file(folder / "adapter_model.safetensors")
    if {name for name, trained in model.named_parameters() if trained.requires_grad} != set(weights):
        raise ValueError("adapter_model.safetensors does not hold what config.json says")
    model.load_state_dict(weights, strict=False)
    return model


# --- from an entry to an adapted model


def adapt(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    peft_type: str,
    fields: dict[str, Any],
    conf: ModelConf,
    where: str,
) -> "PreTrainedModel | PeftModel":
    """`model` with an adapter of type `peft_type`, which trains the head too; `fields` are those of its config class.

    Raises UserError, which begins with `where`, the entry's place, for what is no such field or does not fit the model.
    """
    peft_type = peft_type.upper()
    if alone := next((kind for kind in (peft_type, fields.get("init_lora_weights")) if kind in NEED_MORE), None):
        raise UserError(f"{where}: {alone} cannot be trained by an entry alone: {NEED_MORE[alone]}")
    known = {**{kind.value: config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}, **OWN}
    if peft_type not in known:
        raise UserError(f"{where}.peft_type: there is no method '{peft_type}'; {nearest(peft_type, known)}")
    fields = check_fields(known[peft_type], fields, where)
    head = fields.pop("modules_to_save", None)
    fields |= {
        key: layers(value, model, conf, f"{where}.{key}") for key, value in fields.items() if key.endswith("_modules")
    }
    head = [*new_modules(model), *(conf.head if head is None else head)]
    try:
        if peft_type in OWN:
            adapted = apply_own(model, peft_type, fields, head)
        else:
            config = known[peft_type](**fields)
            config.task_type = TaskType.SEQ_CLS
            config.modules_to_save = head
            for name in SIZES:
                if getattr(config, name, 0) is None:
                    setattr(config, name, getattr(model.config, SIZES[name]))
            adapted = with_adapter(model, config)
    except Exception as error:  # PEFT raises whatever comes
        raise UserError(f"{where}: {peft_type} does not fit {conf.name}: {reason(error)}") from None
    try_out(adapted, tokenizer, f"{where}: {peft_type} does not fit {conf.name}")
    return adapted


def with_adapter(model: PreTrainedModel, config: PeftConfig) -> "PeftModel":
    """PEFT's model. Layers whose weights the adapter begins with keep how both were then, for `models.settle`."""
    begins_with_weights = str(getattr(config, "init_lora_weights", "")).startswith(("pissa", "olora"))
    linear = [layer for layer in model.modules() if begins_with_weights and isinstance(layer, nn.Linear | Conv1D)]
    weights = {layer: layer.weight.detach().clone() for layer in linear}
    adapted = get_peft_model(model, config)
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer) and layer.base_layer in weights:
            first = (part["default"].weight.detach().clone() for part in (layer.lora_A, layer.lora_B))
            layer.start = (weights[layer.base_layer], *first)
    return adapted


# What prompts are made of, by the names that every config of transformers knows; PEFT does not find DistilBERT's.
SIZES = {"num_layers": "num_hidden_layers", "token_dim": "hidden_size", "num_attention_heads": "num_attention_heads"}


def check_fields(config: type, fields: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields with values of their types: `dvc exp run -S` may write a number as text."""
    known = {f.name for f in dataclasses.fields(config) if f.init} - {f.name for f in dataclasses.fields(PeftConfig)}
    types = typing.get_type_hints(config)
    checked, problems = {}, []
    for key, value in fields.items():
        if key not in known:
            problems.append(f"{where}.{key}: {config.__name__} has no such field; {nearest(key, known)}")
            continue
        try:
            checked[key] = TypeAdapter(types[key]).validate_python(value)
        except ValidationError as error:
            problems.append(f"{where}.{key}: {error.errors()[0]['msg']}, found {value!r}")
    if problems:
        raise UserError(*problems)
    return checked


def layers(wanted: str | list[str], model: PreTrainedModel, conf: ModelConf, where: str) -> str | list[str]:
    """The layers that a set's name stands for: what the model's file says, or what the architecture's names tell.

    `wanted` may also be `all-linear`, a regular expression, or a list of names, as PEFT takes them. Raises UserError if
    no layer is meant.
    """
    places = [place for place, _ in model.named_modules()]
    if isinstance(wanted, list):
        unknown = next((name for name in wanted if not any(ends(place, [name]) for place in places)), None)
    elif wanted in conf.targets:
        return conf.targets[wanted]
    elif wanted == "norms":
        modules = model.base_model.named_modules()
        return [place for place, module in modules if type(module).__name__.endswith("Norm")]
    elif wanted in CONVENTIONS:
        return [name for name in CONVENTIONS[wanted] if any(ends(place, [name]) for place in places)] or "all-linear"
    else:
        unknown = None if wanted == "all-linear" or matches(wanted, places) else wanted
    if unknown is not None:
        sets = ", ".join(dict.fromkeys([*conf.targets, "all-linear", "norms", *CONVENTIONS]))
        raise UserError(f"{where}: no layer is named '{unknown}'; the sets are {sets}, or give a list of names")
    return wanted


def matches(pattern: str, places: list[str]) -> bool:
    with suppress(re.error):
        return any(re.fullmatch(pattern, place) for place in places)
    return False


def new_modules(model: PreTrainedModel) -> list[str]:
    """The head: the classifier's parts beside the pretrained encoder or decoder."""
    return [
        name
        for name, module in model.named_children()
        if module is not model.base_model and any(True for _ in module.parameters())
    ]


def ends(place: str, names: Iterable[str]) -> bool:
    """Whether a module's place ends in one of the names, part by part."""
    return any(place == name or place.endswith(f".{name}") for name in names)


def nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
    return f"did you mean {' or '.join(close)}?" if len(close) <= 3 else f"there are: {', '.join(close)}"


# --- before a training that would be in vain


@torch.no_grad()
def try_out(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Raises UserError if the model cannot answer, or not the same for a text alone and beside a longer one."""
    short, long = "shares", "shares rose on monday after the report"
    model.eval()
    try:
        alone, padded = (
            model(**tokenizer(texts, padding=True, truncation=True, return_token_type_ids=False, return_tensors="pt"))
            for texts in ([short], [short, long])
        )
    except Exception as error:
        raise UserError(f"{where}: {reason(error)}") from None
    if not torch.allclose(alone.logits[0], padded.logits[0], atol=1e-3, rtol=1e-3):
        raise UserError(f"{where}: it would read the padding, and answer otherwise for a text beside a longer one")

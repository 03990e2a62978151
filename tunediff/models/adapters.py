"""From an entry to an adapted model: all methods of PEFT by name, and those of `own_methods.py`.

An entry of `train_peft` in params.yaml is a `peft_type` with the fields of that method's own config class. `adapt`
checks them, fills in what follows from the model, and tries the adapted model on two texts before it is trained.
"""

import dataclasses
import typing
from typing import TYPE_CHECKING, Any

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from pydantic import TypeAdapter, ValidationError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from tunediff.core.errors import UserError, nearest, reason
from tunediff.models import own_methods
from tunediff.models.layers import ends_in, head_modules, named_layers
from tunediff.models.own_methods import OWN
from tunediff.models.settings import Adapted
from tunediff.tasks import TASKS

if TYPE_CHECKING:
    from peft import PeftModel

CONFIGS = {**{peft_type.value: config for peft_type, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}, **OWN}

# Methods that an entry alone cannot run, and why.
NEED_MORE = {
    "ADALORA": "its ranks are redistributed at every step, which the shared training loop does not do",
    "MULTITASK_PROMPT_TUNING": "it trains on several tasks at once; here is one",
    "POLY": "it trains on several tasks at once; here is one",
    "XLORA": "it mixes adapters that were trained before",
    # Values of LORA's `init_lora_weights`.
    **dict.fromkeys(("corda", "eva", "lora_ga"), "its first weights are computed from the data"),
}

# What prompts are made of, by the names that every config of transformers knows; PEFT does not find DistilBERT's.
SIZES = {"num_layers": "num_hidden_layers", "token_dim": "hidden_size", "num_attention_heads": "num_attention_heads"}


def adapt(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    peft_type: str,
    fields: dict[str, Any],
    conf: Adapted,
    place: str,
) -> "PreTrainedModel | PeftModel":
    """Return `model` with an adapter of type `peft_type`, whose training includes the head.

    `fields` are those of the type's config class, and `place` is the entry's place in params.yaml. Raises UserError,
    which begins with `place`, if the entry is wrong (see `check_entry`) or does not fit the model.
    """
    peft_type, fields = check_entry(peft_type, fields, place)
    extra_modules = fields.pop("modules_to_save", None)
    parts = conf.head if extra_modules is None else extra_modules
    if TASKS[model.config.tunediff["task"]].peft_type != "SEQ_CLS":  # the file lists them for classifiers
        parts = [part for part in parts if any(ends_in(name, [part]) for name, _ in model.named_modules())]
    head = [*head_modules(model), *parts]
    for key, value in fields.items():
        if key.endswith("_modules") and value is not None:
            fields[key] = named_layers(value, model, conf, f"{place}.{key}")
    misfit = f"{place}: {peft_type} does not fit {conf.name}"
    try:
        if peft_type in OWN:
            adapted = own_methods.apply(model, peft_type, fields, head)
        else:
            adapted = _with_adapter(model, _config(peft_type, fields, head, model))
    except Exception as error:  # PEFT raises errors of any kind
        raise UserError(f"{misfit}: {reason(error)}") from None
    _try_out(adapted, tokenizer, misfit)
    return adapted


def check_entry(peft_type: str, fields: dict[str, Any], place: str) -> tuple[str, dict[str, Any]]:
    """Check an entry as far as this needs no model. Return the type in capitals, and the fields as its class has them.

    A field that is written as text, which `dvc exp run -S` may do with a number, comes back with its own type. Raises
    UserError, whose lines begin with `place`, if there is no such type, if the type needs more than an entry says, or
    if a field is unknown or its value is of another type.
    """
    peft_type = peft_type.upper()
    for kind in (peft_type, fields.get("init_lora_weights")):
        if isinstance(kind, str) and kind in NEED_MORE:
            raise UserError(f"{place}: {kind} cannot be trained by an entry alone: {NEED_MORE[kind]}")
    if peft_type not in CONFIGS:
        raise UserError(f"{place}.peft_type: there is no method '{peft_type}'; {nearest(peft_type, CONFIGS)}")
    return peft_type, _check_fields(CONFIGS[peft_type], fields, place)


def _check_fields(config: type, fields: dict[str, Any], place: str) -> dict[str, Any]:
    """Return the fields with values of their types. Raises UserError with a line for each wrong field."""
    known = {f.name for f in dataclasses.fields(config) if f.init} - {f.name for f in dataclasses.fields(PeftConfig)}
    types = typing.get_type_hints(config)
    checked = {}
    problems = []
    for key, value in fields.items():
        if key not in known:
            problems.append(f"{place}.{key}: {config.__name__} has no such field; {nearest(key, known)}")
            continue
        try:
            checked[key] = TypeAdapter(types[key]).validate_python(value)
        except ValidationError as error:
            problems.append(f"{place}.{key}: {error.errors()[0]['msg']}, found {value!r}")
    if problems:
        raise UserError(*problems)
    return checked


def _config(peft_type: str, fields: dict[str, Any], head: list[str], model: PreTrainedModel) -> PeftConfig:
    config = CONFIGS[peft_type](**fields)
    config.task_type = TaskType[TASKS[model.config.tunediff["task"]].peft_type]
    config.modules_to_save = head
    for name in SIZES:
        if getattr(config, name, 0) is None:
            setattr(config, name, getattr(model.config, SIZES[name]))
    return config


def _with_adapter(model: PreTrainedModel, config: PeftConfig) -> "PeftModel":
    """Return PEFT's model.

    Some adapters begin with values computed from the layer's weights. Such a layer keeps the weights and the adapter as
    they were at first in its attribute `start`, for `settle`.
    """
    begins_with_weights = str(getattr(config, "init_lora_weights", "")).startswith(("pissa", "olora"))
    linear = [layer for layer in model.modules() if begins_with_weights and isinstance(layer, nn.Linear | Conv1D)]
    weights = {layer: layer.weight.detach().clone() for layer in linear}
    adapted = get_peft_model(model, config)
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer) and layer.base_layer in weights:
            first = (part["default"].weight.detach().clone() for part in (layer.lora_A, layer.lora_B))
            layer.start = (weights[layer.base_layer], *first)
    return adapted


@torch.no_grad()
def _try_out(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, misfit: str) -> None:
    """Classify two texts, before a training that would be in vain.

    Raises UserError, which begins with `misfit`, if the model cannot answer, or answers otherwise for a text beside a
    longer one.
    """
    short = "shares"
    long = "shares rose on monday after the report"
    model.eval()
    try:
        alone, padded = (
            model(**tokenizer(texts, padding=True, truncation=True, return_token_type_ids=False, return_tensors="pt"))
            for texts in ([short], [short, long])
        )
    except Exception as error:
        raise UserError(f"{misfit}: {reason(error)}") from None
    one, other = alone.logits[0], padded.logits[0]
    if one.ndim > 1:  # an answer for each token
        if len(one) != len(tokenizer(short)["input_ids"]):
            raise UserError(f"{misfit}: it would answer for its prompt as well, and here each token has one answer")
        other = other[: len(one)]
    if not torch.allclose(one, other, atol=1e-3, rtol=1e-3):
        raise UserError(f"{misfit}: it would read the padding, and answer otherwise for a text beside a longer one")

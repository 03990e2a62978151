"""From an entry to an adapted model: all methods of PEFT by name, and those of `own_methods.py`.

An entry of `train_peft` in params.yaml is a `peft_type` with the fields of that method's own config class. `adapt`
checks them, fills in what follows from the model, and tries the adapted model on two texts before it is trained.
"""

from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from tunediff.core.errors import UserError, reason
from tunediff.models import own_methods
from tunediff.models.layers import ends_in, head_modules, named_layers
from tunediff.models.own_methods import OWN
from tunediff.models.peft_fields import check_entry, config_class
from tunediff.models.settings import Adapted
from tunediff.models.trial import check_answers
from tunediff.tasks import task_of

# PEFT is imported where it is used: it imports bitsandbytes, which asks CUDA, and no stage has its device yet.
if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

# Values of LORA's `init_lora_weights` that take a part out of the pretrained weights.
WEIGHTS_FIRST = ("pissa", "olora")

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
    which begins with `place`, if the entry is wrong (see `peft_fields`) or does not fit the model.
    """
    peft_type, fields = check_entry(peft_type, fields, place)
    extra_modules = fields.pop("modules_to_save", None)
    parts = conf.head if extra_modules is None else extra_modules
    if task_of(model.config).peft_type != "SEQ_CLS":  # the file lists them for classifiers
        parts = [part for part in parts if any(ends_in(name, [part]) for name, _ in model.named_modules())]
    head = [*head_modules(model), *parts]
    for key, value in fields.items():
        if key.endswith("_modules") and value is not None:
            fields[key] = named_layers(value, model, conf, f"{place}.{key}")
    misfit = f"{place}: {peft_type} does not fit {conf.name}"
    try:
        if conf.quantize and (peft_type in OWN or str(fields.get("init_lora_weights")).startswith(WEIGHTS_FIRST)):
            raise ValueError(f"{conf.quantize} weights can be neither trained nor changed (quantize in its file)")
        if peft_type in OWN:
            adapted = own_methods.apply(model, peft_type, fields, head)
        else:
            adapted = _with_adapter(model, _config(peft_type, fields, head, model))
    except Exception as error:  # PEFT raises errors of any kind
        raise UserError(f"{misfit}: {reason(error)}") from None
    check_answers(adapted, tokenizer, misfit)
    return adapted


def _config(peft_type: str, fields: dict[str, Any], head: list[str], model: PreTrainedModel) -> "PeftConfig":
    from peft import TaskType

    config = config_class(peft_type)(**fields)
    config.task_type = TaskType[task_of(model.config).peft_type]
    config.modules_to_save = head or None
    for name in SIZES:
        if getattr(config, name, 0) is None:
            setattr(config, name, getattr(model.config, SIZES[name]))
    return config


def _with_adapter(model: PreTrainedModel, config: "PeftConfig") -> "PeftModel":
    """Return PEFT's model.

    Some adapters begin with values computed from the layer's weights. Such a layer keeps the weights and the adapter as
    they were at first in its attribute `start`, for `settle`.
    """
    from peft import get_peft_model
    from peft.tuners.lora import LoraLayer

    begins_with_weights = str(getattr(config, "init_lora_weights", "")).startswith(WEIGHTS_FIRST)
    linear = [layer for layer in model.modules() if begins_with_weights and isinstance(layer, nn.Linear | Conv1D)]
    weights = {layer: layer.weight.detach().clone() for layer in linear}
    adapted = get_peft_model(model, config)
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer) and layer.base_layer in weights:
            first = (part["default"].weight.detach().clone() for part in (layer.lora_A, layer.lora_B))
            layer.start = (weights[layer.base_layer], *first)
    return adapted

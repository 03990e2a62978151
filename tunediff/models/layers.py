"""Which layers of a model an adapter changes or trains: sets of layers by name, and the classification head."""

import re
from collections.abc import Iterable
from contextlib import suppress

from transformers import PreTrainedModel

from tunediff.core.errors import UserError
from tunediff.models.settings import Adapted

# Sets of layers that an entry can name, for models whose file does not list them: the ends of the layers' names in
# common encoders and decoders. Where none of them occurs, all linear layers are taken.
TOGETHER = ["c_attn", "Wqkv", "query_key_value"]  # query, key and value in one layer
FEEDFORWARD = ["output.dense", "lin2", "mlp.c_proj", "mlp.Wo", "down_proj", "fc2", "DenseReluDense.wo"]
CONVENTIONS = {
    "attention": ["query", "value", "q_lin", "v_lin", "q_proj", "v_proj", "q", "v", *TOGETHER],
    "keys-values-feedforward": [
        *("key", "value", "k_lin", "v_lin", "k_proj", "v_proj", "k", "v", *TOGETHER, *FEEDFORWARD)
    ],
    "feedforward": FEEDFORWARD,
    # What each attention and feed-forward block adds to the residual stream.
    "outputs": [
        *("output.dense", "out_lin", "lin2", "c_proj", "Wo", "o_proj", "out_proj", "down_proj", "fc2"),
        *("SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo"),  # T5's
    ],
}


def named_layers(wanted: str | list[str], model: PreTrainedModel, conf: Adapted, place: str) -> str | list[str]:
    """Return the layers that the name of a set stands for, as the model's file lists them or the architecture tells.

    `wanted` may also be `all-linear`, a regular expression, or a list of names, as PEFT takes them. Raises UserError,
    which begins with `place`, if no layer is meant.
    """
    modules = [name for name, _ in model.named_modules()]
    if isinstance(wanted, list):
        unknown = next((name for name in wanted if not any(ends_in(module, [name]) for module in modules)), None)
    elif wanted in conf.targets:
        return conf.targets[wanted]
    elif wanted == "norms":
        return [n for n, module in model.base_model.named_modules() if type(module).__name__.endswith("Norm")]
    elif wanted in CONVENTIONS:
        ends = [end for end in CONVENTIONS[wanted] if any(ends_in(module, [end]) for module in modules)]
        return ends or "all-linear"
    else:
        unknown = None if wanted == "all-linear" or _matches_any(wanted, modules) else wanted
    if unknown is not None:
        sets = ", ".join(dict.fromkeys([*conf.targets, "all-linear", "norms", *CONVENTIONS]))
        raise UserError(f"{place}: no layer is named '{unknown}'; the sets are {sets}, or give a list of names")
    return wanted


def _matches_any(pattern: str, modules: list[str]) -> bool:
    with suppress(re.error):
        return any(re.fullmatch(pattern, module) for module in modules)
    return False


def head_modules(model: PreTrainedModel) -> list[str]:
    """The names of the head's modules: the classifier's parts beside the pretrained encoder or decoder.

    A language model's head is pretrained itself, so it is none of them.
    """
    if model.can_generate():
        return []
    return [
        name
        for name, module in model.named_children()
        if module is not model.base_model and any(True for _ in module.parameters())
    ]


def ends_in(module: str, names: Iterable[str]) -> bool:
    """Whether the name of a module ends in one of `names`, compared part by part between the dots."""
    return any(module == name or module.endswith(f".{name}") for name in names)

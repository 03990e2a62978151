"""Which adapters are trained and loaded, and which of their fields: both are lists of what is allowed.

PEFT has types and fields that load a second model, a tokenizer or a pickled file by its path, or that import a module
by its name. Here an adapter's config has numbers, choices and names of layers, and no path in it is followed.
"""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from tunediff.core.errors import UserError, nearest, reason
from tunediff.core.files import read_json
from tunediff.models.own_methods import OWN
from tunediff.tasks import task_of

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedConfig

# Methods of PEFT that classify, and load nothing but their own weights.
TYPES = {
    *("ADAMSS", "BEFT", "BOFT", "C3A", "CARTRIDGE", "DEFT", "DELORA", "FOURIERFT", "FROD", "GLORA", "GRALORA", "HIRA"),
    *("HRA", "IA3", "LILY", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT", "OSF", "PEANUT", "PREFIX_TUNING"),
    *("PROMPT_TUNING", "PSOFT", "PVERA", "P_TUNING", "RANDLORA", "ROAD", "SHIRA", "SUPERTUNING", "TINYLORA", "UNILORA"),
    *("VBLORA", "VERA", "WAVEFT"),
}

# Methods that an entry alone cannot run, and why.
NEED_MORE = {
    "ADALORA": "its ranks are redistributed at every step, which the shared training loop does not do",
    "ADAPTION_PROMPT": "it is for models that write texts",
    "CPT": "it is for models that write texts",
    "MULTITASK_PROMPT_TUNING": "it trains on several tasks at once; here is one",
    "POLY": "it trains on several tasks at once; here is one",
    "SHADOW": "it loads a second model from a path",
    "TRAINABLE_TOKENS": "it trains new tokens; here are none",
    "XLORA": "it mixes adapters that were trained before",
    # Values of LORA's `init_lora_weights`.
    **dict.fromkeys(("corda", "eva", "lora_ga"), "its first weights are computed from the data"),
}

# What every config of PEFT has; `auto_mapping` would name a class to import.
COMMON = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode"),
    *("peft_type", "peft_version", "revision", "task_type"),
}
LAYERS = {
    *("target_modules", "exclude_modules", "modules_to_save", "feedforward_modules"),
    *("layers_pattern", "target_parameters", "trainable_token_indices"),
}
NUMBERS_BY_LAYER = {
    *("rank_pattern", "alpha_pattern", "lambda_pattern", "block_size_pattern"),
    *("n_frequency_pattern", "target_svd_config"),
}
# Words that the config's class compares with those it knows.
CHOICES = {
    *("activation", "act_fn", "bias", "encoder_reparameterization_type"),
    *("init_weights", "prompt_tuning_init", "variant", "wavelet_family"),
}


def config_class(peft_type: str) -> type:
    """The config class of an allowed type."""
    if peft_type in OWN:
        return OWN[peft_type]
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING  # here: it takes seconds, and our own methods do without

    return PEFT_TYPE_TO_CONFIG_MAPPING[peft_type]


def check_entry(peft_type: str, fields: dict[str, Any], place: str) -> tuple[str, dict[str, Any]]:
    """Check an entry as far as this needs no model. Return the type in capitals, and the fields as its class has them.

    A field that is written as text, which `dvc exp run -S` may do with a number, comes back with its own type. Raises
    UserError, whose lines begin with `place`, if there is no such type, if the type needs more than an entry says, or
    if a field is unknown, not allowed, or its value is of another type.
    """
    peft_type = peft_type.upper()
    for kind in (peft_type, fields.get("init_lora_weights")):
        if isinstance(kind, str) and kind in NEED_MORE:
            raise UserError(f"{place}: {kind} cannot be trained by an entry alone: {NEED_MORE[kind]}")
    allowed = TYPES | OWN.keys()
    if peft_type not in allowed:
        raise UserError(f"{place}.peft_type: there is no method '{peft_type:.100}'; {nearest(peft_type, allowed)}")
    return peft_type, _check_fields(config_class(peft_type), fields, f"{place}.")


def check_own(own: dict[str, Any], place: str) -> None:
    """Raises UserError, whose lines begin with `place`, if `own_methods` has no such `peft_type` and `fields`."""
    if own["peft_type"] not in OWN:
        raise UserError(
            f"{place}.peft_type: there is no method '{own['peft_type']:.100}'; {nearest(own['peft_type'], OWN)}"
        )
    _check_fields(OWN[own["peft_type"]], own["fields"], f"{place}.fields.")


def read_adapter_config(folder: Path, config: "PreTrainedConfig") -> "PeftConfig":
    """The config in adapter_config.json of a trained adapter; `config` is what its config.json has.

    Raises UserError with a line for each value that training does not write there.
    """
    file = folder / "adapter_config.json"
    values = read_json(file)
    peft_type = values.get("peft_type") if isinstance(values, dict) else None
    if not isinstance(peft_type, str) or peft_type not in TYPES:
        why = f": {NEED_MORE[peft_type]}" if isinstance(peft_type, str) and peft_type in NEED_MORE else ""
        raise UserError(f"{file}: peft_type: {peft_type!r:.100} is not loaded{why}; train with another method")
    expected = {
        "auto_mapping": None,
        "task_type": task_of(config).peft_type,
        "base_model_name_or_path": config.tunediff["pretrained"],
    }
    problems = [
        f"{file}: {key}: expected {value!r}, found {values.get(key)!r:.200}; correct it, or train again"
        for key, value in expected.items()
        if values.get(key) != value
    ]
    if problems:
        raise UserError(*problems)
    kind = config_class(peft_type)
    # What is as it would be without being named. Of the fields that are not allowed, training writes no more.
    unset = {field.name: _default(field) for field in dataclasses.fields(kind)}
    named = {key: value for key, value in values.items() if key not in COMMON and value != unset.get(key)}
    fields = _check_fields(kind, named, f"{file}: ")
    try:
        return kind(**fields, **{key: values.get(key) for key in ("revision", *expected)}, inference_mode=True)
    except Exception as error:  # PEFT raises errors of any kind
        raise UserError(f"{file}: {reason(error)}; train again") from None


def _default(field: dataclasses.Field) -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _check_fields(config: type, fields: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the fields with values of their types. Raises UserError with a line, after `prefix`, for each mistake."""
    hints = typing.get_type_hints(config)
    known = {f.name for f in dataclasses.fields(config) if f.init} - COMMON
    allowed = {key for key in known if key in LAYERS | CHOICES | NUMBERS_BY_LAYER or _numbers(hints[key])}
    checked = {}
    problems = []
    for key, value in fields.items():
        if key not in known:
            problems.append(f"{prefix}{key}: {config.__name__} has no such field; {nearest(key, allowed)}")
            continue
        if key not in allowed:
            problems.append(
                f"{prefix}{key}: not accepted, because it may name a file, code or another model; leave it out"
            )
            continue
        kind = hints[key]
        if key in NUMBERS_BY_LAYER:
            kind = dict[str, int | float] | None
        elif key == "lora_alpha":
            kind = int | float | None  # of PiSSA and OLoRA, `saving.settle` writes a float
        try:
            checked[key] = TypeAdapter(kind).validate_python(value)
            json.dumps(checked[key], allow_nan=False)
        except ValidationError as error:
            problems.append(f"{prefix}{key}: {error.errors()[0]['msg']}, found {value!r:.200}")
        except ValueError:
            problems.append(f"{prefix}{key}: expected a finite number, found {value!r:.200}")
    if problems:
        raise UserError(*problems)
    return checked


def _numbers(kind: object) -> bool:
    """Whether values of a type are numbers, yes or no, one of some words, or lists of these."""
    if kind in (int, float, bool, types.NoneType) or typing.get_origin(kind) is Literal:
        return True
    containers = (typing.Union, types.UnionType, list, tuple)
    return typing.get_origin(kind) in containers and all(map(_numbers, typing.get_args(kind)))

"""Folders of models that somebody else made, or that were damaged: each is refused in one line, or answers right."""

import json
import shutil
from pathlib import Path
from typing import get_type_hints

import pytest
from conftest import save_as_trained

from tunediff.core.errors import UserError
from tunediff.models import peft_fields, saved
from tunediff.models.settings import ModelConf
from tunediff.use.classifier_loading import Loader

LABELS = ["down", "flat", "up"]
ADAPTERS = {
    "lora": {"peft_type": "LORA", "target_modules": ["query"]},
    "prompt": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4},
    "bottleneck": {"peft_type": "BOTTLENECK"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    """Folders as training leaves them, by what was trained; tests change copies."""
    root, conf = tmp_path_factory.mktemp("made"), ModelConf(name=str(tiny_model), max_length=16)
    return {name: save_as_trained(conf, LABELS, root / name, **ADAPTERS.get(name, {})) for name in ["full", *ADAPTERS]}


def changed(folder: Path, to: Path, file: str = "config.json", **changes: object) -> Path:
    """A copy with values of a JSON file changed; dictionaries are merged."""
    shutil.copytree(folder, to)
    values = json.loads((to / file).read_text())
    for key, value in changes.items():
        values[key] = values[key] | value if isinstance(value, dict) and values.get(key) else value
    (to / file).write_text(json.dumps(values))
    return to


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        saved.load_saved(folder)
    (line,) = error.value.lines
    return line


# --- config.json: what `tunediff` says


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *[("temperature", value, "temperature: Input should be ") for value in (0, -1, "warm", "1.5", None, True, {})],
        *[("temperature", value, "temperature: Input should be ") for value in (float("nan"), float("inf"), 1e-300)],
        ("confidences", {"0.8": "much"}, "confidences.0.8: Input should be a valid number, found 'much'"),
        ("confidences", {"often": 0.5}, "confidences.often"),
        ("threshold", 0.5, "threshold: "),
        ("pretrained", 3, "pretrained: Input should be a valid string, found 3"),
        ("seed", "17", "seed: Input should be a valid integer, found '17'"),
        ("task", "dance", "task: there is no task 'dance'; "),
        ("adapter", 3, "adapter: "),
        ("temprature", 1.5, "temprature: unknown key; did you mean temperature?"),
    ],
)
def test_a_wrong_value_of_tunediff_is_one_line(made: dict[str, Path], tmp_path: Path, key: str, value, expected: str):
    folder = changed(made["full"], tmp_path / "full", tunediff={key: value})
    line = refusal(folder)
    assert line.startswith(f"{folder}/config.json: tunediff.{expected}"), line
    assert line.endswith("; fetch the file with `dvc pull`, or train again")


def test_a_tunediff_that_is_none_is_one_line(made: dict[str, Path], tmp_path: Path):
    folder = changed(made["full"], tmp_path / "full", tunediff=None)
    assert refusal(folder).startswith(f"{folder}/config.json: tunediff: Input should be a valid dictionary")


# --- adapter_config.json


def refused_adapter(made: dict[str, Path], folder: Path, name: str = "lora", **changes: object) -> str:
    return refusal(changed(made[name], folder, "adapter_config.json", **changes))


def test_an_adapter_that_loads_a_second_model_by_a_path_is_refused(
    made: dict[str, Path], tiny_model: Path, tmp_path: Path
):
    """SHADOW would read pytorch_model.bin there, which is pickled."""
    second = shutil.copytree(tiny_model, tmp_path / "second")
    (second / "model.safetensors").rename(second / "pytorch_model.bin")
    line = refused_adapter(made, tmp_path / "lora", peft_type="SHADOW", shadow_model=str(second))
    assert "adapter_config.json: peft_type: 'SHADOW' is not loaded: it loads a second model from a path; train" in line


@pytest.mark.parametrize(
    ("name", "key", "value", "expected"),
    [
        ("lora", "peft_type", "XLORA", "'XLORA' is not loaded: it mixes adapters"),
        ("lora", "peft_type", "NEWEST", "'NEWEST' is not loaded; train"),
        ("lora", "peft_type", ["LORA"], "['LORA'] is not loaded; train"),
        ("lora", "task_type", "CAUSAL_LM", "expected 'SEQ_CLS', found 'CAUSAL_LM'"),
        ("lora", "auto_mapping", {"parent_library": "os"}, "expected None, found"),
        ("lora", "base_model_name_or_path", "package:os/x", "expected '"),
        ("lora", "megatron_core", "evil", "not accepted, because it may name a file, code or another model; leave it"),
        ("lora", "megatron_config", {"a": 1}, "not accepted"),
        ("lora", "eva_config", {"rho": 2}, "not accepted"),
        ("lora", "arrow_config", {"x": 1}, "not accepted"),
        ("lora", "loftq_config", {"loftq_bits": 4}, "not accepted"),
        ("lora", "weights_path", "x", "LoraConfig has no such field; "),
        ("lora", "r", "many", "Input should be a valid integer, "),
        ("lora", "lora_alpha", float("nan"), "expected a finite number, found nan"),
        ("lora", "alpha_pattern", {"query": float("inf")}, "expected a finite number, found "),
        ("lora", "target_modules", 3, "Input should be "),
        ("prompt", "tokenizer_name_or_path", "./second", "not accepted"),
        ("prompt", "tokenizer_kwargs", {"trust_remote_code": True}, "not accepted"),
    ],
)  # fmt: skip
def test_a_value_that_no_training_writes_is_one_line(made, tmp_path: Path, name: str, key: str, value, expected: str):
    line = refused_adapter(made, tmp_path / name, name, **{key: value})
    assert line.startswith(f"{tmp_path / name}/adapter_config.json: {key}: {expected}"), line


def test_an_own_adapter_that_no_training_writes_is_one_line(made: dict[str, Path], tmp_path: Path):
    for key, value, expected in (
        ("peft_type", "LORA", "peft_type: there is no method 'LORA'"),
        ("fields", {"width": 1}, "fields.width: Bottleneck has no such field"),
    ):
        own = {**json.loads((made["bottleneck"] / "config.json").read_text())["tunediff"]["adapter"], key: value}
        line = refusal(changed(made["bottleneck"], tmp_path / key, tunediff={"adapter": own}))
        assert line.startswith(f"{tmp_path / key}/config.json: tunediff.adapter.{expected}")


def test_a_second_adapter_is_checked_as_the_first(made: dict[str, Path], tmp_path: Path):
    loader = Loader()
    loader.load(made["lora"])
    with pytest.raises(UserError, match="megatron_core: not accepted"):
        loader.load(changed(made["lora"], tmp_path / "lora", "adapter_config.json", megatron_core="evil"))


def test_what_fields_may_hold_is_written_down():
    """A new type or field of PEFT is allowed once somebody has looked at it: no text but layers and known choices."""
    for peft_type in peft_fields.TYPES:
        config = peft_fields.config_class(peft_type)
        texts = {
            name for name, kind in get_type_hints(config).items() if "str" in str(kind) and "Literal" not in str(kind)
        }
        refused = texts - peft_fields.COMMON - peft_fields.LAYERS - peft_fields.CHOICES - peft_fields.NUMBERS_BY_LAYER
        assert refused <= {"megatron_core", "prompt_tuning_init_text", "tokenizer_name_or_path"}, peft_type

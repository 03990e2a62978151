"""Folders of models that somebody else made, or that were damaged: each is refused in one line, or answers right."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import save_as_trained

from tunediff.core.errors import UserError
from tunediff.models import saved
from tunediff.models.settings import ModelConf

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

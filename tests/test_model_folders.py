"""Folders of models that somebody else made, or that were damaged: each is refused in one line, or answers right."""

import json
import shutil
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from conftest import TEXTS, WHERE, save_as_trained
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, BertConfig, PreTrainedModel

from tunediff.core.errors import UserError
from tunediff.models import heads, loading, peft_fields, saved
from tunediff.models.inference import predict_logits
from tunediff.models.settings import ModelConf
from tunediff.report.packaging import add_fitted
from tunediff.tasks import task_of
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode
from tunediff.tasks.interface import Task
from tunediff.tasks.multilabel import Multilabel
from tunediff.tasks.tagging import Tagging
from tunediff.use.classifier_loading import Loader

LABELS = ["down", "flat", "up"]
KINDS = ("weight", "bias")
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
        ("thresholds", {"up": 2}, "thresholds.up: Input should be less than or equal to 1, found 2"),
        ("pretrained", 3, "pretrained: Input should be a valid string, found 3"),
        ("seed", "17", "seed: Input should be a valid integer, found '17'"),
        ("task", "dance", "task: there is no task 'dance'; "),
        ("adapter", 3, "adapter: "),
        ("temprature", 1.5, "temprature: unknown key; did you mean temperature or generate?"),
    ],
)
def test_a_wrong_value_of_tunediff_is_one_line(made: dict[str, Path], tmp_path: Path, key: str, value, expected: str):
    folder = changed(made["full"], tmp_path / "full", tunediff={key: value})
    line = refusal(folder)
    assert line.startswith(f"{folder}/config.json: tunediff.{expected}"), line
    assert line.endswith("; fetch the file with `dvc pull`, or train again")


def test_what_older_folders_say_of_their_writing_is_passed_over(made: dict[str, Path], tmp_path: Path):
    folder = changed(made["full"], tmp_path / "full", tunediff={"generating": {"forced_bos_token_id": 5}})
    assert saved.load_saved(folder)


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


# --- weights


def without(folder: Path, to: Path, file: str, *ends: str, **more: torch.Tensor) -> Path:
    """A copy without the weights whose names end so, and with more."""
    shutil.copytree(folder, to)
    weights = {name: each for name, each in load_file(to / file).items() if not name.endswith(ends or ("-",))}
    save_file(weights | more, to / file, {"format": "pt"})
    return to


@pytest.mark.parametrize(
    ("name", "ends", "named"),
    [
        ("full", ("classifier.weight", "classifier.bias"), "missing: classifier.bias, classifier.weight)"),
        ("full", ("layer.1.output.dense.weight",), "missing: bert.encoder.layer.1.output.dense.weight)"),
        ("lora", ("classifier.weight",), "missing: base_model.model.classifier.weight)"),
        ("lora", ("layer.0.attention.self.query.lora_B.weight",), "missing: base_model.model.bert.encoder.layer.0."),
        ("prompt", ("prompt_embeddings",), "missing: prompt_embeddings)"),
        ("bottleneck", ("layer.0.output.dense.up.bias",), "missing: bert.encoder.layer.0.output.dense.up.bias)"),
    ],
)
def test_missing_weights_are_named(made: dict[str, Path], tmp_path: Path, name: str, ends: tuple, named: str):
    file = "model.safetensors" if name == "full" else "adapter_model.safetensors"
    line = refusal(without(made[name], tmp_path / name, file, *ends))
    assert (
        line.startswith(f"{tmp_path / name}: the saved model cannot be loaded: its weights are not") and named in line
    )


@pytest.mark.parametrize("name", ["full", *ADAPTERS])
def test_weights_too_many_are_named(made: dict[str, Path], tmp_path: Path, name: str):
    file = "model.safetensors" if name == "full" else "adapter_model.safetensors"
    assert "(unexpected: odd.weight)" in refusal(
        without(made[name], tmp_path / name, file, **{"odd.weight": torch.ones(2)})
    )


def test_weights_of_another_shape_are_named(made: dict[str, Path], tmp_path: Path):
    more = {"classifier.bias": torch.zeros(4)}
    folder = without(made["full"], tmp_path / "full", "model.safetensors", "classifier.bias", **more)
    assert "(of another shape: classifier.bias)" in refusal(folder)


def test_a_second_adapter_without_its_head_is_named(made: dict[str, Path], tmp_path: Path):
    loader = Loader()
    loader.load(made["lora"])
    folder = without(made["lora"], tmp_path / "lora", "adapter_model.safetensors", "classifier.weight")
    with pytest.raises(UserError, match=r"^.*/lora: .*\(missing: base_model\.model\.classifier\.weight\)"):
        loader.load(folder)


# --- pretrained models


def load(folder: Path, labels: list[str] = LABELS, seed: int = 17, **more: object) -> PreTrainedModel:
    conf = ModelConf(name=str(folder), max_length=16, **more)
    return loading.load_pretrained(conf, WHERE, loading.load_tokenizer(conf, WHERE), Classification(labels), seed)


def test_what_a_pretrained_model_lacks_is_named_but_its_head_and_pooler(tiny_model: Path, tmp_path: Path):
    load(without(tiny_model, tmp_path / "pooler", "model.safetensors", "pooler.dense.weight", "pooler.dense.bias"))
    with pytest.raises(
        UserError, match=r"^conf/.*yaml: name: the weights of .*\(missing: bert.embeddings.LayerNorm.bias\)"
    ):
        load(without(tiny_model, tmp_path / "norm", "model.safetensors", "embeddings.LayerNorm.bias"))
    with pytest.raises(
        UserError, match=r"\(unexpected: encoder.layer.1.attention.output.LayerNorm.bias, .* and \d+ more\)"
    ):
        load(changed(tiny_model, tmp_path / "lower", num_hidden_layers=1))
    with pytest.raises(UserError, match=r"\(of another shape: bert.encoder.layer.0.intermediate.dense.bias, "):
        load(changed(tiny_model, tmp_path / "thin", intermediate_size=16))


ARCHITECTURES = {  # all weights of each head
    "google-bert/bert-base-uncased": {"classifier.weight", "classifier.bias"},
    "distilbert/distilbert-base-cased": {
        f"{part}.{each}" for part in ("pre_classifier", "classifier") for each in KINDS
    },
    "openai-community/gpt2": {"score.weight"},
    "answerdotai/ModernBERT-base": {"head.dense.weight", "head.norm.weight", "classifier.weight", "classifier.bias"},
    "FacebookAI/xlm-roberta-base": {f"classifier.{part}.{each}" for part in ("dense", "out_proj") for each in KINDS},
}


@pytest.mark.parametrize("id", ARCHITECTURES)
def test_a_classifiers_head_is_new_or_kept_by_its_labels_names(checkpoints: dict[str, Path], tmp_path: Path, id: str):
    base = next(file.parent for file in checkpoints[id].rglob("config.json"))
    folder = save_as_trained(ModelConf(name=str(base), max_length=16), LABELS, tmp_path / "classifier")
    own = load_file(folder / "model.safetensors")

    for labels in (LABELS, LABELS[::-1], ["no", "yes"]):
        model, again, other = (dict(load(folder, labels, seed).named_parameters()) for seed in (17, 17, 18))
        assert all(torch.equal(model[name], again[name]) for name in model)
        drawn = {name for name in model if not torch.equal(model[name], other[name])}
        new = {
            name for name in model if model[name].shape != own[name].shape or not torch.equal(model[name], own[name])
        }
        assert new == ARCHITECTURES[id] and drawn == {
            name for name in new if not name.endswith(("bias", "norm.weight"))
        }

    order = ["up", "down", "flat"]
    texts = encode(loading.load_tokenizer(ModelConf(name=str(folder), max_length=16), WHERE), TEXTS)
    first, kept = saved.load_saved(folder), load(folder, order, keep_head=True)
    answers = [predict_logits(model, first[1], texts, 4, "fp32", "test") for model in (first[0], kept)]
    assert np.array_equal(answers[1], answers[0][:, [LABELS.index(label) for label in order]])
    assert kept.config.tunediff["keep_head"] is True


def test_what_keep_head_cannot_keep_is_one_line(made: dict[str, Path], tiny_model: Path, tmp_path: Path):
    for folder, labels, expected in (
        (
            made["full"],
            ["down", "level", "up"],
            "has the labels down, flat, up, and the data down, level, up; without mat",
        ),
        (made["full"], ["down", "up"], "without match: flat; rename"),
        (tiny_model, LABELS, "has the labels of no classifier, and the data down, flat, up"),
        (changed(tiny_model, tmp_path / "named", id2label=dict(enumerate(LABELS))), LABELS, "it has no head for these"),
    ):
        with pytest.raises(UserError, match=f"^conf/model/tiny.yaml: keep_head: {folder}.*{expected}") as error:
            load(folder, labels, keep_head=True)
        assert len(error.value.lines) == 1


def test_an_adapter_under_a_kept_head_comes_back(made: dict[str, Path], tmp_path: Path):
    conf = ModelConf(name=str(made["full"]), max_length=16, keep_head=True)
    folder = save_as_trained(conf, LABELS[::-1], tmp_path / "adapter", **ADAPTERS["lora"])
    saved.load_saved(folder)
    head = load_file(made["full"] / "model.safetensors")["classifier.weight"]
    assert torch.equal(saved.load_original(folder)[0].classifier.weight, head.flip(0))


def test_layers_that_serve_any_head_stay_and_no_random_number_is_drawn_for_that(checkpoints, monkeypatch):
    """ModernBERT's masked-language head begins the classifier's, as before heads were looked at."""
    base = next(file.parent for file in checkpoints["answerdotai/ModernBERT-base"].rglob("config.json"))
    models = []
    for change in (lambda: None, lambda: monkeypatch.setattr(heads, "begin", lambda *_: None)):
        change()
        models.append((load(base).state_dict(), torch.random.get_rng_state()))
    assert torch.equal(models[0][1], models[1][1])
    assert all(torch.equal(models[0][0][name], models[1][0][name]) for name in models[0][0])
    assert torch.equal(models[0][0]["head.dense.weight"], load_file(base / "model.safetensors")["head.dense.weight"])


# --- many labels


@pytest.mark.parametrize("task", [Classification, Multilabel, Tagging])
def test_labels_keep_their_numbers_where_a_file_has_them_sorted_as_text(task: type[Task], tmp_path: Path):
    """As packaging once wrote them: "10" before "2", so that a model of many labels answered others than it meant."""
    labels = [f"label {number}" for number in range(13)]
    BertConfig(**task(labels).config(), tunediff={"task": task.name}).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    add_fitted(file, {"temperature": 1.5})
    assert list(json.loads(file.read_text())["id2label"]) == list(
        map(str, range(len(task(labels).config()["id2label"])))
    )
    assert task_of(AutoConfig.from_pretrained(tmp_path)).labels == labels
    file.write_text(json.dumps(json.loads(file.read_text()), sort_keys=True))
    assert task_of(AutoConfig.from_pretrained(tmp_path)).labels == labels


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_packaged_model_of_many_labels_names_what_it_answers(kind: str, tiny_model: Path, tmp_path: Path):
    labels = [f"label {number}" for number in range(13)]
    folder = save_as_trained(ModelConf(name=str(tiny_model), max_length=16), labels, tmp_path, **ADAPTERS.get(kind, {}))
    expected = Loader().load(folder).predict(TEXTS)
    add_fitted(folder / "config.json", {})
    model = Loader().load(folder)
    assert model.names == labels and np.array_equal(model.predict(TEXTS), expected)

"""Adapters over quantized weights (QLoRA): trained, reloaded, merged; refused where they are not for it."""

import json
from pathlib import Path

import gguf_files
import hub_models
import numpy as np
import pytest
import torch
from conftest import ROOT, TEXTS, WHERE, Project
from datasets import ClassLabel, Dataset, Features, Value

from stages import settings as settings_stage
from tunediff.core.errors import UserError
from tunediff.models import loading, quantized, saved, saving
from tunediff.models.adapters import adapt
from tunediff.models.inference import predict_logits
from tunediff.models.settings import ModelConf
from tunediff.settings import resolve
from tunediff.settings.study import load
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode
from tunediff.training import loop
from tunediff.use import export_folder

LABELS = ["down", "flat", "up"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.make_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", [*hub_models.ENGLISH, *TEXTS])


def adapted(file: Path, kind: str | None, peft_type: str = "LORA", **fields: object):
    conf = ModelConf(name=str(file), max_length=32, quantize=kind)
    tokenizer = loading.load_tokenizer(conf, WHERE)
    model = loading.load_pretrained(conf, WHERE, tokenizer, Classification(LABELS), 17)
    return adapt(model, tokenizer, peft_type, fields or LORA, conf, "entry"), tokenizer


def logits(model, tokenizer, precision: str = "fp32") -> np.ndarray:
    return predict_logits(model, tokenizer, encode(tokenizer, TEXTS), len(TEXTS), precision, "test")


def split(texts: list[str]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=LABELS)})
    return Dataset.from_dict({"text": texts, "label": [i % 3 for i in range(len(texts))]}, features=features)


@pytest.mark.parametrize(("kind", "precision"), [("nf4", "fp32"), ("nf4", "bf16"), ("int8", "fp32")])
def test_an_adapter_is_trained_over_it_and_comes_back(tiny: Path, tmp_path: Path, kind: str, precision: str):
    pytest.importorskip("bitsandbytes")
    model, tokenizer = adapted(tiny, kind)
    base = model.base_model.model.model.layers[0].mlp.up_proj.base_layer
    before = base.weight.clone()
    assert (type(base).__name__, base.weight.element_size()) == ({"nf4": "Linear4bit", "int8": "Linear8bitLt"}[kind], 1)
    settings = resolve.training(load(ROOT), "lora-v1")
    few = settings.train.model_copy(update={"epochs": 2, "batch_size": 4, "patience": 0, "select_by": "loss"})
    settings = settings.model_copy(update={"train": few, "learning_rate": 1e-2, "precision": precision})
    texts, task = hub_models.ENGLISH[:16], Classification(LABELS)
    fitted = loop.fit(model, tokenizer, task, split(texts), split(TEXTS), settings, 17, None)
    fitted.checkpoints.remove()
    assert torch.equal(base.weight, before)
    assert np.ptp(fitted.validation_logits, axis=0).max() > 1e-2

    saving.save(fitted.model, tokenizer, tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["tunediff"]["quantize"] == kind
    reloaded, words = saved.load_saved(tmp_path / "saved")
    assert type(reloaded.base_model.model.model.layers[0].mlp.up_proj.base_layer) is type(base)
    assert np.array_equal(logits(reloaded, words, precision), fitted.validation_logits)


@pytest.mark.parametrize(("kind", "tolerance"), [("nf4", 1e-4), ("int8", 0.1)])
def test_it_is_merged_with_floats_of_the_same_values(tiny: Path, tmp_path: Path, kind: str, tolerance: float):
    """8 bits round what comes into a layer, too; the merged model does not."""
    pytest.importorskip("bitsandbytes")
    model, tokenizer = adapted(tiny, kind)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn(weights.shape) * 0.1)
    saving.save(model, tokenizer, tmp_path)
    merged = export_folder.merged(tmp_path)
    expected = logits(model, tokenizer)
    assert np.abs(logits(merged, tokenizer) - expected).max() < tolerance * np.ptp(expected)
    assert {type(layer).__name__ for layer in merged.modules() if "Linear" in type(layer).__name__} == {"Linear"}
    merged.save_pretrained(tmp_path / "merged")
    config = json.loads((tmp_path / "merged/config.json").read_text())
    assert "quantization_config" not in config and not {"quantize", "head"} & set(config["tunediff"])


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_its_weights_are_counted_one_by_one_and_weigh_what_they_take(tiny: Path, kind: str):
    pytest.importorskip("bitsandbytes")
    model, _ = adapted(tiny, kind)
    floats, counts = (loading.count_parameters(one) for one in (adapted(tiny, None)[0], model))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    kept = {name: tensor for name, tensor in model.state_dict().items() if name not in trained}
    scales = {"nf4": (".weight", ".absmax", ".nested_absmax"), "int8": (".weight", ".SCB")}[kind]
    taken = sum(tensor.nbytes for name, tensor in kept.items() if name.endswith(scales))
    assert counts["frozen_bytes"] == pytest.approx(taken, rel=0.01)
    assert counts["frozen_bytes"] < 0.9 * 4 * (floats["total_parameters"] - floats["trainable_parameters"])
    assert counts == {**floats, "frozen_bytes": counts["frozen_bytes"]}


def test_its_head_is_the_one_that_floats_get(tiny: Path):
    pytest.importorskip("bitsandbytes")
    heads = [adapted(tiny, kind)[0].base_model.model.score for kind in ("nf4", None)]
    assert torch.equal(*(head.modules_to_save["default"].weight for head in heads))


def test_what_adapters_train_beside_the_head_stays_in_floats(tiny_model: Path, tmp_path: Path):
    pytest.importorskip("bitsandbytes")
    conf = ModelConf(name=str(tiny_model), max_length=16, quantize="nf4", head=["pooler"])
    tokenizer = loading.load_tokenizer(conf, WHERE)
    model = loading.load_pretrained(conf, WHERE, tokenizer, Classification(LABELS), 17)
    assert type(model.bert.pooler.dense) is torch.nn.Linear
    model = adapt(model, tokenizer, "LORA", LORA, conf, "entry")
    saving.save(model, tokenizer, tmp_path)
    assert np.array_equal(logits(*saved.load_saved(tmp_path)), logits(model, tokenizer))


@pytest.mark.parametrize(
    ("peft_type", "fields"), [("BOTTLENECK", {"size": 4}), ("LORA", {**LORA, "init_lora_weights": "pissa"})]
)
def test_what_changes_pretrained_weights_is_refused(tiny: Path, peft_type: str, fields: dict):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(UserError, match=f"^entry: {peft_type} does not fit .*: nf4 weights can be neither trained nor"):
        adapted(tiny, "nf4", peft_type, **fields)


def test_without_its_package_one_line_says_what_to_install(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantized, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"^conf/model/tiny\.yaml: quantize: nf4 needs the package bitsandbytes; inst"):
        adapted(tiny, "nf4")


def test_full_is_refused_by_settings_and_may_be_left_out(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project.folder)
    project.edit_yaml("conf/model/tiny.yaml", quantize="nf4")
    with pytest.raises(UserError, match=r"params\.yaml: evaluate\.methods: full trains every weight, which nf4"):
        load()
    evaluate = project.read_yaml("params.yaml")["evaluate"]
    project.edit_yaml("params.yaml", evaluate={**evaluate, "methods": ["lora-v1", "lora-v2"]})
    monkeypatch.setattr("sys.argv", ["settings", "--out", "data/settings"])
    settings_stage.main()
    assert project.read_json("data/settings/training/lora-v1.json")["model"]["quantize"] == "nf4"
    assert not (project.folder / "data/settings/training/full.json").exists()
    # What trains no adapter reads floats.
    assert "quantize" not in project.read_json("data/settings/baseline.json")["model"]
    # Nor may anything else ask for it.
    rows = project.read_yaml("params.yaml")["training_rows"]
    project.edit_yaml("params.yaml", training_rows={**rows, "shares": [0.5]})
    with pytest.raises(UserError, match=r"training_rows\.methods: full trains every weight"):
        load()
    project.edit_yaml("conf/model/tiny.yaml", quantize=None)
    with pytest.raises(UserError, match=r"evaluate\.methods: full would be trained but not evaluated; add it"):
        load()

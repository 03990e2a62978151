"""From an entry of params.yaml to an adapted model: what is checked, what is derived, what is refused."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TEXTS, WHERE
from peft import PEFT_TYPE_TO_CONFIG_MAPPING

from tunediff.core.errors import UserError
from tunediff.models import loading, saved, saving
from tunediff.models.adapters import adapt
from tunediff.models.inference import predict_logits
from tunediff.models.peft_fields import check_entry
from tunediff.models.settings import ModelConf
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode
from tunediff.training.methods import make_optimizer
from tunediff.training.settings import PeftMethod
from tunediff.training.trainer import BestWeights

# Of PEFT's methods: for other tasks or several, for other architectures, or wanting more than an entry says.
CANNOT_CLASSIFY = {
    *("ADALORA", "ADAPTION_PROMPT", "CPT", "MULTITASK_PROMPT_TUNING", "POLY", "SHADOW", "TRAINABLE_TOKENS", "XLORA")
}


@pytest.fixture
def bert(checkpoints: dict[str, Path]) -> ModelConf:
    return conf(checkpoints["google-bert/bert-base-uncased"])


def conf(folder: Path, **more: object) -> ModelConf:
    """A model's file that says nothing but which model."""
    return ModelConf(name=str(next(file.parent for file in folder.rglob("config.json"))), max_length=32, **more)


def load(model: ModelConf):
    tokenizer = loading.load_tokenizer(model, WHERE)
    return loading.load_pretrained(model, WHERE, tokenizer, Classification(["down", "flat", "up"]), 17), tokenizer


def adapted(model: ModelConf, peft_type: str, **fields: object):
    base, tokenizer = load(model)
    return adapt(base, tokenizer, peft_type, fields, model, "entry")


def message(model: ModelConf, peft_type: str, **fields: object) -> str:
    with pytest.raises(UserError) as error:
        adapted(model, peft_type, **fields)
    return str(error.value)


def logits(model, tokenizer, texts: list[str]) -> np.ndarray:
    return predict_logits(model, tokenizer, encode(tokenizer, texts), len(texts), "fp32", "test")


# --- fields


@pytest.mark.parametrize(
    ("peft_type", "fields", "expected"),
    [
        ("LORAX", {}, ".peft_type: there is no method 'LORAX'; did you mean LORA"),
        ("LORA", {"rank": 8}, ".rank: LoraConfig has no such field"),
        ("LORA", {"lora_alfa": 8}, ".lora_alfa: LoraConfig has no such field; did you mean lora_alpha"),
        ("LORA", {"r": "many"}, ".r: Input should be a valid integer, .* found 'many'"),
        ("LORA", {"base_model_name_or_path": "x"}, ".base_model_name_or_path: LoraConfig has no such field"),
        (
            "LORA",
            {"megatron_core": "evil"},
            ".megatron_core: not accepted, because it may name a file, code or another",
        ),
        (
            "LORA",
            {"corda_config": {"cache_file": "x"}},
            ".corda_config: not accepted, because it may name a file, code",
        ),
        (
            "PROMPT_TUNING",
            {"tokenizer_name_or_path": "x"},
            ".tokenizer_name_or_path: not accepted, because it may name",
        ),
        ("SHADOW", {"shadow_model": "./x"}, ": SHADOW cannot be trained by an entry alone: it loads a second model"),
        ("LORA", {"lora_dropout": float("nan")}, ".lora_dropout: expected a finite number, found nan"),
        ("LORA", {"rank_pattern": {"query": "x"}}, ".rank_pattern: Input should be a valid integer, .* found "),
        ("BOTTLENECK", {"width": 8}, ".width: Bottleneck has no such field"),
        ("BOTTLENECK", {"activation": "step"}, ": BOTTLENECK does not fit .*: no activation is named 'step'"),
        ("ADALORA", {}, ": ADALORA cannot be trained by an entry alone: its ranks are redistributed"),
        ("LORA", {"target_modules": "atention"}, ".target_modules: no layer is named 'atention'; the sets are all-li"),
        ("LORA", {"init_lora_weights": "eva"}, ": eva cannot be trained by an entry alone: its first weights"),
        ("LORA", {"target_modules": "*query"}, r".target_modules: no layer is named '\*query'"),
        ("LORA", {"target_modules": ["query", "qqq"]}, ".target_modules: no layer is named 'qqq'"),
        ("OFT", {"r": 8, "oft_block_size": 8}, ": OFT does not fit .*: .*oft_block_size"),
    ],
)
def test_a_mistake_in_an_entry_is_one_line(bert: ModelConf, peft_type: str, fields: dict, expected: str):
    line = message(bert, peft_type, **fields)
    assert "\n" not in line
    assert re.match(f"entry{expected}", line), line


def test_all_wrong_fields_are_told_at_once(bert: ModelConf):
    assert message(bert, "LORA", rank=8, alpha=8).count("has no such field") == 2


def test_a_number_written_as_text_is_a_number(bert: ModelConf):
    """As `dvc exp run -S` writes 1e-5."""
    config = adapted(bert, "VERA", target_modules="attention", r="16", d_initial="1e-05").peft_config["default"]
    assert (config.r, config.d_initial) == (16, 1e-5)


def test_an_entry_is_checked_without_a_model():
    assert check_entry("lora", {"r": "16"}, "entry") == ("LORA", {"r": 16})
    with pytest.raises(UserError, match=r"^entry\.width: Bottleneck has no such field"):
        check_entry("bottleneck", {"width": 8}, "entry")
    with pytest.raises(UserError, match=r"^entry: lora_ga cannot be trained by an entry alone"):
        check_entry("LORA", {"init_lora_weights": "lora_ga"}, "entry")
    with pytest.raises(UserError, match=r"^entry\.init_lora_weights: .* found \['eva'\]"):
        check_entry("LORA", {"init_lora_weights": ["eva"]}, "entry")


def test_the_type_may_be_written_small(bert: ModelConf):
    assert adapted(bert, "lora", target_modules="attention").peft_config["default"].r == 8


# --- layers and head


def test_the_models_file_comes_first(bert: ModelConf):
    model = adapted(bert.model_copy(update={"targets": {"attention": ["key"]}}), "LORA", target_modules="attention")
    assert model.targeted_module_names == [f"bert.encoder.layer.{i}.attention.self.key" for i in range(2)]


@pytest.mark.parametrize(
    ("id", "attention", "head"),
    [
        ("google-bert/bert-base-uncased", {"query", "value"}, {"classifier"}),
        ("distilbert/distilbert-base-cased", {"q_lin", "v_lin"}, {"pre_classifier", "classifier"}),
        ("openai-community/gpt2", {"c_attn"}, {"score"}),
        ("Qwen/Qwen2.5-1.5B", {"q_proj", "v_proj"}, {"score"}),
        ("answerdotai/ModernBERT-base", {"Wqkv"}, {"head", "classifier"}),
        ("FacebookAI/xlm-roberta-base", {"query", "value"}, {"classifier"}),
    ],
)
def test_layers_and_head_follow_from_the_architecture(checkpoints, id: str, attention: set[str], head: set[str]):
    model = adapted(conf(checkpoints[id]), "LORA", target_modules="attention")
    assert {name.split(".")[-1] for name in model.targeted_module_names} == attention
    trained = {name for name, weights in model.named_parameters() if weights.requires_grad and "lora_" not in name}
    assert {name.removeprefix("base_model.model.").split(".")[0] for name in trained} == head
    everywhere = adapted(conf(checkpoints[id]), "LORA", target_modules="all-linear")
    assert not [name for name in everywhere.targeted_module_names if name.split(".")[0] in head]
    assert len(everywhere.targeted_module_names) > len(model.targeted_module_names)


@pytest.mark.parametrize("peft_type", ["LORA", "LINEAR_PROBE"])
def test_an_entry_may_leave_the_files_head_out(bert: ModelConf, peft_type: str):
    bert = bert.model_copy(update={"head": ["pooler"]})

    def trains_pooler(**fields) -> bool:
        model = adapted(bert, peft_type, **fields)
        return any("pooler" in name and weights.requires_grad for name, weights in model.named_parameters())

    assert trains_pooler()
    assert not trains_pooler(modules_to_save=[])


def test_without_target_modules_peft_chooses_the_layers(bert: ModelConf):
    model = adapted(bert, "LORA", target_modules=None)
    assert {name.split(".")[-1] for name in model.targeted_module_names} == {"query", "value"}


def test_norms_are_found_by_their_class(checkpoints):
    gpt2 = adapted(conf(checkpoints["openai-community/gpt2"]), "LN_TUNING", target_modules="norms")
    assert len(gpt2.targeted_module_names) == 2 * 2 + 1


@pytest.mark.parametrize("fields", [{"init_lora_weights": "pissa"}, {"init_lora_weights": "olora", "use_rslora": True}])
def test_an_adapter_that_begins_with_the_weights_is_saved_without_them(bert, tmp_path, monkeypatch, fields: dict):
    """Loading decomposes nothing: what comes out of that may differ from machine to machine."""
    base, tokenizer = load(bert)
    query = "encoder.layer.0.attention.self.query"
    weight = base.bert.get_submodule(query).weight.detach().clone()
    fields |= {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "rank_pattern": {"key": 2}}
    model = adapt(base, tokenizer, "LORA", fields, bert, "entry")
    with torch.no_grad():  # as if it were trained
        for name, weights in model.named_parameters():
            if "lora_" in name:
                weights.add_(torch.randn(weights.shape) * 0.05)
    before = logits(model, tokenizer, TEXTS)

    saving.settle(model)
    settled = logits(model, tokenizer, TEXTS)
    assert np.allclose(settled, before, atol=1e-5)
    assert torch.equal(model.base_model.model.bert.get_submodule(query).base_layer.weight, weight)

    saving.save(model, tokenizer, tmp_path / "saved")
    for decomposition in ("svd", "qr"):
        monkeypatch.delattr(torch.linalg, decomposition)
    reloaded, words = saved.load_saved(tmp_path / "saved")
    assert np.array_equal(logits(reloaded, words, TEXTS), settled)
    assert reloaded.peft_config["default"].r == 8 and reloaded.peft_config["default"].rank_pattern == {"key": 4}


# --- our own methods


def test_bitfit_trains_biases_and_head_alone(bert: ModelConf):
    model = adapted(bert, "BITFIT")
    trained = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert trained == {n for n, _ in model.named_parameters() if n.endswith(".bias")} | {"classifier.weight"}


def test_a_linear_probe_trains_the_head_alone(bert: ModelConf):
    model = adapted(bert, "LINEAR_PROBE")
    trained = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert trained == {"classifier.weight", "classifier.bias"}


def test_bottlenecks_start_as_nothing_and_stand_behind_both_blocks(bert: ModelConf):
    base, tokenizer = load(bert)
    before = logits(base, tokenizer, TEXTS)
    model = adapt(base, tokenizer, "BOTTLENECK", {"size": 4}, bert, "entry")
    assert np.array_equal(logits(model, tokenizer, TEXTS), before)
    trained = sum(w.numel() for n, w in model.named_parameters() if w.requires_grad and "classifier" not in n)
    # In each of two layers, behind attention and behind feed-forward: 32 to 4 and back, with biases.
    assert trained == 2 * 2 * (32 * 4 + 4 + 4 * 32 + 32)


def test_own_weights_of_another_shape_are_refused(bert: ModelConf, tmp_path: Path):
    model, tokenizer = adapted(bert, "BOTTLENECK", size=4), load(bert)[1]
    saving.save(model, tokenizer, tmp_path / "saved")
    config = json.loads((tmp_path / "saved/config.json").read_text())
    config["tunediff"]["adapter"] |= {"peft_type": "BITFIT", "fields": {}}
    (tmp_path / "saved/config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError, match=r"cannot be loaded: its weights are not those that its config .*, unexpected: "
    ):
        saved.load_saved(tmp_path / "saved")


# --- padding


@pytest.mark.parametrize(("peft_type", "fields"), [("P_TUNING", {}), ("PREFIX_TUNING", {"prefix_projection": True})])
def test_a_prompt_made_by_a_network_is_saved_as_it_answers(bert: ModelConf, tmp_path: Path, peft_type: str, fields):
    fields = {"num_virtual_tokens": 4, "encoder_hidden_size": 8, **fields}
    base, tokenizer = load(bert)
    model = adapt(base, tokenizer, peft_type, fields, bert, "entry")
    before = logits(model, tokenizer, TEXTS)
    saving.settle(model)
    assert np.allclose(logits(model, tokenizer, TEXTS), before, atol=1e-6)
    saving.save(model, tokenizer, tmp_path / "saved")
    assert np.allclose(logits(*saved.load_saved(tmp_path / "saved"), TEXTS), before, atol=1e-6)


@pytest.mark.parametrize("peft_type", ["PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"])
def test_gpt2_with_a_prompt_answers_the_same_with_and_without_padding(checkpoints, tmp_path: Path, peft_type: str):
    model = conf(checkpoints["openai-community/gpt2"])
    base, tokenizer = load(model)
    tuned = adapt(base, tokenizer, peft_type, {"num_virtual_tokens": 4}, model, "entry")
    alone = np.concatenate([logits(tuned, tokenizer, [text]) for text in TEXTS])
    assert np.ptp(alone, axis=0).max() > 1e-2
    assert np.allclose(logits(tuned, tokenizer, TEXTS), alone, atol=1e-5)


def test_without_moving_the_padding_a_prompt_is_refused(checkpoints, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "padding_first", lambda *_: None)
    line = message(conf(checkpoints["openai-community/gpt2"]), "PROMPT_TUNING", num_virtual_tokens=4)
    assert "PROMPT_TUNING does not fit" in line and "it would read the padding" in line


# --- optimizers


def test_loraplus_steps_faster_on_b(bert: ModelConf):
    entry = PeftMethod(peft_type="LORA", learning_rate=1e-3, optimizer="loraplus", loraplus_lr_ratio=8)
    model = adapted(bert, "LORA", target_modules="attention")
    groups = make_optimizer(model, entry, 0.01, "entry").param_groups
    rates = {id(weights): group["lr"] for group in groups for weights in group["params"]}
    named = {name: rates[id(weights)] for name, weights in model.named_parameters() if weights.requires_grad}
    assert {rate for name, rate in named.items() if "lora_A" in name} == {1e-3}
    assert {rate for name, rate in named.items() if "lora_B" in name} == {8e-3}


def test_lorafa_leaves_a_alone(bert: ModelConf):
    entry = PeftMethod(peft_type="LORA", learning_rate=1e-3, optimizer="lorafa")
    model = adapted(bert, "LORA", target_modules="attention")
    assert type(make_optimizer(model, entry, 0.01, "entry")).__name__ == "LoraFAOptimizer"
    trained = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert any("lora_B" in name for name in trained) and not any("lora_A" in name for name in trained)


def test_an_optimizer_of_lora_is_for_lora_alone(bert: ModelConf):
    entry = PeftMethod(peft_type="IA3", learning_rate=1e-3, optimizer="lorafa")
    with pytest.raises(UserError, match=r"entry\.optimizer: lorafa is for peft_type LORA, not IA3"):
        make_optimizer(None, entry, 0.01, "entry")


def test_lorafa_is_refused_where_weights_are_sharded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    entry = PeftMethod(peft_type="LORA", learning_rate=1e-3, optimizer="lorafa")
    with pytest.raises(UserError, match=r"entry\.optimizer: lorafa needs whole weights"):
        make_optimizer(None, entry, 0.01, "entry")


# --- the best epoch


@pytest.mark.parametrize(("select_by", "figures", "best"), [("f1", [0.5, 0.7, 0.7, 0.6], 1), ("loss", [2, 1, 3, 1], 1)])
def test_the_best_epochs_weights_are_kept(select_by: str, figures: list[float], best: int):
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad = False
    callback = BestWeights(Classification.figures[select_by])
    for epoch, figure in enumerate(figures):
        with torch.no_grad():
            model.weight.fill_(epoch)
        callback.on_evaluate(None, None, None, model, {f"eval_{select_by}": figure, "epoch": epoch})
    assert callback.weights.keys() == {"weight"}
    assert callback.weights["weight"].unique().tolist() == [best]
    assert callback.metrics["epoch"] == best


def test_a_figure_that_is_no_number_is_never_the_best():
    callback = BestWeights(Classification.figures["loss"])
    callback.on_evaluate(None, None, None, torch.nn.Linear(2, 2), {"eval_loss": float("nan")})
    assert not callback.metrics


# --- any method of PEFT, with no more than its name and where it goes


@pytest.mark.parametrize("peft_type", PEFT_TYPE_TO_CONFIG_MAPPING, ids=lambda peft_type: peft_type.value)
def test_any_method_of_peft_comes_back_or_is_refused(bert: ModelConf, tmp_path: Path, peft_type):
    known = {field.name for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[peft_type])}
    usual = {
        "target_modules": "attention",
        "feedforward_modules": "feedforward",
        "num_virtual_tokens": 4,
        **({"target_modules": "keys-values-feedforward"} if "feedforward_modules" in known else {}),
    }
    # Where a default is too large for layers of width 32.
    small = {"C3A": {"block_size": 8}, "MISS": {"r": 8}, "ROAD": {"group_size": 8}, "SHIRA": {"r": 4}}
    small |= {"VBLORA": {"vector_length": 8}, "WAVEFT": {"n_frequency": 64}}
    fields = {key: value for key, value in usual.items() if key in known} | small.get(peft_type.value, {})
    base, tokenizer = load(bert)
    if peft_type.value in CANNOT_CLASSIFY:
        with pytest.raises(UserError, match=f"^entry: {peft_type.value} (does not fit|cannot be trained)"):
            adapt(base, tokenizer, peft_type.value, fields, bert, "entry")
        return
    model = adapt(base, tokenizer, peft_type.value, fields, bert, "entry")
    with torch.no_grad():  # as if it were trained
        for weights in model.parameters():
            if weights.requires_grad and weights.is_floating_point():
                weights.add_(torch.randn(weights.shape) * 0.1)
    saving.settle(model)
    saving.save(model, tokenizer, tmp_path / "saved")
    reloaded, words = saved.load_saved(tmp_path / "saved")
    assert np.array_equal(logits(reloaded, words, TEXTS), logits(model, tokenizer, TEXTS))

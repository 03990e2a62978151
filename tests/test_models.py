"""Loading, saving and reloading classifiers, with the traps of each architecture."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tunediff.core.errors import UserError
from tunediff.models import loading, saved, saving
from tunediff.models.adapters import adapt
from tunediff.models.inference import predict_logits, probabilities
from tunediff.models.settings import ModelConf
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode

WHERE = Path("conf/model/tiny.yaml")
LABELS = ["bearish", "bullish", "neutral"]
TEXTS = ["shares rose", "wheat fell on monday in early trade", "the index", "copper jumped after the report"]
LORA = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}


def conf(name: Path, **changes: object) -> ModelConf:
    return ModelConf(**{"name": str(name), "max_length": 16, "learning_rate": {"full": 1e-3}, **changes})


def load(model: ModelConf, seed: int = 17):
    tokenizer = loading.load_tokenizer(model, WHERE)
    return loading.load_pretrained(model, WHERE, tokenizer, Classification(LABELS), seed), tokenizer


def logits(model, tokenizer, texts: list[str] = TEXTS, batch_size: int = 4) -> np.ndarray:
    return predict_logits(model, tokenizer, encode(tokenizer, texts), batch_size, "fp32", "test")


def other_architecture(folder: Path, tiny_model: Path, kind: str) -> Path:
    """A random DistilBERT or GPT-2 with the tiny BERT's words; GPT-2 has no padding token, as on the Hub."""
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel, GPT2Config, GPT2Model, set_seed

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    set_seed(0)
    if kind == "gpt2":
        tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
        network = GPT2Model(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64))
    else:
        network = DistilBertModel(
            DistilBertConfig(vocab_size=len(tokenizer), dim=32, hidden_dim=64, n_layers=2, n_heads=2)
        )
    tokenizer.save_pretrained(folder)
    network.save_pretrained(folder)
    return folder


def test_the_same_seed_gives_the_same_new_head(tiny_model: Path):
    first, second, other = (load(conf(tiny_model), seed)[0].classifier.weight for seed in (17, 17, 18))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_labels_and_origin_are_written_into_the_config(tiny_model: Path):
    model, _ = load(conf(tiny_model))
    assert model.config.id2label == {0: "bearish", 1: "bullish", 2: "neutral"}
    assert model.config.tunediff["pretrained"] == str(tiny_model)


def test_order_and_batches_do_not_change_an_answer(tiny_model: Path):
    model, tokenizer = load(conf(tiny_model))
    alone = np.concatenate([logits(model, tokenizer, [text]) for text in TEXTS])
    assert np.allclose(logits(model, tokenizer), alone, atol=1e-5)
    assert np.allclose(logits(model, tokenizer, TEXTS[::-1], batch_size=3), alone[::-1], atol=1e-5)
    assert np.allclose(probabilities(alone).sum(1), 1)


def test_gpt2_pads_on_the_right_and_answers_as_without_padding(tmp_path: Path, tiny_model: Path):
    """A padding token in the tokenizer is not enough: without `config.pad_token_id` the model reads the padding."""
    model, tokenizer = load(conf(other_architecture(tmp_path / "gpt2", tiny_model, "gpt2")))
    assert tokenizer.padding_side == "right"
    assert model.config.pad_token_id == tokenizer.pad_token_id == tokenizer.eos_token_id
    alone = np.concatenate([logits(model, tokenizer, [text]) for text in TEXTS])
    assert np.allclose(logits(model, tokenizer), alone, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "head", "trained"),
    [
        ("bert", ["pooler"], {"classifier", "pooler", "adapters"}),
        ("distilbert", [], {"classifier", "pre_classifier", "adapters"}),
        ("gpt2", [], {"score", "adapters"}),
    ],
)
def test_adapter_and_head_come_back_whole(
    tmp_path: Path, tiny_model: Path, kind: str, head: list[str], trained: set[str]
):
    """LoRA on all linear layers fails on DistilBERT unless its `pre_classifier` counts as a part of the head."""
    source = tiny_model if kind == "bert" else other_architecture(tmp_path / kind, tiny_model, kind)
    base, tokenizer = load(model := conf(source, head=head))
    tuned = adapt(base, tokenizer, "LORA", LORA, model, "entry")
    parts = {
        next((part for part in ("pre_classifier", "classifier", "score", "pooler") if f".{part}." in name), "adapters")
        for name, weights in tuned.named_parameters()
        if weights.requires_grad
    }
    assert parts == trained
    with torch.no_grad():  # as if it were trained: every part that is saved differs from a new one
        for weights in tuned.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn(weights.shape) * 0.1)
    (tmp_path / "saved").mkdir()
    saving.save(tuned, tokenizer, tmp_path / "saved")
    reloaded, reloaded_tokenizer = saved.load_saved(tmp_path / "saved")
    assert np.array_equal(logits(reloaded, reloaded_tokenizer), logits(tuned, tokenizer))
    assert reloaded.config.id2label == base.config.id2label
    assert not np.allclose(logits(*saved.load_original(tmp_path / "saved")), logits(tuned, tokenizer))


def test_equal_adapters_are_saved_as_equal_bytes(tmp_path: Path, tiny_model: Path):
    for name in ("first", "second"):
        base, tokenizer = load(conf(tiny_model, head=["pooler"]))
        (tmp_path / name).mkdir()
        saving.save(adapt(base, tokenizer, "LORA", LORA, conf(tiny_model), "entry"), tokenizer, tmp_path / name)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("first", "second"))
    assert first == second
    modules = json.loads(first["adapter_config.json"])["target_modules"]
    assert modules == sorted(modules)


def test_frozen_matrices_take_the_number_format_that_is_computed_in(tiny_model: Path):
    """Autocast alone gives the same answers, from twice the memory."""
    model, tokenizer = load(conf(tiny_model))
    model = adapt(model, tokenizer, "LORA", LORA, conf(tiny_model), "entry").eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(**batch).logits.float().numpy()
    answers = predict_logits(model, tokenizer, encode(tokenizer, TEXTS), len(TEXTS), "bf16", "test")
    assert np.array_equal(answers, expected)
    kinds = {weights.dtype for name, weights in model.named_parameters() if "base_layer.weight" in name}
    assert kinds == {torch.bfloat16}
    assert {weights.dtype for weights in model.parameters() if weights.requires_grad} == {torch.float32}


def test_weights_in_several_files_are_written_read_and_pinned(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(saving, "SHARD", "40KB")
    model, tokenizer = load(conf(tiny_model))
    before = logits(model, tokenizer)
    saving.save(model, tokenizer, tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1 and not (tmp_path / "model.safetensors").exists()
    assert np.array_equal(logits(*saved.load_saved(tmp_path)), before)

    right = hashlib.sha256(b"".join(shard.read_bytes() for shard in shards)).hexdigest()
    model, tokenizer = load(conf(tmp_path, sha256=right))
    assert np.array_equal(logits(model, tokenizer), before)
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=f"tiny.yaml: sha256: the weights of .* have SHA-256 .*, expected {right}"):
        load(conf(tmp_path, sha256=right))
    shards[1].unlink()
    with pytest.raises(UserError, match=r"tiny.yaml: name: cannot load .*model-00002-of-"):
        load(conf(tmp_path))


# --- what goes wrong


def test_weights_that_fail_their_hash_are_refused(tiny_model: Path):
    right = hashlib.sha256((tiny_model / "model.safetensors").read_bytes()).hexdigest()
    load(conf(tiny_model, sha256=right))
    with pytest.raises(UserError, match=f"tiny.yaml: sha256: the weights of .* have SHA-256 {right}, expected 0000"):
        load(conf(tiny_model, sha256="0" * 64))


def test_the_shipped_model_has_its_pinned_hash():
    from tunediff.settings.study import load as load_settings

    settings = load_settings(Path(__file__).parents[1])
    assert settings.model.sha256
    model, _ = load(settings.model, settings.params.seed)
    assert loading.count_parameters(model)["total_parameters"] > 22_000_000


def test_more_tokens_than_the_model_reads_are_refused(tiny_model: Path):
    with pytest.raises(UserError, match=r"tiny.yaml: max_length: 65, but .* reads at most 64 tokens"):
        load(conf(tiny_model, max_length=65))


def test_a_name_that_is_nowhere_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"tiny.yaml: name: cannot load 'nobody/nothing'.*network.*local folder"):
        load(ModelConf(name="nobody/nothing", max_length=8, learning_rate={}))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no trained model there"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "the saved model cannot be loaded"),
    ],
)
def test_a_broken_model_folder_is_named(tmp_path: Path, tiny_model: Path, break_it, message: str):
    model, tokenizer = load(conf(tiny_model))
    folder = tmp_path / "full"
    folder.mkdir()
    saving.save(model, tokenizer, folder)
    break_it(folder)
    with pytest.raises(UserError, match=f"{folder}.*{message}"):
        saved.load_saved(folder)

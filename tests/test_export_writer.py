"""A trained model that writes, exported: merged for transformers, and as a GGUF file, with the same answers."""

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import test_encoder_decoder
import torch
from conftest import WHERE, Project
from huggingface_hub import ModelCard
from test_encoder_decoder import LANGUAGES
from test_generation import INSTRUCTION, PAIRS, give_an_own_way, make
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GPT2Config, LlamaConfig, pipeline

from stages import export, predict
from tunediff.core.errors import UserError
from tunediff.models import loading, saving
from tunediff.models.adapters import adapt
from tunediff.models.saved import load_saved
from tunediff.models.settings import ModelConf
from tunediff.tasks import task_of
from tunediff.tasks.generation import Generation
from tunediff.use import export_gguf, export_writer
from tunediff.use.generation_answers import Writer

CARD = "---\nlibrary_name: peft\n---\n# It\n\n## How to use\n\nWith PeftModel.\n\n## Training data\n\nTexts.\n"
SOURCES = [source for source, _ in PAIRS[::3]]
ARGUMENTS = [
    *("--settings", "data/settings/export.json", "--splits", "data/prepared", "--model", "models/lora-v1"),
    *("--exported", "models/lora-v1-exported", "--metrics", "metrics/export/lora-v1.json"),
    *("--cost", "metrics/cost/export/lora-v1.json"),
]


def save_writer(
    checkpoint: Path,
    folder: Path,
    peft_type: str,
    languages: Mapping[str, str] = MappingProxyType({}),
    **fields: object,
) -> Path:
    """What training and packaging make of a model: an adapter far from its beginning, how it writes, a card."""
    conf = ModelConf(name=str(checkpoint), max_length=48, **languages)
    tokenizer = loading.load_tokenizer(conf, WHERE)
    model = loading.load_pretrained(conf, WHERE, tokenizer, Generation(INSTRUCTION), 17)
    model = adapt(model, tokenizer, peft_type, fields, conf, "entry")
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn(weights.shape) * 0.2)
    saving.settle(model)
    model.config.tunediff |= {"generate": {"max_new_tokens": 8}}
    saving.save(model, tokenizer, folder)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the stage has exported an adapter."""
    place = tmp_path_factory.mktemp("exported")
    made = make(place)
    give_an_own_way(place / "tiny-llama")
    save_writer(place / "tiny-llama", made.folder / "models/lora-v1", "LORA", r=4, target_modules="all-linear")
    with pytest.MonkeyPatch.context() as patch:
        made.prepare_here(patch)
        patch.setattr("sys.argv", ["export", *ARGUMENTS])
        export.main()
    return made


def next_logits(model, tokenizer) -> np.ndarray:
    prompt = Generation(INSTRUCTION).prompt(tokenizer)
    with torch.no_grad():
        return np.stack([model(torch.tensor([prompt.ids(text)])).logits[0, -1] for text in SOURCES])


def test_transformers_loads_the_merged_weights(exported: Project, monkeypatch):
    folder = exported.folder / "models/lora-v1-exported"
    own = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {path.name for path in folder.iterdir()} == {*own, "model.safetensors", "model.gguf", "README.md"}
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    expected = next_logits(*load_saved(exported.folder / "models/lora-v1"))
    assert np.allclose(next_logits(model, tokenizer), expected, atol=1e-4)
    base = next_logits(AutoModelForCausalLM.from_pretrained(exported.folder.parent / "tiny-llama"), tokenizer)
    assert np.abs(base - expected).max() > 1

    messages = [{"role": "user", "content": f"{INSTRUCTION}\n\n{SOURCES[0]}"}]
    [row] = pipeline("text-generation", str(folder))(
        messages, max_new_tokens=8, do_sample=False, return_full_text=False
    )
    out = exported.folder / "out.jsonl"
    monkeypatch.setattr("sys.argv", ["predict", "--model", str(folder), "--out", str(out), SOURCES[0]])
    predict.main()
    assert json.loads(out.read_text())["predicted"] == row["generated_text"].strip() != ""


def test_transformers_reads_the_gguf_file_with_the_same_tokens_and_logits(exported: Project, tmp_path: Path):
    """Weights of 16 bits change logits by less than 1% of their range."""
    shutil.copyfile(exported.folder / "models/lora-v1-exported/model.gguf", tmp_path / "model.gguf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    trained, tokenizer = load_saved(exported.folder / "models/lora-v1")
    assert read.get_vocab() == tokenizer.get_vocab() and read.eos_token_id == tokenizer.eos_token_id
    texts = [*SOURCES, "<|im_start|>user\nÄ 日本 12,345.6%\n\n  x<|im_end|>", ""]
    assert read(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    messages = [{"role": "user", "content": SOURCES[0]}]
    assert read.apply_chat_template(messages, tokenize=False) == tokenizer.apply_chat_template(messages, tokenize=False)
    expected = next_logits(trained, tokenizer)
    assert 0 < np.abs(next_logits(model, read) - expected).max() < export_writer.GGUF * np.ptp(expected)


def test_metrics_and_card_say_what_was_exported(exported: Project):
    found = exported.read_json("metrics/export/lora-v1.json")
    folder = exported.folder / "models/lora-v1-exported"
    assert found["rows"] == exported.profile()["splits"]["test"]["rows"]
    assert found["merged"]["largest_logit_difference"] < 1e-4 < found["gguf"]["largest_logit_difference"]
    assert found["merged"]["changed_answers"] == 0
    assert found["merged"]["bytes"] == (folder / "model.safetensors").stat().st_size > found["gguf"]["bytes"]
    cost = exported.read_json("metrics/cost/export/lora-v1.json")
    assert min(cost[name]["texts_per_second"] for name in ("pytorch", "merged")) > 0
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers" and "PeftModel" not in card.text
    code = card.text.split("```python\n")[1].split("```")[0]
    exec(code.replace("models/", f"{exported.folder}/models/"), {})
    assert 'gguf_file="model.gguf"' in card.text and card.text.endswith("## Training data\n\nTexts.\n")


def test_a_gguf_file_that_is_read_otherwise_is_not_kept(exported: Project, tmp_path: Path, monkeypatch, capsys):
    trained = exported.folder / "models/lora-v1"
    with monkeypatch.context() as patch:
        patch.setattr(export_gguf, "rotated", lambda weights, heads: weights)
        figures, _ = export_writer.export(trained, tmp_path / "out", SOURCES)
    assert "out: without a GGUF file: its logits differ by up to" in capsys.readouterr().out
    assert "gguf" not in figures and not list(tmp_path.glob("out/*.gguf")) and figures["merged"]
    assert "GGUF" not in (tmp_path / "out/README.md").read_text()

    def with_fewer_merges(model, tokenizer, *rest):
        made = json.loads(tokenizer.backend_tokenizer.to_str())
        made["model"]["merges"] = made["model"]["merges"][:9]
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(made))
        write_gguf(model, tokenizer, *rest)

    write_gguf = export_gguf.write_gguf
    monkeypatch.setattr(export_gguf, "write_gguf", with_fewer_merges)
    figures, _ = export_writer.export(trained, tmp_path / "out", SOURCES)
    assert "transformers reads other tokens out of it" in capsys.readouterr().out and "gguf" not in figures


def test_merged_weights_that_answer_otherwise_are_not_kept(exported: Project, tmp_path: Path, monkeypatch):
    def negated(folder: Path):
        model = merged(folder)
        with torch.no_grad():
            model.model.norm.weight.neg_()
        return model

    merged = export_writer.merged
    monkeypatch.setattr(export_writer, "merged", negated)
    with pytest.raises(UserError, match=r"lora-v1: cannot be exported: the exported model answers otherwise \(logits"):
        export_writer.export(exported.folder / "models/lora-v1", tmp_path / "out", SOURCES)
    assert not (tmp_path / "out").exists()


def test_what_is_not_in_the_weights_is_refused(exported: Project, tmp_path: Path):
    folder = save_writer(exported.folder.parent / "tiny-llama", tmp_path / "it", "PREFIX_TUNING", num_virtual_tokens=4)
    with pytest.raises(UserError, match="it: cannot be exported: what it learnt is not in its weights; use the"):
        export_writer.export(folder, tmp_path / "out", SOURCES)


@pytest.mark.parametrize("kind", ["t5", "bart", "nllb"])
def test_an_encoder_decoder_is_merged(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / kind).mkdir()
    getattr(test_encoder_decoder, kind)(tmp_path / kind).save_pretrained(tmp_path / kind)
    give_an_own_way(tmp_path / kind)
    folder = save_writer(
        tmp_path / kind, tmp_path / "trained", "LORA", LANGUAGES.get(kind, {}), target_modules="all-linear"
    )
    out = tmp_path / "out"
    figures, speeds = export_writer.export(folder, out, SOURCES)
    assert set(figures) == {"rows", "merged"} and set(speeds) == {"pytorch", "merged"}
    assert figures["merged"]["largest_logit_difference"] < 1e-2 and figures["merged"]["changed_answers"] == 0
    assert "out: without a GGUF file: " in capsys.readouterr().out and "GGUF" not in (out / "README.md").read_text()

    both = AutoModelForSeq2SeqLM.from_pretrained(out), AutoModelForSeq2SeqLM.from_pretrained(tmp_path / kind)
    read = AutoTokenizer.from_pretrained(out)
    batch = {**read(f"{INSTRUCTION} {SOURCES[0]}", return_tensors="pt"), "decoder_input_ids": torch.tensor([[2]])}
    trained, _ = load_saved(folder)
    with torch.no_grad():
        merged, base, expected = (model.eval()(**batch).logits for model in (*both, trained))
    assert torch.allclose(merged, expected, atol=1e-2) and not torch.allclose(base, expected, atol=0.1)

    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(code.replace('"A text"', repr(SOURCES[0])), {})
    [answer] = Writer(trained, read, task_of(trained.config), trained.config.tunediff).predict(SOURCES[:1])
    assert capsys.readouterr().out.strip() == answer


def test_which_models_have_a_gguf_file(exported: Project):
    tokenizer = AutoTokenizer.from_pretrained(exported.folder / "models/lora-v1")
    plain = LlamaConfig()
    assert export_gguf.why_not(plain, tokenizer) == ""
    assert "llama alone, and this one is gpt2" in export_gguf.why_not(GPT2Config(), tokenizer)
    assert "biases" in export_gguf.why_not(LlamaConfig(attention_bias=True), tokenizer)
    scaled = LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0})
    assert "scaled (rope_type linear)" in export_gguf.why_not(scaled, tokenizer)
    parts = {
        "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
        None: [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    }
    for name, steps in parts.items():
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        assert export_gguf.splitting(tokenizer) == name
    assert "its tokenizer is none of the kinds that are written: gpt-2, smollm" in export_gguf.why_not(plain, tokenizer)

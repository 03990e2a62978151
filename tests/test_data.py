"""Prepared splits and their tokens are mapped from disk: the same rows, little memory, and nothing left behind."""

import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ENVIRONMENT, ROOT, WHERE
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from tunediff.core import splits
from tunediff.core.errors import UserError
from tunediff.models import loading
from tunediff.models.settings import ModelConf
from tunediff.tasks import features


@pytest.fixture
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return loading.load_tokenizer(ModelConf(name=str(tiny_model), max_length=7, learning_rate={"full": 1e-3}), WHERE)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path, tiny_texts: list[tuple[str, str]]) -> Path:
    """With train.parquet, in three row groups."""
    rows = pd.DataFrame(tiny_texts, columns=["text", "name"]).assign(label=lambda rows: range(len(rows)))
    rows.to_parquet(tmp_path / "train.parquet", row_group_size=90)
    return tmp_path


def test_tokens_are_the_tokenizers_whatever_the_chunks(
    folder: Path, tokenizer: PreTrainedTokenizerBase, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    texts = pd.read_parquet(folder / "train.parquet").text.tolist()
    expected = tokenizer(texts, truncation=True)["input_ids"]
    assert {len(ids) for ids in expected} == {6, 7}
    monkeypatch.setattr(splits, "CHUNK", 7)
    monkeypatch.setattr(features, "CHUNK", 7)
    split = splits.load_split(folder, "train")
    assert split["text"][:] == texts
    encoded = features.encode(tokenizer, split["text"], split["label"])
    assert encoded["input_ids"][:] == expected
    assert encoded["attention_mask"][:] == [[1] * len(ids) for ids in expected]
    assert encoded["length"][:] == [len(ids) for ids in expected]
    assert encoded["labels"][:] == list(range(len(texts)))
    some = split.select([150, 3, 80])
    assert features.encode(tokenizer, some["text"])["input_ids"][:] == [expected[row] for row in (150, 3, 80)]


def test_rows_are_on_disk_and_leave_no_file(folder: Path, tokenizer: PreTrainedTokenizerBase, cache: Path):
    def deleted() -> list[str]:
        found = [line.split(maxsplit=5)[5] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line]
        return [path for path in found if path.startswith(str(cache))]

    split = splits.load_split(folder, "train")
    encoded = features.encode(tokenizer, split["text"])
    assert len(deleted()) == 2 and all(path.endswith("(deleted)") for path in deleted())
    assert not [path for path in cache.rglob("*") if path.is_file()]
    del split, encoded
    assert not deleted()


def test_no_cache_to_write_to_is_done_without(folder: Path, cache: Path):
    cache.write_text("a file, where a folder should be")
    assert len(splits.load_split(folder, "train")) == 200


def test_a_disk_without_room_is_named(folder: Path, cache: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UserError, match=r"cache/tunediff: rows cannot be kept there: .*; make room"):
            splits.load_split(folder, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Of the data alone: what the imports and the model take is in it too.
HELD = """
import re, sys
from pathlib import Path
from tunediff.core import splits
from tunediff.models import loading
from tunediff.models.settings import ModelConf
from tunediff.tasks import features
def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
tokenizer = loading.load_tokenizer(ModelConf(name=sys.argv[1], max_length=7, learning_rate={"full": 1e-3}), Path("x"))
tokenizer(["once"])
before = held()
split = splits.load_split(Path(sys.argv[2]), "train")
encoded = features.encode(tokenizer, split["text"], split["label"])
print(held() - before)
"""


@pytest.mark.slow
def test_a_part_of_the_tokens_is_held_at_once(tmp_path: Path, tiny_model: Path):
    texts = [f"{'shares rose ' * 50}{row}" for row in range(5000)]
    Dataset.from_dict({"text": texts, "label": [0] * len(texts)}).to_parquet(tmp_path / "train.parquet")
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HELD, tiny_model, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40  # MB; all at once take 200

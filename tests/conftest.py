"""A small project to run the real stages in: tiny data, a tiny random BERT, the shipped code and dvc.yaml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# Never the network, never the user's caches; every subprocess is this Python's.
ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # for matrices as small as here, threads cost more than they give
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
}

SUBJECTS = ["shares", "bonds", "copper", "the pound", "profit", "sales", "the index", "orders", "wheat", "margins"]
VERBS = {"bearish": ["fell", "sank", "slid", "dropped"], "bullish": ["rose", "jumped", "climbed", "gained"]}
ENDS = ["on monday", "after the report", "in early trade", "for a third day", "against forecasts"]


@pytest.fixture(scope="session")
def tiny_texts() -> list[tuple[str, str]]:
    """200 pairs of text and label that a bag of words can tell apart."""
    return [
        (f"{subject} {verb} {end}", label)
        for subject in SUBJECTS
        for label, verbs in VERBS.items()
        for verb in verbs[:2]
        for end in ENDS
    ]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[tuple[str, str]]) -> Path:
    """Folder of a random BERT of two layers with a WordPiece tokenizer that knows the tiny texts' words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    words = sorted({word for text, _ in tiny_texts for word in text.split()})
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder = tmp_path_factory.mktemp("tiny-model")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    set_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


class Project:
    """A git and DVC repository with the shipped stages; `run` is what a user types."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(self, *command: str, check: bool = True, timeout: int = 600) -> subprocess.CompletedProcess:
        if command[0] == "python":
            command = (sys.executable, *command[1:])
        done = subprocess.run(
            command, cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
        return done

    def prepare(self, check: bool = True) -> subprocess.CompletedProcess:
        arguments = ("--splits", "data/prepared", "--profile", "data/profile.json")
        return self.run("python", "-m", "stages.prepare", *arguments, check=check)

    def write_yaml(self, path: str, values: dict) -> None:
        (self.folder / path).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def edit_yaml(self, path: str, **changes: object) -> None:
        """Set top-level keys; None takes a key out."""
        values = {**yaml.safe_load((self.folder / path).read_text(encoding="utf-8")), **changes}
        self.write_yaml(path, {key: value for key, value in values.items() if value is not None})


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    """The shipped code with the data set `tiny` (data/raw/tiny.csv) and the model `tiny`; no git or DVC yet."""
    return make_project(tmp_path / "project", tiny_model, tiny_texts)


def make_project(folder: Path, tiny_model: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    made = Project(folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=ignored)
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data/raw").mkdir(parents=True)
    lines = ["text,label", *(f"{text},{label}" for text, label in tiny_texts)]
    (folder / "data/raw/tiny.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made.write_yaml("conf/data/tiny.yaml", {"source": "data/raw/tiny.csv", "text": "text", "label": "label"})
    made.write_yaml(
        "conf/model/tiny.yaml",
        {
            "name": str(tiny_model),
            "max_length": 16,
            "learning_rate": {"full": 1e-3, "lora": 1e-2},
            "head": ["pooler"],
            "targets": {"attention": ["query", "value"], "all-linear": "all-linear"},
        },
    )
    made.edit_yaml("params.yaml", data="tiny", model="tiny")
    return made

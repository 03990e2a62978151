"""A small project to run the real stages in: tiny data, a tiny random BERT, the shipped code; and a Hub."""

import os

# Before NumPy and PyTorch are imported: for matrices as small as here, threads cost more than they give.
os.environ["OMP_NUM_THREADS"] = "1"

import gc
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import hub
import hub_data
import hub_models
import pandas as pd
import pytest
import warm_python
import yaml
from filelock import FileLock

if TYPE_CHECKING:
    from tunediff.models.settings import ModelConf

ROOT = Path(__file__).parents[1]
# Never the network, never the user's caches; every subprocess is this Python's.
ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
}

SUBJECTS = ["shares", "bonds", "copper", "the pound", "profit", "sales", "the index", "orders", "wheat", "margins"]
VERBS = {"bearish": ["fell", "sank", "slid", "dropped"], "bullish": ["rose", "jumped", "climbed", "gained"]}
ENDS = ["on monday", "after the report", "in early trade", "for a third day", "against forecasts"]
# Of uneven length, so that a batch of them is padded; the `checkpoints` know their words.
TEXTS = ["Our neighbour ran out of flour in the rain.", "The old bridge was painted green.", "Bread."]

WHERE = Path("conf/model/tiny.yaml")
SIDES = ("train", "validation", "test")
LONGEST = (
    *("test_systems", "test_pipeline", "test_interruption", "test_matrix", "test_launcher", "test_sweep"),
    *("test_concurrency", "test_label_noise", "test_cluster", "test_status", "test_startup", "test_hub", "test_serve"),
)
GOAL = "package@lora-v1"  # the stage that `trained` ran, with those before it
SETTINGS = ("--out", "data/settings")
PREPARE = ("--settings", "data/settings/prepare.json", "--splits", "data/prepared", "--profile", "data/profile.json")


@pytest.fixture(scope="module", autouse=True)
def what_is_imported_stays() -> None:
    """The garbage collector, which statsmodels calls at each correction, need not search it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def a_closed_pipe_ends_no_test_run() -> Iterator[None]:
    """`stages.predict` lets one end its process; in one that ran it, a later test's server would be killed so."""
    signalled = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, signalled)


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


CHAT = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[tuple[str, str]]) -> Path:
    """Folder of a random Llama of two layers that chats; its words are made of pieces of bytes."""
    from tokenizers import AddedToken
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    tokenizer, _ = hub_models.gpt2([text for text, _ in tiny_texts])
    start, end = "<|im_start|>", "<|im_end|>"
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (start, end)])
    end_id = tokenizer.token_to_id(end)
    folder = tmp_path_factory.mktemp("tiny-decoder")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=CHAT, pad_token=end, eos_token=end
    ).save_pretrained(folder)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=512, initializer_range=0.2,
        bos_token_id=None, eos_token_id=end_id, pad_token_id=end_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class Project:
    """A git and DVC repository with the shipped stages; `run` is what a user types."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(
        self, *command: str, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        """Run a command in the project; unless an environment is given, DVC and stages are forks of `warm_python`."""
        if environment is None:
            environment = warm_python.environment(ENVIRONMENT)
        if command[0] == "python":
            command = (shutil.which("python", path=environment["PATH"]), *command[1:])
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
        return done

    def commit(self, message: str) -> None:
        """Commit everything; the first commit begins the repository."""
        if not (self.folder / ".git").exists():
            self.run("git", "init", "-q", "-b", "main")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def prepare(self, check: bool = True, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
        resolved = self.run("python", "-m", "stages.settings", *SETTINGS, check=check, environment=environment)
        if resolved.returncode:
            return resolved
        return self.run("python", "-m", "stages.prepare", *PREPARE, check=check, environment=environment)

    def prepare_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`prepare`, but in this process, which takes a tenth of the time."""
        from stages import prepare, settings

        monkeypatch.chdir(self.folder)
        for stage, arguments in ((settings, SETTINGS), (prepare, PREPARE)):
            monkeypatch.setattr(sys, "argv", [stage.__name__, *arguments])
            stage.main()

    def profile(self) -> dict:
        return self.read_json("data/profile.json")

    def prepared(self) -> pd.DataFrame:
        """All prepared rows, with their side and their label's name."""
        sides = [pd.read_parquet(self.folder / f"data/prepared/{side}.parquet").assign(side=side) for side in SIDES]
        names = self.profile()["labels"]
        return pd.concat(sides, ignore_index=True).assign(name=lambda rows: [names[i] for i in rows.label])

    def read_json(self, path: str) -> dict:
        return json.loads((self.folder / path).read_text(encoding="utf-8"))

    def read_yaml(self, path: str) -> dict:
        return yaml.safe_load((self.folder / path).read_text(encoding="utf-8"))

    def write_yaml(self, path: str, values: dict) -> None:
        (self.folder / path).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def edit_yaml(self, path: str, **changes: object) -> None:
        """Set top-level keys; None takes a key out."""
        values = {**self.read_yaml(path), **changes}
        self.write_yaml(path, {key: value for key, value in values.items() if value is not None})


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    """The shipped code with the data set `tiny` (data/raw/tiny.csv) and the model `tiny`; no git or DVC yet."""
    return make_project(tmp_path / "project", tiny_model, tiny_texts)


def make_project(folder: Path, tiny_model: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    made = Project(folder)
    ignored = shutil.ignore_patterns("__pycache__")
    for code in ("stages", "tunediff"):
        shutil.copytree(ROOT / code, folder / code, ignore=ignored)
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
    prompts = made.read_yaml("params.yaml")["prompts"]
    made.edit_yaml("params.yaml", data="tiny", model="tiny", prompts={**prompts, "methods": []})
    return made


def save_as_trained(
    conf: "ModelConf",
    labels: list[str],
    folder: Path,
    peft_type: str | None = None,
    seed: int = 0,
    temperature: float = 1.5,
    **fields: object,
) -> Path:
    """Save a model as if it were trained, with random weights: all of them, or those of an adapter with `fields`."""
    import torch

    from tunediff.models import loading, saving
    from tunediff.models.adapters import adapt
    from tunediff.tasks.classification import Classification

    tokenizer = loading.load_tokenizer(conf, WHERE)
    model = loading.load_pretrained(conf, WHERE, tokenizer, Classification(labels), 17)
    if peft_type:
        model = adapt(model, tokenizer, peft_type, fields, conf, "entry")
    torch.manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn(weights.shape) * 0.1)
    saving.settle(model)
    model.config.tunediff |= {"temperature": temperature, "confidences": {"0.8": 0.55, "0.9": 0.6}}
    saving.save(model, tokenizer, folder)
    return folder


SECRET = "hf_thisIsAToken"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    """A git and DVC repository with one trained and evaluated adapter, all committed; its model is in the project.

    It was trained with a token in the environment. Tests only read it, or work on a `copy_of` it. One for all workers.
    """
    common = tmp_path_factory.getbasetemp()
    common = common.parent if "PYTEST_XDIST_WORKER" in os.environ else common
    made = Project(common / "trained/project")
    with FileLock(common / "trained.lock"):
        if not (made.folder / "dvc.lock").is_file():
            shutil.rmtree(made.folder, ignore_errors=True)
            make_project(made.folder, tiny_model, tiny_texts)
            shutil.copytree(tiny_model, made.folder / "tiny-model")
            made.edit_yaml("conf/model/tiny.yaml", name="./tiny-model")
            train = made.read_yaml("params.yaml")["train"]
            made.edit_yaml("params.yaml", train={**train, "epochs": 1, "batch_size": 16})
            made.commit("code")
            made.run("dvc", "repro", GOAL, environment={**ENVIRONMENT, "HF_TOKEN": SECRET, "AWS_SECRET": SECRET})
            made.commit("results")
    return made


def copy_of(project: Project, folder: Path) -> Project:
    return Project(shutil.copytree(project.folder, folder, symlinks=True))


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data/raw/ below the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/raw"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def run_prepare(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pd.DataFrame]:
    """Run prepare in this process with keys of the data file changed; return its rows."""

    def run_prepare(**conf: object) -> pd.DataFrame:
        project.edit_yaml("conf/data/tiny.yaml", **conf)
        project.prepare_here(monkeypatch)
        return project.prepared()

    return run_prepare


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each id of hub_models.MODELS."""
    return hub_models.make_models(tmp_path_factory.mktemp("checkpoints"), [*hub_models.ENGLISH, *TEXTS])


@dataclass
class World:
    """The Hub, what it serves, and how to run a command that knows no other."""

    hub: hub.Hub
    folders: dict[str, Path]
    commits: dict[str, str] = field(default_factory=dict)

    def run(self, project: Project, home: Path, *command: str, **changes: str) -> subprocess.CompletedProcess:
        return project.run("python", *command, check=False, environment=self.environment(home, changes))

    def prepare(self, project: Project, home: Path, **changes: str) -> subprocess.CompletedProcess:
        return project.prepare(check=False, environment=self.environment(home, changes))

    def environment(self, home: Path, changes: dict[str, str]) -> dict[str, str]:
        inherited = {
            key: value
            for key, value in ENVIRONMENT.items()
            if not key.startswith("HF_") and not key.lower().endswith("_proxy")
        }
        url = changes.get("HF_ENDPOINT", self.hub.url)
        # Whatever is asked of another host comes here as well, and is not found.
        proxies = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": "127.0.0.1,localhost"}
        return {**inherited, **proxies, "HF_ENDPOINT": url, "HF_HOME": str(home), **changes}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("hub")
    folders = {
        **hub_data.make_datasets(root / "datasets"),
        **hub_models.make_models(root / "models", hub_models.ENGLISH),
    }
    shipped = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "conf").glob("*/*.yaml")]
    # The commits that shipped files name, which are the true ones.
    pinned = {conf.get("source", conf.get("name")): conf.get("revision", "main") for conf in shipped}
    with hub.Hub() as server:
        made = World(server, folders)
        aliases = {**hub_data.DATASETS, **{id: model.alias for id, model in hub_models.MODELS.items()}}
        for id, alias in aliases.items():
            kind = "datasets" if id in hub_data.DATASETS else "models"
            commit = pinned[id] if len(pinned[id]) == 40 else ""
            ref = "main" if commit else pinned[id]
            options = {"alias": alias, "commit": commit, "ref": ref}
            made.commits[id] = made.commits[alias] = server.add(kind, id, folders[id], **options)
        tweets, bert = folders["zeroshot/twitter-financial-news-sentiment"], folders["google-bert/bert-base-uncased"]
        for name in ("locked", "cut"):
            server.add("datasets", f"acme/{name}-texts", tweets, gated=name == "locked")
            server.add("models", f"acme/{name}-bert", bert, gated=name == "locked")
        pickled = shutil.copytree(bert, root / "pickled")
        (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
        server.add("models", "acme/pickled-bert", pickled)
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_terminal_summary(terminalreporter) -> None:
    """Print what test_matrix.py recorded: a row for each method, a column for each architecture."""
    cells = {}
    for report in terminalreporter.stats.get("passed", []):
        for key, value in report.user_properties:
            if key == "matrix":
                architecture, method, outcome = value
                cells.setdefault(method, {})[architecture] = outcome
    if cells:
        table = pd.DataFrame.from_dict(cells, orient="index").sort_index(axis=1)
        terminalreporter.section("trainable parameters of each method on tiny checkpoints; what also merges")
        terminalreporter.write_line(table.to_string(na_rep=""))

"""What docs/security.md promises: nothing that is given as data is executed, and nothing of this machine goes out."""

import csv
import itertools
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pyarrow as pa
import pytest
from conftest import ENVIRONMENT, ROOT, SECRET, Project, copy_of
from datasets import ClassLabel, Dataset, Features, Value
from dvc.parsing import DataResolver
from dvc.repo import Repo
from markdown_it import MarkdownIt
from test_report import CURVES, FOLDERS, GROWTH, NONE_LEARNS_BUT_FULL, weigh

from tunediff.core import settings
from tunediff.core.errors import UserError
from tunediff.core.files import sha256
from tunediff.evidence import scoring
from tunediff.evidence.comparison import Predictions, predictions_of
from tunediff.models import gguf_file, loading, pretrained, saved
from tunediff.models.settings import ModelConf
from tunediff.report import folders as report_folders
from tunediff.report import page
from tunediff.report.page import Tile, Verdict
from tunediff.settings.study import read_data
from tunediff.sources import find_source
from tunediff.sources.settings import DataConf
from tunediff.tasks import with_keys
from tunediff.tasks.classification import Classification
from tunediff.use import job_input, job_output

WHERE = Path("conf/model/it.yaml")
DATA_FILE = with_keys(DataConf, "classification")


class Evil:
    """What leaves a trace where it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once something was executed; nobody is there to be asked."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    return tmp_path / "trace"


# --- models


def test_a_pickled_adapter_beside_another_safetensors_file_is_refused(trained: Project, tmp_path: Path, trace: Path):
    folder = shutil.copytree(trained.folder / "models/lora-v1", tmp_path / "lora-v1")
    (folder / "adapter_model.safetensors").rename(folder / "other.safetensors")
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(UserError, match=re.escape(f"{folder}: the model folder has no weights (adapter_model.safet")):
        saved.load_saved(folder)
    assert not trace.exists()


@pytest.mark.parametrize("model_type", ["evil", "bert"])
def test_code_that_comes_with_a_model_does_not_run(tiny_model: Path, tmp_path: Path, trace: Path, model_type: str):
    """`evil` cannot be had without it, `bert` can."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n"
        "from transformers import BertConfig as Config, BertTokenizer as Tokenizer\n"
        "from transformers import BertForSequenceClassification as Model\n"
    )
    for name, mapped in (
        ("config.json", {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "evil.Tokenizer"]}),
    ):
        config = json.loads((folder / name).read_text())
        config |= {"auto_map": mapped}
        (folder / name).write_text(json.dumps(config | ({"model_type": model_type} if name == "config.json" else {})))
    conf = ModelConf(name=str(folder), max_length=16)

    def load() -> None:
        loading.load_pretrained(conf, WHERE, loading.load_tokenizer(conf, WHERE), Classification(["a", "b"]), 17)

    if model_type == "bert":
        load()
    else:
        with pytest.raises(UserError, match=r"it\.yaml: name: cannot load .* custom code"):
            load()
    with pytest.raises(UserError):  # as a trained model, which it is not
        saved.load_saved(folder)
    assert not trace.exists()


@pytest.mark.parametrize("kind", [DATA_FILE, ModelConf])
def test_trust_remote_code_is_no_setting(tmp_path: Path, kind: type):
    path = tmp_path / "it.yaml"
    path.write_text("trust_remote_code: true\n")
    with pytest.raises(UserError, match=r"it\.yaml: trust_remote_code: unknown key"):
        settings.read(path, kind)


def test_nothing_here_asks_for_what_could_run_code():
    """The one place to change a promise is docs/security.md: not a call that nobody noticed."""
    forbidden = r"trust_remote_code=(?!False)|allow_pickle|torch\.load|\bpickle\b|joblib|yaml\.(load|unsafe)|shell=True"
    forbidden += r"|\beval\(|\bexec\(|os\.system|weights_only"
    loads = 0
    for path in (*(ROOT / "stages").rglob("*.py"), *(ROOT / "tunediff").rglob("*.py")):
        code = path.read_text(encoding="utf-8").replace(".eval()", "")
        if path.name == "cluster.py":  # reads what DVC wrote into the user's own repository
            code = re.sub(r"import pickle|pickle\.loads\((packed|cloudpickle\.dumps\(run_experiment\))\)|#.*", "", code)
        assert not re.search(forbidden, code), path
        # These two take tensors and no code. A task's class of transformers has no name here.
        code = re.sub(r"(PeftModel|nn\.Embedding)\.from_pretrained\(", "", code)
        calls = re.findall(r"\.from_pretrained\((?:[^()]|\([^()]*\))*\)", code)
        assert len(calls) == code.count(".from_pretrained(")
        for call in calls:
            assert "trust_remote_code=False" in call, f"{path}: {call}"
        loads += len(calls)
    assert loads > 5


# --- settings


def test_a_yaml_tag_runs_nothing(tmp_path: Path, trace: Path):
    path = tmp_path / "it.yaml"
    path.write_text(
        f"source: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{trace}]]\n"
    )
    with pytest.raises(UserError, match=r"it\.yaml: not valid YAML: could not determine a constructor for the tag"):
        read_data(path)
    assert not trace.exists()


# What a shell would run, each in the way of another quote; DVC runs each line of a command for itself.
COMMANDS = ("0.5; touch trace; true ", "a' ; touch trace; '", '" ; touch trace; "', "$(touch trace)", "`touch trace`")
COMMANDS += ("a & touch trace &", "a\ntouch trace\n", "a'\ntouch trace\n'", "a\u2028touch trace", "{a,b}", "*", "$HOME")


def test_no_shell_runs_a_value_of_params(project: Project, tmp_path: Path):
    """DVC's own commands for each list that dvc.yaml goes through; `python` is a program that notes its words."""
    variant = project.read_yaml("params.yaml")["train_lora"]["v1"]
    chosen, values = {"methods": list(COMMANDS)}, dict.fromkeys(COMMANDS, variant)
    lists = ("train_peft", "prompts", "evaluate", "export")
    changes = {**dict.fromkeys(lists, chosen), "training_rows": {"shares": list(COMMANDS), "per_label": list(COMMANDS)}}
    baseline = project.read_yaml("params.yaml")["baseline"]
    changes |= {"baseline": {**baseline, "more": list(COMMANDS)}, "folds": list(COMMANDS[:3])}
    project.edit_yaml("params.yaml", train_lora=values, **changes)
    project.run("git", "init", "-q")
    with Repo(str(project.folder)) as repo:
        resolver = DataResolver(repo, str(project.folder), project.read_yaml("dvc.yaml"))
        stages = {name: resolver.resolve_one(name)[name] for name in resolver.get_keys() if "@" in name}
    names = {name.partition("@")[0] for name in stages}
    assert {"train_lora", "prompt", "few_labels", "baseline_more", "fold_train", "export"} <= names
    assert len(stages) >= len(names - {"folds", "package_baselines"}) * len(COMMANDS)

    words, python = project.folder / "words", tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {words}\n")
    python.chmod(0o755)
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    for (name, stage), shell in itertools.product(stages.items(), ("sh", "bash")):
        words.unlink(missing_ok=True)
        # DVC runs each line as a command, up to one that fails: the first, of which the quotes do not end.
        first, *more = stage["cmd"].splitlines()
        command = [shutil.which(shell), "-c", first]
        done = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, check=False)
        assert not (project.folder / "trace").exists(), first
        if more:
            assert done.returncode and not words.exists()
        else:
            assert name.endswith(words.read_text().split("\0")[-2])


@pytest.mark.slow
def test_a_share_that_is_a_command_is_refused_by_settings_and_by_its_own_stage(trained: Project, tmp_path: Path):
    project = copy_of(trained, tmp_path / "project")
    project.edit_yaml("params.yaml", training_rows={"shares": [COMMANDS[0]], "per_label": [], "methods": ["tfidf"]})
    alone = project.run("dvc", "repro", "--single-item", "training_rows", check=False).stderr
    assert f"error: --share: '{COMMANDS[0]}' is no name and no share; run: dvc repro settings" in alone
    said = project.run("dvc", "repro", "training_rows", check=False).stderr
    assert "error: params.yaml: training_rows.shares.0: " in said and "failed to reproduce 'settings'" in said
    assert not (project.folder / "trace").exists()


@pytest.mark.parametrize("key", ["source", "task"])
def test_a_yaml_that_grows_when_written_out_is_refused_at_once(tmp_path: Path, key: str):
    path = tmp_path / "it.yaml"
    lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" if i else "a0: &a0 [x]" for i in range(30)]
    path.write_text("\n".join([*lines, f"{key}: *a29", "text: text", "label: label"]))
    with pytest.raises(UserError) as error:
        read_data(path)
    assert len(str(error.value)) < 40_000


@pytest.mark.parametrize("name", ["package:yaml/../secret", "package:yaml//etc"])
def test_a_package_does_not_lead_out_of_itself(tmp_path: Path, name: str):
    with pytest.raises(UserError, match=r"it\.yaml: name: .* leads out of the package"):
        loading.load_tokenizer(ModelConf(name=name), WHERE)


@pytest.fixture
def evil_package(tiny_model: Path, tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with packages `evil` and `evil.sub` that leave a trace, a model in both, and their metadata."""
    package = tmp_path / "work/evil"
    for folder in (package, package / "sub"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n")
        shutil.copytree(tiny_model, folder / "model")
    files = [path.relative_to(package.parent).as_posix() for path in package.rglob("*") if path.is_file()]
    metadata = package.parent / "evil-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    monkeypatch.chdir(package.parent)
    return package


@pytest.mark.parametrize(
    "name", ["evil/model", "evil.sub/model", "evil/sub/model", "../evil/model", "/model", ".evil/a"]
)
@pytest.mark.parametrize("entry", ["", "."])
def test_a_package_in_the_working_folder_is_neither_found_nor_imported(
    evil_package: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, name: str, entry: str
):
    monkeypatch.syspath_prepend(evil_package.parent)
    monkeypatch.setattr("sys.path", [entry, *sys.path])
    with pytest.raises(UserError, match=r"it\.yaml: name: .* (is not installed|leads out)"):
        pretrained.locate(ModelConf(name=f"package:{name}"), WHERE)
    assert not trace.exists()


def test_a_package_that_is_installed_elsewhere_is_found_and_not_imported(
    evil_package: Path, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(evil_package.parent)
    monkeypatch.chdir(tmp_path)
    assert Path(pretrained.locate(ModelConf(name="package:evil/sub/model"), WHERE)) == evil_package / "sub/model"
    with pytest.raises(UserError, match=r"name: the Python package 'evil\.sub' is not installed"):
        pretrained.locate(ModelConf(name="package:evil.sub/model"), WHERE)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["minilm", "smollm2"])
def test_a_shipped_model_is_found_by_its_distribution(name: str, monkeypatch: pytest.MonkeyPatch):
    conf = settings.read(ROOT / f"conf/model/{name}.yaml", ModelConf)
    monkeypatch.setattr(gguf_file, "as_folder", lambda file, *_: file)
    path = Path(pretrained.locate(conf, WHERE))
    assert sha256(path if path.is_file() else path / "model.safetensors") == conf.sha256
    module = conf.name.removeprefix("package:").split("/")[0]
    assert path.parent.name == module and module not in sys.modules


def test_a_terminal_is_told_no_control_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/a.csv").write_text("\x1b[2J,label\na,b\n")
    with pytest.raises(UserError) as error:
        find_source.read(DATA_FILE(source="a.csv", text="text", label="label"), WHERE, Classification)
    assert str(error.value).endswith(r"it has: \x1b[2J, label")


# --- what is written


def test_a_page_loads_no_picture_and_runs_no_script_of_a_text(tmp_path: Path):
    hostile = (
        '<script>alert(1)</script> ![x](https://example.com/x.png) <img src="https://example.com/y.png" onerror=a()>'
    )
    inside = f"``{hostile}"  # of backticks, which set code
    said = f"Of `full`: {hostile}. No text has `{hostile}` or `{inside}`, `{inside}`"
    section = page.Section(hostile, said, [["text", hostile, inside], [hostile, hostile, inside]])
    advice = Verdict(f"Use it: {inside}", said, [Tile(hostile, inside, said)], hostile, inside)
    page.write(hostile, advice, [section], tmp_path / "page.html", tmp_path / "page.md")
    rendered = MarkdownIt("commonmark").enable("table").render((tmp_path / "page.md").read_text(encoding="utf-8"))
    assert "&lt;script&gt;alert(1)" in rendered and "<table>" in rendered
    for html in (rendered, (tmp_path / "page.html").read_text(encoding="utf-8")):
        assert not re.search(r"<(script|img)", html)


def test_a_page_has_no_control_characters(tmp_path: Path):
    """Git would take it for a binary file, a terminal would obey it, and half a character is no UTF-8."""
    text = "a\0b \x1bc \x9b2Jd \ud800e\tf"
    section = page.Section("Errors", text, [["text"], [text]])
    page.write(text, Verdict(f"Use it: {text}"), [section], tmp_path / "page.html", tmp_path / "page.md")
    for path, places in ((tmp_path / "page.html", 5), (tmp_path / "page.md", 4)):
        written = path.read_text(encoding="utf-8")
        assert written.count("a�b �c �2Jd �e") == places
        assert set(re.findall(r"[^ -~\xa0-\U0010ffff]", written)) <= {"\n", "\t"}


def test_answers_in_a_csv_are_no_formulas_and_the_users_cells_stay(tmp_path: Path):
    (tmp_path / "in.csv").write_text("text,=note\n=1+1,@SUM(A1)\n", encoding="utf-8")
    source = job_input.read_file(tmp_path / "in.csv", ["text"], typed=False)

    def answer(texts: list[str]) -> list[dict]:
        return [{"predicted": '=HYPERLINK("x")', "p_-1": 0.5} for _ in texts]

    new = {"predicted": pa.string(), "p_-1": pa.float64()}
    for out in (tmp_path / "out.csv", tmp_path / "out.jsonl"):
        job_output.save(out, source, answer, new, {})
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["text", "=note", "predicted", "p_-1"],
            ["=1+1", "@SUM(A1)", '\'=HYPERLINK("x")', "0.5"],
        ]
    # Nothing but a spreadsheet computes with a cell.
    assert json.loads((tmp_path / "out.jsonl").read_text())["predicted"] == '=HYPERLINK("x")'


def test_labels_in_the_csvs_of_plots_are_no_formulas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The rule itself is tested in test_label_noise.py."""
    features = Features(
        {"label": ClassLabel(names=["=a", "b"])} | {n: Value("int64") for n in ("split", "row", "tokens")}
    )
    columns = {name: [1, 2] for name in ("split", "row", "tokens")}
    test = Dataset.from_dict({**columns, "label": [0, 1]}, features=features).add_column("text", ["x", "y"])
    names = ("metrics", "detail", "cost", "predictions", "confusion")
    folders = SimpleNamespace(**{name: tmp_path / name for name in names})
    task = Classification(["=a", "b"])
    scoring.write("mine", task, test, {17: np.array([[0.9, 0.1], [0.2, 0.8]])}, {"eval_seconds": 1.0}, folders)
    assert (folders.confusion / "mine.csv").read_text() == "actual,predicted\n'=a,'=a\nb,b\n"

    def with_formulas(one: Predictions) -> Predictions:
        table = one.table.rename(columns={"p_a": "p_=a"}).assign(text="=1+1")
        for column in ("actual", "predicted"):
            table[column] = table[column].cat.rename_categories({"a": "=a"})
        return predictions_of(table)

    monkeypatch.setattr(report_folders, "plots", MagicMock())
    found = weigh({method: with_formulas(one) for method, one in NONE_LEARNS_BUT_FULL.items()})
    written = SimpleNamespace(**{name: tmp_path / "plots" / path for name, path in vars(FOLDERS).items()})
    report_folders.write(found, CURVES, GROWTH, written)
    slices = (written.slices / "slices.csv").read_text()
    assert "label,'=a," in slices and ",=a," not in slices
    errors = written.errors.read_text().splitlines()[1:]
    assert errors and all(line.startswith("'=1+1,") and ",=" not in line for line in errors)
    assert any("'=a" in line for line in errors)


@pytest.mark.slow
def test_no_secret_and_no_path_of_this_machine_gets_out(trained: Project, tmp_path: Path):
    project = copy_of(trained, tmp_path / "project")
    params = project.read_yaml("params.yaml")
    project.edit_yaml(
        "params.yaml",
        train_lora={"v1": params["train_lora"]["v1"]},
        evaluate={**params["evaluate"], "methods": ["full", "lora-v1"]},
        training_rows={"shares": [], "per_label": [], "methods": ["tfidf"]},
    )
    project.run("dvc", "repro", "report", environment={**ENVIRONMENT, "HF_TOKEN": SECRET, "AWS_SECRET": SECRET})
    private = [SECRET, str(trained.folder), str(project.folder), str(Path.home()) + os.sep, str(ROOT)]
    private += [name for name in [socket.gethostname()] if len(name) > 8]
    outputs = [project.folder / "dvc.lock"]
    for folder in ("metrics", "plots", "models", "data"):
        outputs += [path for path in (project.folder / folder).rglob("*") if path.is_file()]
    suffixes = {".safetensors", ".json", ".parquet", ".npy", ".png", ".md", ".csv", ".html"}
    assert {path.suffix for path in outputs} > suffixes
    for path in outputs:
        content = path.read_bytes()
        for secret in private:
            assert secret.encode() not in content, (path, secret)

"""Settings: every mistake is found before any work starts, and is told with its file and key."""

import copy
import difflib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SETTINGS, Project
from dvc.utils.hydra import apply_overrides
from pydantic import ValidationError

from stages.settings import undo
from tunediff.core.errors import UserError
from tunediff.models.settings import ModelConf
from tunediff.settings.params import Params
from tunediff.settings.resolve import resolve
from tunediff.settings.study import Study, load
from tunediff.sources.settings import DataConf
from tunediff.tasks import with_keys

PARAMS = {
    "data": "texts",
    "model": "tiny",
    "seed": 1,
    "seeds": [1],
    "precision": "fp32",
    "launcher": "python",
    "baseline": {"ngrams": 1, "tfidf_C": 1.0, "probe_C": 1.0},
    "train": {
        "epochs": 1, "batch_size": 8, "accumulation": 1, "weight_decay": 0.0, "warmup": 0.1, "patience": 0,
        "select_by": "loss", "class_weights": "none",
    },
    "train_lora": {"v1": {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": "attention"}},
    "train_peft": {"methods": ["dora"], "entries": {"dora": {"peft_type": "LORA", "learning_rate": 1e-3, "r": 4}}},
    "prompts": {"model": "tiny", "validation_rows": 8, "methods": [], "entries": {"ask": {"shots": 0}}},
    "evaluate": {"methods": ["full", "lora-v1"], "batch_size": 8},
    "training_rows": {"shares": [], "methods": ["tfidf"]},
    "export": {"methods": ["dora"]},
    "report": {"figure": "f1", "margin": 0.02, "confidence": 0.95},
}  # fmt: skip
DATA = {"source": "data/raw/texts.csv", "text": "text", "label": "label"}
MODEL = {"name": "tiny", "max_length": 16, "learning_rate": {"full": 1e-4, "lora": 1e-3}, "targets": {"attention": "q"}}
VALUES = {"params.yaml": PARAMS, "conf/data/texts.yaml": DATA, "conf/model/tiny.yaml": MODEL}
PARAMS_FILE, DATA_FILE, MODEL_FILE = VALUES
ABSENT = object()
WHOLE_DATA = with_keys(DataConf, "classification")


def whole_data(path: Path) -> type[DataConf]:
    """The class of a shipped data file."""
    return with_keys(DataConf, read_yaml(path).get("task", "classification"))


SHIPPED_DATA = sorted((ROOT / "conf/data").glob("*.yaml"))
SHIPPED_MODELS = sorted((ROOT / "conf/model").glob("*.yaml"))


def read_yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


class Files:
    """A folder with three good files; `change` makes mistakes in them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.values = copy.deepcopy(VALUES)
        self.write()

    def write(self) -> None:
        for name, values in self.values.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def change(self, file: str, key: str, value: object) -> None:
        *sections, last = key.split(".")
        section = self.values[file]
        for name in sections:
            section = section[name]
        section[last] = value
        if value is ABSENT:
            del section[last]
        self.write()

    def load(self) -> Study:
        return load(self.folder)

    def mistakes(self) -> list[str]:
        """The lines of the message, without the folder's name."""
        with pytest.raises(UserError) as error:
            load(self.folder)
        return [line.strip().removeprefix(f"{self.folder}/") for line in str(error.value).split("\n")]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# --- mistakes


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        # unknown
        (PARAMS_FILE, "sead", 1, "unknown key; did you mean seed or seeds?"),
        (PARAMS_FILE, "train.epoch", 1, "unknown key; did you mean epochs?"),
        (PARAMS_FILE, "train_lora.v1.r", 1, "unknown key; there are: alpha, dropout, rank, targets"),
        (DATA_FILE, "lable", "label", "unknown key; did you mean label or labels?"),
        (
            MODEL_FILE,
            "lr",
            1e-3,
            "unknown key; there are: head, keep_head, learning_rate, max_length, name, quantize, revision, sha256, so",
        ),
        # missing
        (PARAMS_FILE, "seed", ABSENT, "missing key"),
        (PARAMS_FILE, "train.epochs", ABSENT, "missing key"),
        (PARAMS_FILE, "train_lora.v1.rank", ABSENT, "missing key"),
        (DATA_FILE, "text", ABSENT, "missing key"),
        (MODEL_FILE, "name", ABSENT, "missing key"),
        # of the wrong type
        (PARAMS_FILE, "train.epochs", "many", "valid integer, unable to parse string as an integer, found 'many'"),
        (PARAMS_FILE, "train.epochs", 2.5, "got a number with a fractional part, found 2.5"),
        (PARAMS_FILE, "train", None, "found None"),
        (PARAMS_FILE, "data", 7, "valid string, found 7"),
        (DATA_FILE, "text", 7, "expected the name of a column, found 7: write a name like that in quotes"),
        (MODEL_FILE, "head", "pooler", "valid list, found 'pooler'"),
        (MODEL_FILE, "targets.attention", 7, "valid string, found 7"),
        # out of range
        (PARAMS_FILE, "seed", -1, "greater than or equal to 0, found -1"),
        (PARAMS_FILE, "seeds", [], "at least 1 item"),
        (PARAMS_FILE, "seeds", [1, 2, 1], "1 is there twice"),
        (PARAMS_FILE, "train.class_weights", "inverse", "'none' or 'balanced', found 'inverse'"),
        (PARAMS_FILE, "training_rows.methods", ["tfidf", "lora-v2"], "nothing trains lora-v2; trained are tfidf, full"),
        (PARAMS_FILE, "export.methods", ["lora-v2", "full"], "nothing trains lora-v2; trained are full, lora-v1, dora"),
        (PARAMS_FILE, "train.epochs", 0, "greater than or equal to 1, found 0"),
        (PARAMS_FILE, "train.warmup", 1.0, "less than 1, found 1.0"),
        (PARAMS_FILE, "train.select_by", "recall", "expected accuracy, f1, loss, found 'recall'"),
        (
            PARAMS_FILE,
            "train.select_by",
            "acuracy",
            "expected accuracy, f1, loss, found 'acuracy'; did you mean accuracy?",
        ),
        (PARAMS_FILE, "precision", "fp8", "found 'fp8'"),
        (PARAMS_FILE, "baseline.probe_C", float("inf"), "finite number, found inf"),
        (PARAMS_FILE, "train_lora.v1.alpha", 0, "greater than 0, found 0"),
        (PARAMS_FILE, "evaluate.methods", [], "at least 1 item"),
        (DATA_FILE, "rows", 0, "greater than or equal to 1, found 0"),
        (MODEL_FILE, "max_length", 0, "greater than or equal to 1, found 0"),
        (MODEL_FILE, "learning_rate.full", -1e-3, "greater than 0, found -0.001"),
        # a method that nothing trains, a variant that nothing evaluates
        (PARAMS_FILE, "evaluate.methods", ["full", "lora-v1", "lora-v3"], "nothing trains lora-v3"),
        (PARAMS_FILE, "evaluate.methods", ["ful", "lora-v1"], "trained are full, lora-v1; did you mean full?"),
        (PARAMS_FILE, "evaluate.methods", ["full"], "lora-v1 would be trained but not evaluated"),
        (PARAMS_FILE, "train_peft.methods", ["dora", "ia3"], "no entry for ia3; there are: dora"),
        (PARAMS_FILE, "train_peft.methods", ["dora", "dora"], "dora is there twice"),
        # an entry that is not whole, or of a name that is taken
        (PARAMS_FILE, "train_peft.entries.dora.learning_rate", ABSENT, "missing key"),
        (PARAMS_FILE, "train_peft.entries.dora.peft_type", ABSENT, "missing key"),
        (PARAMS_FILE, "train_peft.entries.dora.optimizer", "sgd", "found 'sgd'"),
        (PARAMS_FILE, "report.margin", 2, "less than 1, found 2"),
        (PARAMS_FILE, "report.confidence", 0.5, "greater than 0.5, found 0.5"),
        (PARAMS_FILE, "report.confidence", 95, "less than 1, found 95"),
        (PARAMS_FILE, "report.figure", "mcc", "expected accuracy, f1, found 'mcc'"),
        (PARAMS_FILE, "report.assurance", 0.3, "greater than 0.5, found 0.3"),
        (PARAMS_FILE, "report.assurance", 0.97, "expected at most `confidence`, 0.95, found 0.97"),
        (PARAMS_FILE, "report.cost_order", [], "at least 1 item"),
        (PARAMS_FILE, "report.cost_order", "price", "should be a valid list, found 'price'"),
        (PARAMS_FILE, "report.cost_order", ["train_seconds"] * 2, "train_seconds is there twice; name each cost once"),
        # costs of errors that are none
        (DATA_FILE, "costs", {"a": {"a": 2}}, "a.a: a right answer costs nothing; leave it out"),
        # splits that do not add up
        (DATA_FILE, "splits", {"train": 0.5, "validation": 0.2, "test": 0.2}, "the shares add up to 0.9, expected 1"),
        (DATA_FILE, "splits", {"train": 0.5, "test": 0.5}, "expected the keys train, validation and test"),
        (DATA_FILE, "splits", {"train": 0.8, "validation": 0.2, "test": "test"}, "`train` must be one too"),
        (DATA_FILE, "splits", {"train": "train", "validation": 0.5, "test": 0.5}, "leave nothing for `train`"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(files, file, key, value, message):
    files.change(file, key, value)
    (line,) = files.mistakes()
    assert line.startswith(f"{file}: {key}: ")
    assert message in line


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("rows", {"train": 0}, "rows.train: Input should be greater than or equal to 1, found 0"),
        ("rows", {"dev": 1}, "rows.dev: Input should be 'train', 'validation' or 'test', found 'dev'"),
        ("costs", {"a": {"b": -1}}, "costs.a.b: Input should be greater than or equal to 0, found -1"),
        ("labels", {0: 1}, "labels.0: Input should be a valid string, found 1"),
        ("text", ["title", ["a"]], "text.1: Input should be a valid string, found ['a']"),
    ],
)
def test_a_mistake_in_an_entry_is_told_of_the_entry_alone(files, key, value, line):
    """Though the whole might also have been a plain number or string."""
    files.change(DATA_FILE, key, value)
    assert files.mistakes() == [f"{DATA_FILE}: {line}"]


@pytest.mark.parametrize("kind", ["data", "model"])
@pytest.mark.parametrize("name", ["nosuch", "../model/tiny", "../data/texts", "tinny"])
def test_an_unknown_name_is_answered_with_those_present(files, kind, name):
    files.change(PARAMS_FILE, kind, name)
    present = {"data": "texts", "model": "tiny"}[kind]
    like = {("data", "../data/texts"): "; did you mean texts?", ("model", "tinny"): "; did you mean tiny?"}
    line = f"params.yaml: {kind}: there is no conf/{kind}/{name}.yaml; present are: {present}"
    assert files.mistakes() == [line + like.get((kind, name), "")]


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("clasification", "there is no task 'clasification'; did you mean classification?"),
        (["classification"], "Input should be a valid string, found ['classification']"),
        (None, "Input should be a valid string, found None"),
    ],
)
def test_a_task_that_does_not_exist_is_refused(files, task, line):
    files.change(DATA_FILE, "task", task)
    assert files.mistakes() == [f"{DATA_FILE}: task: {line}"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("lora_alfa", 8, "LoraConfig has no such field; did you mean lora_alpha"),
        ("r", "many", "Input should be a valid integer, unable to parse string as an integer, found 'many'"),
        ("peft_type", "LORAA", "there is no method 'LORAA'; did you mean LORA or "),
    ],
)
def test_the_fields_of_a_chosen_entry_are_checked(files, field, value, message):
    files.change(PARAMS_FILE, f"train_peft.entries.dora.{field}", value)
    with pytest.raises(UserError) as error:
        resolve(files.load())
    assert str(error.value).startswith(f"params.yaml: train_peft.entries.dora.{field}: {message}")


def test_all_mistakes_of_a_file_are_told_at_once(files):
    files.change(PARAMS_FILE, "train.epochs", 0)
    files.change(PARAMS_FILE, "train.epoch", 3)
    files.change(PARAMS_FILE, "seed", ABSENT)
    files.change(PARAMS_FILE, "evaluate.methods", ["lora-v1", "x"])
    keys = {line.split(": ")[1] for line in files.mistakes()}
    assert keys == {"train.epochs", "train.epoch", "seed", "evaluate.methods"}


def test_both_unknown_names_are_told_at_once(files):
    files.change(PARAMS_FILE, "data", "x")
    files.change(PARAMS_FILE, "model", "y")
    assert [line.split(": ")[1] for line in files.mistakes()] == ["data", "model"]


def test_splits_are_checked_beside_other_mistakes(files):
    files.change(DATA_FILE, "splits", {"train": 0.5, "validation": 0.1, "test": 0.1})
    files.change(DATA_FILE, "clean", ["stem"])
    assert {line.split(": ")[1] for line in files.mistakes()} == {"splits", "clean.0"}


@pytest.mark.parametrize("file", VALUES)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: [1\n", "not valid YAML: "),
        (b"name: caf\xe9\n", "not valid YAML: "),
        (b"- a\n- b\n", "expected `key: value` lines, found list"),
        (b"", "expected `key: value` lines, found NoneType"),
    ],
)
def test_a_file_that_holds_no_settings(files, file, content, message):
    (files.folder / file).write_bytes(content)
    (line,) = files.mistakes()
    assert line.startswith(f"{file}: {message}")


def test_outside_a_project(tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml: no such file; run from the project's top folder"):
        load(tmp_path)


# --- values


@pytest.mark.parametrize(
    ("file", "key", "text", "number"),
    [
        (PARAMS_FILE, "train.weight_decay", "1e-05", 1e-5),  # as `dvc exp run -S` writes it
        (PARAMS_FILE, "baseline.tfidf_C", "1e-05", 1e-5),
        (PARAMS_FILE, "train_lora.v1.alpha", "1e1", 10.0),
        (PARAMS_FILE, "train_peft.entries.dora.learning_rate", "1e-05", 1e-5),
        (PARAMS_FILE, "train.epochs", "1e1", 10),
        (PARAMS_FILE, "seed", "17", 17),
        (DATA_FILE, "rows", "1e4", 10_000),
        (MODEL_FILE, "learning_rate.full", "1e-05", 1e-5),
    ],
)
def test_a_number_written_as_text_is_a_number(files, file, key, text, number):
    files.change(file, key, text)
    settings = files.load()
    found = {PARAMS_FILE: settings.params, DATA_FILE: settings.data, MODEL_FILE: settings.model}[file]
    for name in key.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        (PARAMS_FILE, "seed"),
        (PARAMS_FILE, "train.epochs"),
        (PARAMS_FILE, "train.patience"),
        (PARAMS_FILE, "train.warmup"),
        (PARAMS_FILE, "baseline.ngrams"),
        (PARAMS_FILE, "baseline.tfidf_C"),
        (PARAMS_FILE, "train_lora.v1.alpha"),
        (PARAMS_FILE, "evaluate.batch_size"),
        (DATA_FILE, "rows"),
        (MODEL_FILE, "max_length"),
        (MODEL_FILE, "learning_rate.full"),
    ],
)
def test_true_is_no_number(files, file, key):
    files.change(file, key, True)
    (line,) = files.mistakes()
    assert line.startswith(f"{file}: {key}: expected a number, found a yes/no value")


def test_true_is_no_share(files):
    files.change(DATA_FILE, "splits", {"train": "train", "validation": True, "test": "test"})
    (line,) = files.mistakes()
    assert line.startswith(f"{DATA_FILE}: splits.validation: expected a number, found a yes/no value")


def test_a_split_may_have_a_number_for_a_name(files):
    names = {"train": "2023", "validation": "2024", "test": "2025"}
    files.change(DATA_FILE, "splits", names)
    assert files.load().data.splits == names


@pytest.mark.parametrize(
    ("section", "name"),
    [
        (lambda settings: settings, "params"),
        (lambda settings: settings.params, "seed"),
        (lambda settings: settings.params.train, "epochs"),
        (lambda settings: settings.data, "text"),
        (lambda settings: settings.model, "max_length"),
    ],
)
def test_settings_are_frozen(files, section, name):
    settings = files.load()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(section(settings), name, 2)


@pytest.mark.parametrize("name", ["full", "lora-v1", "probe", "crf", "targets"])
def test_an_entry_may_not_take_another_methods_name(files, name):
    files.change(PARAMS_FILE, f"train_peft.entries.{name}", {"peft_type": "IA3", "learning_rate": 1e-3})
    (line,) = files.mistakes()
    assert line == f"{PARAMS_FILE}: train_peft.entries: '{name}' is the name of another method; choose another"


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("train_peft.entries", {"peft_type": "IA3", "learning_rate": 1e-3}),
        ("train_lora", {"rank": 8, "alpha": 16, "dropout": 0.1, "targets": "attention"}),
    ],
)
@pytest.mark.parametrize("name", ["Dora", "do/ra", "dora-", "../x"])
def test_an_entrys_name_is_fit_for_a_folder(files, key, entry, name):
    files.change(PARAMS_FILE, key, {name: entry})
    assert f"'{name}' is no name for a method" in "\n".join(files.mistakes())


@pytest.mark.parametrize("share", ["0.5; touch x", "0.5\n", " 0.5", "0.50"])
def test_a_share_is_written_as_its_file_is_named(files, share):
    files.change(PARAMS_FILE, "training_rows.shares", [0.25, share])
    (line,) = files.mistakes()
    assert re.match(rf"{PARAMS_FILE}: training_rows.shares.1: .* number.*, found {re.escape(repr(share))}$", line)


def test_a_model_file_of_two_lines(files):
    files.values[MODEL_FILE] = {"name": "tiny", "revision": "main"}
    files.write()
    model = files.load().model
    assert model.learning_rate_of("full", Path("m.yaml")) > 0
    assert model.learning_rate_of("lora-v1", Path("m.yaml")) > model.learning_rate_of("full", Path("m.yaml"))


# --- learning rates


@pytest.mark.parametrize(
    ("method", "expected"), [("full", 1e-4), ("lora-v1", 2e-3), ("lora-v2", 1e-3), ("lora-v1-long", 1e-3)]
)
def test_a_method_without_a_learning_rate_takes_its_familys(method, expected):
    model = ModelConf(**{**MODEL, "learning_rate": {"full": 1e-4, "lora": 1e-3, "lora-v1": 2e-3}})
    assert model.learning_rate_of(method, Path("m.yaml")) == expected


@pytest.mark.parametrize(("method", "lines"), [("lora-v2", "`lora-v2: ...` or `lora: ...`"), ("full", "`full: ...`")])
def test_no_learning_rate_at_all(method, lines):
    model = ModelConf(**{**MODEL, "learning_rate": {"lora-v1": 1e-3}})
    expected = f"m.yaml: learning_rate: no value for '{method}'; add a line {lines}"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        model.learning_rate_of(method, Path("m.yaml"))


# --- what is shipped


def test_the_shipped_settings_load():
    assert isinstance(load(ROOT), Study)


@pytest.mark.parametrize(
    ("path", "section"),
    [*((path, whole_data(path)) for path in SHIPPED_DATA), *((path, ModelConf) for path in SHIPPED_MODELS)],
    ids=lambda value: value.stem if isinstance(value, Path) else value.__name__,
)
def test_a_shipped_file_loads_and_shares_no_key_with_params(path, section):
    values = read_yaml(path)
    assert set(section.model_validate(values).model_fields_set) == set(values)
    assert not set(values) & set(read_yaml(ROOT / "params.yaml"))


@pytest.mark.parametrize("section", [WHOLE_DATA, ModelConf])
def test_no_setting_has_two_homes(section):
    assert not set(section.model_fields) & set(Params.model_fields)


@pytest.mark.parametrize("path", SHIPPED_MODELS, ids=lambda path: path.stem)
def test_a_shipped_model_serves_every_method(path):
    params = Params.model_validate(read_yaml(ROOT / "params.yaml"))
    model = ModelConf.model_validate(read_yaml(path))
    for method in params.evaluate.methods:
        assert model.learning_rate_of(method, path) > 0


# --- the stage


def change(project: Project, key: str, value: object) -> None:
    """Set a key of params.yaml; `train.epochs` is one of a section."""
    section, _, name = key.rpartition(".")
    params = project.read_yaml("params.yaml")
    project.edit_yaml("params.yaml", **({section: {**params[section], name: value}} if section else {name: value}))


WRONG = {
    "evaluate.methods": (
        ["ful", "lora-v1", "lora-v2"],
        "nothing trains ful; trained are full, .* did you mean full\\?",
    ),
    "train_peft.methods": (["doraa"], "no entry for doraa; there are: .*; did you mean dora or .*\\?"),
    "training_rows.shares": ([0.5, 2], "Input should be less than 1, found 2"),
    "training_rows.per_label": ([8, 0], "Input should be greater than or equal to 1, found 0"),
    "train.select_by": ("f2", "classification has no such figure: expected .*, found 'f2'; did you mean f1\\?"),
    "report.figure": ("recall", "classification has no such figure: expected accuracy, f1, found 'recall'"),
    "train.epoch": (3, "unknown key; did you mean epochs\\?"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_mistake_ends_the_stage_before_it_writes_anything(project: Project, key: str):
    value, message = WRONG[key]
    change(project, key, value)
    done = project.run("python", "-m", "stages.settings", *SETTINGS, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: params\.yaml: {re.escape(key)}(\.1)?: {message}.*\n", done.stderr), done.stderr
    assert [path.name for path in (project.folder / "data").iterdir()] == ["raw"]


@pytest.mark.slow
def test_a_mistake_ends_dvc_repro_before_anything_runs(project: Project):
    """Though `prepare` is up to date, so that the training would be next."""
    project.run("git", "init", "-q")
    project.run("dvc", "repro", "prepare")
    change(project, "evaluate.methods", ["ful", "lora-v1", "lora-v2"])
    done = project.run("dvc", "repro", check=False)
    assert done.returncode
    assert re.findall(r"^Running stage '(.+)':$", done.stdout, re.MULTILINE) == ["settings"]
    assert "did you mean full?" in done.stderr
    assert not [name for name in ("data/trained", "models", "metrics") if (project.folder / name).exists()]


@pytest.mark.parametrize(
    ("method", "changed"),
    # `training_rows` trains `full` as well, on a share of the rows.
    [("lora-v1", {"training/lora-v1.json"}), ("full", {"training/full.json", "training_rows.json"})],
)
def test_a_learning_rate_changes_the_file_of_its_method_alone(project: Project, method: str, changed: set[str]):
    def written() -> dict[str, bytes]:
        project.run("python", "-m", "stages.settings", *SETTINGS)
        folder = project.folder / "data/settings"
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.json")}

    before = written()
    rates = project.read_yaml("conf/model/tiny.yaml")["learning_rate"]
    project.edit_yaml("conf/model/tiny.yaml", learning_rate={**rates, method: 5e-4})
    after = written()
    assert {"prepare.json", "report.json", "training/full.json", "training/lora-v2.json"} <= set(after)
    assert set(before) == set(after)
    assert {name for name, content in after.items() if content != before[name]} == changed


# --- dvc exp run -S


def lines_changed(path: Path, shipped: Path = ROOT / "params.yaml") -> list[str]:
    """Of a shipped file, as a diff shows them."""
    before, after = ((each.read_text(encoding="utf-8").splitlines()) for each in (shipped, path))
    lines = difflib.unified_diff(before, after, n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


@pytest.mark.parametrize(
    "override",
    [
        *("data=imdb", "seed=18", "precision=fp32", "train.weight_decay=1e-5", "train_lora.v2.targets=attention"),
        *("train_peft.entries.lora-plus.learning_rate=1e-4", "evaluate.batch_size=8", "report.margin=0.05"),
    ],
)
def test_a_value_for_one_run_is_one_line_of_the_shipped_file(tmp_path: Path, override: str):
    """DVC writes the file anew, and every list on lines of its own: so they are written like that."""
    path = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    apply_overrides(path, [override])
    old, new = lines_changed(path)
    name = override.partition("=")[0].rpartition(".")[2]
    assert old.lstrip("- ").startswith(f"{name}: ") and new.lstrip("+ ").startswith(f"{name}: ")
    assert old.partition("#")[2] == new.partition("#")[2]


def lists(values: dict, *place: str) -> Iterator[tuple[str, list]]:
    """Each list of a file, with its key as `-S` names it."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from lists(value, *place, str(key))
        elif isinstance(value, list):
            yield ".".join((*place, str(key))), value


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        pytest.param(path, key, value, id=f"{path.stem}-{key}")
        for path in (ROOT / "params.yaml", *SHIPPED_DATA, *SHIPPED_MODELS)
        for key, value in lists(read_yaml(path))
    ],
)
def test_a_list_for_one_run_leaves_the_rest_of_a_shipped_file(tmp_path: Path, file: Path, key: str, value: list):
    """With a comment beside the list, DVC would write what it cannot read once the list is empty."""
    path, before = Path(shutil.copy(file, tmp_path)), read_yaml(file)
    for given in ([], ["one", "two"], [], value):
        apply_overrides(path, [f"{key}=[{','.join(map(str, given))}]"])
        after = read_yaml(path)
        assert dict(lists(after)) == {**dict(lists(before)), key: given}
    assert after == before
    assert [line.partition("#")[2] for line in lines_changed(path, file) if "#" in line] == []  # no comment is lost


@pytest.mark.slow
def test_dvc_exp_run_changes_one_line_of_the_shipped_file(project: Project):
    shutil.copy(ROOT / "params.yaml", project.folder)
    project.commit("code")
    project.run("dvc", "exp", "run", "-S", "train.epochs=3", "settings")
    assert lines_changed(project.folder / "params.yaml") == ["-  epochs: 6", "+  epochs: 3"]
    assert project.read_json("data/settings/training/full.json")["train"]["epochs"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["data=tinny", "train.epochs=many", "conf/model/tiny.yaml:max_length=0"])
def test_a_mistake_after_s_is_taken_back_by_two_commands(project: Project, mistake: str):
    """DVC writes it down and removes the outputs of `settings` before it asks us."""
    project.commit("code")
    project.run("dvc", "repro", "settings")
    project.commit("settings")
    before = {path: path.read_bytes() for path in (project.folder / "data").rglob("*.json")}

    done = project.run("dvc", "exp", "run", "-S", mistake, check=False)
    first = re.search("^error: .*$", done.stderr, re.MULTILINE)[0]
    assert ("did you mean tiny?" in first) == (mistake == "data=tinny")
    commands = re.findall("`(.+?)`", first)
    assert len(commands) == 2
    assert not (project.folder / "data/settings").exists()
    for command in commands:
        project.run(*command.split())
    assert project.run("git", "status", "--porcelain").stdout == ""
    assert {path: path.read_bytes() for path in (project.folder / "data").rglob("*.json")} == before
    assert project.run("dvc", "status", "settings").stdout.startswith("Data and pipelines are up to date")


def test_only_an_experiment_in_the_workspace_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = tmp_path / ".dvc/tmp/exps/tmp1"
    copy.mkdir(parents=True)
    for folder, name, expected in ((tmp_path, "", False), (tmp_path, "loud-mice", True), (copy, "loud-mice", False)):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_EXP_NAME", name) if name else monkeypatch.delenv("DVC_EXP_NAME", raising=False)
        assert bool(undo(Path("data/settings"))) == expected

"""Settings: every mistake is found before any work starts, and is told with its file and key."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from pydantic import ValidationError

from tunediff.core.errors import UserError
from tunediff.models.settings import ModelConf
from tunediff.settings.params import Params
from tunediff.settings.study import load
from tunediff.sources.settings import DataConf

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

    def load(self) -> Settings:
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
        (PARAMS_FILE, "sead", 1, "unknown key"),
        (PARAMS_FILE, "train.epoch", 1, "unknown key"),
        (PARAMS_FILE, "train_lora.v1.r", 1, "unknown key"),
        (DATA_FILE, "lable", "label", "unknown key"),
        (MODEL_FILE, "lr", 1e-3, "unknown key"),
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
        (DATA_FILE, "text", 7, "valid string, found 7; or: Input should be a valid list, found 7"),
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
        (PARAMS_FILE, "train.select_by", "recall", "'loss', 'accuracy' or 'f1', found 'recall'"),
        (PARAMS_FILE, "precision", "fp8", "found 'fp8'"),
        (PARAMS_FILE, "baseline.probe_C", float("inf"), "finite number, found inf"),
        (PARAMS_FILE, "train_lora.v1.alpha", 0, "greater than 0, found 0"),
        (PARAMS_FILE, "evaluate.methods", [], "at least 1 item"),
        (DATA_FILE, "rows", 0, "greater than or equal to 1, found 0"),
        (MODEL_FILE, "max_length", 0, "greater than or equal to 1, found 0"),
        (MODEL_FILE, "learning_rate.full", -1e-3, "greater than 0, found -0.001"),
        # a method that nothing trains, a variant that nothing evaluates
        (PARAMS_FILE, "evaluate.methods", ["full", "lora-v1", "lora-v3"], "nothing trains lora-v3"),
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
        (PARAMS_FILE, "report.figure", "mcc", "'accuracy' or 'f1', found 'mcc'"),
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
        ("labels", {0: 1}, "labels.0: Input should be a valid string, found 1"),
        ("text", ["title", 7], "text.1: Input should be a valid string, found 7"),
    ],
)
def test_a_mistake_in_an_entry_is_told_of_the_entry_alone(files, key, value, line):
    """Though the whole might also have been a plain number or string."""
    files.change(DATA_FILE, key, value)
    assert files.mistakes() == [f"{DATA_FILE}: {line}"]


@pytest.mark.parametrize("kind", ["data", "model"])
@pytest.mark.parametrize("name", ["nosuch", "../model/tiny", "../data/texts"])
def test_an_unknown_name_is_answered_with_those_present(files, kind, name):
    files.change(PARAMS_FILE, kind, name)
    present = {"data": "texts", "model": "tiny"}[kind]
    assert files.mistakes() == [f"params.yaml: {kind}: there is no conf/{kind}/{name}.yaml; present are: {present}"]


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


@pytest.mark.parametrize("name", ["full", "lora-v1", "probe"])
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
    assert isinstance(load(ROOT), Settings)


@pytest.mark.parametrize(
    ("path", "section"),
    [*((path, DataConf) for path in SHIPPED_DATA), *((path, ModelConf) for path in SHIPPED_MODELS)],
    ids=lambda value: value.stem if isinstance(value, Path) else value.__name__,
)
def test_a_shipped_file_loads_and_shares_no_key_with_params(path, section):
    values = read_yaml(path)
    assert set(section.model_validate(values).model_fields_set) == set(values)
    assert not set(values) & set(read_yaml(ROOT / "params.yaml"))


@pytest.mark.parametrize("section", [DataConf, ModelConf])
def test_no_setting_has_two_homes(section):
    assert not set(section.model_fields) & set(Params.model_fields)


@pytest.mark.parametrize("path", SHIPPED_MODELS, ids=lambda path: path.stem)
def test_a_shipped_model_serves_every_method(path):
    params = Params.model_validate(read_yaml(ROOT / "params.yaml"))
    model = ModelConf.model_validate(read_yaml(path))
    for method in params.evaluate.methods:
        assert model.learning_rate_of(method, path) > 0

"""Bad input ends in one line that says where and what to do, exit code 1, and the last good output untouched.

Each kind is run as a user runs it, in a process of its own; its variants in this one, which takes a tenth of the time.
"""

import importlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import ENVIRONMENT, PREPARE, SETTINGS, SIDES, Project
from test_dag import STAGES, file_of, outputs, related

from tunediff.core import limits, process
from tunediff.core.errors import UserError
from tunediff.core.files import output, read_json
from tunediff.training import curves

pytestmark = pytest.mark.slow

GOOD = "text,label\n" + "".join(f"shares rose {i},up\nshares fell {i},down\n" for i in range(20))
TRAIN_AND_TEST = {
    "source": {"train": "train.csv", "test": "test.csv"},
    "splits": {"train": "train", "validation": 0.2, "test": "test"},
}


@pytest.fixture
def before(project: Project) -> Project:
    """A project whose data/ holds the output of an earlier run."""
    folder = project.folder / "data/prepared"
    folder.mkdir()
    for side in SIDES:
        (folder / f"{side}.parquet").write_bytes(b"earlier " + side.encode())
    (project.folder / "data/profile.json").write_text('{"earlier": true}')
    return project


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Project], str]:
    """`fail`, but in this process."""

    def refuse(project: Project) -> str:
        files = contents(project)
        with pytest.raises(UserError) as error:
            project.prepare_here(monkeypatch)
        message = str(error.value)
        assert len(message.splitlines()) == 1, message
        assert contents(project) == files
        return message

    return refuse


def fail(project: Project) -> str:
    """Run prepare, which must fail cleanly and change nothing below data/; return its one line."""
    files = contents(project)
    done = project.prepare(check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert contents(project) == files
    return done.stderr


def contents(project: Project) -> dict[Path, bytes]:
    """All files below data/ but those of the stage before `prepare`, whose own mistakes are in test_params.py."""
    paths = [path for path in (project.folder / "data").rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths if project.folder / "data/settings" not in path.parents}


def write(project: Project, name: str, content: str | bytes, **conf: object) -> None:
    """Put a file under data/raw/ and make it the source, unless `conf` names another."""
    content = content.encode() if isinstance(content, str) else content
    (project.folder / "data/raw" / name).write_bytes(content)
    project.edit_yaml("conf/data/tiny.yaml", **{"source": f"data/raw/{name}", **conf})


# --- the file as a whole


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.csv", "", ["data/raw/empty.csv: the file is empty; expected rows"]),
        ("header.csv", "text,label\n", ["data/raw/header.csv: column names, but no rows under them; add rows"]),
        ("bad.json", '[{"text": "a", "label": }]', ["data/raw/bad.json: line 1: not JSON", "column 25", "correct it"]),
        ("dict.json", '{"text": ["a"]}', ["data/raw/dict.json: expected a list of objects", "found dict"]),
        (
            "bad.jsonl",
            '{"text": "a", "label": "b"}\n\n{"text": "a", "label"\n',
            ["data/raw/bad.jsonl: line 3: not JSON", "expected one object", "on each line"],
        ),
    ],
    ids=["empty", "header-only", "bad-json", "json-no-list", "bad-jsonl"],
)
def test_unusable_file(before: Project, name: str, content: str, says: list[str]) -> None:
    write(before, name, content)
    message = fail(before)
    for part in says:
        assert part in message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("blank.csv", " \n\n", "data/raw/blank.csv: the file is empty"),
        ("mark.csv", "\ufeff", "data/raw/mark.csv: the file is empty"),
        ("empty.parquet", "", "data/raw/empty.parquet: the file is empty"),
        ("none.json", "[]", "data/raw/none.json: the list is empty; expected rows"),
        ("lines.json", '{"text": "a"}\n{"text": "b"}\n', "data/raw/lines.json: line 2: not JSON: Extra data"),
        ("inner.json", '[{"text": "a"}, 5]', "data/raw/inner.json: row 2: expected an object with the columns as keys"),
        ("plain.jsonl", '{"text": "a"}\n\n"b"\n', "data/raw/plain.jsonl: line 3: expected an object"),
        (
            "nested.json",
            '[{"text": ["a", "b"], "label": "c"}]',
            "data/raw/nested.json: row 1: column 'text': expected text or a number, found list",
        ),
        (
            "half.json",
            '[{"text": "a", "label": "b"}, {"text": "\\ud83d", "label": "b"}]',
            "data/raw/half.json: row 2: column 'text': half a character (a lone surrogate, '\\ud83d'); correct",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith((".csv", "json", "jsonl", "parquet")) else "",
)
def test_unusable_file_variants(
    before: Project, refuse: Callable[[Project], str], name: str, content: str, says: str
) -> None:
    write(before, name, content)
    assert says in refuse(before)


def test_truncated_parquet(before: Project) -> None:
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(GOOD)).to_parquet(buffer)
    write(before, "cut.parquet", buffer.getvalue()[:-100])
    message = fail(before)
    assert "data/raw/cut.parquet: not a whole Parquet file" in message
    assert "copy or write it again" in message


def test_missing_file_lists_those_present(before: Project) -> None:
    before.edit_yaml("conf/data/tiny.yaml", source="data/raw/tyni.csv")
    message = fail(before)
    assert "conf/data/tiny.yaml: source: there is no file data/raw/tyni.csv" in message
    assert "data/raw/ has: tiny.csv" in message


def test_a_configuration_belongs_to_the_hub(before: Project) -> None:
    before.edit_yaml("conf/data/tiny.yaml", config="en-fr")
    assert "conf/data/tiny.yaml: config: names a part of a Hub data set, and `source` is a file" in fail(before)


@pytest.mark.parametrize("source", ["../x.csv", "FOLDER/data/x.csv"], ids=["relative", "absolute"])
def test_file_outside_data_raw(before: Project, source: str) -> None:
    (before.folder / "data/x.csv").write_text(GOOD)
    source = source.replace("FOLDER", str(before.folder))
    before.edit_yaml("conf/data/tiny.yaml", source=source)
    message = fail(before)
    assert f"conf/data/tiny.yaml: source: {source} is not under data/raw/" in message
    assert "copy or link the file there" in message


def test_file_outside_data_raw_by_a_detour(before: Project, refuse: Callable[[Project], str]) -> None:
    (before.folder / "data/x.csv").write_text(GOOD)
    before.edit_yaml("conf/data/tiny.yaml", source="data/raw/../x.csv")
    assert "source: data/raw/../x.csv is not under data/raw/" in refuse(before)


@pytest.mark.parametrize("source", ["data/raw/notes.md", "notes.md", "data/raw", ""])
def test_source_that_is_neither_a_data_file_nor_a_hub_id(
    before: Project, refuse: Callable[[Project], str], source: str
) -> None:
    (before.folder / "data/raw/notes.md").write_text(GOOD)
    before.edit_yaml("conf/data/tiny.yaml", source=source)
    message = refuse(before)
    assert f"conf/data/tiny.yaml: source: '{source}' is neither a data file, whose name ends in .csv" in message
    assert "nor the id of a Hub data set" in message


def test_source_without_a_file(before: Project, refuse: Callable[[Project], str]) -> None:
    before.edit_yaml("conf/data/tiny.yaml", source={})
    assert "conf/data/tiny.yaml: source: names no file; write a file under data/raw/" in refuse(before)


def test_not_utf8_says_where_and_encoding_makes_it_work(before: Project) -> None:
    content = GOOD + "café prices rose,up\n"
    write(before, "latin.csv", content.encode("cp1252"))
    message = fail(before)
    assert f"data/raw/latin.csv: not utf-8: byte {content.index('é')} (0xe9), in row 41, line 42" in message
    assert "save the file as UTF-8, or write its encoding in conf/data/tiny.yaml" in message
    assert "`encoding: cp1252`" in message

    before.edit_yaml("conf/data/tiny.yaml", encoding="cp1252")
    before.prepare()
    assert "café prices rose" in set(before.prepared().text)


def test_unknown_encoding(before: Project) -> None:
    before.edit_yaml("conf/data/tiny.yaml", encoding="utf-9")
    assert "data/raw/tiny.csv: Python knows no encoding 'utf-9'; try utf-8" in fail(before)


# --- more than a machine can take


@pytest.mark.parametrize("name", ["wide.csv", "wide.jsonl", "wide.json", "wide.parquet"])
def test_too_many_columns(before: Project, refuse: Callable[[Project], str], name: str) -> None:
    columns = {"text": "a", "label": "up"} | {f"c{number}": 1 for number in range(20_000)}
    path = before.folder / "data/raw" / name
    before.edit_yaml("conf/data/tiny.yaml", source=name)
    if path.suffix == ".parquet":
        pd.DataFrame([columns]).to_parquet(path)
    elif path.suffix == ".csv":
        path.write_text(f"{','.join(columns)}\n{','.join(map(str, columns.values()))}\n")
    else:
        path.write_text(json.dumps(columns if path.suffix == ".jsonl" else [columns]))
    assert f"data/raw/{name}: more than 10,000 columns; write a file of those that are needed" in refuse(before)


def test_columns_are_checked_in_linear_time(
    before: Project, refuse: Callable[[Project], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each name was counted in the list of all."""
    monkeypatch.setattr(limits, "COLUMNS", 10**6)
    write(before, "wide.csv", f"text,label,{','.join(f'c{number}' for number in range(300_000))},text\n")
    began = time.process_time()
    assert "two columns are named 'text'" in refuse(before)
    assert time.process_time() - began < 10


LONG = "shares rose " * 10


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("long.csv", f"text,label\na,up\n{LONG},up\n", "line 3: a row of more than 100 characters; shorten it, or"),
        ("open.csv", 'text,label\na,up\n"b,up\n' + "c,down\n" * 99, "line 3: a row of more than 100 characters"),
        ("header.csv", f"{LONG},label\n", "line 1: a row of more than 100 characters"),
        ("long.tsv", f"text\tlabel\n{LONG}\tup\n", "line 2: a row of more than 100 characters"),
        ("long.jsonl", f'{{"text": "a"}}\n{{"text": "{LONG}"}}\n', "line 2: more than 100 characters; shorten it"),
        ("long.json", f'[{{"label": "a"}}, {{"text": "{LONG}"}}]', "row 2: column 'text': 120 characters; at most 100"),
        ("label.json", f'[{{"text": "a", "label": "{LONG}"}}]', "row 1: column 'label': 120 characters; at most 100"),
    ],
)
def test_a_row_that_is_too_long(
    before: Project,
    refuse: Callable[[Project], str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str,
    says: str,
) -> None:
    monkeypatch.setattr(limits, "ROW", 100)
    write(before, name, content)
    assert f"data/raw/{name}: {says}" in refuse(before)


def test_columns_of_text_that_are_too_long_together(
    before: Project, refuse: Callable[[Project], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ROW", 200)
    write(before, "two.json", json.dumps([{"title": LONG, "body": LONG, "label": "up"}]), text=["title", "body"])
    assert "data/raw/two.json: row 1: 242 characters of text; at most 200 are read: shorten it" in refuse(before)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_line_without_end_is_not_read_to_its_end(
    before: Project, refuse: Callable[[Project], str], ending: str
) -> None:
    """200 MB without a line break, which are a hole in the file."""
    path = before.folder / f"data/raw/endless.{ending}"
    path.write_text('{"text": "a"}\n' if ending == "jsonl" else "text,label\n")
    os.truncate(path, 200 * 10**6)
    before.edit_yaml("conf/data/tiny.yaml", source=path.name)
    began = time.process_time()
    assert "line 2: " in (message := refuse(before)) and "more than 12,000,000 characters" in message
    assert time.process_time() - began < 10


def test_a_json_file_that_is_too_large_to_be_read_whole(
    before: Project, refuse: Callable[[Project], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JSON", 100)
    write(before, "large.json", json.dumps([{"text": LONG, "label": "up"}]))
    message = refuse(before)
    assert "data/raw/large.json: 149 bytes; a .json file is read whole and may have 100: write an object" in message


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_that_take_too_much_memory_together(
    before: Project, refuse: Callable[[Project], str], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """A Parquet file of a few kilobytes may have any number of them."""
    monkeypatch.setattr(limits, "memory", lambda: 10_000)
    content = io.BytesIO()
    rows = pd.DataFrame({"text": [LONG] * 1000, "label": ["up", "down"] * 500})
    rows.to_csv(content, index=False) if ending == "csv" else rows.to_parquet(content)
    write(before, f"many.{ending}", content.getvalue())
    message = refuse(before)
    assert f"data/raw/many.{ending}: row 38: the rows up to here take more than an eighth of this machine's" in message
    assert "use a part of them, or a larger machine" in message


def test_files_of_one_list_that_take_too_much_memory_together(
    before: Project, refuse: Callable[[Project], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them alone does not."""
    monkeypatch.setattr(limits, "memory", lambda: 10_000)
    for name in ("one.csv", "two.csv"):
        write(before, name, f"text,label\n{LONG},up\n" + 24 * f"{LONG},down\n")
    before.edit_yaml("conf/data/tiny.yaml", source=["one.csv", "two.csv"])
    message = refuse(before)
    assert "data/raw/two.csv: row 12: the rows up to here take more than an eighth of this machine's" in message


def test_a_row_group_that_is_too_large(
    before: Project, refuse: Callable[[Project], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COLUMN", 1000)
    content = io.BytesIO()
    pd.DataFrame({"text": [f"{LONG} {number}" for number in range(100)], "label": "up"}).to_parquet(content)
    write(before, "group.parquet", content.getvalue())
    message = refuse(before)
    assert "data/raw/group.parquet: row group 1: column 'text' takes more than 1,000 bytes; write the file" in message


# --- columns and lines


def test_missing_column_lists_those_present(before: Project) -> None:
    before.edit_yaml("conf/data/tiny.yaml", text="body")
    assert "conf/data/tiny.yaml: text: data/raw/tiny.csv has no column 'body'; it has: text, label" in fail(before)


@pytest.mark.parametrize(("key", "value"), [("text", ["text", "y"]), ("label", "y"), ("group", "y")])
def test_missing_column_of_each_key(
    before: Project, refuse: Callable[[Project], str], key: str, value: str | list[str]
) -> None:
    before.edit_yaml("conf/data/tiny.yaml", **{key: value})
    assert f"tiny.yaml: {key}: data/raw/tiny.csv has no column 'y'; it has: text, label" in refuse(before)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("one, two,up", "line 42: expected 2 fields, as in the header, found 3; quote fields that contain"),
        ('"never closed,up\nmore,down', "line 42: malformed: unexpected end of data; a quote inside"),
    ],
    ids=["too-many-fields", "unclosed-quote"],
)
def test_malformed_csv_line(before: Project, line: str, says: str) -> None:
    write(before, "bad.csv", f"{GOOD}{line}\nfine,up\n")
    assert f"data/raw/bad.csv: {says}" in fail(before)


def test_csv_line_with_too_few_fields(before: Project, refuse: Callable[[Project], str]) -> None:
    write(before, "bad.csv", f"{GOOD}alone\nfine,up\n")
    expected = "line 42: expected 2 fields, as in the header, found 1; a missing value needs its separator"
    assert f"data/raw/bad.csv: {expected}" in refuse(before)


def test_line_number_counts_lines_inside_quotes(before: Project, refuse: Callable[[Project], str]) -> None:
    write(before, "bad.csv", 'text,label\n"two\nlines",up\n\n"closed" early,up\n')
    assert "data/raw/bad.csv: line 5: malformed: ',' expected after '\"'" in refuse(before)


def test_two_columns_of_one_name(before: Project) -> None:
    write(before, "twice.csv", "text,label,text\na,up,b\n")
    assert "data/raw/twice.csv: two columns are named 'text'; rename one" in fail(before)


# --- labels and splits


def test_one_label_only(before: Project) -> None:
    write(before, "one.csv", "text,label\na,up\nb,up\n")
    message = fail(before)
    assert "conf/data/tiny.yaml: label: column 'label' has 1 label (up)" in message
    assert "at least 2: name another column, or add rows" in message


def test_labels_merged_into_one(before: Project, refuse: Callable[[Project], str]) -> None:
    before.edit_yaml("conf/data/tiny.yaml", labels={"bearish": "news", "bullish": "news"})
    assert "has 1 label (news)" in refuse(before)


def test_no_label_at_all(before: Project, refuse: Callable[[Project], str]) -> None:
    write(before, "none.csv", "text,label\na,\nb,\n")
    assert "has 0 labels (none)" in refuse(before)


def test_subset_with_too_few_rows(before: Project, refuse: Callable[[Project], str]) -> None:
    before.edit_yaml("conf/data/tiny.yaml", rows=2)
    assert "conf/data/tiny.yaml: splits.test: too few rows in the subset that `rows` asks for" in refuse(before)


def test_label_in_test_that_train_lacks(before: Project) -> None:
    write(before, "train.csv", GOOD)
    write(before, "test.csv", "text,label\nbonds rose,up\nbonds stood,flat\nbonds fell,down\n", **TRAIN_AND_TEST)
    message = fail(before)
    assert "conf/data/tiny.yaml: label 'flat' is in test (test.csv row 2), but no row of train has it" in message
    assert "add such rows to train, or leave them out" in message


def test_label_not_in_the_list(before: Project) -> None:
    write(before, "more.csv", GOOD + "shares stood,flat\n", labels=["down", "up"])
    message = fail(before)
    assert "conf/data/tiny.yaml: labels: data/raw/more.csv row 41 has label 'flat'" in message
    assert "not in the list (down, up); add it, or correct the row" in message


def test_label_that_yaml_reads_as_another_value(before: Project, refuse: Callable[[Project], str]) -> None:
    write(before, "yes.csv", GOOD.replace(",up", ",yes").replace(",down", ",no"))
    conf = before.folder / "conf/data/tiny.yaml"
    conf.write_text(conf.read_text() + "labels: [no, yes]\n")
    message = refuse(before)
    assert "label 'no', which is not in the list (False, True); add it, in quotes if it is like yes, true" in message


def test_label_in_the_list_that_no_row_has(before: Project, refuse: Callable[[Project], str]) -> None:
    before.edit_yaml("conf/data/tiny.yaml", labels=["bearish", "bullish", "neutral"])
    assert "conf/data/tiny.yaml: label 'neutral' is in `labels`, but no row has it" in refuse(before)


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        (None, "splits: the source has the splits train, test: say which is train, validation and test"),
        (
            {"train": "train", "validation": "dev", "test": "test"},
            "splits.validation: the source has no split 'dev'; it has: train, test",
        ),
        (
            {"train": "train", "validation": "test", "test": "test"},
            "splits: validation and test are both 'test'; each needs rows of its own",
        ),
    ],
    ids=["unnamed", "unknown", "twice"],
)
def test_splits_that_do_not_fit_the_source(
    before: Project, refuse: Callable[[Project], str], splits: dict | None, says: str
) -> None:
    write(before, "train.csv", GOOD)
    write(before, "test.csv", "text,label\nbonds rose,up\nbonds fell,down\n", **{**TRAIN_AND_TEST, "splits": splits})
    assert f"conf/data/tiny.yaml: {says}" in refuse(before)


def test_test_file_that_repeats_train(before: Project, refuse: Callable[[Project], str]) -> None:
    write(before, "train.csv", GOOD)
    write(before, "test.csv", GOOD, **TRAIN_AND_TEST)
    message = refuse(before)
    assert "conf/data/tiny.yaml: splits.test: every row of the source's split 'test' is dropped" in message
    assert "or stands in another split" in message


# --- rows that are dropped or reported: no error


def test_rows_without_text_or_label_are_dropped_and_counted(project: Project) -> None:
    write(project, "holes.csv", GOOD + ",up\n  ,down\nno label,\nblank label,  \nshares rose 0,up\n")
    done = project.prepare()
    assert done.stderr == ""
    assert "45 rows read, 40 kept, 5 dropped" in done.stdout
    assert "dropped 2: no text (all:41, all:42)" in done.stdout
    assert "dropped 2: no label (all:43, all:44)" in done.stdout
    assert "dropped 1: duplicate of an earlier row (all:45)" in done.stdout
    found = project.profile()
    assert found["rows"] == {"read": 45, "kept": 40, "dropped": 5, "outside_subset": 0}
    assert [(d["reason"], d["rows"], d["first"]) for d in found["dropped"]] == [
        ("no text", 2, ["all:41", "all:42"]),
        ("no label", 2, ["all:43", "all:44"]),
        ("duplicate of an earlier row", 1, ["all:45"]),
    ]
    assert sorted(project.prepared().row) == list(range(1, 41))


def test_same_text_with_other_label_is_reported_and_stays_on_one_side(project: Project) -> None:
    write(project, "disputed.csv", GOOD + "".join(f"shares rose {i},down\n" for i in range(10)))
    done = project.prepare()
    assert "20 rows share their text with a row of another label" in done.stdout
    found = project.profile()
    assert found["same_text_other_label"]["rows"] == 20
    assert found["same_text_other_label"]["first"][0] == "all:1"
    assert found["rows"]["kept"] == 50
    rows = project.prepared()
    disputed = rows[rows.groupby("text").label.transform("nunique") > 1]
    assert len(disputed) == 20
    assert (disputed.groupby("text").side.nunique() == 1).all()


# --- which data and which model


@pytest.mark.parametrize("kind", ["data", "model"])
def test_unknown_name_lists_those_present(before: Project, kind: str) -> None:
    before.edit_yaml("params.yaml", **{kind: "nope"})
    message = fail(before)
    present = sorted(path.stem for path in (before.folder / "conf" / kind).glob("*.yaml"))
    assert "tiny" in present
    assert f"params.yaml: {kind}: there is no conf/{kind}/nope.yaml; present are: {', '.join(present)}" in message


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ("config.json", "is not a model folder: it has no config.json"),
        ("model.safetensors", "has no weights (*.safetensors); pickled weights (*.bin, *.pt) are not loaded"),
    ],
)
def test_model_folder_that_lacks_a_file(before: Project, tiny_model: Path, lacks: str, says: str) -> None:
    copy = shutil.copytree(tiny_model, before.folder / "copy")
    (copy / lacks).unlink()
    before.edit_yaml("conf/model/tiny.yaml", name="./copy")
    assert f"conf/model/tiny.yaml: name: ./copy {says}" in fail(before)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "./copy has no tokenizer.json; save a fast tokenizer there"),
        ('{"version": ', "copy/tokenizer.json is not a tokenizer"),
    ],
    ids=["missing", "broken"],
)
def test_model_folder_without_a_usable_tokenizer(
    before: Project, tiny_model: Path, refuse: Callable[[Project], str], content: str | None, says: str
) -> None:
    copy = shutil.copytree(tiny_model, before.folder / "copy")
    (copy / "tokenizer.json").unlink()
    if content:
        (copy / "tokenizer.json").write_text(content)
    before.edit_yaml("conf/model/tiny.yaml", name="./copy")
    assert f"conf/model/tiny.yaml: name: {says}" in refuse(before)


def test_package_that_is_not_installed(before: Project) -> None:
    before.edit_yaml("conf/model/tiny.yaml", name="package:no_such_package/model")
    message = fail(before)
    assert "conf/model/tiny.yaml: name: the Python package 'no_such_package' is not installed" in message
    assert "install it as the README says" in message


@pytest.mark.parametrize("module", ["no_such_package.inner", "..json"])
def test_package_whose_name_cannot_be_looked_up(before: Project, refuse: Callable[[Project], str], module: str) -> None:
    before.edit_yaml("conf/model/tiny.yaml", name=f"package:{module}/model")
    assert f"name: the Python package '{module}' is not installed" in refuse(before)


def test_hub_model_without_a_network(before: Project) -> None:
    before.edit_yaml("conf/model/tiny.yaml", name="someone/no-such-model")
    message = fail(before)
    assert "conf/model/tiny.yaml: name: cannot load 'someone/no-such-model' (revision main)" in message
    assert "Check the name and the network" in message
    assert "or give a local folder" in message


def test_hub_data_without_a_network(before: Project) -> None:
    before.edit_yaml("conf/data/tiny.yaml", source="someone/no-such-data")
    message = fail(before)
    assert "conf/data/tiny.yaml: source: Hub data set someone/no-such-data at revision main: cannot be read" in message
    assert "Check its name and the network" in message
    assert "put a file under data/raw/" in message


def test_a_failing_first_run_leaves_no_output(project: Project) -> None:
    # The model is looked at last, when the rows are ready to be saved.
    project.edit_yaml("conf/model/tiny.yaml", name="./no-such-folder")
    fail(project)
    assert {path.name for path in (project.folder / "data").iterdir()} == {"raw", "settings"}


# --- places, not content

N = "n" * 5000


@pytest.mark.parametrize(
    ("file", "key", "value", "says"),
    [
        ("params.yaml", "data", N, "params.yaml: data: there is no conf/data/nnn"),
        ("params.yaml", "model", N, "params.yaml: model: there is no conf/model/nnn"),
        ("conf/data/tiny.yaml", "source", f"{N}.csv", "conf/data/tiny.yaml: source: data/raw/nnn"),
        ("conf/data/tiny.yaml", "source", N, "conf/data/tiny.yaml: source: 'nnn"),
        ("conf/model/tiny.yaml", "name", f"./{N}", "nnn"),
        ("conf/model/tiny.yaml", "name", N, "nnn"),
    ],
    ids=["data", "model", "file", "hub-data", "folder", "hub-model"],
)
def test_a_name_of_5000_characters(before: Project, file: str, key: str, value: str, says: str) -> None:
    before.edit_yaml(file, **{key: value})
    assert fail(before).startswith(f"error: {says}")


# A user who is root may write and read anything.
WITHOUT_POWER = """
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("stage", "path", "mode", "says"),
    [
        ("settings", "data", 0o555, "data/settings: cannot be written: Permission denied; make its folder writable"),
        ("settings", "params.yaml", 0, "params.yaml: cannot be read: Permission denied"),
        ("settings", "conf/data", 0, "conf/data: cannot be read: Permission denied"),
        ("settings", "conf/data/tiny.yaml", 0, "conf/data/tiny.yaml: cannot be read: Permission denied"),
        ("settings", "conf/model/tiny.yaml", 0, "conf/model/tiny.yaml: cannot be read: Permission denied"),
        ("prepare", "data", 0o555, "data/prepared: cannot be written: Permission denied; make its folder writable"),
        ("prepare", "data/settings/prepare.json", 0, "data/settings/prepare.json: Permission denied"),
        ("prepare", "data/raw/tiny.csv", 0, "data/raw/tiny.csv: cannot be read: Permission denied"),
        ("prepare", "data/raw", 0, "conf/data/tiny.yaml: source: data/raw/tiny.csv: cannot be read: Permission denied"),
    ],
)
def test_a_place_without_permission(project: Project, stage: str, path: str, mode: int, says: str) -> None:
    project.run("python", "-m", "stages.settings", *SETTINGS)
    arguments = {"settings": SETTINGS, "prepare": PREPARE}[stage]
    place = project.folder / path
    normal = place.stat().st_mode
    place.chmod(mode)
    try:
        done = project.run("python", "-c", WITHOUT_POWER, "-m", f"stages.{stage}", *arguments, check=False)
    finally:
        place.chmod(normal)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {says}"), done.stderr
    assert len(done.stderr.splitlines()) == 1


def written() -> list[tuple[str, str]]:
    """Each stage with each option of its command that names what it writes."""
    commands = {name: shlex.split(stage["cmd"].removesuffix(" ${item}"))[3:] for name, stage in STAGES.items()}
    return [
        (name, option)
        for name, words in commands.items()
        for option, path in zip(words[::2], words[1::2], strict=True)
        if related(path, set(outputs(name)))
    ]


@pytest.mark.parametrize(("name", "option"), written())
def test_what_cannot_be_written_ends_a_stage_before_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    words = shlex.split(STAGES[name]["cmd"].removesuffix(" ${item}"))[3:]
    words[words.index(option) + 1] = "file/output"
    monkeypatch.setattr(sys, "argv", [name, *words])
    stage = importlib.import_module(f"stages.{file_of(name).stem}")
    main = stage.main if hasattr(stage, "main") else lambda: stage.stage.main("Train.", None)
    with pytest.raises(UserError, match=r"^file/output: cannot be written: Not a directory; make its folder writable"):
        main()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_to_try_an_output_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("file.json", "new/folder/file.json", "folder"):
        assert output(str(tmp_path / name)) == tmp_path / name
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"[" * 100_000, "maximum recursion depth"), (b"{", "Expecting property name"), (b'"\xe9"', "'utf-8' codec")],
)
def test_a_json_file_of_an_earlier_stage_that_is_broken(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "profile.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"profile\.json: not JSON: {says}.*; make it again with `dvc repro`"):
        read_json(tmp_path / "profile.json")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(2, "No such file", "metrics/full.json"), "error: metrics/full.json: No such file"),
        (MemoryError("malloc of size 9"), "error: this machine has too little memory: malloc of size 9; use less data"),
    ],
)
def test_what_the_machine_lacks_is_one_line(error: Exception, says: str) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit, match=f"^{says}"):
        process.run(main)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="it is not seen which library is loaded")
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_an_interruption_while_a_stage_imports_is_one_line(project: Project, library: str) -> None:
    stage = subprocess.Popen(
        [sys.executable, "-m", "stages.train_full"],
        cwd=project.folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # tests may be told to ignore it
    )
    while f"/{library}/" not in Path(f"/proc/{stage.pid}/maps").read_text():
        assert stage.poll() is None
        time.sleep(0.001)
    stage.send_signal(signal.SIGINT)
    assert stage.communicate()[1] == "interrupted\n"
    assert stage.returncode == 1


def test_learning_curves_without_a_commit(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    project.run("git", "init", "-q")
    with pytest.raises(UserError, match=r"^git: Empty git repo: DVCLive asks for the current commit; make one with"):
        curves.live(Path("plots/curves/full"))
    project.run("git", "commit", "-q", "--allow-empty", "-m", "first")
    with curves.live(Path("plots/curves/full")):
        pass

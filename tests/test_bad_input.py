"""Bad input ends in one line that says where and what to do, exit code 1, and the last good output untouched.

Each kind is run as a user runs it, in a process of its own; its variants in this one, which takes a tenth of the time.
"""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import SIDES, Project

from tunediff.core.errors import UserError

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


@pytest.mark.parametrize("source", ["data/raw/notes.txt", "notes.txt", "data/raw", ""])
def test_source_that_is_neither_a_data_file_nor_a_hub_id(
    before: Project, refuse: Callable[[Project], str], source: str
) -> None:
    (before.folder / "data/raw/notes.txt").write_text(GOOD)
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


def test_label_with_too_few_rows_to_split(before: Project) -> None:
    write(before, "rare.csv", GOOD + "shares stood,flat\nshares lay,flat\n")
    message = fail(before)
    assert "conf/data/tiny.yaml: label 'flat' has too few rows (2) to be in each of train, validation and" in message
    assert "give it more rows, merge it" in message


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

"""What people bring: files of every dialect and tool load with two lines, or are refused in one; nothing in silence."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Project
from test_sources import read, read_one, save, save_workbook

from tunediff.baselines.linear import has_words, on_tfidf
from tunediff.baselines.settings import Baseline
from tunediff.core import limits
from tunediff.core.errors import UserError
from tunediff.report.provenance import provenance
from tunediff.sources import formats
from tunediff.sources.settings import FileKeys

WORDS = ["never", "often", "seldom", "always"]


def rows(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(table[["text", "label"]].itertuples(index=False, name=None))


def refused(source: str | dict, **conf: object) -> str:
    with pytest.raises(UserError) as error:
        read(source, **conf)
    return str(error.value)


# --- tabs and quotes


def test_a_quote_at_the_beginning_of_a_text_swallows_no_lines(raw: Path) -> None:
    texts = ['"Loved it', "fine", 'so" "so', '"no" he said', 'bad"', '"quoted to the end"']
    (raw / "it.tsv").write_text("label\ttext\n" + "".join(f"x\t{text}\n" for text in texts))
    found = read("it.tsv")["all"]
    assert found.table.text.tolist() == texts
    assert found.decided == {
        "encoding": "utf-8",
        "separator": "tab",
        "quoting": "none",
        "header": True,
        "rows_over_lines": 0,
    }


def test_a_quote_that_closes_some_lines_later_swallows_none(raw: Path) -> None:
    """Both readings make a table: that without quotes has all rows."""
    (raw / "it.tsv").write_text('text\tlabel\n"one\ta\ntwo\tb\nthree"\tc\nfour\td\n')
    assert rows(read_one("it.tsv")) == [('"one', "a"), ("two", "b"), ('three"', "c"), ("four", "d")]


def test_one_column_of_texts_that_begin_with_quotes(raw: Path) -> None:
    (raw / "it.tsv").write_text('text\n"Loved it\nfine\nso" so\n')
    found = formats.read_records(raw / "it.tsv", FileKeys(), asked=["text"])
    assert [row["text"] for row in found.rows] == ['"Loved it', "fine", 'so" so']


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('"one"\ta\n"t ""w"" o"\tb\n', [("one", "a"), ('t "w" o', "b")]),
        ('"on\ne"\ta\ntwo\tb\n', [("on\ne", "a"), ("two", "b")]),
        ('"a\ttab"\ta\ntwo\tb\n', [("a\ttab", "a"), ("two", "b")]),
    ],
    ids=["all", "line-break", "tab"],
)
def test_tabs_with_quotes_around_fields(raw: Path, body: str, expected: list) -> None:
    (raw / "it.tsv").write_text(f"text\tlabel\n{body}")
    found = read("it.tsv")["all"]
    assert rows(found.table) == expected
    assert found.decided["quoting"] == "double"
    assert found.decided["rows_over_lines"] == body.count("on\ne")


def test_rows_that_go_over_lines_are_counted_and_said(project: Project, run_prepare: Callable, capsys) -> None:
    lines = [f'"shares rose\n{word} {number}",up\nfell {word} {number},down\n' for number in range(9) for word in WORDS]
    (project.folder / "data/raw/it.csv").write_text("text,label\n" + "".join(lines))
    run_prepare(source="it.csv")
    assert project.profile()["read_as"]["all"]["rows_over_lines"] == 36
    said = capsys.readouterr().out
    assert "all read as: encoding utf-8, separator comma, quoting double\n" in said
    assert "all: 36 rows go over several lines, in quotes" in said


def test_quoting_is_as_the_data_file_says(raw: Path) -> None:
    (raw / "it.tsv").write_text('text\tlabel\n"one"\ta\n"two"\tb\n')
    assert read_one("it.tsv", quoting="none").text.tolist() == ['"one"', '"two"']
    (raw / "it.csv").write_text('text,label\n"a" b,x\n')
    assert "say `quoting: none`" in refused("it.csv")
    assert read_one("it.csv", quoting="none").text.tolist() == ['"a" b']


# --- separators and headers


@pytest.mark.parametrize("name", ["it.csv", "it.txt", "it.tsv", "it"])
@pytest.mark.parametrize(("separator", "said"), [(";", "semicolon"), ("|", "pipe"), ("\t", "tab"), (",", "comma")])
def test_the_separator_is_found_whatever_the_name(raw: Path, name: str, separator: str, said: str) -> None:
    body = [f'"so, so; {word}|\t"{separator}x\n' for word in WORDS]
    (raw / name).write_text(f"text{separator}label\n" + "".join(body))
    found = read(name)["all"]
    assert found.table.text.tolist() == [f"so, so; {word}|\t" for word in WORDS]
    assert found.decided["separator"] == said


def test_spaces_after_separators(raw: Path) -> None:
    (raw / "it.csv").write_text('"label", "text"\n"pos", "good, really"\n"neg", "she said ""no"""\n')
    assert rows(read_one("it.csv")) == [("good, really", "pos"), ('she said "no"', "neg")]
    (raw / "it.csv").write_text('label,text\n"pos", "good, really"\n"neg", "bad"\n')
    assert rows(read_one("it.csv")) == [("good, really", "pos"), ("bad", "neg")]
    (raw / "it.csv").write_text('label,text\npos,"a, ""b"" c"\nneg," d"\n')
    assert rows(read_one("it.csv")) == [('a, "b" c', "pos"), (" d", "neg")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["ham\tGo on, he said, please", 'spam\t"Win" now', "ham\tok"], ["tab", "none"]),
        (["3,a b\n", '4,"c, d"\n', '3,"e"\n'], ["comma", "double"]),
        (["Web;one, two", "Web;'three; four'", "Sport;five"], ["semicolon", "single"]),
    ],
)
def test_a_file_without_a_header(raw: Path, lines: list[str], expected: list[str]) -> None:
    (raw / "it.txt").write_text("\n".join(lines))
    message = refused("it.txt")
    assert "conf/data/it.yaml: text: data/raw/it.txt has no column 'text', and its first row looks like" in message
    assert "name its 2 columns, as in `columns: [label, text]`" in message
    found = read("it.txt", columns=["label", "text"])["all"]
    assert len(found.table) == 3
    assert [found.decided["separator"], found.decided["quoting"]] == expected
    assert found.decided["header"] is False


def test_names_that_the_file_has_itself(raw: Path) -> None:
    (raw / "it.csv").write_text("label,text\nx,a\n")
    assert "line 1: the file has these names itself; take `columns` out" in refused("it.csv", columns=["label", "text"])
    assert "line 1: expected 3 fields, as in names in `columns`, found 2" in refused(
        "it.csv", columns=["id", "label", "text"]
    )


def test_labels_before_a_space(raw: Path) -> None:
    (raw / "train.txt").write_bytes(
        "DESC:manner How did it rise ?\nENTY:cremat What caf\xe9 is it ?\n".encode("cp1252")
    )
    conf = {"separator": "space", "columns": ["label", "text"], "encoding": "latin-1"}
    assert rows(read_one("train.txt", **conf)) == [
        ("How did it rise ?", "DESC:manner"),
        ("What café is it ?", "ENTY:cremat"),
    ]


def test_columns_that_nobody_asks_for(raw: Path) -> None:
    (raw / "it.csv").write_text("v1,v2,,,\nham,one,,x,\nspam,two,,,\n")
    assert rows(read_one("it.csv", text="v2", label="v1")) == [("one", "ham"), ("two", "spam")]
    (raw / "it.csv").write_text(",text,label,note,note\n0,one,x,a,b\n")
    assert rows(read_one("it.csv")) == [("one", "x")]
    assert "two columns are named 'note'; rename one" in refused("it.csv", group="note")


def test_utf_16_is_told_by_its_mark(raw: Path) -> None:
    (raw / "it.csv").write_text("text,label\nnaïve 日本,a\n", encoding="utf-16")
    found = read("it.csv")["all"]
    assert rows(found.table) == [("naïve 日本", "a")]
    assert found.decided["encoding"] == "utf-16"


@pytest.mark.parametrize(
    ("written", "set_to", "advised"),
    [("cp1252", None, "cp1252"), ("cp1251", None, "cp1251"), ("gb18030", "utf-8", "gb"), ("utf-8", "ascii", "utf-8")],
)
def test_the_encoding_that_is_advised_is_not_the_one_that_was_set(
    raw: Path, written: str, set_to: str | None, advised: str
) -> None:
    text = {"cp1252": "café crème", "cp1251": "Акции выросли после отчёта", "gb18030": "股票在报告之后上涨"}
    line = text.get(written, "naïve")
    (raw / "it.csv").write_bytes(("text,label\n" + f"{line},up\n" * 20).encode(written))
    assert f"for example `encoding: {advised}" in refused("it.csv", encoding=set_to)


# --- compressed files, workbooks, exports of tools


@pytest.mark.parametrize("name", ["it.csv.gz", "it.csv.zst", "it.TSV.bz2", "it.jsonl.gz", "it.json.zst"])
def test_compressed_files(raw: Path, name: str) -> None:
    records = [{"text": f"naïve {word}, so", "label": "ab"[i % 2]} for i, word in enumerate(WORDS)]
    plain = raw / Path(name).stem.lower()
    save(records, plain)
    with pa.output_stream(str(raw / name)) as file:
        file.write(plain.read_bytes())
    plain.unlink()
    assert read_one(name)[["text", "label"]].to_dict("records") == records


def test_a_compressed_file_that_is_damaged(raw: Path) -> None:
    (raw / "it.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a,b\n" * 1000)[:-12])
    assert "data/raw/it.csv.gz: cannot be read: " in refused("it.csv.gz")


def test_sheets_of_a_workbook(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [["text", "label", "n"], ["one", "a", 1], ["", "", ""], ["two", 2, 0.5]]
    save_workbook({"notes": [["only"]], "texts": texts}, raw / "it.xlsx")
    assert "has the sheets notes, texts: say which is meant, as in `sheet: notes`" in refused("it.xlsx")
    assert "no sheet 'text'; it has: notes, texts" in refused("it.xlsx", sheet="text")
    assert rows(read_one("it.xlsx", sheet="texts")) == [("one", "a"), ("two", "2")]
    save_workbook({"texts": texts[1:], "empty": []}, raw / "it.xlsx")
    assert rows(read_one("it.xlsx", columns=["text", "label", "n"])) == [("one", "a"), ("two", "2")]
    monkeypatch.setattr(limits, "JSON", 1000)
    assert "bytes; a workbook is read whole and may have 1,000: save the sheet as CSV" in refused("it.xlsx")
    (raw / "it.xlsx").write_bytes(b"PK no workbook")
    assert "data/raw/it.xlsx: not a workbook that can be read" in refused("it.xlsx")


def test_json_with_the_rows_under_a_key(raw: Path) -> None:
    records = [{"text": "one", "label": "a"}, {"text": "two", "label": "b"}]
    (raw / "it.json").write_text(json.dumps({"name": "set", "tags": ["x"], "sentences": records}))
    assert rows(read_one("it.json")) == [("one", "a"), ("two", "b")]
    lists = [list(record.values()) for record in records]
    (raw / "it.json").write_text(json.dumps({"train": lists, "test": lists[:1]}))
    assert "rows stand under the keys train, test: say which are meant, as in `field: train`" in refused("it.json")
    assert "row 1: expected an object" in refused("it.json", field="test")
    assert "as in `columns: [text, label]`" in refused("it.json", field="test")
    assert rows(read_one("it.json", field="train", columns=["text", "label"])) == [("one", "a"), ("two", "b")]
    assert "no rows under the key 'dev'; there are: train, test" in refused("it.json", field="dev")
    (raw / "it.json").write_text(json.dumps({"rasa": {"version": {"of": 1}, "examples": records}}))
    assert rows(read_one("it.json")) == rows(read_one("it.json", field="rasa.examples")) == [("one", "a"), ("two", "b")]
    (raw / "it.json").write_text('{"a":' * 900 + "1" + "}" * 900)
    assert "data/raw/it.json: " in refused("it.json")


@pytest.mark.parametrize("name", ["it.ndjson", "it.label", "it.data"])
def test_other_endings_of_known_formats(raw: Path, name: str) -> None:
    records = [{"text": "one two", "label": "a"}, {"text": "two", "label": "b"}]
    lines = [json.dumps(record) if name == "it.ndjson" else " ".join(list(record.values())[::-1]) for record in records]
    (raw / name).write_text("\n".join(lines))
    keys = {} if name == "it.ndjson" else {"separator": "space", "columns": ["label", "text"]}
    assert rows(read_one(name, **keys)) == [("one two", "a"), ("two", "b")]


LABEL_STUDIO = [
    {"id": 1, "data": {"text": "one"}, "annotations": [{"result": [{"value": {"choices": ["a"]}}]}]},
    {"id": 2, "data": {"text": "two"}, "annotations": [{"result": [{"value": {"choices": ["b"]}}]}] * 2},
    {"id": 3, "data": {"text": "open"}, "annotations": []},
]
ARGILLA = [
    {"id": "1", "fields": {"text": "one"}, "responses": {"label": [{"value": "a", "user_id": "u"}]}},
    {"id": "2", "fields": {"text": "two"}, "responses": {"label": [{"value": "b", "user_id": "v"}]}},
    {"id": "3", "fields": {"text": "open"}, "responses": {}},
]


@pytest.mark.parametrize(
    ("records", "text", "label"),
    [
        (LABEL_STUDIO, "data.text", "annotations.result.value.choices"),
        (ARGILLA, "fields.text", "responses.label.value"),
        (
            [
                {"id": 1, "text": "one", "label": ["a"]},
                {"id": 2, "text": "two", "label": ["b"]},
                {"text": "open", "label": []},
            ],
            "text",
            "label",
        ),
    ],
    ids=["label-studio", "argilla", "doccano"],
)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_exports_of_labelling_tools(raw: Path, ending: str, records: list, text: str, label: str) -> None:
    save(records, raw / f"it.{ending}")
    assert rows(read_one(f"it.{ending}", text=text, label=label)) == [("one", "a"), ("two", "b"), ("open", "")]
    assert label in refused(f"it.{ending}", text="body")


def test_two_annotators_who_disagree(raw: Path) -> None:
    both = [{"result": [{"value": {"choices": [choice]}}]} for choice in "ab"]
    save([{"data": {"text": "one"}, "annotations": both}], raw / "it.json")
    message = refused("it.json", text="data.text", label="annotations.result.value.choices")
    assert "row 1: column 'annotations.result.value.choices': several labels ('a', 'b')" in message


def test_a_saved_data_set_and_parquet_keep_the_names_of_labels(raw: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"]), "n": Value("int64")})
    data = Dataset.from_dict({"text": ["one", "two"], "label": [1, 0], "n": [1, 2]}, features)
    expected = [("one", "pos"), ("two", "neg")]
    data.to_parquet(raw / "it.parquet")
    assert rows(read_one("it.parquet")) == expected
    data.save_to_disk(raw / "one")
    assert rows(read_one("one")) == expected
    DatasetDict({"train": data, "test": data}).save_to_disk(raw / "both")
    found = read("data/raw/both", splits={"train": "train", "validation": 0.5, "test": "test"})
    assert {split: rows(part.table) for split, part in found.items()} == {"train": expected, "test": expected}
    assert found["train"].origin.startswith("both sha256:")
    (raw / "one/data-00000-of-00001.arrow").write_bytes(b"x")
    assert "data/raw/one: not a whole saved data set" in refused("one")


def test_a_number_of_a_label_without_a_name_is_refused_with_its_row(raw: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    data = Dataset.from_dict({"text": ["one", "two"], "label": [0, 7]})  # the library writes no such numbers itself
    named = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    pq.write_table(data.data.table.cast(named.arrow_schema), raw / "it.parquet")
    data.save_to_disk(raw / "one")
    info = json.loads((raw / "one/dataset_info.json").read_text())
    (raw / "one/dataset_info.json").write_text(json.dumps({**info, "features": named.to_dict()}))
    for place in ("it.parquet", "one"):
        assert "row 2: column 'label': labels are numbers from 0 to 1, found 7; correct it" in refused(place)


# --- rare labels


@pytest.fixture
def rare(project: Project) -> Project:
    """20 rows of `up` and of `down`, two labels with too few, and one whose rows are all in one group."""
    lines = [f"shares {verb} {i},{label},\n" for i in range(20) for verb, label in (("rose", "up"), ("fell", "down"))]
    lines += ["shares stood,flat,\n", "shares lay,flat,\n", "shares split,new,\n"]
    lines += [f"the fund gained {i},fund,one\n" for i in range(9)]
    (project.folder / "data/raw/rare.csv").write_text("text,label,group\n" + "".join(lines))
    project.edit_yaml("conf/data/tiny.yaml", source="rare.csv", group="group")
    return project


def test_rare_labels_are_dropped_all_at_once(rare: Project, run_prepare: Callable, capsys) -> None:
    kept = run_prepare()
    assert set(kept.name) == {"up", "down"}
    profile = rare.profile()
    assert profile["labels"] == ["down", "up"]
    assert profile["rows"] == {"read": 52, "kept": 40, "dropped": 12, "outside_subset": 0}
    said = "'flat' (2 rows), 'fund' (9 rows, all in 1 group), 'new' (1 row)"
    assert said in profile["dropped"][0]["reason"]
    assert f"dropped 12: a label with too few rows to be in each of train, validation, test: {said}" in (
        capsys.readouterr().out
    )


def test_rare_labels_are_merged_or_kept(rare: Project, run_prepare: Callable) -> None:
    merged = run_prepare(rare={"merge": "other"})
    assert rare.profile()["labels"] == ["down", "other", "up"]
    assert (merged.name == "other").sum() == 12
    assert merged[merged.name == "other"].side.nunique() == 3
    assert merged[merged.text.str.contains("fund")].side.nunique() == 1
    with (rare.folder / "data/raw/rare.csv").open("a") as file:
        file.writelines(f"tied {i},{'new' if i == 8 else 'up'},tied {i % 9}\n" for i in range(90))
    kept = run_prepare(rare="keep")
    assert kept[kept.text.str.startswith("tied")].assign(g=lambda t: t.row % 9).groupby("g").side.nunique().max() == 1
    assert rare.profile()["labels"] == ["down", "flat", "fund", "new", "up"]
    assert set(kept[kept.name.isin(["flat", "fund", "new"])].side) == {"train"}


def test_rare_labels_of_which_nothing_is_left(rare: Project, run_prepare: Callable) -> None:
    (rare.folder / "data/raw/rare.csv").write_text("text,label,group\na,x,\nb,x,\nc,y,\n")
    with pytest.raises(UserError, match=r"tiny.yaml: label: without 'x' \(2 rows\), 'y' \(1 row\), 0 labels of 2 are"):
        run_prepare()
    with pytest.raises(UserError, match=r"rare: 'z', which 'x' \(2 rows\), 'y' \(1 row\) become, still has too few"):
        (rare.folder / "data/raw/rare.csv").write_text("text,label,group\na,x,g\nb,x,g\nc,y,g\n")
        run_prepare(rare={"merge": "z"})


@pytest.mark.parametrize("each", [3, 4, 5, 6, 10])
def test_a_label_with_three_rows_is_in_each_split(run_prepare: Callable, project: Project, each: int) -> None:
    labels = [f"l{i}" for i in range(8)]
    save(
        [{"text": f"{label} {i}", "label": label} for label in labels for i in range(each)],
        project.folder / "data/raw/it.csv",
    )
    kept = run_prepare(source="it.csv")
    assert (kept.groupby("name").side.nunique() == 3).all()
    if each == 10:
        assert kept.side.value_counts().to_dict() == {"train": 56, "test": 12, "validation": 12}  # 15% each


def test_a_subset_keeps_a_row_of_each_label_in_each_split(project: Project, run_prepare: Callable) -> None:
    records = [{"text": f"often {i}", "label": "often"} for i in range(300)]
    records += [{"text": f"{label} {i}", "label": label} for label in ("a", "b", "c") for i in range(3)]
    save(records, project.folder / "data/raw/it.csv")
    kept = run_prepare(source="it.csv", rows=60)
    assert len(kept) == 60
    assert (kept.groupby("name").side.nunique() == 3).all()


# --- labels that are written in several ways, or that are none


def test_labels_that_are_likely_the_same_are_named(project: Project, run_prepare: Callable, capsys) -> None:
    labels = ["Bug", "bug", "0", "0.0", "NaN", "None", "idea"]
    save(
        [{"text": f"{label} {i}", "label": label} for label in labels for i in range(9 + len(label))],
        project.folder / "data/raw/it.csv",
    )
    kept = run_prepare(source="it.csv")
    assert set(kept.name) == set(labels)  # kept apart
    said = capsys.readouterr().out
    assert "labels that are likely the same: " in said and "'Bug' (12), 'bug' (12)" in said and "'0' (10)" in said
    [remark] = project.profile()["remarks"]
    line = remark.split("merges them: ")[1]
    assert "  labels: " in said and "None 13" in said and "idea 13" in said
    with (project.folder / "conf/data/tiny.yaml").open("a") as conf:
        conf.write(f"{line}\n")
    kept = run_prepare()
    assert sorted(set(kept.name)) == ["0.0", "Bug", "None", "idea"]
    assert project.profile()["remarks"] == []


@pytest.mark.parametrize(
    ("label", "kind"),
    [(lambda i: f"note {i} says so", "texts"), (lambda i: f"{i}.5", "numbers or ids"), (lambda i: f"id-{i}", "ids or")],
)
def test_a_column_of_as_many_values_as_rows_is_no_label(
    project: Project, run_prepare: Callable, label: Callable, kind: str
) -> None:
    save([{"text": f"text {i}", "label": label(i)} for i in range(40)], project.folder / "data/raw/it.csv")
    with pytest.raises(UserError, match=f"label: column 'label' has 40 values in 40 rows, .*: it looks like {kind}"):
        run_prepare(source="it.csv")


@pytest.mark.parametrize("value", ["4,27", '["a", "b"]'])
def test_several_labels_in_one_are_named(project: Project, run_prepare: Callable, value: str) -> None:
    records = [{"text": f"{label} {i}", "label": label} for label in ("4", "27", value) for i in range(9)]
    save(records, project.folder / "data/raw/it.csv")
    run_prepare(source="it.csv")
    [remark] = project.profile()["remarks"]
    assert f"9 rows have labels such as '{value}', which look like several in one" in remark


# --- the source's own splits


@pytest.fixture
def leaking(project: Project) -> dict:
    """Files of which test has 4 of its 10 texts from train in other case, one group of it, and a near repetition."""
    words = [f"word{i}" for i in range(60)]
    train = [{"text": f"shares of {a} and {a}s rose", "label": "ab"[i % 2], "g": f"g{i}"} for i, a in enumerate(words)]
    train.append({"text": " ".join(words[:30]), "label": "a", "g": ""})
    test = [{"text": f"Shares  of {a} AND {a}s rose", "label": "ab"[i % 2], "g": ""} for i, a in enumerate(words[:4])]
    test += [{"text": f"other {i}", "label": "ab"[i % 2], "g": "g50" if i == 0 else ""} for i in range(5)]
    test.append({"text": " ".join([*words[:29], "end"]), "label": "a", "g": ""})
    for name, records in (("train", train), ("test", test)):
        save(records, project.folder / f"data/raw/{name}.csv")
    splits = {"train": "train", "validation": 0.2, "test": "test"}
    return {"source": {"train": "train.csv", "test": "test.csv"}, "splits": splits, "group": "g"}


def test_own_splits_that_overlap_are_reported(project: Project, run_prepare: Callable, leaking: dict, capsys) -> None:
    kept = run_prepare(**leaking)
    assert len(kept) == 71
    test = project.profile()["overlap_with_train"]["test"]
    assert {key: test[key] for key in ("rows", "groups")} == {"rows": 10, "groups": 1}
    # A part of train is validation.
    assert 2 <= test["texts"] <= 4 and test["nearly"] <= 1
    said = capsys.readouterr().out
    assert f"{test['texts']} of 10 test texts stand in train too, up to case and spaces (test:1" in said
    assert "`overlap: drop_from_train` or `drop_from_test` takes them out" in said
    origin = {"revision": "main", "sha256": None, "seeds": [17]}
    about = SimpleNamespace(details={"full": {"model": origin}}, machine="", folds=None)
    shown = provenance(project.profile(), "tiny", about)  # on the page
    assert "of 10 test texts stand in train too" in shown["remarks on the data"]


@pytest.mark.parametrize(("overlap", "side", "left"), [("drop_from_train", "train", 56), ("drop_from_test", "test", 5)])
def test_overlap_is_dropped(
    project: Project, run_prepare: Callable, leaking: dict, overlap: str, side: str, left: int
) -> None:
    kept = run_prepare(**leaking, overlap=overlap)
    assert (kept.split == side).sum() == left
    counts = project.profile()["overlap_with_train"]["test"]
    assert (counts["texts"], counts["groups"]) == (0, 0)
    assert "a text or group that stands in" in project.profile()["dropped"][0]["reason"]


def test_near_repetitions_are_reported(project: Project, run_prepare: Callable) -> None:
    words = [f"word{i}" for i in range(400)]
    texts = [" ".join(words[10 * i : 10 * i + 30]) for i in range(30)]
    records = [{"text": f"{text} {end}", "label": "ab"[i % 2]} for i, text in enumerate(texts) for end in ("so", "no")]
    save(records, project.folder / "data/raw/it.csv")
    kept = run_prepare(source="it.csv")
    twins = kept.assign(base=kept.text.str.rsplit(n=1).str[0])
    train = set(twins[twins.side == "train"].base)
    test = twins[twins.side == "test"]
    counts = project.profile()["overlap_with_train"]["test"]
    assert counts["nearly"] == test.base.isin(train).sum() > 0
    assert counts["texts"] == 0
    assert any("nearly repeat one of train" in remark for remark in project.profile()["remarks"])


# --- scripts


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["股票在报告之后上涨", "股票在报告之后下跌"], False),
        (["หุ้นขึ้น", "หุ้นตก"], False),
        (["शेयर चढ़े", "शेयर गिरे"], False),
        (["🙂🙂", "🙁"], False),
        (["shares rose", "shares fell 🙁"], True),
        (["акции выросли", "акции упали"], True),
        (["주가가 올랐다", "주가가 내렸다"], True),
    ],
    ids=["chinese", "thai", "hindi", "emoji", "english", "russian", "korean"],
)
def test_tfidf_counts_characters_where_there_are_no_words_between_spaces(texts: list[str], words: bool) -> None:
    assert has_words(texts) is words
    model = on_tfidf(Baseline(ngrams=2, tfidf_C=10, probe_C=1), "none", texts * 5).fit(texts * 5, [0, 1] * 5)
    assert model.predict(texts).tolist() == [0, 1]


def test_a_number_where_a_column_is_named(project: Project, run_prepare: Callable) -> None:
    with pytest.raises(UserError, match=r"tiny.yaml: text: expected the name of a column, found 0: write a name like"):
        run_prepare(text=0)


def test_a_quote_that_is_not_closed_does_not_read_the_file_into_one_row(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while the dialect is looked for."""
    read_at_once = []

    def counted(path: Path, *_: object) -> Iterator[str]:
        for number, line in enumerate(path.open(newline="")):
            read_at_once.append(number)
            yield line

    monkeypatch.setattr(limits, "ROW", 100)
    monkeypatch.setattr(formats, "read_lines", counted)
    (raw / "it.csv").write_text('"' + "so it is\n" * 10_000)
    assert "line 1: a row of more than 100 characters" in refused("it.csv")
    assert max(read_at_once) < 20


@pytest.mark.parametrize("name", ["models/full", "./models/full"])
def test_a_model_that_dvc_would_delete_before_it_is_read(project: Project, run_prepare: Callable, name: str) -> None:
    project.edit_yaml("conf/model/tiny.yaml", name=name)
    with pytest.raises(UserError, match=f"^conf/model/tiny.yaml: name: {name} is in models/, where .*cp -rL"):
        run_prepare()

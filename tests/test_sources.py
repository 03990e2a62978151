"""Reading and cleaning: what goes in comes out, whatever the format."""

import csv
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from conftest import PREPARE, SETTINGS, SIDES, Project
from hypothesis import given, settings
from hypothesis import strategies as st

from tunediff.core import limits, parquet
from tunediff.core.errors import UserError
from tunediff.sources import find_source, preparing, splitting, text_lines
from tunediff.sources.columns import Rows
from tunediff.sources.formats import FORMATS
from tunediff.sources.settings import DataConf
from tunediff.tasks import with_keys
from tunediff.tasks.classification import Classification, natural_order

# Whatever a reader may stumble over: quotes, separators, line breaks, other scripts; labels that look like values.
HARD_TEXTS = [
    'a "quoted" word',
    "one, two",
    "tab\there",
    "two\nlines",
    "naïve 日本語 🙂",
    "  spaces  ",
    "007",
    "None",
    "nan",
]
LONG = "shares rose " * 500
HARD_LABELS = ["NA", "007", "1e5", "true"]
HARD = [
    {"text": f"{text} {number}", "label": label, "group": f"g{number}"}
    for label in HARD_LABELS
    for number, text in enumerate(HARD_TEXTS)
]


def read(source: str | dict, **conf: object) -> dict[str, Rows]:
    kind = with_keys(DataConf, "classification")
    conf = kind.model_validate({"source": source, "text": "text", "label": "label", **conf})
    return find_source.read(conf, Path("conf/data/it.yaml"), Classification)


def read_one(source: str, **conf: object) -> pd.DataFrame:
    return read(source, **conf)["all"].table


CELLS = [ending for ending in FORMATS if ending != ".conll"]  # which has tokens and tags, and no other columns


def save(records: list[dict[str, str]], path: Path) -> None:
    """Write records in the format that the name ends in."""
    if path.suffix in (".csv", ".tsv", ".txt", ".data", ".label"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(records[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    elif path.suffix == ".xlsx":
        save_workbook({"texts": [list(records[0]), *(list(record.values()) for record in records)]}, path)
    elif path.suffix == ".parquet":
        pd.DataFrame(records).to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(records, indent=1), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


def save_workbook(sheets: dict[str, list[list[object]]], path: Path) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(path, {"strings_to_formulas": False, "strings_to_urls": False}) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for place, row in enumerate(rows):
                sheet.write_row(place, 0, row)


# --- formats


WRITTEN = [ending for ending in CELLS if ending != ".xls"]  # no library here writes that


@pytest.mark.parametrize("ending", WRITTEN)
def test_every_format_gives_every_character_back(raw: Path, ending: str) -> None:
    save(HARD, raw / f"hard{ending}")
    table = read_one(f"hard{ending}", group="group")
    assert table.drop(columns="row").to_dict("records") == HARD
    assert table.row.tolist() == list(range(1, len(HARD) + 1))


@pytest.mark.slow
def test_every_format_gives_the_same_prepared_bytes(project: Project, run_prepare: Callable) -> None:
    written = {}
    for ending in WRITTEN:
        save(HARD, project.folder / f"data/raw/hard{ending}")
        rows = run_prepare(source=f"hard{ending}")
        assert sorted(zip(rows.text, rows.name, strict=True)) == sorted((r["text"], r["label"]) for r in HARD)
        written[ending] = [(project.folder / f"data/prepared/{side}.parquet").read_bytes() for side in SIDES]
    assert all(files == written[".csv"] for files in written.values())


@pytest.mark.parametrize("name", ["upper.CSV", "upper.Jsonl"])
def test_ending_in_capitals(raw: Path, name: str) -> None:
    save(HARD, raw / name.lower())
    (raw / name.lower()).rename(raw / name)
    assert read_one(name).text.tolist() == [r["text"] for r in HARD]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"text,label\r\nfirst,a\r\n\r\nsecond,b\r\n", "utf-8"),
        (b"text,label\rfirst,a\rsecond,b", "utf-8"),
        ("\ufefftext,label\nfirst,a\nsecond,b\n".encode(), "utf-8"),
        ('\ufeff"text","label"\r\n"first","a"\r\n"second","b"\r\n'.encode(), "UTF8"),
        ("text,label\nfirst,a\nsecond,b\n".encode("utf-16"), "utf-16"),
        ("\ufefftext,label\nfirst,a\nsecond,b\n".encode("utf-16-le"), "utf-16-le"),
    ],
    ids=["crlf", "cr", "bom", "bom-quotes-crlf", "utf-16", "utf-16-le-bom"],
)
def test_line_endings_and_byte_order_marks(raw: Path, content: bytes, encoding: str) -> None:
    (raw / "it.csv").write_bytes(content)
    table = read_one("it.csv", encoding=encoding)
    assert table[["row", "text", "label"]].values.tolist() == [[1, "first", "a"], [2, "second", "b"]]


def test_jsonl_with_crlf_and_byte_order_mark(raw: Path) -> None:
    (raw / "it.jsonl").write_bytes('\ufeff{"text": "é", "label": "a"}\r\n\r\n{"text": "b", "label": "c"}'.encode())
    assert read_one("it.jsonl")[["text", "label"]].values.tolist() == [["é", "a"], ["b", "c"]]


def test_a_very_long_field(raw: Path) -> None:
    save([{"text": "word " * 100_000, "label": "a"}], raw / "it.csv")
    assert len(read_one("it.csv").text[0]) == 500_000


@pytest.mark.parametrize(
    ("name", "content", "encoding", "place"),
    [
        ("it.csv", b"text,label\nfine,a\n\xe9,b\n", "utf-8", "byte 18 (0xe9), in row 2, line 3"),
        ("it.csv", b'text,label\n"two\nlines",a\n\n\xe9,b\n', "utf-8", "byte 26 (0xe9), in row 2, line 5"),
        ("it.csv", b"\xef\xbb\xbftext,label\nfine \xe9,a\n", "utf-8", "byte 19 (0xe9), in row 1, line 2"),
        ("it.csv", b"t\xe9xt,label\nfine,a\n", "utf-8", "byte 1 (0xe9), in the header, line 1"),
        ("it.tsv", b'text\tlabel\n1\t"a\nb"\n\xe9\tb\n', "utf-8", "byte 19 (0xe9), in row 2, line 4"),
        ("it.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', "utf-8", "byte 24 (0xe9), in line 2"),
        ("it.csv", "text,label\n".encode("utf-16"), "utf-8", "maybe utf-16: byte 0 (0xff), in the header"),
        ("it.csv", b"text,label\ncaf\xe9,a\n", "ascii", "byte 14 (0xe9), in row 1, line 2"),
        ("it.csv", "text,label\n日本,a\n".encode() + b"\xe6\x97", "utf-8-sig", "byte 20 (0xe6), in row 2, line 3"),
        ("it.csv", "text,label\na,b\n".encode("utf-16") + b"\x00\xdc", "utf-16", "byte 32 (0x00), in row 2, line 3"),
    ],
)
@pytest.mark.parametrize("block", [2**20, 3, 1])
def test_place_of_a_byte_that_does_not_decode(
    raw: Path, monkeypatch: pytest.MonkeyPatch, block: int, name: str, content: bytes, encoding: str, place: str
) -> None:
    monkeypatch.setattr(text_lines, "BLOCK", block)
    (raw / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_one(name, encoding=encoding)
    assert place in str(error.value)


def test_parquet_with_two_columns_of_one_name(raw: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "label", "text"]), raw / "it.parquet")
    with pytest.raises(UserError, match=r"data/raw/it.parquet: two columns are named 'text'"):
        read_one("it.parquet")


# --- Parquet files that are larger in memory

BOMBS = {
    "dictionary": ([LONG] * 500, {}),
    "long-beginnings": ([LONG + str(number % 9) for number in range(500)], {"use_dictionary": False}),
    "bytes": ([LONG.encode()] * 500, {}),
    "structs": ([{"inner": LONG}] * 500, {}),
    "empty-first": ([None] * 9 + [LONG] * 491, {}),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_repeated_values_are_decoded_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Though all of them take less in the file than two of them in memory."""
    import pyarrow.parquet as pq

    monkeypatch.setattr(limits, "DECODED", 20 * len(LONG))
    values, options = BOMBS[kind]
    encoding = {"column_encoding": {"text": "DELTA_BYTE_ARRAY"}} if options else {}
    path = tmp_path / "it.parquet"
    pq.write_table(pa.table({"text": values}), path, compression="zstd", row_group_size=250, **options, **encoding)
    assert path.stat().st_size < 20_000
    _, batches = parquet.read_batches(path, 1024, "copy it again")
    batches = [(group, batch.to_pylist()) for group, batch in batches]
    assert [row["text"] for _, rows in batches for row in rows] == values
    assert [group for group, _ in batches if group == 2]
    assert max(len(rows) for _, rows in batches) <= 20


@pytest.mark.parametrize("first", [[], None, ["x"]])
def test_a_list_that_may_be_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: object) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(limits, "COLUMN", 100 * len(LONG))
    path = tmp_path / "it.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "tags": [first, [LONG] * 101]}), path)
    with pytest.raises(UserError, match=r"it\.parquet: row group 1: column 'tags\.list\.element' takes more than"):
        list(parquet.read_batches(path, 1024, "copy it again")[1])
    # What is not needed is not read.
    ((_, batch),) = parquet.read_batches(path, 1024, "copy it again", {"text"})[1]
    assert batch.to_pylist() == [{"text": "a"}, {"text": "b"}]


def test_texts_are_divided_into_tokens_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHARACTERS", 10)
    monkeypatch.setattr(limits, "TOGETHER", 3)
    texts = ["abc", "", "x" * 12, "y" * 10, "z", "a", "b", "c", "d"]
    batches = list(limits.batches(iter(texts)))
    assert batches == [["abc", ""], ["x" * 12], ["y" * 10], ["z", "a", "b"], ["c", "d"]]
    assert list(limits.batches([])) == []


# --- values and columns


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet"])
def test_numbers_and_missing_values_look_as_in_a_csv(raw: Path, ending: str) -> None:
    records = [{"text": 7, "label": 0}, {"text": None, "label": 1}]
    save(records, raw / f"it{ending}")  # Parquet has 7.0 and null then
    assert read_one(f"it{ending}")[["text", "label"]].values.tolist() == [["7", "0"], ["", "1"]]


def test_nan_is_a_missing_value(raw: Path) -> None:
    (raw / "it.json").write_text('[{"text": NaN, "label": "x"}, {"text": "nan", "label": NaN}]')
    assert read_one("it.json")[["text", "label"]].values.tolist() == [["", "x"], ["nan", ""]]


def test_keys_that_json_rows_lack_are_empty(raw: Path) -> None:
    (raw / "it.json").write_text('[{"text": "a", "label": "x"}, {"text": "b"}, {"label": "y"}]')
    assert read_one("it.json")[["text", "label"]].values.tolist() == [["a", "x"], ["b", ""], ["", "y"]]


def test_several_text_columns_are_joined_and_empty_ones_skipped(raw: Path) -> None:
    records = [{"title": "T", "body": "B", "label": "a"}, {"title": "", "body": "only", "label": "b"}]
    save(records, raw / "it.csv")
    assert read_one("it.csv", text=["title", "body"]).text.tolist() == ["T\n\nB", "only"]


def test_labels_lose_the_spaces_around_them(raw: Path) -> None:
    (raw / "it.csv").write_text("text,label\na, up \nb,up\n")
    assert read_one("it.csv").label.tolist() == ["up", "up"]


def test_origin_names_file_and_content(raw: Path) -> None:
    save(HARD, raw / "it.csv")
    first = read("it.csv")["all"].origin
    assert first.startswith("it.csv sha256:")
    assert read("data/raw/it.csv")["all"].origin == first
    save(HARD[1:], raw / "it.csv")
    assert read("it.csv")["all"].origin != first


def test_integer_labels_and_their_names(project: Project, run_prepare: Callable) -> None:
    save([{"text": f"text {i}", "label": i % 2} for i in range(40)], project.folder / "data/raw/it.json")
    rows = run_prepare(source="it.json", labels={0: "neg", 1: "pos"})
    assert project.profile()["labels"] == ["neg", "pos"]
    assert (rows.name == ["neg" if (row - 1) % 2 == 0 else "pos" for row in rows.row]).all()


def test_order_of_the_labels_is_the_lists(project: Project, run_prepare: Callable) -> None:
    rows = run_prepare(labels=["bullish", "bearish"])
    assert project.profile()["labels"] == ["bullish", "bearish"]
    assert set(zip(rows.label, rows.name, strict=True)) == {(0, "bullish"), (1, "bearish")}
    assert rows[rows.text.str.contains("rose")].name.unique().tolist() == ["bullish"]


def test_merged_labels_leave_no_duplicates(project: Project, run_prepare: Callable) -> None:
    texts = {"good": "up {}", "great": "up {}", "bad": "down {}"}
    records = [{"text": text.format(i), "label": label} for i in range(20) for label, text in texts.items()]
    save(records, project.folder / "data/raw/it.csv")
    rows = run_prepare(source="it.csv", labels={"good": "pos", "great": "pos", "bad": "neg"})
    assert len(rows) == 40
    assert not rows.duplicated(["text", "name"]).any()
    assert project.profile()["labels"] == ["pos", "neg"]
    assert project.profile()["dropped"][0]["rows"] == 20


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "2", "1"], ["1", "2", "10"]),
        (["v10", "v9", "v9b", "a"], ["a", "v9", "v9b", "v10"]),
        (["1", "0", "-1", "-10"], ["-10", "-1", "0", "1"]),
        (["b", "7", "a"], ["7", "a", "b"]),
        (["7", "007", "07"], ["007", "07", "7"]),
        (["x²", "x", "²"], ["x", "x²", "²"]),
    ],
)
def test_natural_order_of_labels(labels: list[str], expected: list[str]) -> None:
    assert natural_order(labels) == expected
    assert natural_order(labels[::-1]) == expected


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("lowercase", "Shares ROSE É", "shares rose é"),
        ("strip_special", "  Up 5%!\n(again) snake_case, naïve 日本", "Up 5 again snake case naïve 日本"),
        ("strip_special", "हिन्दी में, नमस्ते! ภาษาไทย ดีมาก", "हिन्दी में नमस्ते ภาษาไทย ดีมาก"),
        ("strip_special", "❤️ ok e\u0301", "ok e\u0301"),
    ],
)
def test_cleaning_steps(step: str, before: str, after: str) -> None:
    assert splitting.STEPS[step](pd.Series([before])).tolist() == [after]


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(text=st.text() | st.text("aÉ_ \t\n.-\u00a0\u2028\x1c²日\u0301\u093f\ufe0f❤", max_size=20))
def test_only_letters_digits_marks_on_them_and_single_spaces_are_left(text: str) -> None:
    kept = ""
    for c in text:
        mark = unicodedata.category(c).startswith("M") and ord(c) < 0x20000
        kept += c if c.isalnum() or (mark and not kept.endswith(" ") and kept) else " "
    assert splitting.STEPS["strip_special"](pd.Series([text])).tolist() == [" ".join(kept.split())]


def test_cleaning_comes_before_dropping(project: Project, run_prepare: Callable) -> None:
    records = [{"text": f"Text {i}", "label": "ab"[i % 2]} for i in range(40)]
    more = [{"text": "text 0!", "label": "a"}, {"text": "?!", "label": "b"}]
    save([*records, *more], project.folder / "data/raw/it.csv")
    rows = run_prepare(source="it.csv", clean=["lowercase", "strip_special"])
    assert sorted(rows.text) == sorted(f"text {i}" for i in range(40))
    assert {d["reason"]: d["first"] for d in project.profile()["dropped"]} == {
        "no text": ["all:42"],
        "duplicate of an earlier row": ["all:41"],
    }


# --- splits of the source's own


@pytest.fixture
def two_files(project: Project) -> dict:
    """Files for train (100 rows), test (10) and one that no split names; the keys that use the first two."""
    sizes = {"train": 100, "test": 10, "extra": 6}
    for name, rows in sizes.items():
        records = [{"text": f"{name} {i}", "label": "ab"[i % 2] if name != "extra" else "c"} for i in range(rows)]
        save(records, project.folder / f"data/raw/{name}.csv")
    return {
        "source": {name: f"{name}.csv" for name in sizes},
        "splits": {"train": "train", "validation": 0.2, "test": "test"},
    }


def test_one_file_per_split(project: Project, run_prepare: Callable, two_files: dict) -> None:
    rows = run_prepare(**two_files)
    assert rows.side.value_counts().to_dict() == {"train": 80, "validation": 20, "test": 10}
    assert set(rows[rows.side != "test"].split) == {"train"}
    assert set(rows[rows.side == "test"].split) == {"test"}
    # The file that no split names counts for nothing.
    assert project.profile()["labels"] == ["a", "b"]
    assert project.profile()["rows"] == {"read": 110, "kept": 110, "dropped": 0, "outside_subset": 0}


def test_three_files(project: Project, run_prepare: Callable, two_files: dict) -> None:
    save([{"text": f"dev {i}", "label": "ab"[i % 2]} for i in range(6)], project.folder / "data/raw/extra.csv")
    rows = run_prepare(**two_files | {"splits": {"train": "train", "validation": "extra", "test": "test"}})
    assert rows.side.value_counts().to_dict() == {"train": 100, "validation": 6, "test": 10}
    # Rows keep their order, and their number in their own file.
    for _, part in rows.groupby("side"):
        assert part.row.tolist() == list(range(1, len(part) + 1))


def test_a_test_file_may_lack_a_label(project: Project, run_prepare: Callable, two_files: dict) -> None:
    save([{"text": f"test {i}", "label": "a"} for i in range(4)], project.folder / "data/raw/test.csv")
    rows = run_prepare(**two_files)
    assert rows[rows.side == "test"].name.tolist() == ["a"] * 4


@pytest.fixture
def hub_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The Hub is out of reach, and someone/tiny is in the cache; the commit that it was loaded at."""
    commit = "a" * 40
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", fake_hub_cache(tmp_path / "hub", commit))
    return commit


def test_hub_data_from_the_cache(project: Project, run_prepare: Callable, hub_commit: str) -> None:
    splits = {"train": "train", "validation": 0.2, "test": "test"}
    rows = run_prepare(source="someone/tiny", revision=hub_commit, splits=splits)
    assert rows.side.value_counts().to_dict() == {"train": 32, "validation": 8, "test": 10}
    profile = project.profile()
    assert profile["labels"] == ["neg", "pos"]
    assert profile["source"] == {split: f"someone/tiny {hub_commit}" for split in ("train", "test")}
    # -1 marks a row without a label.
    assert [(d["reason"], d["first"]) for d in profile["dropped"]] == [("no label", ["train:41", "train:42"])]


def test_another_commit_than_the_pinned_one_is_not_taken_from_the_cache(hub_commit: str) -> None:
    assert read("someone/tiny", revision="main")["train"].origin == f"someone/tiny {hub_commit}"
    with pytest.raises(UserError) as error:
        read("someone/tiny", revision="b" * 40)
    assert f"the Hub is out of reach, and the copy on this machine is commit {hub_commit}" in str(error.value)


def test_a_folder_here_is_not_taken_for_hub_data(raw: Path, hub_commit: str) -> None:
    folder = raw.parents[1] / "someone/tiny"
    folder.mkdir(parents=True)
    save([{"text": "not from the Hub", "label": "neg"}], folder / "train.csv")
    assert "not from the Hub" not in set(read("someone/tiny")["train"].table.text)


def fake_hub_cache(folder: Path, commit: str) -> Path:
    """What `datasets` keeps after loading someone/tiny: 42 rows for train, 10 for test, 3 for another split."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets.packaged_modules.parquet.parquet import Parquet

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    labels = {"train": [0, 1] * 20 + [-1] * 2, "test": [0, 1] * 5, "unsupervised": [-1] * 3}
    files = {}
    for split, values in labels.items():
        columns = {"text": [f"{split} {i}" for i in range(len(values))], "label": values}
        files[split] = str(folder / f"{split}.parquet")
        folder.mkdir(exist_ok=True)
        Dataset.from_dict(columns, features=features).to_parquet(files[split])
    builder = Parquet(cache_dir=str(folder), dataset_name="tiny", config_name="default", hash=commit, data_files=files)
    builder.download_and_prepare()
    cache = folder / "cache"
    place = cache / "someone___tiny/default/0.0.0" / commit
    place.parent.mkdir(parents=True)
    Path(builder.cache_dir).rename(place)
    return cache


# --- what prepare needs


@pytest.mark.slow
def test_prepare_imports_no_torch(project: Project) -> None:
    project.run("python", "-m", "stages.settings", *SETTINGS)
    done = project.run("python", "-X", "importtime", "-m", "stages.prepare", *PREPARE)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert {"pandas", "tokenizers", "stages"} <= imported  # the list is whole
    assert not imported & {"torch", "transformers", "peft", "sklearn"}


def test_tokens_are_counted_uncut_with_special_tokens(project: Project, run_prepare: Callable) -> None:
    records = [{"text": f"shares rose {'on monday ' * i}", "label": "ab"[i % 2]} for i in range(40)]
    save(records, project.folder / "data/raw/it.csv")
    rows = run_prepare(source="it.csv")
    # [CLS] shares rose [SEP] and 2 tokens for each repetition: more than 16 from the seventh on.
    assert rows.tokens.tolist() == [2 + 2 + 2 * text.count("monday") for text in rows.text]
    tokens = [part["tokens"] for part in project.profile()["splits"].values()]
    assert max(t["max"] for t in tokens) == 2 + 2 + 2 * 39
    assert sum(t["rows_over_max_length"] for t in tokens) == 33


# --- several files


def test_several_files_are_read_as_one_whose_rows_are_numbered_on(raw: Path):
    for name, rows in (("a", HARD[:5]), ("b", HARD[5:8]), ("c", HARD[8:])):
        save(rows, raw / f"{name}.{'jsonl' if name == 'b' else 'csv'}")
    together = read(["a.csv", "b.jsonl"])["all"]
    assert together.table.row.tolist() == list(range(1, 9))
    assert together.table.text.tolist() == [row["text"] for row in HARD[:8]]
    assert [part.split()[0] for part in together.origin.split(", ")] == ["a.csv", "b.jsonl"]
    assert together.decided["encoding of a.csv"] == "utf-8"
    splits = read({"train": ["a.csv", "b.jsonl"], "test": "c.csv"})
    assert (len(splits["train"].table), len(splits["test"].table)) == (8, len(HARD) - 8)

    kind = with_keys(DataConf, "classification")
    conf = kind.model_validate({"source": ["a.csv", "b.jsonl"], "text": "text", "label": "label"})
    place = preparing.place_of(conf, {"all": together})
    said = [place(row) for _, row in together.table.assign(split="all").iloc[[0, 4, 5, 7]].iterrows()]
    assert said == ["a.csv row 1", "a.csv row 5", "b.jsonl row 1", "b.jsonl row 3"]
    with pytest.raises(UserError, match=r"source: there is no file data/raw/d.csv"):
        read(["a.csv", "d.csv"])

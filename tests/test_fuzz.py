"""Whatever the rows, the file and the settings are: every row is accounted for, or one message says what is wrong.

FUZZ_CASES=50000 pytest tests/test_fuzz.py    # more cases, others at each run; 2,000 that stay the same otherwise
"""

import csv
import datetime
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import PREPARE, Project, make_project
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from stages import prepare
from tunediff.core.errors import UserError
from tunediff.core.settings import check
from tunediff.settings.resolve import preparation
from tunediff.settings.study import load, read_data
from tunediff.sources import find_source
from tunediff.sources.settings import DataConf
from tunediff.tasks import with_keys
from tunediff.tasks.classification import Classification

DATA_FILE = with_keys(DataConf, "classification")
CASES = int(os.environ.get("FUZZ_CASES", 2000))


def fuzz(share: float) -> settings:
    return settings(
        max_examples=round(share * CASES),
        derandomize="FUZZ_CASES" not in os.environ,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    return make_project(tmp_path_factory.mktemp("fuzz") / "project", tiny_model, tiny_texts)


@pytest.fixture
def here(shared: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project that the cases share, as working directory, with `prepare` as the command."""
    files = {path: path.read_bytes() for path in (shared.folder / "conf").rglob("*.yaml")}
    monkeypatch.chdir(shared.folder)
    monkeypatch.setattr(sys, "argv", ["prepare", *PREPARE])
    yield shared
    for path, content in files.items():
        path.write_bytes(content)


def refusal(action: Callable[[], object]) -> str | None:
    """The message of a UserError, which must be a clear one; any other error fails the test."""
    try:
        action()
    except UserError as error:
        message = str(error)
        assert message.startswith(("conf/data/tiny.yaml: ", "data/raw/")), message
        for line in message.split("\n"):
            assert line.isprintable() and len(line) < 2000, line
        return message
    return None


# --- rows

ODD = [
    "", " ", "\0", "a\0b", "a\0c", "...", "?!", "🙂", "👩‍👩‍👧", "مرحبا",
    "\u202eabc", "\u200b", "\ufeff", "\u2028", "\x85", "\x1c", "\r",
    "\n", "\r\n", '"', '""', "'", ",", ";", "\t", "\\", "=1+1", "nan", "None", "null", "NA",
    "1e5", "ß", "İ", "ﬁ", "\ud83d",
    "x" * 20_000,
]  # fmt: skip
MEGABYTE = [{"text": f"{i} {'x' * (i == 3) * 1_000_000}", "label": "ab"[i % 2], "group": ""} for i in range(16)]
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=12) | st.sampled_from(ODD)
NAMES = st.sampled_from(
    [
        "2",
        "10",
        "-1",
        "0",
        "007",
        "1e5",
        "1.0",
        "true",
        "yes",
        "NA",
        " a ",
        "a",
        "A",
        "a b",
        "=1",
        "9" * 5000,
        "٣",
        "²",
        "\0",
    ]
)
VALUES = NAMES | st.integers() | st.booleans() | st.floats() | st.none() | st.text(max_size=5)
FORMATS = st.sampled_from(["csv", "tsv", "json", "jsonl", "parquet"])
DIALECTS = st.fixed_dictionaries(
    {
        "quoting": st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
        "lineterminator": st.sampled_from(["\r\n", "\n"]),
        "delimiter": st.sampled_from([",", ",", ",", ";"]),
    }
)
ENCODINGS = st.sampled_from(
    ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-le", "cp1252", "latin-1", "utf-7", "shift-jis"]
)
CONFS = st.fixed_dictionaries(
    {},
    optional={
        "splits": st.sampled_from(
            [
                {"train": 0.5, "validation": 0.25, "test": 0.25},
                {"train": 0.98, "validation": 0.01, "test": 0.01},
                {"train": "all", "validation": 0.2, "test": 0.2},
            ]
        ),
        "rows": st.integers(1, 60) | st.just(10**30) | st.fixed_dictionaries({"train": st.integers(1, 40)}),
        "clean": st.lists(st.sampled_from(["lowercase", "strip_special"]), max_size=2),
        "group": st.just("group"),
        "labels": st.just("all of them") | st.lists(VALUES.filter(lambda value: value is not None), max_size=4),
    },
)


@st.composite
def tables(draw: st.DrawFn) -> list[dict]:
    """Rows of which eight for each label are usually good, and some are anything."""
    labels = draw(st.lists(VALUES, min_size=2, max_size=4))
    odd = draw(st.lists(TEXTS, min_size=1, max_size=3))
    good = [
        {"text": f"{odd[i % len(odd)]} {number} {i}", "label": label, "group": str(i % 7) if i % 3 else ""}
        for number, label in enumerate(labels)
        for i in range(8)
    ]
    text = TEXTS | st.integers() | st.floats() | st.none() | st.lists(st.none(), max_size=1)
    label = st.sampled_from([*labels, *labels, *labels, ""]) | st.none()
    rows = st.fixed_dictionaries({"text": text, "label": label, "group": st.sampled_from(["", "0", "1"])})
    return good + draw(st.lists(st.sampled_from(good) | rows, max_size=8))


def write(rows: list[dict], ending: str, dialect: dict, encoding: str) -> tuple[str, str]:
    """Save `rows`, in another encoding only if it has all characters; file name and encoding."""
    path = Path(f"data/raw/fuzz.{ending}")
    if ending == "parquet":
        columns = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            try:
                columns[name] = pa.array(values)
                assert [*map(as_text, columns[name].to_pylist())] == [*map(as_text, values)]
            except (
                pa.ArrowException,
                OverflowError,
                UnicodeEncodeError,
                AssertionError,
            ):  # of several types, or half a character
                columns[name] = pa.array([as_text(value).encode(errors="replace").decode() for value in values])
        pq.write_table(pa.table(columns), path)
        return path.name, encoding
    if ending == "json":
        text = json.dumps(rows)
    elif ending == "jsonl":
        text = "".join(json.dumps(row) + dialect["lineterminator"] for row in rows)
    else:
        file = io.StringIO(newline="")
        if ending == "tsv":
            dialect = {**dialect, "delimiter": "\t"}
        # With an ending of its own, csv puts no quotes around a carriage return.
        if dialect["lineterminator"] == "\n":
            dialect = {**dialect, "quoting": csv.QUOTE_ALL}
        writer = csv.DictWriter(file, list(rows[0]), **dialect)
        writer.writeheader()
        writer.writerows(rows)
        text = file.getvalue()
    try:
        content = text.encode(encoding)
        assert content.decode(encoding).removeprefix("\ufeff") == text
    except (UnicodeError, AssertionError):
        encoding, content = "utf-8", text.encode(errors="surrogatepass")
    path.write_bytes(content)
    return path.name, encoding


def as_text(value: object, ending: str = "json") -> str:
    """How a value of a row is read."""
    if value is None:
        return ""
    if ending in ("csv", "tsv"):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def check_account(rows: list[dict], ending: str, conf: dict, profile: dict, kept: pd.DataFrame) -> None:
    """Every row that was read is kept, dropped for a reason or outside the subset, and kept texts are as they were."""
    count = profile["rows"]
    assert count["read"] == len(rows)
    assert count["kept"] + count["dropped"] + count["outside_subset"] == count["read"]
    assert count["dropped"] == sum(dropped["rows"] for dropped in profile["dropped"])
    assert count["kept"] == len(kept) == sum(split["rows"] for split in profile["splits"].values())
    assert not kept.row.duplicated().any()
    if "clean" not in conf and not isinstance(conf.get("labels"), dict):
        pairs = [(as_text(row["text"], ending), as_text(row["label"], ending).strip()) for row in rows]
        complete = {(text, label) for text, label in pairs if text.strip() and label}
        assert count["kept"] + count["outside_subset"] == len(complete)
        for row, text, label in kept[["row", "text", "label"]].itertuples(index=False):
            assert (text, label) == pairs[row - 1]


def run_on(here: Project, rows: list[dict], ending: str, dialect: dict, encoding: str, conf: dict) -> str:
    """Write the rows, and the settings for them; what the data file now holds."""
    source, encoding = write(rows, ending, dialect, encoding)
    if conf.get("labels") == "all of them":
        conf = {**conf, "labels": sorted({as_text(row["label"], ending).strip() for row in rows} - {""})}
    values = {"source": source, "text": "text", "label": "label", "encoding": encoding, **conf}
    return yaml.dump(values, Dumper=yaml.CSafeDumper, sort_keys=False)


ROWS = {"rows": tables(), "ending": FORMATS, "dialect": DIALECTS, "encoding": ENCODINGS, "conf": CONFS}


@pytest.mark.slow
@fuzz(0.06)
@given(**ROWS)
def test_prepare_accounts_for_every_row(here: Project, monkeypatch, rows, ending, dialect, encoding, conf):
    (here.folder / "conf/data/tiny.yaml").write_text(run_on(here, rows, ending, dialect, encoding, conf))
    if refusal(lambda: here.prepare_here(monkeypatch)) is None:
        kept = here.prepared()
        check_account(rows, ending, conf, here.profile(), kept.assign(label=kept.name))


@pytest.mark.slow
@fuzz(0.3)
@example(rows=MEGABYTE, ending="csv", dialect={"lineterminator": "\n"}, encoding="utf-16", conf={})
@example(rows=MEGABYTE, ending="jsonl", dialect={"lineterminator": "\n"}, encoding="utf-8", conf={})
@given(**ROWS)
def test_rows_are_accounted_for(here: Project, replace, rows, ending, dialect, encoding, conf):
    """The same without what takes longest and is the same for all rows: params.yaml, tokenizer, Parquet files."""
    values = yaml.load(run_on(here, rows, ending, dialect, encoding, conf), Loader=yaml.CSafeLoader)
    saved = []
    replace(conf=values, saved=saved)
    if refusal(prepare.main) is None:
        profile, kept = here.profile(), pd.concat(saved)
        check_account(rows, ending, conf, profile, kept.assign(label=[profile["labels"][i] for i in kept.label]))


@pytest.fixture
def replace(here: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    shipped = load()

    def replaced(conf: dict, saved: list[pd.DataFrame]) -> None:
        def resolved(path: Path) -> dict:
            return preparation(shipped.model_copy(update={"data": DATA_FILE.model_validate(conf)}))

        monkeypatch.setattr(prepare, "read_json", resolved)
        monkeypatch.setattr(prepare, "lengths", lambda task, rows, *_: {"tokens": [len(text) for text in rows.text]})
        monkeypatch.setattr(prepare, "save_split", lambda rows, *_: saved.append(rows))

    return replaced


# --- files that are anything

GOOD = [{"text": f"{word} {i}", "label": label, "n": i} for i in range(6) for word, label in (("a", "x"), ("ü", "y"))]
PIECES = [
    b"\0",
    b"\xff",
    b"\xfe",
    b'"',
    b"\n",
    b"\r",
    b"\t",
    b",",
    b"[" * 100_000,
    b"{",
    b"}",
    b"NaN",
    b"1" * 5000,
    b"\\ud83d",
]


@st.composite
def broken_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good file in which pieces are cut out, flipped or put in; or any bytes."""
    ending = draw(FORMATS)
    name, _ = write(GOOD, ending, {"lineterminator": "\n"}, "utf-8")
    content = bytearray(Path("data/raw", name).read_bytes())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "end", "put", "any"])):
            case "flip":
                content[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case "cut":
                del content[place : place + draw(st.integers(1, 50))]
            case "end":
                del content[place:]
            case "put":
                content[place:place] = draw(st.sampled_from(PIECES))
            case "any":
                content = bytearray(draw(st.binary(max_size=50)))
    return ending, bytes(content)


@fuzz(0.32)
@given(
    data=st.data(), encoding=st.none() | ENCODINGS | st.sampled_from(["utf-9", "base64", "idna", "undefined", "a\0b"])
)
def test_a_broken_file_is_read_or_refused(here: Project, data: st.DataObject, encoding: str | None):
    ending, content = data.draw(broken_files())
    Path(f"data/raw/broken.{ending}").write_bytes(content)
    conf = {"source": f"broken.{ending}", "text": "text", "label": "label", "encoding": encoding or "utf-8"}
    refusal(lambda: find_source.read(DATA_FILE.model_validate(conf), Path("conf/data/tiny.yaml"), Classification))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**62], pa.timestamp("us")),
        pa.array([2**40], pa.timestamp("us", "Nowhere/Land")),
        pa.array([2**31 - 1], pa.date32()),
        pa.array([{"a": 1}]),
        pa.array([b"\xff"]).cast(pa.binary()).view(pa.string()),
    ],
    ids=["year", "zone", "date", "struct", "not-utf-8"],
)
def test_a_value_that_python_cannot_hold_is_refused(here: Project, column: pa.Array):
    pq.write_table(pa.table({"text": column, "label": ["a"]}), "data/raw/odd.parquet")
    conf = DATA_FILE(source="odd.parquet", text="text", label="label")
    assert refusal(lambda: find_source.read(conf, Path("conf/data/tiny.yaml"), Classification))


def test_a_duration_is_read(here: Project):
    pq.write_table(pa.table({"text": [datetime.timedelta(1)], "label": ["a"]}), "data/raw/odd.parquet")
    conf = DATA_FILE(source="odd.parquet", text="text", label="label")
    assert refusal(lambda: find_source.read(conf, Path("conf/data/tiny.yaml"), Classification)) is None


# --- settings that are anything

KEYS = st.sampled_from([*DATA_FILE.model_fields, "sorce", "a\nb", "1"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NESTED = st.recursive(
    SCALARS | st.sampled_from([*ODD[:-1], "x" * 300 + ".csv", "a/b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["train", "test"]), inner, max_size=3)
    ),
    max_leaves=6,
)
YAML = [
    "2001-99-99", "!!timestamp x", "!!bool x", "!!int x", "!!python/object/apply:os.system [id]", "? [a]\n: b",
    "*a", "&a [*a]", "{" * 3000, "[" * 3000, "9" * 5000, "0x", "1:99:99", "\t", "---\n---", "%YAML 9.9",
    "source: \"\\ud800\"", "source: \"\\0.csv\"", "text: |\n x",
]  # fmt: skip


@pytest.mark.slow
@fuzz(0.32)
@example(text="9" * 5000, values={})
@example(text="", values={"encoding": "\U00010000"})
@given(
    text=st.just("") | st.sampled_from(YAML) | st.text(max_size=20), values=st.dictionaries(KEYS, NESTED, max_size=4)
)
def test_any_settings_are_read_or_refused(here: Project, text: str, values: dict):
    base = {"source": "tiny.csv", "text": "text", "label": "label"}
    path = Path("conf/data/tiny.yaml")
    # What JSON writes is YAML as well, with an escape for half a character.
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (base | values).items()]
    path.write_text("\n".join([*lines, text, ""]), encoding="utf-8", errors="replace")

    def read_settings_and_rows() -> None:
        conf = read_data(path)
        # What `prepare` reads is what the stage before it wrote; in JSON, two halves of a character are that character.
        written = json.dumps(conf.model_dump(mode="json"))
        assert json.dumps(check(json.loads(written), DATA_FILE, path).model_dump(mode="json")) == written
        if not find_source.on_hub(conf):
            find_source.read(conf, path, Classification)

    refusal(read_settings_and_rows)


@pytest.mark.parametrize("text", YAML)
def test_a_yaml_that_python_cannot_read_is_refused(here: Project, text: str):
    path = Path("conf/data/tiny.yaml")
    path.write_text(f"revision: {text}\n")
    assert refusal(lambda: read_data(path))

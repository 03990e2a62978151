"""What predict reads and writes: the same answers in every format, jobs that break, and what it refuses."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ENVIRONMENT, ROOT, save_as_trained

from stages import predict
from tunediff.core import limits
from tunediff.core.errors import UserError
from tunediff.models import saved
from tunediff.models.inference import predict_logits, probabilities
from tunediff.models.settings import ModelConf
from tunediff.report import packaging
from tunediff.tasks.features import encode
from tunediff.use import job_formats, job_input, tagging_answers
from tunediff.use.classifier_torch import TorchClassifier

LABELS = ["bearish", "bullish", "neutral"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
HARD = [
    "",
    "  spaces  ",
    'a "quoted", word',
    "two\nlines",
    "return\rhere",
    "naïve 日本語 🙂",
    "=1+1",
    "NA",
    "shares " * 40,
]
ENDINGS = (".csv", ".jsonl", ".parquet")
CHUNK = 50


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    """A model of which all is trained, and two adapters on one base."""
    root, conf = tmp_path_factory.mktemp("models"), ModelConf(name=str(tiny_model), max_length=16, head=["pooler"])
    save_as_trained(conf, LABELS, root / "full", seed=3)
    save_as_trained(conf, LABELS, root / "lora-v1", "LORA", seed=1, **LORA)
    save_as_trained(conf, LABELS, root / "lora-v2", "LORA", seed=3, **LORA)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def texts(tiny_texts: list[tuple[str, str]]) -> list[str]:
    """Three chunks of different texts and a part of one."""
    return [*HARD, *(text for text, _ in tiny_texts)][: 3 * CHUNK + 20]


@pytest.fixture(autouse=True)
def as_in_a_subprocess(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With one thread, which rounds as the other process does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(job_input, "CHUNK", CHUNK)
    yield
    torch.set_num_threads(threads)


Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """What the command does, in this process; returns what it prints on standard output and standard error."""

    def run(*arguments: object, stdin: bytes = b"") -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        predict.main()
        return capsys.readouterr()

    return run


@dataclass
class Asked:
    texts: list[str] = field(default_factory=list)
    """What models were asked, in order."""
    limit: float = math.inf
    """After so many the job breaks."""

    def break_off(self, run: Run, *arguments: object) -> None:
        self.limit = 2 * CHUNK
        with pytest.raises(KeyboardInterrupt):
            run(*arguments)
        self.limit = math.inf
        self.texts.clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    answer, asked = TorchClassifier.predict, Asked()

    def noted(self: TorchClassifier, texts: list[str]) -> np.ndarray:
        if len(asked.texts) >= asked.limit:
            raise KeyboardInterrupt
        asked.texts.extend(texts)
        return answer(self, texts)

    monkeypatch.setattr(TorchClassifier, "predict", noted)
    return asked


def expected(folder: Path, texts: list[str], temperature: float = 1.5) -> np.ndarray:
    model, tokenizer = saved.load_saved(folder)
    return probabilities(predict_logits(model, tokenizer, encode(tokenizer, texts), 8, "fp32", "") / temperature)


def write(path: Path, rows: list[dict]) -> Path:
    match path.suffix:
        case ".csv" | ".tsv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
                writer.writeheader()
                writer.writerows(rows)
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=70)
    return path


def read(path: Path) -> list[dict]:
    match path.suffix:
        case ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            return [{key: float(value) if "p_" in key else value for key, value in row.items()} for row in rows]
        case ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        case ".parquet":
            return pq.read_table(path).to_pylist()


# --- formats


@pytest.mark.parametrize(
    ("coming", "going"),
    [(".csv", ".csv"), (".tsv", ".jsonl"), (".json", ".parquet"), (".jsonl", ".csv"), (".parquet", ".parquet")],
)
def test_every_format_gets_the_same_answers_in_the_order_of_its_rows(
    run: Run, folders, tmp_path: Path, texts: list[str], coming: str, going: str
):
    rows = [{"id": f"{number:03}", "body": text} for number, text in enumerate(texts)]
    source, out = write(tmp_path / f"in{coming}", rows), tmp_path / f"new/out{going}"
    printed = run("--model", folders["full"], "--file", source, "--text", "body", "--out", out)
    assert "100%" in printed.err and f"{out}: {len(rows)} rows" in printed.err
    answered = read(out)
    assert [{"id": row["id"], "body": row["body"]} for row in answered] == rows
    assert list(answered[0]) == ["id", "body", "predicted", *(f"p_{label}" for label in LABELS)]
    found = np.array([[row[f"p_{label}"] for label in LABELS] for row in answered])
    assert np.allclose(found, expected(folders["full"], texts), atol=1e-6)
    assert [row["predicted"] for row in answered] == [LABELS[i] for i in found.argmax(1)]
    assert len({row["predicted"] for row in answered}) > 1


def test_texts_and_standard_input_are_answered_as_a_file_is(run: Run, folders, texts: list[str]):
    lines = [text for text in texts if not re.search(r"[\r\n]", text)]
    printed = run("--model", folders["full"], stdin="\ufeff".encode() + "\n".join(lines).encode())
    rows = list(csv.DictReader(io.StringIO(printed.out, newline="")))
    assert [row["text"] for row in rows] == lines  # also the empty one
    answered = np.array([[float(row[f"p_{label}"]) for label in LABELS] for row in rows])
    assert np.allclose(answered, expected(folders["full"], lines), atol=1e-6)
    shown = run("--model", folders["full"], *lines[4:6]).out.splitlines()
    assert shown[0].split() == ["text", "predicted", *(f"p_{label}" for label in LABELS)]
    for line, row in zip(shown[1:], rows[4:6], strict=True):
        assert line.split()[-4:] == [row["predicted"], *(f"{float(row[f'p_{label}']):.3f}" for label in LABELS)]


def test_nothing_comes_out_of_nothing(run: Run, folders, tmp_path: Path):
    assert run("--model", folders["full"], stdin=b"").out == "text,predicted,p_bearish,p_bullish,p_neutral\n"
    run("--model", folders["full"], "--out", tmp_path / "out.parquet", stdin=b"")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_columns_keep_their_types(run: Run, folders, tmp_path: Path):
    columns = {
        "text": pa.array(["shares rose", None] * 60),
        "count": pa.array([7, None] * 60, pa.int32()),
        "share": pa.array([0.25, 2.0] * 60),
        "day": pa.array(pd.date_range("2026-01-01", periods=120)),
        "kind": pa.array(["a", "b"] * 60).dictionary_encode(),
        "tags": pa.array([["x"], []] * 60),
    }
    source, going = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table(columns), source)
    run("--model", folders["full"], "--file", source, "--out", going)
    found = pq.read_table(going)
    assert found.select(list(columns)).equals(pa.table(columns))
    assert [str(kind) for kind in found.schema.types[len(columns) :]] == ["string", "double", "double", "double"]

    run("--model", folders["full"], "--file", source, "--out", tmp_path / "out.jsonl")
    first = read(tmp_path / "out.jsonl")[0]
    assert (first["count"], first["share"], first["tags"]) == (7, 0.25, ["x"])

    # Rows of JSON may lack keys, and what is whole in one chunk may have a fraction in the next.
    rows = [{"text": "x", "a": 1}] * (CHUNK + 1) + [{"text": "y", "a": 0.5, "b": True}]
    run("--model", folders["full"], "--file", write(tmp_path / "in.jsonl", rows), "--out", going)
    found = pq.read_table(going)
    assert [str(kind) for kind in found.schema.types[:3]] == ["string", "double", "bool"]
    assert found.to_pylist()[0]["a"] == 1 and found.to_pylist()[-1]["b"] is True
    run("--model", folders["full"], "--file", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")
    kept = [
        {key: value for key, value in row.items() if "pre" not in key and "p_" not in key}
        for row in read(tmp_path / "out.jsonl")
    ]
    assert kept == rows


# --- jobs that break

# The command, with small chunks. It prints the most memory that it had, in kB; getrusage may count its parent's.
COMMAND = f"""
import re
from stages import predict
from tunediff.report import packaging
from tunediff.use import job_formats, job_input, tagging_answers
job_input.CHUNK = {CHUNK}
predict.main()
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_broken_job_goes_on_where_it_was(run: Run, asked: Asked, folders, tmp_path: Path, texts, ending: str):
    arguments = ("--model", folders["full"], "--file", write(tmp_path / "in.jsonl", [{"text": text} for text in texts]))
    at_once, out = tmp_path / f"at_once{ending}", tmp_path / f"out{ending}"
    run(*arguments, "--out", at_once)
    asked.texts.clear()
    asked.break_off(run, *arguments, "--out", out)
    assert not out.exists()
    assert "100 rows are there from an earlier run" in run(*arguments, "--out", out).err
    assert asked.texts == texts[2 * CHUNK :]
    assert out.read_bytes() == at_once.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", at_once.name, out.name}


def test_long_rows_are_held_a_few_at_a_time(run: Run, asked: Asked, folders, tmp_path: Path, texts, monkeypatch):
    """And a job of them goes on where it was."""
    arguments = ("--model", folders["full"], "--file", write(tmp_path / "in.jsonl", [{"text": text} for text in texts]))
    monkeypatch.setattr(job_input, "CHARACTERS", 300)
    run(*arguments, "--out", tmp_path / "at_once.csv")
    longest = max(map(len, texts))
    for chunk in job_input.chunks({"text": text} for text in texts):
        assert sum(len(row["text"]) for row in chunk) < 300 + longest
    asked.texts.clear()
    asked.break_off(run, *arguments, "--out", tmp_path / "out.csv")
    said = run(*arguments, "--out", tmp_path / "out.csv").err
    done = int(re.search(r"(\d+) rows are there from an earlier run", said)[1])
    assert done >= 2 * CHUNK and asked.texts == texts[done:]
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "at_once.csv").read_bytes()


@pytest.mark.slow
def test_a_killed_job_goes_on_where_it_was(run: Run, asked: Asked, folders, tmp_path: Path, texts):
    rows = [{"text": f"{text} {number}"} for number in range(4) for text in texts]
    arguments = ("--model", folders["full"], "--file", write(tmp_path / "in.csv", rows))
    run(*arguments, "--out", tmp_path / "at_once.csv")
    asked.texts.clear()
    out, parts = tmp_path / "out.csv", tmp_path / ".out.csv.partial"
    with start(*arguments, "--out", out) as job:
        while len(list(parts.glob("*.csv"))) < 2:
            assert job.poll() is None
            time.sleep(0.002)
        job.kill()
    done = CHUNK * len(list(parts.glob("*.csv")))
    assert not out.exists() and done < len(rows)
    run(*arguments, "--out", out)
    assert asked.texts == [row["text"] for row in rows[done:]]
    assert out.read_bytes() == (tmp_path / "at_once.csv").read_bytes()


@pytest.mark.parametrize("change", ["input", "model", "text", "unsure", "compare"])
def test_another_input_model_or_option_begins_anew(run: Run, asked: Asked, folders, tmp_path: Path, texts, change: str):
    model = shutil.copytree(folders["full"], tmp_path / "full")
    rows = [{"text": text, "other": text.upper()} for text in texts]
    source, out = write(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    asked.break_off(run, "--model", model, "--file", source, "--out", out)
    options = {"text": ["--text", "other"], "unsure": ["--unsure", 0.8], "compare": ["--compare"]}.get(change, [])
    if change == "input":
        write(source, [*rows, {"text": "one more", "other": ""}])
    elif change == "model":
        config = json.loads((model / "config.json").read_text())
        config["tunediff"]["temperature"] = 0.5
        (model / "config.json").write_text(json.dumps(config))
    printed = run("--model", model, "--file", source, "--out", out, *options)
    assert "out.csv.partial: left by a run on another input, model or option; begun anew" in printed.err
    assert asked.texts[:CHUNK] == [text.upper() if change == "text" else text for text in texts[:CHUNK]]
    assert len(read(out)) == len(rows) + (change == "input")
    clean = tmp_path / "clean.csv"
    run("--model", model, "--file", source, "--out", clean, *options)
    assert out.read_bytes() == clean.read_bytes()


def test_the_input_may_be_the_output(run: Run, asked: Asked, folders, tmp_path: Path, texts):
    rows = [{"text": text} for text in texts]
    file = write(tmp_path / "texts.csv", rows)
    before, arguments = file.read_bytes(), ("--model", folders["full"], "--file", file, "--out", file)
    asked.break_off(run, *arguments)
    assert file.read_bytes() == before
    run(*arguments)
    assert asked.texts == texts[2 * CHUNK :]
    assert [row["text"] for row in read(file)] == texts and "predicted" in read(file)[0]
    with pytest.raises(UserError, match=r"texts.csv: the columns predicted, .* are there already"):
        run(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["texts.csv"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(folders, tmp_path: Path):
    """The rows of the longer file alone take 30 MB."""
    peaks = []
    for rows in (2000, 30_000):
        source, out = tmp_path / f"{rows}.jsonl", tmp_path / f"{rows}.parquet"
        write(source, [{"text": f"shares {number}", "note": f"{number:01000}"} for number in range(rows)])
        with start("--model", folders["full"], "--file", source, "--out", out) as job:
            peaks.append(int(job.communicate()[0]) / 1024)  # in MB
        assert pq.read_metadata(out).num_rows == rows
    assert peaks[1] - peaks[0] < 10, peaks


# --- several models


def test_adapters_on_one_base_answer_as_each_alone(
    run: Run, folders, tmp_path: Path, texts, monkeypatch: pytest.MonkeyPatch
):
    load, loaded = saved.load_pretrained, []
    monkeypatch.setattr(saved, "load_pretrained", lambda *arguments: loaded.append(1) or load(*arguments))
    source, out = write(tmp_path / "in.csv", [{"text": text} for text in texts]), tmp_path / "out.jsonl"
    models = [part for name in ("lora-v1", "full", "lora-v2") for part in ("--model", folders[name])]
    run(*models, "--file", source, "--out", out)
    assert len(loaded) == 1
    rows = read(out)
    for name in ("lora-v1", "full", "lora-v2"):
        alone = expected(folders[name], texts)
        assert np.allclose([[row[f"{name}_p_{label}"] for label in LABELS] for row in rows], alone, atol=1e-6), name
        assert [row[name] for row in rows] == [LABELS[i] for i in alone.argmax(1)]
    assert len({(row["lora-v1"], row["lora-v2"]) for row in rows}) > 1


@pytest.mark.parametrize("name", ["full", "lora-v1"])
def test_the_original_stands_beside_the_trained_model(run: Run, folders, texts, name: str):
    lines = [text for text in texts if not re.search(r"[\r\n]", text)]
    printed = run("--model", folders[name], "--compare", stdin="\n".join(lines).encode())
    found = pd.read_csv(io.StringIO(printed.out))
    model, tokenizer = saved.load_original(folders[name])
    original = probabilities(predict_logits(model, tokenizer, encode(tokenizer, lines), 8, "fp32", ""))
    assert np.allclose(found[[f"original_p_{label}" for label in LABELS]], original, atol=1e-6)
    assert found.original.tolist() == [LABELS[i] for i in original.argmax(1)]
    assert np.allclose(found[[f"p_{label}" for label in LABELS]], expected(folders[name], lines), atol=1e-6)


def test_unsure_is_what_validation_said(run: Run, folders, tmp_path: Path, texts):
    source, out = write(tmp_path / "in.csv", [{"text": text} for text in texts]), tmp_path / "out.parquet"
    run("--model", folders["full"], "--unsure", 0.9, "--compare", "--file", source, "--out", out)
    found = pq.read_table(out).to_pandas()
    assert found.unsure.tolist() == (expected(folders["full"], texts).max(1) < 0.6).tolist()
    assert found.unsure.nunique() == 2
    assert "original_unsure" not in found


# --- what is refused


def test_files_are_read_as_prepare_reads_them(run: Run, folders, tmp_path: Path):
    """By the columns that the model was trained on, if none are named."""
    model = tmp_path / "full"
    shutil.copytree(folders["full"], model)
    packaging.add_fitted(model / "config.json", {"text": ["title", "body"]})
    files = {
        "in.csv": "id;title;body;;\n1;Café;shares rose;;\n2;;shares fell;;\n".encode("cp1252"),
        "in.tsv": 'id\ttitle\tbody\n1\tCafé\t"shares rose\n2\t\tshares fell\n'.encode("utf-16"),
        "in.txt": "1|Café|shares rose\n2||shares fell\n".encode(),
    }
    how = {"in.csv": ("--encoding", "cp1252"), "in.txt": ("--columns", "id,title,body")}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        out = tmp_path / f"{name}.jsonl"
        run("--model", model, "--file", tmp_path / name, "--out", out, *how.get(name, ()))
        answered = read(out)
        body = '"shares rose' if name == "in.tsv" else "shares rose"
        assert [(row["title"], row["body"]) for row in answered] == [("Café", body), ("", "shares fell")]
        found = np.array([[row[f"p_{label}"] for label in LABELS] for row in answered])
        assert np.allclose(found, expected(model, [f"Café\n\n{body}", "shares fell"]), atol=1e-6)
    assert list(read(tmp_path / "in.csv.jsonl")[0])[:5] == ["id", "title", "body", "Unnamed: 3", "Unnamed: 4"]
    with pytest.raises(UserError, match=r"in.csv: not utf-8: .*, or name it, as in --encoding cp1252"):
        run("--model", model, "--file", tmp_path / "in.csv")
    with pytest.raises(
        UserError, match=r"its first row looks like data .*: name its 3 columns, as in `--columns label"
    ):
        run("--model", model, "--file", tmp_path / "in.txt")
    with pytest.raises(UserError, match=r"--file: quoting: .* found 'double quotes'"):
        run("--model", model, "--file", tmp_path / "in.csv", "--quoting", "double quotes")


def test_columns_of_spans_may_not_be_there_already(tmp_path: Path):
    """As in a CSV file that `predict` wrote itself: a text without span would keep the old one."""
    path, new = tmp_path / "spans.csv", tagging_answers.Columns("predicted").types()
    path.write_text("text,predicted_start,predicted_end\nAcme fell,0,4\n")
    source = job_input.read_file(path, ["text"], typed=False)
    with pytest.raises(UserError, match=r"spans.csv: the columns predicted_start, predicted_end are there already"):
        job_formats.Csv(source, new)
    assert job_formats.Jsonl(source, new).columns == [*source.header, "predicted"]  # which has one column for all


def test_what_cannot_be_read_or_written_is_said(run: Run, asked: Asked, folders, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("text,label\nshares rose,x\n")
    Path("answered.csv").write_text("text,predicted,p_bullish\nshares rose,x,1\n")
    Path("list.jsonl").write_text('{"text": "a"}\n' * (CHUNK + 1) + '{"text": ["a"]}\n')
    Path("half.jsonl").write_text('{"text": "a"}\n{"text": "\\ud83d"}\n')
    Path("mixed.jsonl").write_text('{"text": "a", "n": 1}\n' * (CHUNK + 1) + '{"text": "b", "n": "x"}\n')
    Path("deep.jsonl").write_text('{"text": "a", "n": ' + "[" * 200 + "]" * 200 + "}\n")
    Path("no-key.jsonl").write_text('{"text": "a", "n": {}}\n')
    Path("in.md").write_text("shares rose\n")
    Path("taken.csv").mkdir()
    shutil.copytree(folders["full"], "models/full")
    shutil.copytree(folders["full"], "other/full")
    model = ("--model", "models/full")
    for arguments, message in (
        ((*model, "--file", "in.csv", "--text", "body"), "in.csv: no column 'body'; it has: text, label. Name the"),
        ((*model, "--file", "answered.csv"), "answered.csv: the columns predicted, p_bullish are there already"),
        ((*model, "--text", "predicted", "x"), "--text: the columns predicted are there already"),
        ((*model, "--file", "list.jsonl"), "list.jsonl: row 52: column 'text': expected text or a number, found list"),
        ((*model, "--file", "half.jsonl"), "half.jsonl: row 2: column 'text': half a character"),
        ((*model, "--file", "mixed.jsonl", "--out", "out.parquet"), "mixed.jsonl: column 'n' has values of several"),
        ((*model, "--file", "deep.jsonl", "--out", "out.parquet"), "deep.jsonl: Parquet cannot hold a column of it: "),
        ((*model, "--file", "no-key.jsonl", "--out", "out.parquet"), "no-key.jsonl: Parquet cannot hold a column of"),
        (
            (*model, "--file", "in.md"),
            "in.md: the name ends in none of .csv, .tsv, .txt, ",
        ),
        ((*model, "--file", "nope.csv"), "nope.csv: no such file"),
        ((*model, "--file", "in.csv", "--out", "out.tsv"), "--out out.tsv: the name ends in none of .csv, .jsonl"),
        ((*model, "--file", "in.csv", "--out", "in.csv/out.csv"), "--out in.csv/out.csv: cannot be written there"),
        ((*model, "--file", "in.csv", "--out", "taken.csv"), "--out taken.csv: is a folder; name a file"),
        (("--model", "models/nope", "x"), "models/nope: no trained model there .*; models/ has: full"),
        ((*model, "--model", "other/full", "x"), "--model: two models are named full"),
        ((*model, "--unsure", 0.95, "x"), "models/full/config.json: --unsure 0.95: .*; choose from: 0.8, 0.9"),
    ):
        with pytest.raises(UserError, match=f"^{message}"):
            run(*arguments)
    with pytest.raises(UserError, match=r"^standard input: .*; expected UTF-8"):
        run(*model, stdin=b"caf\xe9\n")
    monkeypatch.setattr(limits, "ROW", 10)
    with pytest.raises(UserError, match=r"^standard input: line 2: more than 10 characters; shorten it"):
        run(*model, stdin=b"shares\nshares rose\n")
    with pytest.raises(SystemExit):
        run(*model, "--file", "in.csv", "shares rose")
    assert asked.texts == []
    assert not list(tmp_path.glob(".*")) and not list(tmp_path.glob("out*"))


def test_the_help_says_how_a_file_may_be_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(sys, "argv", ["predict", "--help"])
    with pytest.raises(SystemExit, match="0"):
        predict.main()
    words = " ".join(capsys.readouterr().out.split())
    for begins in ("encoding ENCODING Of text", "separator SEPARATOR Of separated", "sheet SHEET Sheet of a workbook"):
        assert f"--{begins}" in words

"""Memory that a training holds, second by second, on some rows and on ten times as many.

python -m benchmarks.memory --rows 20000 --picture docs/pictures/memory.png

For Linux. A random BERT of two layers reads the first 32 words of texts of 40 headlines each, for two epochs. Rows that
are mapped from a file are not counted, because the operating system drops them whenever it needs the memory.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import ClassLabel, Features, Value
from matplotlib.figure import Figure
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

from tunediff.report.colours import COLOURS

ROOT = Path(__file__).parents[1]
HEADLINES = 40  # in each text
WORDS = 32  # that the model reads of a text
EPOCHS = 2
BATCH_SIZE = 64
CHUNK = 10_000  # rows in a row group
FEATURES = Features(
    {
        "split": Value("string"),
        "row": Value("int64"),
        "text": Value("string"),
        "tokens": Value("int64"),
        "label": ClassLabel(names=["bearish", "bullish", "neutral"]),
    }
)
TRAIN = (
    *("-m", "stages.train_full", "--settings", "settings/training/full.json", "--splits", "data/prepared"),
    *("--trained", "full", "--validation", "figures.json", "--logits", "logits.npy"),
    *("--cost", "cost.json", "--curves", "curves"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--picture", type=Path, help="PNG file for the curves")
    args = parser.parse_args()
    curves = []
    for rows in (args.rows, 10 * args.rows):
        with tempfile.TemporaryDirectory(prefix="tunediff-") as folder:
            data = make_project(Path(folder), rows)
            seconds, held = watch(Path(folder))
        print(
            json.dumps({"rows": rows, "data_mb": data, "seconds": seconds[-1], "most_held_mb": max(held)}), flush=True
        )
        curves.append((rows, data, seconds, held))
    if args.picture:
        draw(curves, args.picture)


def make_project(folder: Path, rows: int) -> float:
    """Write the shipped settings, a model, and splits as `prepare` writes them. Return MB of rows to train on."""
    with (ROOT / "data/raw/headlines.csv").open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    make_model(folder / "model", sorted({word for row in known for word in row["text"].split()}))
    shutil.copytree(ROOT / "conf", folder / "conf")
    conf = yaml.safe_load((ROOT / "conf/model/minilm.yaml").read_text(encoding="utf-8"))
    conf |= {"name": str(folder / "model"), "sha256": None, "max_length": WORDS}
    (folder / "conf/model/minilm.yaml").write_text(yaml.safe_dump(conf), encoding="utf-8")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["train"] |= {"epochs": EPOCHS, "batch_size": BATCH_SIZE}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    prepared = folder / "data/prepared"
    prepared.mkdir(parents=True)
    shutil.copy(ROOT / "data/prepared/source.json", prepared)
    size = write_split(prepared / "train.parquet", known, rows)
    write_split(prepared / "validation.parquet", known, 1000)
    return size / 2**20


def make_model(folder: Path, words: list[str]) -> None:
    """Write a BERT with random weights, and a tokenizer that knows these words."""
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    set_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=WORDS, **sizes)).save_pretrained(folder)


def write_split(path: Path, known: list[dict[str, str]], rows: int) -> int:
    """Write a split. Return the bytes of its texts, and of the token ids and attention masks that the model reads."""
    size = 0
    texts = cycle(row["text"] for row in known)
    labels = FEATURES["label"].str2int([row["label"] for row in known])
    with pq.ParquetWriter(path, FEATURES.arrow_schema) as writer:
        for start in range(0, rows, CHUNK):
            numbers = range(start + 1, min(start + CHUNK, rows) + 1)
            chunk = {
                "split": ["all"] * len(numbers),
                "row": numbers,
                "text": [f"{' '.join(islice(texts, HEADLINES))} {number}" for number in numbers],
                "tokens": [WORDS] * len(numbers),
                "label": [labels[number % len(labels)] for number in numbers],
            }
            writer.write_table(pa.table(chunk, FEATURES.arrow_schema))
            size += sum(map(len, chunk["text"])) + len(numbers) * WORDS * (4 + 1)
    return size


def watch(folder: Path) -> tuple[list[float], list[float]]:
    """Run a training there. Return seconds since its start, and for each the MB that no file backs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    seconds = []
    held = []
    settings = [sys.executable, "-m", "stages.settings", "--out", "settings"]
    subprocess.run(settings, cwd=folder, env=environment, check=True)
    started = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, *TRAIN], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        while process.poll() is None:
            memory = psutil.Process(process.pid).memory_info()
            seconds.append(time.perf_counter() - started)
            held.append((memory.rss - memory.shared) / 2**20)
            time.sleep(0.5)
    finally:
        process.kill()
    if process.returncode:
        sys.exit((folder / "log.txt").read_text()[-2000:])
    return seconds[:-1], held[:-1]  # without the last one: the process may have been at its end


def draw(curves: list[tuple[int, float, list[float], list[float]]], path: Path) -> None:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for colour, (rows, data, seconds, held) in zip(COLOURS, curves, strict=False):
        axes.plot([second / seconds[-1] for second in seconds], held, color=colour, label=f"{rows:,} rows: held")
        axes.axhline(data, color=colour, linestyle="--", label=f"{rows:,} rows: texts and tokens")
    axes.set(title="Memory of a training", xlabel="share of its time", ylabel="MB", xlim=(0, 1), ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()

"""Rows per second and peak memory of `stages.prepare` and `stages.predict` on longer and longer files.

python -m benchmarks.rows prepare                 # 1,000 to 1,000,000 rows
python -m benchmarks.rows prepare --headlines 10 --rows 1000 10000 100000    # texts ten times as long
python -m benchmarks.rows predict --model models/lora-v2-exported
python -m benchmarks.rows peer --rows 100000      # `prepare` and benchmarks/peer_prepare.py in turns
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from tunediff.models.pretrained import locate
from tunediff.settings.study import load

ROOT = Path(__file__).parents[1]
SETTINGS = ("-m", "stages.settings", "--out", "data/settings")
PREPARE = (
    *("-m", "stages.prepare", "--settings", "data/settings/prepare.json"),
    *("--splits", "data/prepared", "--profile", "data/profile.json"),
)
PREDICT = ("-m", "stages.predict", "--file", "data/raw/rows.csv", "--out", "out.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "predict", "peer"])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--headlines", type=int, default=1, help="how many of the data's texts make one text")
    parser.add_argument("--model", type=Path, help="folder of a trained or exported model, for predict")
    parser.add_argument("--rounds", type=int, default=5, help="how often `peer` runs both")
    args = parser.parse_args()
    if args.what == "predict" and not args.model:
        parser.error("predict needs --model")
    before = None
    for rows in args.rows:
        with tempfile.TemporaryDirectory(prefix="tunediff-") as folder:
            make_project(Path(folder), rows, args.headlines)
            if args.what == "peer":
                figures = beside_peer(Path(folder), args.rounds)
            elif args.what == "prepare":
                figures = measure(Path(folder), *PREPARE)
            else:
                figures = measure(Path(folder), *PREDICT, "--model", args.model.resolve())
        if args.what != "peer":
            figures |= {"rows_per_second": rows / figures["seconds"]}
            if before:
                figures |= slope(rows - before[0], before[1], figures)
            before = rows, figures
        print(json.dumps({"rows": rows, **figures}), flush=True)


def make_project(folder: Path, rows: int, headlines: int) -> None:
    """Write the shipped settings, and data of which no two rows are alike, with texts to be cleaned."""
    with (ROOT / "data/raw/headlines.csv").open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    texts = cycle(row["text"] for row in known)
    (folder / "data/raw").mkdir(parents=True)
    with (folder / "data/raw/rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number, row in enumerate(islice(cycle(known), rows)):
            writer.writerow([f"{' '.join(islice(texts, headlines))} {number}", row["label"]])
    shutil.copytree(ROOT / "conf", folder / "conf")
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(params.replace("data: headlines", "data: rows", 1), encoding="utf-8")
    (folder / "conf/data/rows.yaml").write_text(
        "{source: rows.csv, text: text, label: label, clean: [lowercase, strip_special]}\n", encoding="utf-8"
    )
    measure(folder, *SETTINGS)


def measure(project: Path, *command: str | Path, **environment: str) -> dict[str, float]:
    """Run Python in that folder. Return seconds from start to end, processor seconds, and peak memory in MB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)  # of this process alone, not the largest of all children
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(map(str, command))}: failed")
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"seconds": seconds, "processor_seconds": usage.ru_utime + usage.ru_stime, "peak_memory_mb": peak}


def slope(rows: int, before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What each of `rows` more rows costs. This is the same from one size to the next if time and memory are linear."""
    return {
        "microseconds_per_row_more": 1e6 * (after["seconds"] - before["seconds"]) / rows,
        "bytes_per_row_more": 2**20 * (after["peak_memory_mb"] - before["peak_memory_mb"]) / rows,
    }


def beside_peer(project: Path, rounds: int) -> dict[str, float | list[float]]:
    """Run both in turns, the peer with new caches each time. Return their seconds, and the median of the ratios."""
    settings = load(ROOT)
    tokenizer = locate(settings.model, settings.model_path)
    peer = ("-m", "benchmarks.peer_prepare", "--file", "data/raw/rows.csv", "--model", tokenizer, "--out", "peer")
    ours = []
    theirs = []
    for turn in range(rounds):
        ours.append(measure(project, *PREPARE))
        theirs.append(measure(project, *peer, HF_DATASETS_CACHE=str(project / f"cache-{turn}"), HF_HUB_OFFLINE="1"))
    ratios = [their["seconds"] / our["seconds"] for our, their in zip(ours, theirs, strict=True)]
    return {
        "prepare_seconds": [our["seconds"] for our in ours],
        "peer_seconds": [their["seconds"] for their in theirs],
        "peer_over_prepare": statistics.median(ratios),
        "smallest_and_largest": [min(ratios), max(ratios)],
        "prepare_peak_memory_mb": max(our["peak_memory_mb"] for our in ours),
        "peer_peak_memory_mb": max(their["peak_memory_mb"] for their in theirs),
    }


if __name__ == "__main__":
    main()

"""Rows per second and peak memory of `stages.predict` on longer and longer files.

python -m benchmarks.predict_rows --model models/lora-v2-exported --rows 1000 10000 100000 1000000
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained or exported model")
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--file", type=Path, default=ROOT / "data/raw/headlines.csv", help="CSV with a column `text`")
    args = parser.parse_args()
    with args.file.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    for rows in args.rows:
        print(json.dumps({"rows": rows, **measure(args.model, texts, rows)}), flush=True)


def measure(model: Path, texts: list[str], rows: int) -> dict[str, float]:
    """Of one run on a CSV with as many rows, no two of them alike; from the command's start to its end."""
    with tempfile.TemporaryDirectory(prefix="tunediff-") as folder:
        source, out = Path(folder, "in.csv"), Path(folder, "out.csv")
        with source.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text"])
            writer.writerows([f"{text} {number}"] for number, text in enumerate(islice(cycle(texts), rows)))
        command = [sys.executable, "-m", "stages.predict", "--model", model, "--file", source, "--out", out]
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)  # of this process alone: the largest of all is another one's
        seconds = time.perf_counter() - started
        if status:
            sys.exit(f"{' '.join(map(str, command))}: failed")
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"seconds": seconds, "rows_per_second": rows / seconds, "peak_memory_mb": peak}


if __name__ == "__main__":
    main()

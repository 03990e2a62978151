"""Seconds to the table of the default run's trained methods: ours without prompts, and benchmarks/peer_study.py.

Each round, a fresh clone of the last commit runs both, one after the other; theirs reads the splits that ours made:

python -m benchmarks.study --rounds 1           # the Trainer's own number format, fp32
python -m benchmarks.study --rounds 1 --bf16
python -m benchmarks.study --rounds 1 --jobs 2  # ours by `python -m stages.repro --jobs 2`, not by `dvc repro`
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SCRIPTS = ("tfidf", "full", "lora-v1", "lora-v2", "evaluation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="of theirs; ours has what params.yaml says")
    parser.add_argument("--jobs", type=int, default=1, help="stages of ours at a time")
    args = parser.parse_args()
    at_once = [sys.executable, "-m", "stages.repro", "--jobs", str(args.jobs)]
    ratios = []
    for number in range(1, args.rounds + 1):
        with tempfile.TemporaryDirectory(prefix="tunediff-") as folder:
            project = Path(folder, "project")
            make(project)
            ours = seconds(project, at_once if args.jobs > 1 else ["dvc", "repro"])
            precision = ["--bf16"] if args.bf16 else []
            peer = [sys.executable, "-m", "benchmarks.peer_study", "--out", "peer", *precision]
            theirs = sum(seconds(project, [*peer, script]) for script in SCRIPTS)
            print((project / "peer/table.csv").read_text(encoding="utf-8"))
        ratios.append(theirs / ours)
        print(f"round {number}: ours {ours:.0f} s, theirs {theirs:.0f} s: {ratios[-1]:.2f} times", flush=True)
    print(f"{statistics.median(ratios):.2f} times, {min(ratios):.2f} to {max(ratios):.2f}")


def make(project: Path) -> None:
    """Clone the last commit, without outputs, and let it ask no language model."""
    subprocess.run(["git", "clone", "--quiet", ROOT, project], check=True)
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    params["prompts"]["methods"] = []
    yaml.dump(params, project / "params.yaml")


def seconds(project: Path, command: list[str]) -> float:
    """How long it takes, with caches of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(project.parent / "cache")}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: failed\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

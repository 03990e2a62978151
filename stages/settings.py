"""Check all settings, and write what they resolve to for each stage and each trained method.

dvc repro settings
"""

import argparse
from pathlib import Path

from tunediff.core.files import atomic, write_json
from tunediff.core.process import run
from tunediff.settings.resolve import resolve
from tunediff.settings.study import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for a JSON file per stage and trained method")
    args = parser.parse_args()

    resolved = resolve(load())

    with atomic(args.out) as folder:
        for path, values in resolved.items():
            write_json(folder / f"{path}.json", values)


if __name__ == "__main__":
    run(main)

"""Check all settings, and write what they resolve to for each stage and each trained method.

dvc repro settings
"""

import argparse
import os
from pathlib import Path

from tunediff.core.errors import UserError
from tunediff.core.files import atomic, output, write_json
from tunediff.core.process import run
from tunediff.settings.resolve import resolve
from tunediff.settings.study import load


def undo(out: Path) -> str:
    """How to take back what `dvc exp run` has done: it writes what -S says, and removes outputs, before it runs."""
    if "DVC_EXP_NAME" not in os.environ or ".dvc/tmp/exps" in Path.cwd().as_posix():  # a copy, which is thrown away
        return ""
    return f"; to take -S back: `git checkout params.yaml conf`, then `dvc checkout {out}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=output, required=True, help="folder for a JSON file per stage and trained method")
    args = parser.parse_args()

    try:
        study = load()
        resolved = resolve(study)
    except UserError as error:
        first, *others = error.lines
        raise UserError(first + undo(args.out), *others) from None

    with atomic(args.out) as folder:
        for path, values in resolved.items():
            write_json(folder / f"{path}.json", values)
    params = study.params
    print(f"{args.out}: data {params.data}, model {params.model}, to be trained: {', '.join(params.trained)}")
    if remark := study.unwatched():
        print(remark)


if __name__ == "__main__":
    run(main)

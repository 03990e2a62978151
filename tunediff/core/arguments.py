"""Arguments of a stage that dvc.yaml runs once for each name or share in params.yaml."""

import argparse
import re
from pathlib import Path

from tunediff.core.errors import UserError

ITEM = r"[a-z0-9]+([-_.][a-z0-9]+)*"  # a method's name, or a share as Python writes it; never a path


def parse(parser: argparse.ArgumentParser, item: str) -> argparse.Namespace:
    """The arguments. In each path that has `{item}`, the value of `--item` stands for it.

    The value is never part of a path in dvc.yaml: there the shell would run what is in it. DVC quotes a value only
    where the command has `${item}`, which becomes `--item VALUE`. Raises UserError if the value is no name or share.
    """
    parser.add_argument(f"--{item}", help=f"takes the place of {{{item}}} in the paths")
    args = parser.parse_args()
    value = getattr(args, item)
    if value is not None:
        if not re.fullmatch(ITEM, value):
            raise UserError(f"--{item}: '{value}' is no name and no share; run: dvc repro settings")
        for name, path in vars(args).items():
            if isinstance(path, Path):
                setattr(args, name, Path(str(path).replace(f"{{{item}}}", value)))
    return args

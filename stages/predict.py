"""Label texts with trained models.

python -m stages.predict --model models/full "Shares rose 5% after the report" "Guidance was cut"
python -m stages.predict --model models/lora-v2-exported --file in.csv --out out.parquet
python -m stages.predict --model models/lora-v1 --model models/lora-v2 --compare < texts.txt > out.csv
"""

import argparse
import hashlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from tunediff.core.errors import UserError
from tunediff.core.files import read_json, sha256
from tunediff.core.process import run
from tunediff.use import batches

if TYPE_CHECKING:
    from tunediff.use.classifier import Classifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts to label; if none, lines of standard input")
    parser.add_argument(
        "--model",
        dest="models",
        type=Path,
        action="append",
        required=True,
        help="folder of a trained or exported model, such as models/full; may be given several times",
    )
    parser.add_argument("--file", type=Path, help="file with a column of texts: csv, tsv, json, jsonl or parquet")
    parser.add_argument("--text", default="text", metavar="COLUMN", help="the file's column of texts (default: text)")
    parser.add_argument("--out", type=Path, help="csv, jsonl or parquet file for the answers; printed if left out")
    parser.add_argument("--compare", action="store_true", help="show the original, untrained model's answer as well")
    parser.add_argument(
        "--unsure",
        type=float,
        metavar="ACCURACY",
        help="flag answers that are less sure than those that were right this often on validation, such as 0.9",
    )
    args = parser.parse_args()
    if args.texts and args.file:
        parser.error("give texts, or --file, and not both")
    if not (args.texts or args.file) and sys.stdin.isatty():
        parser.error("give texts, --file, or lines on standard input")
    if args.out:
        batches.check_place(args.out)

    if args.file:
        source = batches.read_file(args.file, args.text, bool(args.out) and args.out.suffix.lower() == ".parquet")
    elif args.texts:
        source = batches.read_texts(args.texts, args.text)
    else:
        source = batches.read_lines(sys.stdin, args.text)
    asked = ask(args.models, args.compare, args.unsure)
    new = {name: kind for each in asked for name, kind in each.columns.items()}
    if clash := [name for name in new if name in source.header]:
        raise UserError(
            f"{args.file or '--text'}: the columns {', '.join(clash)} are there already; rename them, or leave them out"
        )

    def answer(texts: list[str]) -> list[dict[str, Any]]:
        columns = [column for each in asked for column in each.answer(texts)]
        return [dict(zip(new, values, strict=True)) for values in zip(*columns, strict=True)]

    if args.out:
        options = {"models": [digest(model) for model in args.models], "compare": args.compare, "unsure": args.unsure}
        rows = batches.save(args.out, source, args.text, answer, new, options)
        print(f"{args.out}: {rows:,} rows", file=sys.stderr)
    elif args.texts:
        table = pd.DataFrame(row for chunk in batches.labelled(source, args.text, answer) for row in chunk)
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    else:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end without a word when nobody reads on, as in `| head`
        columns = [*source.header, *new]
        batches.write_csv(sys.stdout, [dict(zip(columns, columns, strict=True))], columns, new)
        for chunk in batches.labelled(source, args.text, answer):
            batches.write_csv(sys.stdout, chunk, columns, new)


@dataclass(frozen=True)
class Asked:
    """A model, and where its answers go."""

    classifier: "Classifier"
    predicted: str
    """Column of its labels."""
    prefix: str
    """Of its other columns: `p_LABEL` for each label, and `unsure`."""
    least_confidence: float | None = None
    """Answers with a smaller largest probability are unsure; None if that is not asked."""

    @property
    def columns(self) -> dict[str, pa.DataType]:
        columns = {self.predicted: pa.string()}
        columns |= {f"{self.prefix}p_{name}": pa.float64() for name in self.classifier.names}
        return columns if self.least_confidence is None else {**columns, f"{self.prefix}unsure": pa.bool_()}

    def answer(self, texts: list[str]) -> list[list]:
        """The values of each of the columns."""
        shares = self.classifier.predict(texts)
        values = [[self.classifier.names[i] for i in shares.argmax(1)], *shares.T.tolist()]
        return values if self.least_confidence is None else [*values, (shares.max(1) < self.least_confidence).tolist()]


def ask(models: list[Path], compare: bool, accuracy: float | None) -> list[Asked]:
    """The models, loaded; one alone answers in columns `predicted`, `p_LABEL`, `unsure`, several under their names.

    `compare` adds the original of the first; `accuracy` is what the surer answers had on validation. Raises UserError
    for what is no model, or has no confidence that goes with that accuracy.
    """
    # Here, so that --help and a mistake in the arguments answer at once.
    from tunediff.use.classifier_loading import Loader

    names = [path.resolve().name for path in models]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--model: two models are named {twice[0]}; columns are named by the folder: rename one")
    loader, asked = Loader(), []
    for name, path in zip(names, models, strict=True):
        columns = ("predicted", "") if len(models) == 1 else (name, f"{name}_")
        classifier = loader.load(path)
        asked.append(Asked(classifier, *columns, None if accuracy is None else least_confidence(path, accuracy)))
    if compare:
        asked.append(Asked(loader.original(folder_of(models[0])), "original", "original_"))
    return asked


def least_confidence(model: Path, accuracy: float) -> float:
    """From which confidence on the model's answers had this accuracy on validation. Raises UserError if unknown."""
    file = folder_of(model) / "config.json"
    known = {float(key): value for key, value in read_json(file)["tunediff"].get("confidences", {}).items()}
    if accuracy not in known:
        raise UserError(
            f"{file}: --unsure {accuracy:g}: training found no confidence that goes with this accuracy on validation; "
            f"choose from: {', '.join(f'{key:g}' for key in known) or 'none, so train again'}"
        )
    return known[accuracy]


def folder_of(model: Path) -> Path:
    return model.parent if model.suffix == ".onnx" else model


def digest(model: Path) -> str:
    """Of all that the model's folder holds."""
    found = hashlib.sha256(model.name.encode())
    for path in sorted(path for path in folder_of(model).iterdir() if path.is_file()):
        found.update(path.name.encode())
        found.update(sha256(path).encode())
    return found.hexdigest()


if __name__ == "__main__":
    run(main)

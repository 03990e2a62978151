"""Label texts with a trained model.

python -m stages.predict --model models/full "Shares rose 5% after the report" "Guidance was cut"
python -m stages.predict --model models/full --file in.csv --out out.csv
python -m stages.predict --model models/full --compare "Shares rose 5% after the report"
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from stages.common import sources
from stages.common.errors import UserError, run
from stages.common.files import whole

BATCH_SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts to label")
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained model, such as models/full")
    parser.add_argument("--file", type=Path, help="file with a column of texts: csv, tsv, json, jsonl or parquet")
    parser.add_argument("--text", default="text", metavar="COLUMN", help="the file's column of texts (default: text)")
    parser.add_argument("--out", type=Path, help="CSV file for the answers; printed if left out")
    parser.add_argument("--compare", action="store_true", help="show the original, untrained model's answer as well")
    args = parser.parse_args()
    if bool(args.texts) == bool(args.file):
        parser.error("give texts, or --file, and not both")

    table = read(args.file, args.text) if args.file else pd.DataFrame({args.text: args.texts})
    table = pd.concat([table, answer(args.model, table, args.text, args.compare, args.file)], axis=1)

    if args.out:
        with whole(args.out) as partial:
            table.to_csv(partial, index=False)
        print(f"{args.out}: {len(table)} rows", file=sys.stderr)
    else:
        print(
            table.to_csv(index=False)
            if args.file
            else table.to_string(index=False, float_format=lambda value: f"{value:.3f}")
        )


def read(path: Path, column: str) -> pd.DataFrame:
    """The file's rows as they are: a CSV's fields stay text, so that what goes out is what came in."""
    header, records = sources.read_records(path)
    if column not in header:
        raise UserError(
            f"{path}: no column '{column}'; it has: {', '.join(header)}. Name the column of texts with --text"
        )
    table = pd.DataFrame(list(records), columns=header)
    table[column] = table[column].fillna("").astype(str)
    return table


def answer(model: Path, table: pd.DataFrame, column: str, compare: bool, where: Path | None) -> pd.DataFrame:
    """A row per text: `predicted`, `p_LABEL` for each label; with `compare` also `original`, `original_p_LABEL`.

    Raises UserError, before anything is computed, if `table`, read from `where`, has such a column already.
    """
    # Here, so that --help and a mistake in the arguments answer at once.
    from stages.common.data import encode
    from stages.common.inference import predict_logits, probabilities
    from stages.common.saved import load_original, load_saved

    tuned, tokenizer = load_saved(model)
    names = list(tuned.config.id2label.values())
    kinds = [("predicted", "p_")] + [("original", "original_p_")] * compare
    new = [name for predicted, prefix in kinds for name in (predicted, *(f"{prefix}{label}" for label in names))]
    if clash := [name for name in new if name in table]:
        raise UserError(f"{where}: the columns {', '.join(clash)} are there already; rename them, or leave them out")
    encoded = encode(tokenizer, table[column].tolist())

    def columns(classifier, predicted: str, prefix: str) -> pd.DataFrame:
        # fp32, so that an answer hardly depends on which texts shared its batch.
        logits = predict_logits(classifier, tokenizer, encoded, BATCH_SIZE, "fp32", predicted)
        shares = probabilities(logits / classifier.config.tunediff.get("temperature", 1))  # the original has none
        frame = pd.DataFrame(shares, columns=[f"{prefix}{name}" for name in names])
        frame.insert(0, predicted, [names[i] for i in shares.argmax(1)])
        return frame

    classifiers = [tuned] + ([load_original(model)] if compare else [])
    return pd.concat([columns(classifier, *kind) for classifier, kind in zip(classifiers, kinds, strict=True)], axis=1)


if __name__ == "__main__":
    run(main)

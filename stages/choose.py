"""Which texts to label next: those of which a model is unsure, unlike each other and unlike those that have a label.

python -m stages.choose --model models/lora-v2 --file unlabelled.csv --rows 100 --out to_label.csv
python -m stages.choose --model models/lora-v2 --file unlabelled.csv --rows 100 --out tasks.json   # for Label Studio
"""

import argparse
import sys
from pathlib import Path

from tunediff.core.errors import UserError
from tunediff.core.files import output
from tunediff.core.process import run
from tunediff.use import choosing_files, job_input, job_models
from tunediff.use.classifier_loading import Loader

OUT = "csv or jsonl file; json for Label Studio, with its labelling interface (.xml) beside it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder of a trained or exported model: the recommended one")
    add("--file", type=Path, required=True, help="file with a column of texts, of any format that `prepare` reads")
    add("--rows", type=int, default=100, help="how many texts to choose (default: 100)")
    add("--out", type=output, required=True, help=OUT)
    add("--text", action="append", metavar="COLUMN", help="column of texts, or several (default: those trained on)")
    add("--label", metavar="COLUMN", help="column for the labels (default: as trained on); rows with one are left out")
    add("--labelled", type=Path, action="append", default=[], metavar="FILE", help="texts that have a label already")
    job_input.add_file_arguments(parser)
    args = parser.parse_args()
    if args.rows < 1:
        raise UserError(f"--rows: expected 1 or more, found {args.rows}")

    columns, keys = args.text or job_models.trained_columns(args.model), job_input.file_keys(args)
    label = args.label or job_models.trained_label(args.model)
    source = job_input.read_file(args.file, columns, False, keys)
    labelled = [job_input.read_file(file, columns, False, keys, choosing_files.cell) for file in args.labelled]
    choosing_files.check(args.out, source, label, [args.file, *args.labelled])
    model = Loader().load(args.model)
    rows = choosing_files.choose(model, source, label, labelled, args.rows)
    if not rows:
        raise UserError(f"{args.file}: every text has a label already; add texts without one")
    written = choosing_files.write(args.out, rows, source, label, model.names, args.model.resolve().name)
    print(f"{', '.join(map(str, written))}: {len(rows)} texts to label", file=sys.stderr)


if __name__ == "__main__":
    run(main)

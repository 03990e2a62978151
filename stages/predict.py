"""Label texts with trained models.

python -m stages.predict --model models/full "Shares rose 5% after the report" "Guidance was cut"
python -m stages.predict --model models/lora-v2-exported --file in.csv --out out.parquet
python -m stages.predict --model models/lora-v1 --model models/lora-v2 --compare < texts.txt > out.csv
"""

import argparse
import sys
from pathlib import Path

from tunediff.core.process import run
from tunediff.use import job_input, job_models, job_output

MODEL = "folder of a trained or exported model, such as models/full; may be given several times"
UNSURE = "flag answers that are less sure than those that were right this often on validation, such as 0.9"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("texts", nargs="*", metavar="TEXT", help="texts to label; if none, lines of standard input")
    add("--model", dest="models", type=Path, action="append", required=True, help=MODEL)
    add("--file", type=Path, help="file with a column of texts, of any format that `prepare` reads")
    add("--text", action="append", metavar="COLUMN", help="column of texts, or several (default: those trained on)")
    add("--out", type=Path, help="csv, jsonl or parquet file for the answers; printed if left out")
    add("--compare", action="store_true", help="show the original, untrained model's answer as well")
    add("--unsure", type=float, metavar="ACCURACY", help=UNSURE)
    job_input.add_file_arguments(parser)
    args = parser.parse_args()
    if args.texts and args.file:
        parser.error("give texts, or --file, and not both")
    if not (args.texts or args.file) and sys.stdin.isatty():
        parser.error("give texts, --file, or lines on standard input")
    if args.out:
        job_output.check_place(args.out)

    columns, reading = job_models.trained_on(args.models[0])
    if args.file:
        typed = bool(args.out) and args.out.suffix.lower() == ".parquet"
        source = job_input.read_file(args.file, args.text or columns, typed, job_input.file_keys(args), reading)
    elif args.texts:
        source = job_input.read_texts(args.texts, (args.text or ["text"])[0], reading)
    else:
        source = job_input.read_lines(sys.stdin, (args.text or ["text"])[0], reading)
    models = job_models.load(args.models, args.compare, args.unsure)
    source.check_new(models.columns)
    if args.out:
        digests = [job_models.fingerprint(model) for model in args.models]
        options = {"models": digests, "compare": args.compare, "unsure": args.unsure}
        rows = job_output.save(args.out, source, models.answer, models.columns, options, models.size)
        print(f"{args.out}: {rows:,} rows", file=sys.stderr)
    elif args.texts:
        print(job_output.as_table(source, models.answer))
    else:
        job_output.stream(sys.stdout, source, models.answer, models.columns, models.size)


if __name__ == "__main__":
    run(main)

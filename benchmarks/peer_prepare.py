"""The work of `stages.prepare` as one writes it with `datasets`: load_dataset, map with Python functions, to_parquet.

python -m benchmarks.peer_prepare --file rows.csv --model FOLDER --out FOLDER    # or in turns: benchmarks.rows peer

Columns text and label; steps lowercase and strip_special; rows without text or label and exact duplicates dropped;
tokens counted; split 70 : 15 : 15, stratified by label. It checks nothing and does not say why a row is gone. Texts
that differ only in case may be on two sides of the split.
"""

import argparse
import re
from pathlib import Path

from datasets import Dataset, load_dataset
from transformers import AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True, help="CSV with columns text and label")
    parser.add_argument("--model", required=True, help="folder with the tokenizer")
    parser.add_argument("--out", type=Path, required=True, help="folder for the three Parquet files")
    args = parser.parse_args()

    table = load_dataset("csv", data_files=str(args.file), split="train")
    table = table.map(clean)
    table = table.filter(lambda row: row["text"] and row["label"])
    table = without_duplicates(table)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    table = table.map(lambda rows: {"tokens": tokenizer(rows["text"], return_length=True)["length"]}, batched=True)
    table = table.class_encode_column("label")

    train, rest = table.train_test_split(0.3, seed=17, stratify_by_column="label").values()
    validation, test = rest.train_test_split(0.5, seed=17, stratify_by_column="label").values()
    for name, split in {"train": train, "validation": validation, "test": test}.items():
        split.to_parquet(args.out / f"{name}.parquet")


def clean(row: dict[str, str]) -> dict[str, str]:
    text = re.sub(r"[^\w\s]|_", " ", row["text"].lower())
    return {"text": re.sub(r"\s+", " ", text).strip()}


def without_duplicates(table: Dataset) -> Dataset:
    seen = set()

    def new(row: dict[str, str]) -> bool:
        key = row["text"], row["label"]
        if key in seen:
            return False
        seen.add(key)
        return True

    return table.filter(new)


if __name__ == "__main__":
    main()

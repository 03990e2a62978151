"""Read the labelled texts, check and clean them, and split them into train, validation and test.

dvc repro prepare
"""

import argparse
from pathlib import Path

from tunediff.core.files import atomic, output, read_json, write_json
from tunediff.core.process import run
from tunediff.core.settings import check
from tunediff.core.splits import save_split
from tunediff.models.settings import Pretrained
from tunediff.models.tokens import lengths
from tunediff.sources import corrections, preparing, profile, splitting
from tunediff.sources.settings import SPLITS, DataConf
from tunediff.tasks import reader_of, with_keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True, help="JSON file: what the settings resolve to")
    parser.add_argument("--splits", type=output, required=True, help="folder for SPLIT.parquet, and for source.json")
    parser.add_argument("--profile", type=output, required=True, help="JSON file: what was read, kept and dropped")
    args = parser.parse_args()
    settings = read_json(args.settings)
    conf = check(settings["data"], with_keys(DataConf, settings["data"]["task"]), args.settings)
    task, path, model_path = reader_of(conf), Path(settings["data_path"]), Path(settings["model_path"])
    model = check(settings["model"], Pretrained, args.settings)

    # Read, clean and check.
    table, sources = preparing.read(conf, path, task)
    table, dropped = preparing.clean(table, conf)
    remarks = task.remarks(table, conf, place := preparing.place_of(conf, sources))
    task, table = task.check(table, conf, path, place)
    task, table, corrected = corrections.applied(table, conf, path, task, settings["seed"])
    table, duplicates = splitting.drop_duplicates(table)

    # Split, and take the subset asked for.
    split = preparing.split(table, conf, path, settings["seed"])
    task = task.renamed(split.renamed, path, preparing.listed(split.rare))
    kept = preparing.subset(split.table, conf, path, settings["seed"])
    task.check_splits(kept, path, conf.complete_splits, place, preparing.of_subset(conf))
    told = profile.of_rows(settings["name"], conf, sources, split, kept, dropped + duplicates)
    told |= {**task.schema(), **corrected, "remarks": remarks + told["remarks"], "splits": {}}

    # Save, now that nothing can be wrong any more.
    with atomic(args.splits) as folder:
        folder.mkdir()
        for side, rows in ((side, preparing.of_side(kept, side, conf)) for side in SPLITS):
            rows = rows.assign(**lengths(task, rows, model, model_path, place, settings.get("max_new_tokens")))
            save_split(rows.assign(label=task.encoded(rows.label)), task.feature(), folder / f"{side}.parquet")
            profile.add_split(told, side, rows, task.describe(rows.label), model.max_length)
        write_json(folder / "source.json", profile.source(settings["name"], conf))
        write_json(args.profile, told)
    profile.log(told, args.profile)


if __name__ == "__main__":
    run(main)

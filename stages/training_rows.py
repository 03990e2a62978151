"""Would more labels help? Train some methods on a share of the training rows, for figures on validation.

dvc exp run -S 'training_rows.shares=[0.25,0.5]'
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset
from tqdm import tqdm
from tunediff.evidence.scores import validation_figures

from stages import train_full, train_lora, train_peft
from tunediff.baselines.linear import on_tfidf
from tunediff.core import devices
from tunediff.core.errors import UserError
from tunediff.core.files import write_json
from tunediff.core.process import run
from tunediff.core.seeds import summary
from tunediff.core.splits import label_names, load_split
from tunediff.settings.params import Settings, load
from tunediff.sources.splitting import sample
from tunediff.training.checkpoints import Checkpoints
from tunediff.training.loop import Fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=Path, required=True, help="folder with train.parquet and validation.parquet")
    parser.add_argument(
        "--metrics",
        type=Path,
        required=True,
        help="SHARE.json, for rows and each method's figures",
    )
    args = parser.parse_args()
    settings = load()
    devices.take()

    train, validation = (load_split(args.splits, name) for name in ("train", "validation"))
    part = take(train, float(args.metrics.stem), settings.params.seed)

    figures, checkpoints = {"rows": len(part)}, []
    for method in tqdm(settings.params.training_rows.methods, desc=f"{len(part)} rows", unit="method"):
        figures[method] = validate(method, part, validation, settings, checkpoints)
    write_json(args.metrics, figures)
    for each in checkpoints:
        each.remove()


def take(train: Dataset, share: float, seed: int) -> Dataset:
    """A stratified sample of the rows; a smaller share's are among those of a larger one."""
    labels = pd.DataFrame({"label": train["label"][:]})
    part = train.select(sample(labels, max(1, round(share * len(train))), seed).index)
    counts = np.bincount(part["label"][:], minlength=len(label_names(train)))
    if not counts.all():
        name = label_names(train)[counts.argmin()]
        raise UserError(
            f"params.yaml: training_rows.shares: {share:g} of {len(train)} rows has none of label '{name}'; take a "
            "larger share"
        )
    return part


def validate(
    method: str, train: Dataset, validation: Dataset, settings: Settings, checkpoints: list[Checkpoints]
) -> dict[str, float]:
    """Accuracy, F1 and loss on validation, trained as the method's own stage does; over several seeds a mean.

    The trainings' checkpoints are put into `checkpoints`.
    """
    if method == "tfidf":
        model = on_tfidf(settings.params.baseline, settings.params.train.class_weights).fit(
            train["text"][:], train["label"][:]
        )
        return validation_figures(validation, model.predict_proba(validation["text"][:]))
    seeds = settings.params.seeds
    with tempfile.TemporaryDirectory(prefix="tunediff-") as curves:
        best = []
        for seed in seeds:
            fitted = fit(settings, method, train, validation, seed, Path(curves) / method)
            best.append(fitted.best)
            checkpoints.append(fitted.checkpoints)
            del fitted  # before the next model is made
    return summary([{name: figures[name] for name in ("accuracy", "f1", "loss")} for figures in best])


def fit(settings: Settings, method: str, train: Dataset, validation: Dataset, seed: int, curves: Path) -> Fit:
    """As the stage that trains this method."""
    if method == "full":
        return train_full.fit(settings, method, train, validation, seed, curves)
    if method in settings.params.train_peft.entries:
        return train_peft.fit(settings, method, train, validation, seed, curves)
    return train_lora.fit(settings, method, train, validation, seed, curves)


if __name__ == "__main__":
    run(main)

"""The one loop that every method is trained by."""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset
from dvclive import Live
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from stages.common import models
from stages.common.cost import peak_memory_bytes
from stages.common.data import encode
from stages.common.files import whole, write_json
from stages.common.inference import choose_precision, device, predict_logits
from stages.common.params import Params

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Fit:
    """A finished training: the model carries the weights of its best epoch."""

    model: "PreTrainedModel | PeftModel"
    validation_logits: np.ndarray
    """Shape [rows, labels]: its answers on validation, for the check that it is saved and reloaded whole."""
    best: dict[str, float]
    """Validation accuracy, F1 and loss of the best epoch, its number, and how many epochs were run."""
    train_seconds: float
    """The whole loop: training, validation after each epoch, checkpoints."""
    peak_memory_bytes: int


def arguments(description: str) -> argparse.Namespace:
    """The paths that every training stage takes from dvc.yaml."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--splits", type=Path, required=True, help="folder with train.parquet and validation.parquet")
    parser.add_argument("--model", type=Path, required=True, help="folder for the trained model")
    parser.add_argument(
        "--validation", type=Path, required=True, help="JSON file for the best epoch's validation figures"
    )
    parser.add_argument(
        "--logits", type=Path, required=True, help=".npy file for the trained model's logits on validation"
    )
    parser.add_argument("--cost", type=Path, required=True, help="JSON file for time, memory and parameters")
    parser.add_argument("--curves", type=Path, required=True, help="folder for DVCLive's learning curves")
    return parser.parse_args()


class Curves(TrainerCallback):
    """Learning curves through DVCLive, one step an epoch.

    Not transformers' own DVCLive callback: that also logs run times, which would make equal runs differ.
    """

    def __init__(self, live: Live):
        self.live = live

    def on_log(self, args, state, control, logs, **kwargs):
        names = {
            "loss": "train/loss",
            "eval_loss": "validation/loss",
            "eval_accuracy": "validation/accuracy",
            "eval_f1": "validation/f1",
        }
        for key, name in names.items():
            if key in logs:
                self.live.step = round(state.epoch)
                self.live.log_metric(name, logs[key])
                self.live.make_summary()


def fit(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    validation: Dataset,
    params: Params,
    learning_rate: float,
    curves: Path,
) -> Fit:
    """Train what `model` leaves trainable; validate after every epoch; end with the best epoch's weights.

    `train` and `validation` are splits as `data.load_split` gives them; DVCLive writes to the folder `curves`.
    """
    settings = params.train
    precision = choose_precision(params.precision)
    train, validation = (encode(tokenizer, split["text"][:], split["label"][:]) for split in (train, validation))
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="tunediff-") as checkpoints,
        Live(str(curves), dvcyaml=False, save_dvc_exp=False, monitor_system=False) as live,
    ):
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=checkpoints,
                disable_tqdm=False,
                num_train_epochs=settings.epochs,
                per_device_train_batch_size=settings.batch_size,
                per_device_eval_batch_size=params.evaluate.batch_size,
                learning_rate=learning_rate,
                weight_decay=settings.weight_decay,
                warmup_steps=settings.warmup,
                lr_scheduler_type="linear",
                use_cpu=device().type == "cpu",
                bf16=precision == "bf16",
                fp16=precision == "fp16",
                train_sampling_strategy="group_by_length",
                eval_strategy="epoch",
                logging_strategy="epoch",
                save_strategy="epoch",
                save_only_model=True,
                save_total_limit=1,
                load_best_model_at_end=True,
                metric_for_best_model=f"eval_{settings.select_by}",
                greater_is_better=settings.select_by != "loss",
                label_names=["labels"],
                dataloader_pin_memory=torch.accelerator.is_available(),
                seed=params.seed,
                report_to="none",
            ),
            train_dataset=train,
            eval_dataset=validation,
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=_accuracy_and_f1,
            callbacks=[Curves(live)] + ([EarlyStoppingCallback(settings.patience)] if settings.patience else []),
        )
        trainer.train()
    train_seconds = time.perf_counter() - started
    history = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    best = next(entry for entry in history if entry["step"] == trainer.state.best_global_step)
    return Fit(
        model=trainer.model,
        validation_logits=predict_logits(
            trainer.model, tokenizer, validation, params.evaluate.batch_size, precision, "validation"
        ),
        best={
            **{name: best[f"eval_{name}"] for name in ("accuracy", "f1", "loss")},
            "best_epoch": round(best["epoch"]),
            "epochs": round(history[-1]["epoch"]),
        },
        train_seconds=train_seconds,
        peak_memory_bytes=peak_memory_bytes(),
    )


def save(fitted: Fit, tokenizer: PreTrainedTokenizerBase, args: argparse.Namespace) -> None:
    """Write the four outputs of a training stage; the learning curves are there already."""
    with whole(args.model) as folder:
        models.save(fitted.model, tokenizer, folder)
    with whole(args.logits) as partial, partial.open("wb") as file:
        np.save(file, fitted.validation_logits)
    write_json(args.validation, fitted.best)
    write_json(
        args.cost,
        {
            "train_seconds": fitted.train_seconds,
            "peak_memory_bytes": fitted.peak_memory_bytes,
            **models.count_parameters(fitted.model),
        },
    )


def _accuracy_and_f1(prediction: EvalPrediction) -> dict[str, float]:
    predicted = np.argmax(prediction.predictions, axis=-1)
    return {
        "accuracy": float(accuracy_score(prediction.label_ids, predicted)),
        "f1": float(f1_score(prediction.label_ids, predicted, average="macro", zero_division=0)),
    }

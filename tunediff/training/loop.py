"""The one loop that every method is trained by."""

import argparse
import math
import statistics
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset
from dvclive import Live
from sklearn.metrics import accuracy_score, f1_score
from sklearn.utils import compute_class_weight
from torch.nn.functional import cross_entropy
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)

from tunediff.core.cost import peak_memory_bytes
from tunediff.core.errors import UserError
from tunediff.core.files import atomic, write_json
from tunediff.core.seeds import folder, summary
from tunediff.core.splits import encode, label_names, rarer_label
from tunediff.evidence.calibration import fit_confidences, fit_temperature, fit_threshold
from tunediff.models import loading
from tunediff.models.inference import HALVES, choose_precision, device, predict_logits, probabilities
from tunediff.report import card
from tunediff.settings.params import Params
from tunediff.training import fast
from tunediff.training.checkpoints import Checkpoints, made_from
from tunediff.training.heartbeat import Heartbeat
from tunediff.training.ranks import of_the_first, ranks, sharded
from tunediff.training.trainer import BestWeights, ResumableTrainer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Fit:
    """A finished training: the model carries the weights of its best epoch."""

    seed: int
    model: "PreTrainedModel | PeftModel"
    tokenizer: PreTrainedTokenizerBase
    validation_logits: np.ndarray
    """Shape [rows, labels]: its answers on validation, for the check that it is saved and reloaded whole."""
    temperature: float
    """What to divide logits by for probabilities that can be believed, fitted on validation."""
    threshold: dict[str, str | float] | None
    """Of two labels the rarer one (`label`), and from which probability on to answer it (`value`), by validation."""
    confidences: dict[str, float]
    """By accuracy, from which confidence on answers are right that often on validation: `fit_confidences`."""
    best: dict[str, float]
    """Validation accuracy, F1 and loss of the best epoch, its number, and how many epochs were run."""
    hyperparameters: dict[str, str]
    """Readable lines for the model card."""
    parameters: dict[str, int]
    """`trainable_parameters` and `total_parameters`, as they were trained."""
    train_seconds: float
    """The whole loop: training, and validation after each epoch."""
    peak_memory_bytes: int
    checkpoints: Checkpoints
    """To be removed when what is made of the model is written."""


def arguments(description: str) -> argparse.Namespace:
    """The paths that every training stage takes from dvc.yaml."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--splits", type=Path, required=True, help="folder with train.parquet, validation.parquet and source.json"
    )
    parser.add_argument("--model", type=Path, required=True, help="folder for the trained model")
    parser.add_argument(
        "--validation", type=Path, required=True, help="JSON file for the best epoch's validation figures"
    )
    parser.add_argument(
        "--logits", type=Path, required=True, help=".npy file: logits on validation, shape [seeds, rows, labels]"
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

    def on_train_begin(self, args, state, control, **kwargs):
        for logs in state.log_history:  # of before an interruption
            self.on_log(args, state, control, logs)

    def on_log(self, args, state, control, logs, **kwargs):
        names = {
            "loss": "train/loss",
            "eval_loss": "validation/loss",
            "eval_accuracy": "validation/accuracy",
            "eval_f1": "validation/f1",
        }
        for key, name in names.items():
            if key in logs:
                self.live.step = round(logs["epoch"])
                self.live.log_metric(name, logs[key])


def fit(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    validation: Dataset,
    params: Params,
    learning_rate: float,
    seed: int,
    curves: Path,
    optimizer: torch.optim.Optimizer | None = None,
) -> Fit | None:
    """Train what `model` leaves trainable; validate after every epoch; end with the best epoch's weights.

    `train` and `validation` are splits as `data.load_split` gives them; DVCLive writes to the folder `curves`;
    `optimizer` is AdamW unless given. Of several processes (`ranks.py`) the first one has the result, the others None.
    Raises UserError if no epoch gives a validation figure.
    """
    settings = params.train
    precision = choose_precision(params.precision)
    state, parts = ranks(), settings.accumulation
    if settings.batch_size < state.num_processes * parts:
        raise UserError(
            f"params.yaml: train.batch_size: {settings.batch_size} texts cannot be shared by {state.num_processes} "
            f"processes of {parts} parts each (train.accumulation)"
        )
    names, rarer, loss = label_names(train), rarer_label(train), _loss(train, settings.class_weights)
    train, validation = (encode(tokenizer, split["text"], split["label"]) for split in (train, validation))
    parameters = loading.count_parameters(model)
    optimizing = optimizer and (type(optimizer).__name__, optimizer.defaults)
    made = (settings, params.evaluate.batch_size, learning_rate, seed, precision, device().type, optimizing)
    checkpoints = last = None
    if state.is_main_process:
        checkpoints = Checkpoints(made_from(model, (train, validation), (*made, state.num_processes, sharded())))
        last = checkpoints.last()
    checkpoint_folder, last = of_the_first((checkpoints and checkpoints.folder, last))
    best = BestWeights(settings.select_by)
    if device().type == "cpu":
        fast.on_cpu()
    seen = nullcontext()
    if not sharded():
        if precision in HALVES:
            fast.cast_frozen(model, HALVES[precision])
        seen = fast.seen_tokens(model, tokenizer.pad_token_id, (train, validation))
    callbacks = [EarlyStoppingCallback(settings.patience)] if settings.patience else []
    with seen, ExitStack() as stack:
        if state.is_main_process:
            live = Live(str(curves), dvcyaml=False, save_dvc_exp=False, monitor_system=False)
            callbacks.insert(0, Curves(stack.enter_context(live)))
        trainer = ResumableTrainer(
            best,
            settings.batch_size,
            model=model,
            args=_arguments(params, learning_rate, seed, precision, checkpoint_folder),
            train_dataset=train,
            eval_dataset=validation,
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_loss_func=loss,
            compute_metrics=accuracy_and_f1,
            callbacks=callbacks,
        )
        trainer.optimizer = optimizer  # not by its `optimizers`, which sharded weights forbid
        trainer.add_callback(Heartbeat(trainer, curves, seed))
        try:
            trainer.train(last)
        except UserError:  # which the same training ends with again
            if checkpoints:
                checkpoints.remove()
            raise
    if not state.is_main_process:
        return None
    loading.settle(trainer.model)
    logits = predict_logits(trainer.model, tokenizer, validation, params.evaluate.batch_size, precision, "validation")
    actual = np.array(validation["labels"][:])
    temperature = fit_temperature(logits, actual)
    shares = probabilities(logits / temperature)
    threshold = None
    if rarer is not None:
        value = fit_threshold(shares[:, rarer], actual == rarer)
        threshold = {"label": names[rarer], "value": value}
    return Fit(
        seed=seed,
        model=trainer.model,
        tokenizer=tokenizer,
        validation_logits=logits,
        temperature=temperature,
        threshold=threshold,
        confidences=fit_confidences(shares, actual),
        best={
            **{name: best.metrics[f"eval_{name}"] for name in ("accuracy", "f1", "loss")},
            "best_epoch": round(best.metrics["epoch"]),
            "epochs": round(trainer.state.epoch),
        },
        hyperparameters=card.hyperparameters(trainer),
        parameters=parameters,
        train_seconds=trainer.seconds,
        peak_memory_bytes=peak_memory_bytes(),
        checkpoints=checkpoints,
    )


def _arguments(params: Params, learning_rate: float, seed: int, precision: str, folder: Path) -> TrainingArguments:
    settings = params.train
    return TrainingArguments(
        output_dir=folder,
        disable_tqdm=False,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=math.ceil(settings.batch_size / ranks().num_processes / settings.accumulation),
        gradient_accumulation_steps=settings.accumulation,
        per_device_eval_batch_size=params.evaluate.batch_size,
        learning_rate=learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        lr_scheduler_type="linear",
        use_cpu=device().type == "cpu",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        eval_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        save_strategy="epoch",
        save_total_limit=2,  # the last may be torn
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model=f"eval_{settings.select_by}",
        greater_is_better=settings.select_by != "loss",
        label_names=["labels"],
        dataloader_pin_memory=torch.accelerator.is_available(),
        seed=seed,
        report_to="none",
    )


def save(fits: Iterable[Fit | None], seeds: list[int], args: argparse.Namespace) -> None:
    """Write the outputs of a training stage, one training after the other; the learning curves are there already.

    `fits` has one for each of `seeds`, and may make each when it is asked for it: no two models are held at once.
    """
    logits, best, costs, checkpoints = [], [], [], []
    if not ranks().is_main_process:
        for _ in fits:  # takes part in each
            pass
        return
    with atomic(args.model) as model:
        for fitted in fits:
            fitted.model.config.tunediff |= {"temperature": fitted.temperature, "confidences": fitted.confidences}
            if fitted.threshold:
                fitted.model.config.tunediff["threshold"] = fitted.threshold
            place = folder(model, fitted.seed, seeds)
            loading.save(fitted.model, fitted.tokenizer, place)
            card.write(place, folder(args.model, fitted.seed, seeds), args.model.name, args.splits, fitted)
            logits.append(fitted.validation_logits)
            best.append(fitted.best)
            costs.append({"train_seconds": fitted.train_seconds, "peak_memory_bytes": fitted.peak_memory_bytes})
            parameters = fitted.parameters
            checkpoints.append(fitted.checkpoints)
            del fitted  # before the next model is made
    with atomic(args.logits) as partial, partial.open("wb") as file:
        np.save(file, np.stack(logits))
    write_json(args.validation, summary(best))
    write_json(
        args.cost,
        {
            "train_seconds": statistics.fmean(cost["train_seconds"] for cost in costs),
            "peak_memory_bytes": max(cost["peak_memory_bytes"] for cost in costs),
            **parameters,
        },
    )
    for each in checkpoints:
        each.remove()


def _loss(train: Dataset, class_weights: str) -> Callable[..., torch.Tensor]:
    """Mean cross-entropy over all rows of a step, whatever processes and parts they are shared by."""
    weights = torch.ones(len(label_names(train)))
    if class_weights == "balanced":
        labels = np.array(train["label"][:])
        balanced = compute_class_weight("balanced", classes=np.arange(len(weights)), y=labels)
        weights = torch.tensor(balanced, dtype=torch.float32)

    def mean(outputs, labels: torch.Tensor, num_items_in_batch: int | None = None) -> torch.Tensor:
        total = cross_entropy(outputs.logits.float(), labels, weights.to(labels.device), reduction="sum")
        # By the rows, not by the sum of their weights: a batch without a rare label must not weigh more than it has.
        return total / (num_items_in_batch or len(labels))

    return mean


def accuracy_and_f1(prediction: EvalPrediction) -> dict[str, float]:
    predicted = np.argmax(prediction.predictions, axis=-1)
    return {
        "accuracy": float(accuracy_score(prediction.label_ids, predicted)),
        "f1": float(f1_score(prediction.label_ids, predicted, average="macro", zero_division=0)),
    }

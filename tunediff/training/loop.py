"""The one loop that every method is trained by."""

import math
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
)

from tunediff.core.cost import peak_memory_bytes
from tunediff.core.errors import UserError
from tunediff.models import loading, saving
from tunediff.models.inference import cast_frozen, choose_precision, device, outputs
from tunediff.tasks.interface import Task
from tunediff.training import fast, record
from tunediff.training.checkpoints import Checkpoints, made_from
from tunediff.training.curves import Curves, live
from tunediff.training.heartbeat import Heartbeat
from tunediff.training.progress import Progress
from tunediff.training.ranks import of_the_first, ranks, sharded
from tunediff.training.settings import Training
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
    """The model's outputs on validation, for the check that it is saved and reloaded complete."""
    best: dict[str, float]
    """Validation figures of the best epoch, its number (`best_epoch`), and how many epochs were run (`epochs`)."""
    hyperparameters: dict[str, Any]
    """What the training was run with."""
    parameters: dict[str, int]
    """`trainable_parameters` and `total_parameters` during the training."""
    train_seconds: float
    """Seconds of the complete loop: training, and validation after each epoch."""
    peak_memory_bytes: int
    checkpoints: Checkpoints
    """To be removed when the model is written."""


def fit(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    train: Dataset,
    validation: Dataset,
    training: Training,
    seed: int,
    curves: Path | None,
    optimizer: torch.optim.Optimizer | None = None,
) -> Fit | None:
    """Train what `model` leaves trainable; validate after every epoch; end with the best epoch's weights.

    `train` and `validation` are prepared splits; DVCLive writes to the folder `curves` if there is one; `optimizer` is
    AdamW unless given. Of several processes (`ranks.py`) the first one has the result, the others None. Raises
    UserError if no epoch gives a validation figure.
    """
    check_division(training)
    if training.train.recompute and not model.supports_gradient_checkpointing:
        raise UserError(f"params.yaml: train.recompute: {training.model.name} cannot do it; set it to false")
    precision = choose_precision(training.precision)
    loss = task.loss(train, training.train.class_weights)
    encoded = [task.encode(tokenizer, split) for split in (train, validation)]
    parameters = loading.count_parameters(model)

    written = live(curves) if curves and ranks().is_main_process else None  # before the work, since it may refuse
    checkpoints = checkpoints_of(model, encoded, training, seed, precision, optimizer)
    folder, last = of_the_first(checkpoints and (checkpoints.folder, checkpoints.last()))

    with faster(model, tokenizer, encoded, precision), ExitStack() as stack:
        callbacks: list[TrainerCallback] = []
        if written:
            callbacks.append(Curves(stack.enter_context(written), task.each_epoch))
        args = arguments(training, task, seed, precision, folder)
        trainer = make_trainer(model, tokenizer, task, encoded, training, args, loss, callbacks)
        trainer.optimizer = optimizer  # not by its `optimizers`, which sharded weights forbid
        trainer.add_callback(Progress(training, seed, task.each_epoch))
        trainer.add_callback(Heartbeat(trainer, task.each_epoch, training.method, seed))
        try:
            trainer.train(last)
        except UserError:  # which the same training ends with again
            if checkpoints:
                checkpoints.remove()
            raise
    if not ranks().is_main_process:
        return None
    saving.settle(trainer.model)
    logits = outputs(task, trainer.model, tokenizer, encoded[1], training.batch_size, precision, "validation")
    return Fit(
        seed=seed,
        model=trainer.model,
        tokenizer=tokenizer,
        validation_logits=logits,
        best=trainer.best_figures(),
        hyperparameters=record.hyperparameters(trainer),
        parameters=parameters,
        train_seconds=trainer.seconds,
        peak_memory_bytes=peak_memory_bytes(),
        checkpoints=checkpoints,
    )


def make_trainer(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    encoded: list[Dataset],
    training: Training,
    args: TrainingArguments,
    loss: Callable[..., torch.Tensor],
    callbacks: list[TrainerCallback],
) -> ResumableTrainer:
    """The trainer of the encoded splits, train and validation."""
    if training.train.patience:
        callbacks = [*callbacks, EarlyStoppingCallback(training.train.patience)]
    trainer = ResumableTrainer(
        task,
        BestWeights(task.figures[training.train.select_by]),
        training.train.batch_size,
        model=model,
        args=args,
        train_dataset=encoded[0],
        eval_dataset=encoded[1],
        processing_class=tokenizer,
        data_collator=task.collator(tokenizer),
        compute_loss_func=loss,
        preprocess_logits_for_metrics=task.condensed if task.writes else None,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def check_division(training: Training) -> None:
    """Raises UserError if a step has fewer texts than there are processes and parts."""
    texts, parts = training.train.batch_size, training.train.accumulation
    if texts < ranks().num_processes * parts:
        raise UserError(
            f"params.yaml: train.batch_size: {texts} texts cannot be shared by {ranks().num_processes} processes of "
            f"{parts} parts each (train.accumulation)"
        )


def checkpoints_of(
    model: "PreTrainedModel | PeftModel",
    encoded: list[Dataset],
    training: Training,
    seed: int,
    precision: str,
    optimizer: torch.optim.Optimizer | None,
) -> Checkpoints | None:
    """Where this training is kept until it ends, named by all that its result depends on; the first process has it."""
    if not ranks().is_main_process:
        return None
    made = (record.adapter(model), optimizer and record.optimizer(optimizer), ranks().num_processes, sharded())
    settings = (training.model_dump(exclude={"seeds", "validation_rows"}), seed, precision, device().type, *made)
    return Checkpoints(made_from(model, encoded, settings))


def faster(
    model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, encoded: list[Dataset], precision: str
) -> Any:
    """A context in which the model trains faster, with the same result; see `fast.py`."""
    if device().type == "cpu":
        fast.on_cpu()
    if sharded():
        return nullcontext()
    cast_frozen(model, precision)
    return fast.seen_tokens(model, tokenizer.pad_token_id, encoded)


def arguments(training: Training, task: Task, seed: int, precision: str, folder: Path | None) -> TrainingArguments:
    """`folder` is that of the checkpoints; None writes none."""
    settings = training.train
    return TrainingArguments(
        output_dir=folder or ".",  # which the Trainer makes, and writes nothing else to
        disable_tqdm=True,  # `progress.py` has another bar
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=math.ceil(settings.batch_size / ranks().num_processes / settings.accumulation),
        gradient_accumulation_steps=settings.accumulation,
        per_device_eval_batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        lr_scheduler_type="linear",
        use_cpu=device().type == "cpu",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        activation_checkpointing=settings.recompute,
        activation_checkpointing_kwargs={"use_reentrant": False},  # the other way wants trained embeddings
        eval_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        save_strategy="epoch" if folder else "no",
        save_total_limit=2,  # the last may be torn
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model=f"eval_{settings.select_by}",
        greater_is_better=task.figures[settings.select_by].higher_is_better,
        label_names=["labels"],
        dataloader_pin_memory=torch.accelerator.is_available(),
        seed=seed,
        report_to="none",
    )

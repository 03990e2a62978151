"""transformers' Trainer, with the best epoch's weights at hand, and checkpoints to go on from."""

import copy
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from tunediff.core.errors import UserError, reason
from tunediff.core.files import read_json, write_json
from tunediff.tasks.interface import Figure, Task
from tunediff.training.checkpoints import NOTE, digests
from tunediff.training.ranks import GlobalBatches, ranks, sharded

WEIGHTS, BEST = "weights.safetensors", "best.safetensors"
UNWRITTEN = (OSError, RuntimeError, SafetensorError, CheckpointException)  # of each library its own, for a full disk


class BestWeights(TrainerCallback):
    """Holds the trained weights of the best epoch so far, which `ResumableTrainer` ends with.

    Not the Trainer's checkpoints: those go through PEFT's save and load, which give back the prompt that p-tuning's
    network made, not that network.
    """

    def __init__(self, select_by: Figure):
        """`select_by` is the validation figure that chooses the best epoch."""
        self.key = f"eval_{select_by.name}"
        self.sign = select_by.sign
        self.metrics: dict[str, float] = {}
        self.weights: dict[str, torch.Tensor] = {}

    def on_evaluate(self, args, state, control, model, metrics, **kwargs):
        best = self.sign * self.metrics[self.key] if self.metrics else -math.inf
        if self.sign * metrics[self.key] > best:
            self.metrics, self.weights = metrics, trained_weights(model)


class ResumableTrainer(Trainer):
    """`train(CHECKPOINT)` ends as the run would have that wrote the checkpoint: same weights, same figures.

    A checkpoint holds the weights that are trained, for the reason that `BestWeights` gives.
    """

    def __init__(self, task: Task, best: BestWeights, batch_size: int, **kwargs: Any):
        """`batch_size`: texts per optimizer step, over all processes."""
        # Without such a function, the Trainer keeps no predictions; what is computed of them, `evaluation_loop` says.
        super().__init__(compute_metrics=lambda prediction: {}, **kwargs)
        self.add_callback(best)
        self.task = task
        self.best = best
        self.batch_size = batch_size
        self.seconds = 0.0
        self.started = time.perf_counter()

    def train(self, checkpoint: Path | None) -> None:
        epochs = self.args.num_train_epochs
        if checkpoint:
            note = read_json(checkpoint / NOTE)
            self.best.metrics, self.best.weights = note["best"], load_file(checkpoint / BEST)
            self.seconds = note["seconds"]
            if self.is_world_process_zero():
                print(f"goes on after epoch {note['epoch']:g} of {epochs}, where it was interrupted", file=sys.stderr)
            if note["stopped"]:
                self.args.num_train_epochs = round(note["epoch"])  # no more of them
        hollow = without_values(self.model) if sharded() else None
        super().train(checkpoint and str(checkpoint))
        self.args.num_train_epochs = epochs
        self.seconds += time.perf_counter() - self.started
        if not self.best.metrics:
            figure = self.args.metric_for_best_model.removeprefix("eval_")
            raise UserError(
                f"params.yaml: train.select_by: the validation {figure} is no number after any epoch: the training "
                f"diverged; lower the method's learning rate (now {self.args.learning_rate:g})"
            )
        if sharded():
            weights = gathered(self.model.state_dict())
            self.model = hollow
            self.model.load_state_dict(weights, strict=False, assign=True)
        if self.is_world_process_zero():  # the others have nothing to do with the model from here on
            self.model.load_state_dict(self.best.weights, strict=False)

    def best_figures(self) -> dict[str, float]:
        """Validation figures of the best epoch, its number, and how many epochs were run."""
        figures = {name: self.best.metrics[f"eval_{name}"] for name in self.task.each_epoch}
        return {**figures, "best_epoch": round(self.best.metrics["epoch"]), "epochs": round(self.state.epoch)}

    def create_accelerator_and_postprocess(self) -> None:
        ranks()  # of which TrainingArguments has made new ones
        super().create_accelerator_and_postprocess()

    def _get_train_sampler(self, train_dataset: Dataset) -> GlobalBatches:
        parts = self.args.gradient_accumulation_steps
        return GlobalBatches(self.train_dataset["length"][:], self.batch_size, self.args.seed, parts)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if not loss.isfinite():
            rate = self.lr_scheduler.get_last_lr()[0]
            raise UserError(
                f"step {self.state.global_step + 1} of {self.state.max_steps}: the loss is {loss.item()}: the training "
                f"diverged at a learning rate of {rate:.2g}; lower the method's, or raise train.warmup in params.yaml"
            )
        return loss

    def prediction_step(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor | None, ...]:
        loss, answers, labels = super().prediction_step(*args, **kwargs)
        # Whatever else a model gives is not kept of all batches, nor gathered from all processes.
        return loss, answers[0] if isinstance(answers, tuple) else answers, labels

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        done = super().evaluation_loop(*args, **kwargs)
        # Also the loss: the Trainer's own is weighted where training is, and counts those rows twice that fill up the
        # last batch of several processes.
        figures = self.task.score_encoded(self.eval_dataset, done.label_ids, done.predictions)
        done.metrics.update({f"eval_{name}": figures[name] for name in self.task.each_epoch})
        return done

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # which nobody reads, and which takes a walk through all modules at each step

    def _save_checkpoint(self, *args: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        weights, failure = trained_weights(self.model), None
        try:
            super()._save_checkpoint(*args)
        except UNWRITTEN as error:
            failure = error
        ranks().wait_for_everyone()  # each has its random numbers in it
        if not self.is_world_process_zero():
            return
        try:
            if failure:
                raise failure
            save_file(weights, folder / WEIGHTS)
            save_file(self.best.weights, folder / BEST)
            note = {
                "best": self.best.metrics,
                "epoch": self.state.epoch,
                "stopped": self.control.should_training_stop,
                "seconds": self.seconds + time.perf_counter() - self.started,
                "sha256": digests(folder),
            }
            write_json(folder / NOTE, note)
        except UNWRITTEN as error:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"{folder}: no checkpoint could be written ({reason(error)}); training goes on", file=sys.stderr)

    def _save(self, output_dir: str, state_dict: dict | None = None) -> None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)  # for what else is in a checkpoint

    def _load_from_checkpoint(self, checkpoint: str, model: nn.Module | None = None) -> None:
        weights = load_file(Path(checkpoint) / WEIGHTS)
        if sharded():
            set_model_state_dict(self.model, weights, options=StateDictOptions(full_state_dict=True, strict=False))
        else:
            self.model.load_state_dict(weights, strict=False)


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights that are trained, each complete."""
    return gathered({name: weights for name, weights in model.named_parameters() if weights.requires_grad})


def gathered(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A copy on the CPU, of sharded weights in the first process alone; the others take part in it."""
    copies = {}
    for name, weights in state.items():
        weights = weights.detach()
        if isinstance(weights, DTensor):
            weights = weights.full_tensor()
            if not ranks().is_main_process:
                continue
        copies[name] = weights.to("cpu", copy=True).contiguous()
    return copies


def without_values(model: nn.Module) -> nn.Module:
    """A copy whose weights take no memory, to be given values: sharding a model cannot be undone."""
    empty = {id(weights): nn.Parameter(weights.to("meta"), weights.requires_grad) for weights in model.parameters()}
    return copy.deepcopy(model, empty)

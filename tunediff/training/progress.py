"""What a training shows while it runs: a line for each epoch, and on a terminal a bar."""

import sys
from collections.abc import Iterable

from tqdm import tqdm
from transformers import TrainerCallback

from tunediff.training.settings import Training


class Progress(TrainerCallback):
    """Instead of transformers' own, which prints figures as they are in Python and does not name the method."""

    def __init__(self, training: Training, seed: int, figures: Iterable[str]):
        """`figures` are those of validation."""
        self.title = f"{training.method}, seed {seed}" if len(training.seeds) > 1 else training.method
        self.figures = figures
        self.loss = ""

    def on_train_begin(self, args, state, control, **kwargs):
        shown = state.is_world_process_zero
        options = {} if shown else {"disable": True}
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.title, unit="step", **options)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update()

    def on_log(self, args, state, control, logs, **kwargs):
        if "loss" in logs:
            self.loss = f"loss {logs['loss']:.4f}, "

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        if state.is_world_process_zero:
            told = ", ".join(f"{name} {metrics[f'eval_{name}']:.4f}" for name in self.figures)
            epoch = f"epoch {round(state.epoch)} of {round(state.num_train_epochs)}"
            tqdm.write(f"{self.title}: {epoch}: {self.loss}on validation {told}", file=sys.stderr)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()

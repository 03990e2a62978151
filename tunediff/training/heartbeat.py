"""A running training says where it is, for `python -m stages.status` and whoever else watches it.

It does so in a file of the user's cache, since a queued experiment's workspace is a temporary folder.
"""

import atexit
import os
import sys
import time
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from socket import gethostname

import platformdirs
from transformers import Trainer, TrainerCallback

from tunediff.core.errors import UserError, reason
from tunediff.core.files import read_json, write_json
from tunediff.core.processes import lives

EVERY = 1.0  # seconds from one heartbeat to the next: reading the loss waits for the device


class Heartbeat(TrainerCallback):
    """Writes `tunediff/running/PID.json` in the user's cache while `trainer` trains, and removes it at the end.

    `loss` is the mean of the epoch so far, `seconds_left` what is left at the speed up to here if nothing stops the
    training early. Both are None before the first step. A file that cannot be written is named once; training goes on.
    """

    def __init__(self, trainer: Trainer, figures: Iterable[str], method: str, seed: int):
        """`figures` are those of validation."""
        self.figures = {name: f"eval_{name}" for name in figures}
        self.trainer = weakref.proxy(trainer)  # which has this one: together they would outlive their use
        self.loss, self.written, self.failed = None, 0.0, False
        self.path = platformdirs.user_cache_path("tunediff") / f"running/{os.getpid()}.json"
        self.training = {
            "pid": os.getpid(),
            "host": gethostname(),
            "folder": os.getcwd(),
            "project": os.environ.get("DVC_ROOT", os.getcwd()),  # of a queued experiment, too
            "experiment": os.environ.get("DVC_EXP_NAME"),
            "stage": os.environ.get("DVC_STAGE", Path(sys.argv[0]).stem),
            "method": method,
            "seed": seed,
        }

    def on_train_begin(self, args, state, control, **kwargs):
        self.started, self.first = time.time(), state.global_step  # not 0 after an interruption
        self.training["select_by"] = args.metric_for_best_model.removeprefix("eval_")
        atexit.register(self._remove)  # if it fails
        self._forget_killed()
        self._write(state)

    def on_step_end(self, args, state, control, **kwargs):
        if time.time() - self.written >= EVERY:
            self.loss = self.trainer._tr_loss.item() / (state.global_step - self.trainer._globalstep_last_logged)
            self._write(state)

    def on_log(self, args, state, control, logs, **kwargs):
        self.loss = logs.get("loss", self.loss)

    def on_prediction_step(self, args, state, control, **kwargs):
        if time.time() - self.written >= EVERY:
            self._write(state)

    def on_evaluate(self, args, state, control, **kwargs):
        self._write(state)

    def on_train_end(self, args, state, control, **kwargs):
        self._remove()

    def _forget_killed(self) -> None:
        """Remove the heartbeats of this same training that was killed, which goes on."""
        keys = ("host", "project", "experiment", "method", "seed")
        for path in self.path.parent.glob("*.json"):
            with suppress(OSError):  # it ends at this moment
                beat = read_json(path)
                same = all(beat.get(key) == self.training[key] for key in keys)
                if same and not lives(beat["pid"], beat["started"]):
                    path.unlink()

    def _remove(self) -> None:
        with suppress(OSError):
            self.path.unlink()

    def _write(self, state) -> None:
        if not state.is_world_process_zero:
            return
        self.written = time.time()
        done = state.global_step - self.first
        left = (self.written - self.started) / done * (state.max_steps - state.global_step) if done else None
        try:
            write_json(
                self.path,
                {
                    **self.training,
                    "epoch": state.epoch or 0.0,
                    "epochs": state.num_train_epochs,
                    "step": state.global_step,
                    "steps": state.max_steps,
                    "loss": self.loss,
                    "validation": [
                        {"epoch": round(logs["epoch"]), **{name: logs[key] for name, key in self.figures.items()}}
                        for logs in state.log_history
                        if "eval_loss" in logs
                    ],
                    "started": self.started,
                    "updated": self.written,
                    "seconds_left": left,
                },
            )
        except (OSError, UserError) as error:
            if not self.failed:
                print(f"{self.path}: this training cannot be watched: {reason(error)}", file=sys.stderr)
            self.failed = True

"""Learning curves through DVCLive, one step per epoch."""

from collections.abc import Iterable
from pathlib import Path

from dvclive import Live
from scmrepo.exceptions import SCMError
from transformers import TrainerCallback

from tunediff.core.errors import UserError, reason
from tunediff.core.files import DECIMALS
from tunediff.core.processes import check_dvc


def live(folder: Path) -> Live:
    """DVCLive that writes to `folder` and nowhere else. Raises UserError if git cannot say which commit this is."""
    try:
        return Live(str(folder), dvcyaml=False, save_dvc_exp=False, monitor_system=False)
    except SCMError as error:
        raise UserError(
            f"git: {reason(error)}: DVCLive asks for the current commit; make one with `git add -A`, then `git commit`"
        ) from None


class Curves(TrainerCallback):
    """Writes the training loss and the validation figures of each epoch.

    Not transformers' own DVCLive callback: that also logs run times, which would make equal runs differ.
    """

    def __init__(self, live: Live, figures: Iterable[str]):
        """`figures` are those of validation."""
        self.live = live
        self.names = {"loss": "train/loss"} | {f"eval_{name}": f"validation/{name}" for name in figures}

    def on_train_begin(self, args, state, control, **kwargs):
        for logs in state.log_history:  # from before an interruption
            self.on_log(args, state, control, logs)

    def on_log(self, args, state, control, logs, **kwargs):
        check_dvc()
        for key, name in self.names.items():
            if key in logs:
                self.live.step = round(logs["epoch"])
                self.live.log_metric(name, round(logs[key], DECIMALS))

"""What runs: the stages of dvc.yaml, and the commands beside them, each by `python -m stages.NAME`."""

import os
import signal
import sys

import psutil

BUSY = 50
"""Percent of the processors' time that others take, from which on threads of this process sleep while they wait."""

WITHOUT_THREADS = {
    *("stages.settings", "stages.prepare", "stages.folds", "stages.package", "stages.report"),
    *("stages.repro", "stages.status", "stages.leaderboard", "stages.sweep", "stages.cluster"),
}
"""Those that compute nothing with threads of their own."""


def _interrupted(*_: object) -> None:
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(1)


# Before tqdm is imported: a file or a pipe has no use for progress bars.
if sys.argv[0] == "-m" and not sys.stderr.isatty():
    os.environ.setdefault("TQDM_DISABLE", "1")

# Imports take seconds, and where Ctrl-C meets them says nothing. `process.run` puts it back.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted)

# Before torch is imported: its threads spin while they wait for one another, which is fastest where nobody else needs
# the processors, and slower by a factor of four where somebody does.
if (
    sys.argv[0] == "-m"
    and os.environ.get("OMP_NUM_THREADS") != "1"
    and WITHOUT_THREADS.isdisjoint(sys.orig_argv)
    and psutil.cpu_percent(interval=0.2) > BUSY
):
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

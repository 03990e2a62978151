"""What runs: the stages of dvc.yaml, and the commands beside them, each by `python -m stages.NAME`."""

import os
import signal
import sys


def _interrupted(*_: object) -> None:
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(1)


# Before tqdm is imported: a file or a pipe has no use for progress bars.
if sys.argv[0] == "-m" and not sys.stderr.isatty():
    os.environ.setdefault("TQDM_DISABLE", "1")

# Imports take seconds, and where Ctrl-C meets them says nothing. `process.run` puts it back.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted)

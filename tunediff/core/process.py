"""How a stage or a command begins and ends: one line for a user's mistake, no traceback; it ends when DVC is gone."""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from tunediff.core.errors import UserError, reason
from tunediff.core.processes import end_with_dvc


def run(main: Callable[[], None]) -> None:
    """Call a stage's `main`; print as one line on stderr what is no fault of the code, and exit with code 1.

    A stage that DVC runs ends when DVC is killed: the next `dvc repro` shall not write the same files beside it.
    """
    end_with_dvc()
    gc.freeze()  # what was imported is there to stay
    gc.enable()  # which `core/__init__.py` has turned off
    try:
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # after `stages/__init__.py`
        main()
    except UserError as error:
        _fail(error)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(UserError(f"{error.filename}: {error.strerror}"))
    except MemoryError as error:
        _fail(UserError(f"this machine has too little memory: {reason(error)}; use less data, or a larger machine"))
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        gc.freeze()  # the process ends, and searching all objects for what it may free takes a second


def _fail(error: UserError) -> NoReturn:
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(5)  # if all say the same, the first does, and its end is the end of this one
    sys.exit(f"error: {error}")

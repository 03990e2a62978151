"""How a stage or a command begins and ends: one line for a user's mistake, no traceback; it ends when DVC is gone."""

import gc
import os
import sys
from collections.abc import Callable

from tunediff.core.errors import UserError
from tunediff.core.processes import end_with_dvc


def run(main: Callable[[], None]) -> None:
    """Call a stage's `main`; print a `UserError` as one line on stderr and exit with code 1.

    A stage that DVC runs ends when DVC is killed: the next `dvc repro` shall not write the same files beside it.
    """
    end_with_dvc()
    gc.freeze()  # what was imported is there to stay
    gc.enable()  # which `core/__init__.py` has turned off
    try:
        main()
    except UserError as error:
        # Of several processes on a machine, all say the same.
        sys.exit(f"error: {error}" if os.environ.get("LOCAL_RANK", "0") == "0" else 1)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        gc.freeze()  # the process ends, and searching all objects for what it may free takes a second

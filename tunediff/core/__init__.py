"""The ground floor: errors, files, settings' building blocks, seeds, devices, prepared splits. All rooms lean on it."""

import gc
import sys
from pathlib import Path

from tunediff.core.processes import end_with_dvc

# Imports make a million objects that stay, and the collector would search them again and again: a fifth of a stage's
# start. `process.run` turns it on again. So not in a program that does not end with `run`.
if Path(sys.argv[0]).parent.name == "stages":
    gc.disable()
    end_with_dvc()  # which may be killed during the imports

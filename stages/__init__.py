"""What runs: the stages of dvc.yaml, and the commands beside them, each by `python -m stages.NAME`."""

import gc
import sys

# Imports make a million objects that stay, and the collector would search them again and again: a fifth of a stage's
# start. `process.run` turns it on again. So not where the package is imported: there argv holds a name, not -m.
if sys.argv[0] == "-m":
    gc.disable()

"""What a method costs beside its quality. These figures differ from run to run, so they have files of their own."""

import resource
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """The most memory this process held so far: on a GPU if it used one, else its largest resident set."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def folder_bytes(folder: Path) -> int:
    """The size of the files in a folder, without those in folders in it: a model's further seeds do not count."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())

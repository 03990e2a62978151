"""dvc.yaml against the code, read and not run: what a stage imports, reads and writes is what it declares."""

import ast
import functools
import inspect
import re
import shlex
from pathlib import Path
from typing import get_args, get_origin

import pytest
import yaml
from conftest import ROOT

from tunediff.core.settings import Section
from tunediff.settings.params import Params
from tunediff.sources.readers import RAW

STAGES: dict[str, dict] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
SAME_FILE = {"evaluate_peft": "evaluate"}  # the same for other methods
each_stage = pytest.mark.parametrize("name", STAGES)


def file_of(name: str) -> Path:
    """The file that a stage runs, or else the one of that name."""
    module = shlex.split(STAGES[name]["cmd"])[2] if name in STAGES else f"stages.{name.replace('/', '.')}"
    return ROOT / f"{module.replace('.', '/')}.py"


def outputs(name: str) -> dict[str, dict]:
    """Each output of a stage, of whatever kind, with its options."""
    found = {}
    for kind in ("outs", "metrics", "plots"):
        for output in STAGES[name].get(kind, []):
            found.update(output if isinstance(output, dict) else {output: {}})
    return found


@functools.cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


# --- imports: DVC does not follow them


@functools.cache
def imports(file: Path) -> dict[str, tuple[Path, str | None]]:
    """The project's files that `file` imports anywhere in it: {name it has there: (file, name in that file)}."""
    found = {}
    for node in ast.walk(tree(file)) if file.suffix == ".py" else ():
        match node:
            case ast.Import(names=names):
                dotted = [(name.asname or name.name, name.name, None) for name in names]
            case ast.ImportFrom(module=module, names=names):
                assert not node.level, f"{file}: this test does not follow relative imports"
                dotted = [(n.asname or n.name, f"{module}.{n.name}", None) for n in names]
                dotted += [(n.asname or n.name, module, n.name) for n in names]
            case ast.Call(func=ast.Attribute(attr="with_name"), args=[ast.Constant(value=str(sibling))]):
                # A metric or a template is no module of the project: it is loaded by its path.
                found[sibling] = (file.with_name(sibling), None)
                continue
            case _:
                continue
        for name, module, member in dotted:
            path = ROOT / f"{module.replace('.', '/')}.py"
            if path.is_relative_to(ROOT / "stages") and path.is_file():
                found[name] = (path, member)
    return found


@functools.cache
def closure(file: Path) -> frozenset[Path]:
    """`file` and every file of the project that it imports, and that these import; first of all their package."""
    found, new = set(), {file, ROOT / "stages/__init__.py"}
    while new:
        found |= new
        new = {path for one in new for path, _ in imports(one).values()} - found
    return frozenset(found)


@each_stage
def test_deps_are_what_the_stage_imports(name):
    listed = [dep for dep in STAGES[name]["deps"] if dep.startswith("stages/")]
    imported = {path.relative_to(ROOT).as_posix() for path in closure(file_of(name))}
    assert set(listed) == imported
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("evaluate", "common/classification.py"),  # by its path
        ("train_lora", "common/pretrained.py"),  # through another import
        ("predict", "common/models.py"),  # inside a function
    ],
)
def test_the_closure_follows_every_kind_of_import(stage, file):
    assert ROOT / "stages" / file in closure(file_of(stage))


def test_every_file_under_stages_is_reached():
    reached = set().union(*(closure(file_of(name)) for name in STAGES))
    commands = [file for file in (ROOT / "stages").glob("*.py") if file.stem not in (*STAGES, "__init__")]
    for file in commands:
        assert f"python -m stages.{file.stem} " in ast.get_docstring(tree(file)), f"{file}: neither stage nor command"
    reached |= set().union(*(closure(file) for file in commands))
    assert reached == {path for kind in ("py", "j2", "html") for path in (ROOT / "stages").rglob(f"*.{kind}")}


# --- parameters


@functools.cache
def leaves(section: type[Section]) -> frozenset[tuple[str, ...]]:
    """Where every single value of a section is: ("seed",), ("train", "epochs"), ("train_lora", "*", "rank")."""
    found = set()
    for name, field in section.model_fields.items():
        kind, prefix = field.annotation, (name,)
        if get_origin(kind) is dict:
            kind, prefix = get_args(kind)[1], (name, "*")
        nested = inspect.isclass(kind) and issubclass(kind, Section)
        found |= {(*prefix, *leaf) for leaf in leaves(kind)} if nested else {(name,)}
    return frozenset(found)


def at_or_under(places: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The single values of params.yaml that these places hold; a place inside a value, as its method, is that value."""
    return {
        leaf for leaf in leaves(Params) for place in places if all(a == b for a, b in zip(leaf, place, strict=False))
    }


class Reader(ast.NodeVisitor):
    """Follows what `params.load()` returns through one function and those it calls, and notes what is used of it.

    A place is where a value is in `Settings`: () is all of it, ("params", "train", "epochs") one number. Giving a value
    a name or handing it to a function of the project is no use of it; whatever else happens to it is. So a section
    that leaves the project's functions (into a library, a container, a class, a return) counts as used whole, and the
    test then asks for more params, never for fewer. Not seen: `getattr` with a computed name, and which of two branches
    is taken.
    """

    def __init__(self, file: Path, known: dict[str, tuple[str, ...]], used: set[tuple[str, ...]], done: set):
        self.file, self.known, self.used, self.done = file, dict(known), used, done

    def definition(self, name: str) -> tuple[Path, str | None]:
        return imports(self.file).get(name, (self.file, name))

    def place(self, node: ast.expr) -> tuple[str, ...] | None:
        match node:
            case ast.Name(id=name):
                return self.known.get(name)
            case ast.Call(func=ast.Name(id=name)) if self.definition(name) == (file_of("common/params"), "load"):
                return ()
            case ast.Attribute(value=whole, attr=key):
                return None if (place := self.place(whole)) is None else (*place, key)
            case ast.Subscript(value=whole):
                return None if (place := self.place(whole)) is None else (*place, "*")
        return None

    def callee(self, node: ast.expr) -> tuple[Path, ast.FunctionDef | None]:
        """The file and function that a call reaches; None for what is no function of the project."""
        match node:
            case ast.Name(id=name):
                file, function = self.definition(name)
            case ast.Attribute(value=ast.Name(id=module), attr=function) if module in imports(self.file):
                file, _ = self.definition(module)
            case _:
                return self.file, None
        return file, next((n for n in tree(file).body if isinstance(n, ast.FunctionDef) and n.name == function), None)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr) and (place := self.place(node)) is not None:
            self.used.add(place)
            if isinstance(node, ast.Subscript):
                self.visit(node.slice)
        else:
            super().visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        place = self.place(node.value)
        match node.targets:
            case [ast.Name(id=name)] if place is not None:
                self.known[name] = place
            case [ast.Name(id=name)]:
                self.visit(node.value)
                self.known.pop(name, None)
            case _:
                self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        file, function = self.callee(node.func)
        if function is None:
            self.generic_visit(node)
            return
        names = [argument.arg for argument in function.args.args]
        known = {}
        for name, value in [*zip(names, node.args, strict=False), *((word.arg, word.value) for word in node.keywords)]:
            if name and (place := self.place(value)) is not None:
                known[name] = place
            else:
                self.visit(value)
        follow(file, function, known, self.used, self.done)


def follow(file: Path, function: ast.FunctionDef, known: dict, used: set, done: set) -> set[tuple[str, ...]]:
    """Add to `used` the places that a call of `function` uses, whose arguments are those `known`; return it."""
    call = (file, function.name, frozenset(known.items()))
    if call not in done:
        done.add(call)
        reader = Reader(file, known, used, done)
        for statement in function.body:
            reader.visit(statement)
    return used


def used_by(file: Path) -> set[tuple[str, ...]]:
    main = next(node for node in tree(file).body if isinstance(node, ast.FunctionDef) and node.name == "main")
    return follow(file, main, {}, set(), set())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print(load().params.seed)", {("params", "seed")}),
        ("settings = load(); name = settings.params", set()),
        ("params = load().params; epochs(params.train)", {("params", "train", "epochs")}),
        ("params = load().params; epochs(train=params.train)", {("params", "train", "epochs")}),
        ("params = load().params; library(params.train)", {("params", "train")}),
        ("x = load().params.train_lora['v1']; print(x.rank)", {("params", "train_lora", "*", "rank")}),
        ("x = load().model; x = 1; print(x)", set()),
    ],
)
def test_the_reader_sees_what_is_used(tmp_path, code, expected):
    file = tmp_path / "stage.py"
    file.write_text(
        "from tunediff.settings.params import load\n"
        "def epochs(train):\n    return 2 * train.epochs\n"
        f"def main():\n    {code}\n"
    )
    assert used_by(file) == expected


@each_stage
def test_params_are_what_the_stage_uses(name):
    """Value by value for params.yaml; a file under conf/ whole, since DVC refuses to list a key that a file leaves out.

    The names `data` and `model` need no line of their own where they only choose such a file: its path has them.
    """
    used = used_by(file_of(name))
    listed = STAGES[name].get("params", [])
    keys = {tuple(re.sub(r"\$\{.*?\}", "*", entry).split(".")) for entry in listed if isinstance(entry, str)}
    assert at_or_under(keys) == at_or_under({place[1:] for place in used if place[:1] in ((), ("params",))})
    assert all(at_or_under({key}) for key in keys), "a key that params.yaml has not"

    files = {file: only for entry in listed if isinstance(entry, dict) for file, only in entry.items()}
    kinds = {kind for kind in ("data", "model") for place in used if place[:1] in ((), (kind,))}
    assert files == {f"conf/{kind}/${{{kind}}}.yaml": None for kind in kinds}


def test_only_params_reads_settings():
    found = set()
    for file in (ROOT / "stages").rglob("*.py"):
        for node in ast.walk(tree(file)):
            modules = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            found |= {file.name for module in modules if module.split(".")[0] in ("yaml", "dvc")}
    # leaderboard and experiments read those of commits, and where the cache is; cluster and status only the queue.
    assert found == {"params.py", "leaderboard.py", "experiments.py", "cluster.py", "status.py"}


# --- stages, their commands and outputs


@each_stage
def test_a_stage_is_described_and_runs_its_module(name):
    assert STAGES[name]["desc"]
    python = "${launcher}" if name in ("train_full", "train_lora", "train_peft") else "python"
    assert shlex.split(STAGES[name]["cmd"])[:3] == [python, "-m", f"stages.{SAME_FILE.get(name, name)}"]
    assert file_of(name).is_file()


def related(path: str, others: set[str]) -> bool:
    """Whether `path` is one of the others, in one of them, or holds one."""
    return any(Path(path).is_relative_to(other) or Path(other).is_relative_to(path) for other in others)


@each_stage
def test_paths_of_the_command_are_declared(name):
    options, given = shlex.split(STAGES[name]["cmd"])[3::2], shlex.split(STAGES[name]["cmd"])[4::2]
    declared = {dep for dep in STAGES[name]["deps"] if not dep.startswith("stages/")} | set(outputs(name))
    assert all(option.startswith("--") for option in options) and len(options) == len(given)
    assert [path for path in given if not related(path, declared)] == []
    # And the other way: the code names no path, but for the folder of raw data.
    assert [path for path in declared if not related(path, {*given, RAW.as_posix()})] == []


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
    assert not_in_git == (["plots/report.html", "plots/report.md"] if name == "report" else [])


@each_stage
def test_no_output_outlives_its_inputs(name):
    assert not [path for path, options in outputs(name).items() if "persist" in options]


def test_compiled_files_are_no_dependency():
    assert "__pycache__" in (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()

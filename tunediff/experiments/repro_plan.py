"""What `dvc repro` would run and in which order, by DVC's own graph; and that order in the files that DVC writes."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dvc.dvcfile import LOCK_FILE, PROJECT_FILE
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.stage import Stage
from dvc.utils.serialize import load_yaml, modify_yaml

from tunediff.core.errors import UserError, reason
from tunediff.core.files import read_json

TRAINING = Path("metrics/cost/training")  # what trainings took; in a fresh clone, the committed ones


@dataclass(frozen=True)
class Plan:
    """The stages that `dvc repro` would look at, by their names in DVC."""

    order: list[str]
    """The order in which `dvc repro` looks at them: each after those that it depends on."""
    before: dict[str, set[str]]
    """The stages that must have ended before each one begins."""
    changed: set[str]
    """The stages that DVC would run as things are now; after them others may have to run too."""
    locked: set[str]
    """The stages that dvc.lock has already."""
    seconds: dict[str, float]
    """What each training takes, as far as it is known. The others, of which nothing is known, count as 1."""

    @cached_property
    def left(self) -> dict[str, float]:
        """For each stage, the seconds from its beginning to the end of all that waits for it.

        The longest chain is to begin first.
        """
        after = dict.fromkeys(self.order, 0.0)
        left = {}
        for name in reversed(self.order):
            left[name] = after[name] + self.seconds.get(name, 1.0)
            for earlier in self.before[name]:
                after[earlier] = max(after[earlier], left[name])
        return left


def make(targets: Sequence[str]) -> Plan:
    """The plan for the targets, as `dvc repro` understands them: all stages, if there are none.

    Raises UserError with what DVC says.
    """
    with _named_errors(), Repo() as repo, lock_repo(repo):
        graph = repo.index.graph
        stages = plan_repro(get_active_graph(graph), collect_stages(repo, targets or [PROJECT_FILE]))
        order = [stage.addressing for stage in stages]
        # With the frozen ones too, whose dependencies DVC does not run, but must not be written while it looks.
        before = {
            stage.addressing: {other.addressing for other in graph.successors(stage)}.intersection(order)
            for stage in stages
        }
        changed = set(repo.status(targets=order)) if order else set()
        return Plan(order, before, changed, set(_locked()), _trained_for(stages))


def _trained_for(stages: Iterable[Stage]) -> dict[str, float]:
    """The seconds of each training of one seed, when it last ended; of one that never did, the longest of the others.

    DVC removes the file when the stage begins.
    """
    seconds: dict[str, float | None] = {}
    for stage in stages:
        for path in (Path(output.fs_path) for output in stage.outs if Path(output.def_path).parent == TRAINING):
            seconds[stage.addressing] = None
            # A broken file only means another order.
            with suppress(OSError, UserError, KeyError, TypeError, ValueError):
                seconds[stage.addressing] = float(read_json(path)["train_seconds"])
    longest = max((known for known in seconds.values() if known is not None), default=1.0)
    return {name: longest if known is None else known for name, known in seconds.items()}


def still_changed(names: list[str]) -> set[str]:
    """Those of the stages that DVC would run now; all of them, if another process of DVC does not let it look."""
    try:
        with Repo() as repo:
            return set(repo.status(targets=names))
    except DvcException:
        return set(names)


def ignore_outputs(plan: Plan) -> None:
    """Name the outputs in .gitignore, as DVC does when a stage ends, but in the order of the plan.

    Raises UserError with what DVC says.
    """
    with _to_write() as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages}
        for output in (output for name in plan.order for output in stages[name].outs if output.use_scm_ignore):
            Path(output.fs_path).parent.mkdir(parents=True, exist_ok=True)
            output.ignore()


def sort_lock(plan: Plan) -> None:
    """Put what is new in dvc.lock into the order of the plan, as `dvc repro` does, whichever stage ended first.

    Raises UserError with what DVC says.
    """
    place = {name: number for number, name in enumerate(plan.order) if name not in plan.locked}
    with _to_write() as repo:
        written = _locked()
        wanted = sorted(written, key=lambda name: place.get(name, -1))
        if written != wanted:
            with modify_yaml(LOCK_FILE) as lock:
                for name in wanted:
                    lock["stages"].move_to_end(name)
            repo.scm_context.track_file(LOCK_FILE)


@contextmanager
def _to_write() -> Iterator[Repo]:
    """DVC's view of this project with its lock, for which it waits."""
    with _named_errors(), Repo(_wait_for_lock=True) as repo, lock_repo(repo), repo.scm_context(quiet=True):
        yield repo


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except DvcException as error:
        raise UserError(reason(error)) from None


def _locked() -> list[str]:
    return list(load_yaml(LOCK_FILE).get("stages", ())) if Path(LOCK_FILE).exists() else []

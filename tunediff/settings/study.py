"""All settings of a study: `params.yaml`, and the two files of `conf/` that it names, checked together."""

from pathlib import Path

from tunediff.core.errors import UserError, nearest, suggestion
from tunediff.core.methods import MORE_BASELINES
from tunediff.core.settings import Section, check, mistakes, read, read_values
from tunediff.models.settings import ModelConf
from tunediff.settings.params import Params
from tunediff.sources.settings import DataConf
from tunediff.tasks import TASKS, with_keys
from tunediff.tasks.interface import Task


class Study(Section):
    """The three files, checked."""

    params: Params
    data: DataConf
    """With the keys of its task."""
    model: ModelConf
    data_path: Path
    model_path: Path

    @property
    def task(self) -> type[Task]:
        return TASKS[self.data.task]


def load(root: Path = Path()) -> Study:
    """Read params.yaml in `root` and the two files that it names. Raises UserError naming file and key."""
    params = read(root / "params.yaml", Params)
    paths, problems = {}, []
    for kind in ("data", "model"):
        name = getattr(params, kind)
        paths[kind] = root / "conf" / kind / f"{name}.yaml"
        present = _names(root / "conf" / kind)
        if name not in present:
            problems.append(
                f"{kind}: there is no conf/{kind}/{name:.100}.yaml; present are: {', '.join(present)}"
                f"{suggestion(name, present)}"
            )
    if problems:
        raise mistakes(root / "params.yaml", problems)
    study = Study(
        params=params,
        data=read_data(paths["data"]),
        model=read(paths["model"], ModelConf),
        data_path=paths["data"],
        model_path=paths["model"],
    )
    if problems := [*wrong_figures(params, study.task), *wrong_methods(params, study.task)]:
        raise mistakes(root / "params.yaml", problems)
    return study


def _names(folder: Path) -> list[str]:
    """The data or model files in a folder. Raises UserError if it cannot be read."""
    try:
        return sorted(path.stem for path in folder.iterdir() if path.suffix == ".yaml")
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from None


def read_data(path: Path) -> DataConf:
    """A data file with the keys of its task. Raises UserError naming file and key."""
    values = read_values(path)
    task = values.get("task")
    if not isinstance(task, str):  # there is none, or it is no name, which `check` refuses
        task = DataConf.model_fields["task"].default
    if task not in TASKS:
        raise mistakes(path, [f"task: there is no task '{task}'; {nearest(task, TASKS)}"])
    return check(values, with_keys(DataConf, task), path)


def wrong_methods(params: Params, task: type[Task]) -> list[str]:
    """What is wrong with `baseline.more`: which there are depends on the task."""
    known = MORE_BASELINES.get(task.name, ())
    return [
        f"baseline.more: {task.name} has no baseline '{name:.100}'; "
        + (f"expected some of {', '.join(known)}{suggestion(name, known)}" if known else "leave the list empty")
        for name in params.baseline.more
        if name not in known
    ]


def wrong_figures(params: Params, task: type[Task]) -> list[str]:
    """What is wrong with settings that name a figure: which ones there are depends on the task."""
    named = {
        "train.select_by": (params.train.select_by, task.each_epoch),
        "report.figure": (params.report.figure, task.headline),
    }
    return [
        f"{key}: {task.name} has no such figure: expected {', '.join(known)}, found '{figure:.100}'"
        f"{suggestion(figure, known)}"
        for key, (figure, known) in named.items()
        if figure not in known
    ]

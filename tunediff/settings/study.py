"""All settings of a study: `params.yaml`, and the files of `conf/` that it names, checked together."""

from pathlib import Path

from tunediff.core.errors import UserError, nearest, suggestion
from tunediff.core.methods import MORE_BASELINES
from tunediff.core.settings import Section, check, mistakes, read, read_values
from tunediff.models.pretrained import hub_id
from tunediff.models.settings import ModelConf
from tunediff.settings.params import Params
from tunediff.sources.settings import DataConf
from tunediff.tasks import TASKS, with_keys
from tunediff.tasks.interface import Task

AUTO = "auto"
"""The figure that goes with the task."""


class Study(Section):
    """The files, checked."""

    params: Params
    data: DataConf
    """With the keys of its task."""
    model: ModelConf
    data_path: Path
    model_path: Path
    language_models: dict[str, tuple[ModelConf, Path]]
    """Those that `prompts` asks, with their files, by the method."""

    @property
    def task(self) -> type[Task]:
        return TASKS[self.data.task]

    def unwatched(self) -> str:
        """A sentence if the model is a folder that no stage depends on, as all do on `conf/model`."""
        folder = Path(self.model.name)
        if hub_id(self.model.name) or not folder.is_dir() or folder.absolute().is_relative_to(FILES.absolute()):
            return ""
        return (
            f"{self.model_path}: name: {folder} is outside {FILES}: DVC does not see if it changes, and `dvc repro -f "
            f"settings` does; in a folder of {FILES} it is seen"
        )


MODELS = "models"  # outputs of stages
FILES = Path("conf/model")


def load(root: Path = Path()) -> Study:
    """Read params.yaml in `root` and the files that it names. Raises UserError naming file and key."""
    params = read(root / "params.yaml", Params)
    prompted = {method: params.prompts.model_of(method) for method in params.prompts.methods}
    prompted = {method: named for method, named in prompted.items() if named}  # the others ask an endpoint
    paths, problems = {}, []
    for key, name in dict([("data", params.data), ("model", params.model), *prompted.values()]).items():
        folder = Path("conf") / ("data" if key == "data" else "model")
        paths[key] = root / folder / f"{name}.yaml"
        present = _names(root / folder)
        if name not in present:
            problems.append(
                f"{key}: there is no {folder}/{name:.100}.yaml; present are: {', '.join(present)}"
                f"{suggestion(name, present)}"
            )
    if problems:
        raise mistakes(root / "params.yaml", problems)
    data = read_data(paths["data"])
    params = with_figures(params, data)
    study = Study(
        params=params,
        data=data,
        model=read(paths["model"], ModelConf),
        data_path=paths["data"],
        model_path=paths["model"],
        language_models={method: (read(paths[key], ModelConf), paths[key]) for method, (key, _) in prompted.items()},
    )
    problems = [
        *wrong_figures(params, study.task),
        *wrong_methods(params, study.task),
        *without_full(study),
        *asked_in_floats(study),
        *not_done(params, study.task),
        *not_folded(study),
    ]
    if problems:
        raise mistakes(root / "params.yaml", problems)
    if Path(study.model.name).absolute().is_relative_to(Path(MODELS).absolute()):
        raise mistakes(
            paths["model"],
            [
                f"name: {study.model.name} is in {MODELS}/, where DVC deletes a stage's models before it runs again: "
                f"copy the folder to a place beside {MODELS}/ (cp -rL), and name that"
            ],
        )
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


def without_full(study: Study) -> list[str]:
    """What is wrong with where `full` is named: it is trained unless the model's weights are quantized."""
    params, quantize = study.params, study.model.quantize
    sections = {"evaluate": params.evaluate, "export": params.export}
    if params.training_rows.shares or params.training_rows.per_label:
        sections["training_rows"] = params.training_rows
    if not quantize:
        missing = "full" not in params.evaluate.methods
        return ["evaluate.methods: full would be trained but not evaluated; add it to the list"] * missing
    return [
        f"{name}.methods: full trains every weight, which {quantize} numbers are too coarse for ({study.model_path}: "
        "quantize is for adapters); take full out of the list, and run the other stages by name (docs/methods.md)"
        for name, section in sections.items()
        if "full" in section.methods
    ]


def asked_in_floats(study: Study) -> list[str]:
    """The language models that are to be quantized, which only adapters are trained over.

    The study's own model may be: its adapters are.
    """
    keys = {study.params.prompts.model_of(method)[0]: each for method, each in study.language_models.items()}
    return [
        f"{key}: {path} has `quantize: {model.quantize}`, which is for adapters: a language model is asked in floats; "
        "take it out of that file, or serve the model and name an `endpoint`"
        for key, (model, path) in keys.items()
        if model.quantize and path != study.model_path
    ]


def with_figures(params: Params, data: DataConf) -> Params:
    """The settings with the task's figures in the place of `auto`: macro F1, or what a task without it is chosen by."""
    task = TASKS[data.task]
    epoch = "f1" if "f1" in task.each_epoch else "loss"
    figure = getattr(data, "figure", None) or ("f1" if "f1" in task.headline else task.headline[0])
    train, report = params.train, params.report
    if train.select_by == AUTO:
        train = train.model_copy(update={"select_by": epoch})
    if report.figure == AUTO:
        report = report.model_copy(update={"figure": figure})
    return params.model_copy(update={"train": train, "report": report})


def not_done(params: Params, task: type[Task]) -> list[str]:
    """What is wrong with settings that ask for what is not done for the task."""
    wanted = {
        "training_rows.shares": (bool(params.training_rows.shares), "is not trained on some rows; set it to []"),
        "training_rows.per_label": (bool(params.training_rows.per_label), "is not trained on some rows; set it to []"),
        "train.class_weights": (params.train.class_weights != "none", "has no labels to weigh; set it to none"),
    }
    problems = [
        f"{key}: a model for the task `{task.name}` {said}"
        for key, (is_set, said) in wanted.items()
        if is_set and task.writes
    ]
    rows = params.training_rows
    if rows.per_label and task.name == "multilabel":
        problems.append("training_rows.per_label: thresholds of several labels need validation rows; set it to []")
    if (rows.shares or rows.per_label) and task.name != "classification":
        problems += [
            f"training_rows.methods: the task `{task.name}` has no {method} to fit to some rows; take it out"
            for method in ("probe", "setfit")
            if method in rows.methods
        ]
    elif (rows.shares or rows.per_label) and "setfit" in rows.methods and "setfit" not in params.baseline.more:
        problems.append("training_rows.methods: name setfit in baseline.more too, which trains it on all rows")
    return problems


def wrong_methods(params: Params, task: type[Task]) -> list[str]:
    """What is wrong with `baseline.more`: which there are depends on the task."""
    known = MORE_BASELINES.get(task.name, ())
    return [
        f"baseline.more: {task.name} has no baseline '{name:.100}'; "
        + (f"expected some of {', '.join(known)}{suggestion(name, known)}" if known else "leave the list empty")
        for name in params.baseline.more
        if name not in known
    ]


def foldable(data: DataConf) -> bool:
    """Whether validation and test are drawn here: rows of the source's own splits stay where they are."""
    return {"validation", "test"} <= set(data.cut_splits)


def not_folded(study: Study) -> list[str]:
    """What is wrong with folds of data that brings its own splits."""
    if not study.params.folds or foldable(study.data):
        return []
    named = ", ".join(f"{side}: {name}" for side, name in study.data.named_splits.items())
    return [
        f"folds: {study.data_path} names splits of the source ({named}), and their rows stay there: give shares for "
        "validation and test, or set folds to []"
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

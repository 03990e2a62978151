"""Tasks by the name that `task:` in a data file has."""

from typing import Any

from tunediff.core.settings import Section
from tunediff.tasks.chats import Chats
from tunediff.tasks.classification import Classification
from tunediff.tasks.generation import Generation
from tunediff.tasks.interface import Figure, Task
from tunediff.tasks.multilabel import Multilabel
from tunediff.tasks.tagging import Tagging

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification, Multilabel, Tagging, Generation)}
FIGURES: dict[str, Figure] = {
    name: figure for task in reversed(TASKS.values()) for name, figure in task.figures.items()
}
"""The figures of all tasks by name; where tasks have one of the same name, in the words of the first task."""


def task_of(config: Any) -> Task:
    """The task that a model was loaded or trained for, from its config."""
    return TASKS[config.tunediff.get("task", "classification")].of_config(config)


def reader_of(keys: Any) -> type[Task]:
    """The task of a data file with these keys, as it reads the source."""
    return Chats if getattr(keys, "messages", None) else TASKS[keys.task]


def with_keys(base: type[Section], task: str) -> type[Section]:
    """`base`, the keys that all data files have, with those of a task, which may replace some: a data file's class."""
    return type(base.__name__, (TASKS[task].Keys, base), {})

"""The table "If you edit this, that runs again" of docs/architecture.md, row by row, by real `dvc repro`."""

import re
from pathlib import Path

import pytest
from conftest import ROOT, Project, make_project

pytestmark = pytest.mark.slow

TABLE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("## If you edit this, that runs again")[1]
ROWS = dict(re.findall(r"^\|(.+?)\|(.+?)\|$", TABLE, re.MULTILINE))


STAGES = (
    *("settings", "prepare", "baseline", "label_noise", "train_full", "train_lora@v1"),
    *("evaluate@full", "evaluate@lora-v1", "package@full", "package@lora-v1"),
    *("package_baselines@probe", "package_baselines@tfidf", "report"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts) -> Project:
    """A project of which everything is up to date: `full`, and one variant of LoRA."""
    project = make_project(tmp_path_factory.mktemp("reruns") / "project", tiny_model, tiny_texts)
    params = project.read_yaml("params.yaml")
    project.edit_yaml(
        "params.yaml",
        train={**params["train"], "epochs": 1},
        train_lora={"v1": params["train_lora"]["v1"]},
        evaluate={**params["evaluate"], "methods": ["full", "lora-v1"]},
        training_rows={"shares": [], "per_label": [], "methods": ["tfidf"]},
    )
    project.commit("code")
    project.run("dvc", "repro", "-q")
    return project


def append(path: str, text: str):
    def edit(project: Project) -> None:
        with (project.folder / path).open("a", encoding="utf-8") as file:
            file.write(text)

    return edit


def learning_rate(project: Project) -> None:
    rates = {"full": 1e-3, "lora": 1e-2, "lora-v1": 5e-3}
    project.edit_yaml("conf/model/tiny.yaml", learning_rate=rates)


def epochs(project: Project) -> None:
    train = project.read_yaml("params.yaml")["train"]
    project.edit_yaml("params.yaml", train={**train, "epochs": 2})


def source(project: Project) -> None:
    """Another label order is another data file, and gives other prepared splits."""
    project.edit_yaml("conf/data/tiny.yaml", labels=["bullish", "bearish"])


EDITS = {
    "a learning rate of one method, in `conf/model/`": learning_rate,
    "a figure's margin, in `params.yaml` (`report.margin`)": lambda project: project.edit_yaml(
        "params.yaml", report={**project.read_yaml("params.yaml")["report"], "margin": 0.03}
    ),
    "a colour, in `report/colours.py`": append("tunediff/report/colours.py", "\nCOLOURS[0] = '#336699'\n"),
    "the model card, in `report/card.md.j2`": append("tunediff/report/card.md.j2", "\nWritten by hand.\n"),
    "a reader, in `sources/`": append("tunediff/sources/csv_reader.py", "\n# Read again.\n"),
    "the service, in `use/`": append("tunediff/use/service_app.py", "\n# Serve again.\n"),
    "a sweep, in `experiments/`": append("tunediff/experiments/clones.py", "\n# Clone again.\n"),
    "the intervals, in `evidence/`": append("tunediff/evidence/uncertainty.py", "\n# Draw again.\n"),
    "`train.epochs`, in `params.yaml`": epochs,
    "the loop, in `training/`": append("tunediff/training/loop.py", "\n# Train again.\n"),
    "a loss or figure, in `tasks/`": append("tunediff/tasks/classification.py", "\n# Count again.\n"),
    "labels or columns, in `conf/data/`": source,
}


def test_the_table_has_these_rows():
    assert list(EDITS) == [edit for edit in ROWS if edit not in ("edit", "---")]


@pytest.mark.parametrize("edit", EDITS)
def test_what_runs_again(made: Project, edit: str):
    """In the order of the table; each row begins where everything is up to date."""
    EDITS[edit](made)
    ran = set(re.findall(r"^Running stage '(.+)':$", made.run("dvc", "repro").stdout, re.MULTILINE))
    named = set(re.findall(r"`(.+?)`", ROWS[edit]))
    assert named <= {*STAGES, *(stage.partition("@")[0] for stage in STAGES)}
    everything = ROWS[edit] == "all of them"
    assert ran == {stage for stage in STAGES if everything or {stage, stage.partition("@")[0]} & named}

"""What a stage or command imports before it begins: seconds that each of them spends on every run."""

import gc
import subprocess
import sys

import pytest
from conftest import ENVIRONMENT, ROOT

from stages.common.errors import run

# Libraries that take a tenth of a second or more. PEFT comes with the Trainer, DVC with DVCLive.
HEAVY = {
    *("accelerate", "cleanlab", "datasets", "dvc", "dvclive", "evaluate", "huggingface_hub", "matplotlib", "pandas"),
    *("peft", "scipy", "sklearn", "statsmodels", "sympy", "tokenizers", "torch", "transformers"),
    *("transformers.pipelines", "transformers.trainer"),
}
MODEL = {"accelerate", "datasets", "huggingface_hub", "pandas", "scipy", "sympy", "tokenizers", "torch", "transformers"}
TRAINER = {*MODEL, "dvc", "dvclive", "peft", "sklearn", "transformers.trainer"}
FIGURES = {"evaluate", "sklearn", "transformers.pipelines"}  # `evaluate` imports the pipelines
USED = {
    "prepare": {"pandas"},
    "baseline": {*MODEL, *FIGURES},
    "label_noise": {*MODEL, "cleanlab", "sklearn"},
    "train_full": TRAINER,
    "train_lora": TRAINER,
    "train_peft": TRAINER,
    "training_rows": {*TRAINER, *FIGURES},
    "evaluate": {*MODEL, *FIGURES},
    "report": {"matplotlib", "pandas", "scipy"},
    "predict": {"pandas"},
    "leaderboard": {"dvc", "matplotlib", "pandas"},
}

# As `-m` starts it: the folder of the project is first on the path, so that `evaluate` could be the stage's file.
START = """
import runpy, sys
sys.argv = ["-m"]
runpy.run_module("stages.{name}", run_name="imported")
import gc
print(gc.isenabled(), *sys.modules)
"""


def test_every_stage_and_command_is_here():
    assert USED.keys() == {file.stem for file in (ROOT / "stages").glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("name", USED)
def test_a_stage_imports_no_library_that_it_has_no_use_for(name: str):
    command = [sys.executable, "-c", START.format(name=name)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    collects, *modules = done.stdout.split()
    # Were it more, the stage starts slower than it needs to; were it less, this list is out of date.
    assert HEAVY.intersection(modules) == USED[name]
    # In `evaluate` this is the library's, not the stage: `python stages/evaluate.py` would find itself.
    assert ("evaluate.loading" in modules) == ("evaluate" in USED[name])
    assert collects == "False"


def test_a_stage_that_begins_collects_garbage_again():
    gc.disable()
    try:
        found = []
        run(lambda: found.append(gc.isenabled()))
        assert found == [True]
    finally:
        gc.enable()
        gc.unfreeze()

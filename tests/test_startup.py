"""What a stage or command imports before it begins: seconds that each of them spends on every run."""

import gc
import inspect
import subprocess
import sys
from itertools import chain

import pytest
from conftest import ENVIRONMENT, ROOT

from tunediff.core.process import run
from tunediff.sources.settings import DataConf
from tunediff.tasks import with_keys

pytestmark = pytest.mark.slow

# Libraries that take a tenth of a second or more.
HEAVY = {
    *("accelerate", "cleanlab", "datasets", "distributed", "dvc", "dvclive", "evaluate", "huggingface_hub"),
    *("matplotlib", "optuna", "pandas", "peft", "scipy", "sklearn", "statsmodels", "sympy", "tokenizers", "torch"),
    *("torchmetrics", "transformers", "transformers.pipelines", "transformers.trainer"),
}
MODEL = {"accelerate", "datasets", "huggingface_hub", "pandas", "scipy", "sympy", "tokenizers", "torch", "transformers"}
USED = {  # by stages and commands that use the same, which are imported in one process here
    ("settings",): set(),
    ("prepare", "folds"): {"datasets", "huggingface_hub", "pandas"},
    ("predict", "choose"): {"pandas"},
    ("package",): {"huggingface_hub"},
    # `evaluate` and cleanlab where they are used.
    ("baseline", "evaluate", "prompt", "label_noise", "fold_baseline", "fold_prompt", "fold_label_noise"): {
        *MODEL,
        "sklearn",
    },
    ("fold_train",): MODEL - {"sympy", "tokenizers"},
    ("train_full", "train_lora", "train_peft"): MODEL,  # the Trainer, PEFT and DVCLive when a training begins
    ("fold_training_rows",): {"datasets", "huggingface_hub", "pandas", "scipy", "torch"},
    ("training_rows", "few_labels"): {"datasets", "huggingface_hub", "pandas", "torch"},
    ("report",): {"matplotlib", "pandas", "scipy"},
    ("leaderboard",): {"dvc", "matplotlib", "pandas"},
    ("status", "repro"): {"dvc"},
    ("sweep",): {"dvc", "matplotlib", "optuna", "pandas", "scipy"},
    ("export",): MODEL,
    ("serve",): set(),  # until its models are loaded
    ("cluster",): set(),  # until Dask is known to be installed
}

# As `-m` starts it: the folder of the project is first on the path, so that `evaluate` could be the stage's file.
START = """
import gc, importlib, sys
names, sys.argv = sys.argv[1:], ["/somewhere/stages/name.py"]
for name in names:
    importlib.import_module(f"stages.{name}")
print(gc.isenabled(), *sys.modules)
"""


def test_every_stage_and_command_is_here():
    assert {*chain(*USED)} == {file.stem for file in (ROOT / "stages").glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("names", USED, ids="-".join)
def test_a_stage_imports_no_library_that_it_has_no_use_for(names: tuple[str, ...]):
    command = [sys.executable, "-c", START, *names]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    collects, *modules = done.stdout.split()
    # Were it more, the stage starts slower than it needs to; were it less, this list is out of date.
    assert HEAVY.intersection(modules) == USED[names]
    assert collects == "False"


def test_settings_are_defined_without_a_look_at_their_source(monkeypatch: pytest.MonkeyPatch):
    """Which searches all modules: beside PyTorch and transformers, it was half of what a stage imports of its own."""
    searched = []
    with monkeypatch.context() as patched:
        patched.setattr(inspect, "getmodule", searched.append)
        with_keys(DataConf, "classification")
    assert not searched


def test_garbage_is_collected_while_a_stage_works_and_not_at_its_end():
    gc.disable()
    try:
        made = []
        run(lambda: made.append(gc.isenabled()))
        assert made == [True]
        assert not any(one is made for one in gc.get_objects()), "the collector still searches it"
    finally:
        gc.enable()
        gc.unfreeze()

"""Sweeps: real trainings as DVC experiments, killed and gone on with, pruned, and by two workers on one PostgreSQL."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pandas as pd
import psutil
import pytest
import warm_python
from conftest import ENVIRONMENT, ROOT, Project, copy_of
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from stages import sweep
from tunediff.core.errors import UserError
from tunediff.core.settings import read
from tunediff.experiments import sweep_budget, sweep_trials
from tunediff.experiments.sweep_settings import COST, VALIDATION, Sweep
from tunediff.experiments.sweep_studies import committed, open_studies, search_space
from tunediff.experiments.sweep_values import default_values, training_stage, write_values
from tunediff.settings.study import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::optuna.exceptions.ExperimentalWarning", "ignore::UserWarning:optuna.importance"
    ),
]
CONF = {
    "study": "tiny",
    "storage": "sqlite:///sweeps.db",
    "trials": 2,
    "quality": "f1",
    "prune_after": 0,
    "shared": {"train.warmup": {"low": 0.0, "high": 0.9}},
    "methods": {"full": {}, "lora-v1": {"train_lora.v1.dropout": {"low": 0.0, "high": 0.5}}},
}


def begin(project: Project, **changes: object) -> Project:
    """Commit it with conf/sweep.yaml, and 2 epochs, so that there is something to choose from."""
    train = project.read_yaml("params.yaml")["train"]
    project.edit_yaml("params.yaml", train={**train, "epochs": 2, "patience": 0, **changes.pop("train", {})})
    project.write_yaml("conf/sweep.yaml", CONF | changes)
    project.commit("sweep")
    return project


def start(project: Project, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "stages.sweep"],
        cwd=project.folder,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(what: Callable[[], object], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.02)


def beneath(folder: Path) -> list[psutil.Process]:
    """Processes that work in the folder."""
    return [p for p in psutil.process_iter(["cwd"]) if str(p.info["cwd"]).startswith(str(folder.resolve()))]


def experiments(project: Project) -> list[str]:
    refs = project.run("git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps").stdout.split()
    return sorted(name for name in refs if name.startswith("sweep-"))


@pytest.fixture(scope="module")
def swept(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Killed in the middle of its third trial, and gone on with."""
    project = begin(copy_of(trained, tmp_path_factory.mktemp("swept") / "project"))
    cache = {"XDG_CACHE_HOME": str(project.folder.parent / "cache")}
    scratch = project.folder / ".dvc/tmp/sweep"
    first = start(project, **cache)
    wait_for(lambda: list(scratch.glob("*.tiny.full.1/plots/curves/full")))  # the training has begun
    (project.folder / "README.md").write_text("The user goes on to work.\n")
    first.kill()
    first.wait()
    wait_for(lambda: not beneath(scratch), 10)
    (left,) = scratch.glob("*.tiny.full.1")
    assert not experiments(Project(left))  # DVC did not come to its end

    done = project.run("python", "-m", "stages.sweep", environment=warm_python.environment({**ENVIRONMENT, **cache}))
    (project.folder.parent / "said").write_text(done.stdout)
    return project


def test_a_killed_sweep_goes_on_and_no_trial_is_lost_or_counted_twice(swept: Project):
    names = ["sweep-tiny-full-0", "sweep-tiny-full-1", "sweep-tiny-lora-v1-0", "sweep-tiny-lora-v1-1"]
    table = pd.read_csv(swept.folder / "plots/sweep/tiny/trials.csv")
    assert table.experiment.tolist() == names == experiments(swept)
    assert table.state.eq("complete").all()
    # The first has the values that the files have.
    first = table[table.trial == 0].set_index("method")
    assert first["train.warmup"].tolist() == [0.06, 0.06]
    assert first.loc["lora-v1", "train_lora.v1.dropout"] == 0.1
    # What the table says is what the experiment has.
    figures = swept.run("git", "show", f"{reference(swept, names[3])}:metrics/validation/lora-v1.json").stdout
    assert f'"f1": {table.f1[3]}' in figures
    # Nothing of the trials is left, and the user's workspace is as it was.
    assert [path.name for path in (swept.folder / ".dvc/tmp/sweep").iterdir()] == ["lock"]
    assert swept.run("git", "status", "--porcelain").stdout == "?? README.md\n"
    for picture in ("history", "importance", "pareto"):
        assert (swept.folder / f"plots/sweep/tiny/{picture}.png").read_bytes().startswith(b"\x89PNG")


def reference(project: Project, name: str) -> str:
    return project.run("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").stdout.strip()


def test_best_values_are_written_where_comments_stay(swept: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = copy_of(swept, tmp_path / "project")
    monkeypatch.chdir(project.folder)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    rate = "conf/model/minilm.yaml:learning_rate.full"
    values = [{"train.warmup": 0.1, rate: 8.25e-5}, {"train.warmup": 0.2, "train_lora.v1.dropout": 0.3}]
    table = pd.DataFrame({"method": ["full", "lora-v1"], "values": values, "best": True})

    with pytest.raises(UserError, match=r"train\.warmup is one value for all .* 0\.1 .* 0\.2 for lora-v1"):
        write_values(table, ["full", "lora-v1"])
    write_values(table, ["full"])
    changed = subprocess.run(["diff", ROOT / "params.yaml", "params.yaml"], capture_output=True, text=True).stdout
    assert changed.splitlines()[1:] == [
        "<   warmup: 0.06                # share of the steps",
        "---",
        ">   warmup: 0.1                 # share of the steps",
    ]
    assert project.read_yaml("conf/model/minilm.yaml")["learning_rate"]["full"] == 8.25e-5


def test_the_model_of_the_best_trial_is_tested_once(
    swept: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    project = copy_of(swept, tmp_path / "project")
    table = pd.read_csv(project.folder / "plots/sweep/tiny/trials.csv")
    done = project.run("python", "-m", "stages.sweep", "--test")
    # The model of the trial is what is evaluated, not another training.
    name = table[table.best].set_index("method").experiment["full"]
    assert f"{name}-test" in experiments(project)
    costs = [
        project.run("git", "show", f"{reference(project, each)}:metrics/cost/training/full.json").stdout
        for each in (name, f"{name}-test")
    ]
    assert costs[0] == costs[1]
    # No second look, and no more trials after the first.
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", ["sweep", "--test"])
    sweep.main()
    assert capsys.readouterr().out.split("on test")[1] == done.stdout.split("on test")[1]
    project.edit_yaml("conf/sweep.yaml", trials=3)
    with pytest.raises(UserError, match="the test split was read at the end of study 'tiny'"):
        sweep.main()


def test_a_poor_trial_ends_early_and_leaves_nothing(trained: Project, tmp_path: Path):
    project = copy_of(trained, tmp_path / "project")
    committed = project.folder / "plots/curves/lora-v1/plots/metrics/validation/f1.tsv"
    committed.write_text("step\tf1\n" + "".join(f"{epoch}\t1.0\n" for epoch in range(1, 501)))  # not the trial's
    begin(project, trials=3, prune_after=2, train={"epochs": 500}, methods={"lora-v1": {}})
    conf = Sweep.model_validate(project.read_yaml("conf/sweep.yaml"))
    storage = f"sqlite:///{project.folder}/sweeps.db"
    study = optuna.create_study(storage=storage, study_name="tiny/lora-v1", direction="maximize")
    # Two that no training here comes near to.
    figures = dict.fromkeys((*VALIDATION, *COST), 1.0)
    for warmup in (0.01, 0.02):
        study.add_trial(
            create_trial(
                values=[1.0],
                params={"train.warmup": warmup},
                distributions={"train.warmup": FloatDistribution(0, 0.9)},
                intermediate_values=dict.fromkeys(range(1, 501), 1.0),
                user_attrs=figures,
            )
        )
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    for key, value in {"space": search_space(conf, "lora-v1"), "stage": "train_lora@v1", "commit": commit}.items():
        study.set_user_attr(key, value)

    cache = tmp_path / "cache"
    # The true Python: the sweep looks for the training among its own children.
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(cache)}
    project.run("python", "-m", "stages.sweep", environment=environment)
    pruned = optuna.load_study(storage=storage, study_name="tiny/lora-v1").trials[2]
    assert pruned.state == TrialState.PRUNED
    assert 2 <= pruned.last_step < 500
    assert experiments(project) == []
    assert not beneath(project.folder)
    assert [path.name for path in (project.folder / ".dvc/tmp/sweep").iterdir()] == ["lock"]
    assert list((cache / "tunediff/checkpoints").iterdir()) == []


def test_failures_count_except_that_of_the_defaults(
    swept: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    project = copy_of(swept, tmp_path / "project")
    project.write_yaml("conf/sweep.yaml", {**CONF, "study": "failing", "trials": 5, "methods": {"full": {}}})
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", ["sweep"])
    figures = dict.fromkeys((*VALIDATION, *COST), 1.0)
    outcomes = ["no disk", figures, "no memory", figures, "no memory", "no power"]

    def train(*_: object) -> dict[str, float]:
        outcome = outcomes.pop(0)
        if isinstance(outcome, str):
            raise UserError(outcome)
        return outcome

    monkeypatch.setattr(sweep_trials, "train", train)
    with pytest.raises(UserError, match="no disk"):
        sweep.main()
    with pytest.raises(UserError, match=r"two trials of full failed, one after the other: no power$"):
        sweep.main()
    assert not outcomes
    sweep.main()
    assert "full       5       0       3" in capsys.readouterr().out
    # Another worker is as far, and would begin one more.
    conf = read(Path("conf/sweep.yaml"), Sweep)
    study = open_studies(conf)["full"]
    sweep_trials.one_trial(conf, "full", study)
    assert study.trials[-1].user_attrs == {"surplus": True}
    assert sweep_budget.begun(study) == 5


def test_a_trial_that_died_before_its_first_heartbeat_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study()
    number = study.ask().number
    sweep_budget.give_back_dead("tiny", {"full": study})
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]  # it may have just begun
    monkeypatch.setattr(sweep_budget, "GRACE", 0)
    sweep_budget.give_back_dead("tiny", {"full": study})
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert sweep_budget.first_number(study.trials[1]) == number


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trails": 3}, "conf/sweep.yaml: trails: unknown key"),
        (
            {"shared": {"train.epoch": {"low": 1, "high": 3}}},
            "train.epoch: there is no such key; the files in use are params.yaml",
        ),
        ({"shared": {"train.epochs": {"low": 3, "high": 1}}}, "shared.train.epochs: expected low < high"),
        ({"shared": {"train.epochs": {"low": 3, "high": 9}}}, "train.epochs: params.yaml has 2, which is not among"),
        ({"methods": {"lora-v9": {}}}, "methods: nothing trains 'lora-v9'; there are: full, lora-v1, lora-v2"),
        ({"shared": {}}, "methods.full: no values to search"),
        ({"storage": "sqlite:///nowhere/sweeps.db"}, "conf/sweep.yaml: storage: "),
        ({"study": "tiny", "quality": "loss"}, "are not those that study 'tiny' was begun with"),
    ],
)
def test_what_is_wrong_is_named_before_any_training(
    swept: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, message: str
):
    project = copy_of(swept, tmp_path / "project")
    project.write_yaml("conf/sweep.yaml", {**CONF, "study": "other", **changes})
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", ["sweep"])
    with pytest.raises(UserError) as error:
        sweep.main()
    assert message in str(error.value)


def test_without_its_driver_postgresql_is_not_reached_and_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"storage: .*pip install -r requirements-cluster\.txt$"):
        open_studies(Sweep(**{**CONF, "study": "other", "storage": "postgresql://tunediff@127.0.0.1:9/sweeps"}))


def test_the_shipped_file_fits_the_shipped_settings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    conf = read(Path("conf/sweep.yaml"), Sweep)
    settings = load()
    for method in conf.methods:
        assert set(default_values(settings, conf, method)) == set(conf.space(method))
    stages = {method: training_stage(settings.params, method) for method in conf.methods}
    assert stages == {"full": "train_full", "lora-v2": "train_lora@v2"}


def test_a_sweep_begins_from_a_commit(swept: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = copy_of(swept, tmp_path / "project")
    project.edit_yaml("conf/sweep.yaml", study="other")
    project.edit_yaml("params.yaml", seed=18)
    monkeypatch.chdir(project.folder)
    with pytest.raises(UserError, match=r"are of one commit, and this is not committed: params\.yaml$"):
        committed()


# --- PostgreSQL


@pytest.fixture
def postgres() -> Iterator[str]:
    """URL of a server of its own. It refuses to run as root, so it runs as the user that Debian's package makes."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "none").parent]
    if not (binaries[-1] / "initdb").is_file():
        pytest.skip("no PostgreSQL")
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        if user:
            shutil.chown(folder, user)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()

        def command(name: str, *arguments: str) -> None:
            words = [binaries[-1] / name, "-D", f"{folder}/data", *arguments]
            subprocess.run(words, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)

        command("initdb", "-A", "trust", "-U", "tunediff", "--no-sync")
        command("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", f"-p {port} -k {folder} -h 127.0.0.1 -F")
        try:
            yield f"postgresql://tunediff@127.0.0.1:{port}/postgres"
        finally:
            command("pg_ctl", "stop", "-m", "immediate")


def test_two_workers_on_postgresql_share_the_budget(trained: Project, tmp_path: Path, postgres: str):
    first = begin(copy_of(trained, tmp_path / "first"), storage=postgres, trials=3)
    first.edit_yaml("conf/sweep.yaml", methods={"full": {}})
    first.run("git", "commit", "-qam", "one method")
    second = Project(tmp_path / "second")
    first.run("git", "clone", "-q", ".", str(second.folder))
    first.run("dvc", "cache", "dir", "--local", str(first.folder / ".dvc/cache"))
    shutil.copy(first.folder / ".dvc/config.local", second.folder / ".dvc/config.local")

    workers = [start(project) for project in (first, second)]
    said = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    tables = [pd.read_csv(project.folder / "plots/sweep/tiny/trials.csv") for project in (first, second)]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0].trial.tolist() == [0, 1, 2]
    assert tables[0]["train.warmup"].is_unique
    done = [set(experiments(project)) for project in (first, second)]
    assert all(done)
    assert not done[0] & done[1]
    assert done[0] | done[1] == set(tables[0].experiment)

"""Experiments in clones of a git repository of which the DVC project is a subfolder."""

from pathlib import Path

import pytest
from conftest import ENVIRONMENT, ROOT, Project

from tunediff.core.errors import UserError
from tunediff.experiments import clones, cluster
from tunediff.experiments.repository import git

pytestmark = pytest.mark.slow


@pytest.fixture
def subproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A DVC project in a subfolder of a git repository, which is the working folder; its stage copies a setting."""
    made = Project(tmp_path / "repository/sub folder/project")
    made.folder.mkdir(parents=True)
    Project(tmp_path / "repository").run("git", "init", "-q", "-b", "main")
    made.run("dvc", "init", "-q", "--subdir")
    made.write_yaml("params.yaml", {"x": 1})
    stage = {"cmd": "grep x params.yaml > out", "params": ["x"], "outs": ["out"]}
    made.write_yaml("dvc.yaml", {"stages": {"copy": stage}})
    made.run("git", "add", "-A")  # of the repository above
    made.run("git", "commit", "-qm", "code")
    monkeypatch.chdir(made.folder)
    for key, value in ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return made


def test_an_experiment_of_a_project_in_a_subfolder_is_kept(subproject: Project):
    commit = git("rev-parse", "HEAD").stdout.strip()
    with clones.clone(commit, "one") as folder:
        assert folder.parts[-2:] == ("sub folder", "project")
        assert clones.dvc(folder, "first", "exp", "run", "--name", "first", "--set-param=x=2")
        clones.keep(folder, commit, "first")
    assert not list(clones.SCRATCH.iterdir())
    # The workspace has still the values and the results of before, and DVC the experiment with its output.
    assert subproject.read_yaml("params.yaml") == {"x": 1} and not Path("out").exists()
    assert subproject.run("git", "status", "--porcelain").stdout == ""
    subproject.run("dvc", "exp", "apply", "first")
    assert Path("out").read_text() == "x: 2\n"


def test_a_cluster_refuses_a_project_in_a_subfolder(subproject: Project):
    subproject.run("dvc", "exp", "run", "--queue", "--set-param=x=2")
    with pytest.raises(UserError, match=r"at the top of its git repository, and this one is in sub folder/project/;"):
        cluster.queued()

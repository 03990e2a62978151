"""Each result once, under the settings that made it, chosen on validation; from rows, and from real experiments."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import ENVIRONMENT, ROOT, Project

from stages import leaderboard
from tunediff.core.errors import UserError
from tunediff.experiments import leaderboard_history, leaderboard_page
from tunediff.experiments.leaderboard_history import TEST, results, revisions
from tunediff.experiments.leaderboard_page import page_table
from tunediff.experiments.leaderboard_table import compared, distinct, ranked
from tunediff.tasks.classification import Classification
from tunediff.tasks.generation import Generation

pytestmark = pytest.mark.slow

HERE = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}


def revision(name: str, figures: dict[str, tuple[float | None, float | None]], **more: object) -> dict[str, object]:
    """As `dvc.api.exp_show` gives it; `figures` has for each method its figures on test and on validation."""
    row = {"Experiment": None, "rev": name, "typ": "baseline", "State": None, "data": "news", "model": "tiny"}
    row |= {"seed": 17.0, "train.epochs": 3.0, "stages/report.py": "0ab1", **more}
    for method, (test, validation) in figures.items():
        row |= {f"metrics/{method}.json:{figure}": test for figure in TEST}
        row |= {f"metrics/validation/{method}.json:{figure}": validation for figure in ("accuracy", "f1", "loss")}
        row |= {f"metrics/cost/{method}.json:train_seconds": test and 1.0}
    return row


def experiment(name: str, figures: dict, **more: object) -> dict[str, object]:
    return revision("1234567", figures, Experiment=name, typ="branch_commit", State="Success", **more)


def table(*revisions: dict) -> pd.DataFrame:
    found = [result for row in revisions for result in results(row)]
    return ranked(distinct(pd.DataFrame(found)))


def test_a_result_that_is_carried_along_is_there_once_with_what_made_it():
    made = {"full": (0.8, 0.81), "lora-v1": (0.7, 0.75)}
    found = table(
        revision("aaaaaaa", made),
        experiment("other-lora", {**made, "lora-v1": (0.72, 0.73)}, **{"train_lora.v1.rank": 4.0}),
        # The settings are edited already, and nothing has run.
        revision("main", made, **{"train.epochs": 9.0}),
        # Another machine changes the last digits.
        revision("workspace", {**made, "full": (0.8 + 1e-9, 0.81 - 1e-9)}),
    )
    assert found[["method", "accuracy", "made_in", "newest_in"]].values.tolist() == [
        ["full", 0.8, "aaaaaaa", "main"],
        ["lora-v1", 0.72, "other-lora", "other-lora"],
        ["lora-v1", 0.7, "aaaaaaa", "main"],
    ]
    assert not found.settings.str.contains("epochs=9").any()


def test_figures_are_compared_within_a_task(tmp_path: Path):
    spans = {"full": (0.8, 0.7)}
    rows = table(revision("aaaaaaa", {"full": (0.6, 0.6)}), revision("bbbbbbb", spans, data="desk", task="tagging"))
    assert dict(zip(rows.task, rows.quality, strict=True)) == {"classification": 0.6, "tagging": 0.8}
    leaderboard_page.write(rows, tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    assert {"leaderboard-classification.png", "leaderboard-tagging.png"} < made
    page = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "## Methods across data sets, tagging\n\nSpan F1 on test" in page
    head = next(line for line in page.splitlines() if line.startswith("| method | chosen | span F1 |"))
    assert "macro F1 of types | span F1 on validation" in head


def test_a_task_without_f1_chooses_the_run_with_the_least_loss():
    def written(name: str, test: float, loss: float) -> dict[str, object]:
        row = revision(name, {"full": (test, loss)}, data="briefs", task="generation")
        return {column: value for column, value in row.items() if not column.endswith((":f1", ":accuracy"))}

    rows = table(written("aaaaaaa", 0.6, 2.5), written("bbbbbbb", 0.5, 1.5))
    assert dict(zip(rows.made_in, rows.chosen, strict=True)) == {"aaaaaaa": False, "bbbbbbb": True}
    assert page_table(rows, Generation)[2][:6] == ["full", "✓", "50.0%", "50.0%", "50.0%", "1.500"]


def test_figures_of_all_rows_stand_beside_those_of_the_split():
    """They came later, of the same models, and are no result of their own."""
    made = {"full": (0.8, 0.81), "tfidf": (0.6, 0.61)}
    folds = {f"metrics/folds/full.json:{name}": value for name, value in (("accuracy", 0.77), ("f1", 0.7))}
    found = table(revision("aaaaaaa", made), experiment("in-folds", made, **folds, folds="[5]"))
    assert found[["method", "accuracy", "made_in", "newest_in"]].values.tolist() == [
        ["full", 0.8, "aaaaaaa", "aaaaaaa"],
        ["tfidf", 0.6, "aaaaaaa", "aaaaaaa"],
    ]
    shown = pd.DataFrame(page_table(found, Classification)[1:], columns=page_table(found, Classification)[0])
    assert shown["accuracy of all rows, in folds"].tolist() == ["77.0%", ""]
    assert not any("folds" in head for head in page_table(table(revision("aaaaaaa", made)), Classification)[0])


def test_figures_that_another_data_set_left_behind_are_not_its_own():
    news = {"majority": (0.4, None), "tfidf": (0.6, None), "full": (0.8, 0.81)}
    found = table(
        revision("main", news),
        # dvc exp run evaluate@full -S data=films: the others' files are still those of news.
        experiment("films-full", {**news, "full": (0.9, 0.91)}, data="films"),
        # Both do without a model, so that these are right with another one.
        experiment("large", {**news, "full": (0.85, 0.86)}, model="large"),
    )
    assert found.set_index(["data", "model"]).groupby(level=[0, 1]).method.apply(set).to_dict() == {
        ("news", "tiny"): {"majority", "tfidf", "full"},
        ("films", "tiny"): {"full"},
        ("news", "large"): {"majority", "tfidf", "full"},
    }


def test_a_training_that_was_not_evaluated_has_no_figures_of_another_one():
    before = revision("main", {"full": (0.8, 0.81), "lora-v1": (0.7, 0.75)})
    trained = experiment("longer", {"full": (0.8, 0.83), "lora-v1": (0.7, 0.75)}, **{"train.epochs": 9.0})
    found = table(before, trained)
    assert found[["made_in", "validation_f1", "chosen"]].values.tolist() == [
        ["main", 0.81, True],
        ["main", 0.75, True],
        ["longer", 0.83, False],
    ]
    assert found.loc[found.made_in == "longer", [*TEST, "train_seconds"]].isna().all(axis=None)
    # Once it is evaluated, there is no row without.
    found = table(before, trained, experiment("evaluated", {"full": (0.82, 0.83)}, **{"train.epochs": 9.0}))
    assert found[["accuracy", "made_in"]].values.tolist() == [[0.82, "evaluated"], [0.8, "main"], [0.7, "main"]]


def test_figures_on_validation_that_came_later_are_of_the_same_result():
    found = table(revision("old", {"tfidf": (0.6, None)}), revision("main", {"tfidf": (0.6, 0.65)}))
    assert found[["validation_f1", "made_in", "newest_in"]].values.tolist() == [[0.65, "old", "main"]]


def test_the_run_is_chosen_on_validation_and_the_order_is_that_of_test():
    found = table(
        revision("one", {"full": (0.8, 0.91), "lora-v1": (0.84, 0.7), "tfidf": (0.6, None)}),
        revision("two", {"full": (0.9, 0.81), "lora-v1": (0.85, 0.8), "tfidf": (0.5, None)}),
    )
    assert found[["method", "made_in", "chosen"]].values.tolist() == [
        ["full", "two", False],
        ["lora-v1", "two", True],
        ["lora-v1", "one", False],
        ["full", "one", True],
        ["tfidf", "one", False],
        ["tfidf", "two", True],  # the newest of those without
    ]
    assert compared(found)["news, tiny"].to_dict() == {"lora-v1": 0.85, "full": 0.8, "tfidf": 0.5}


def test_settings_are_those_that_differ_and_that_the_method_depends_on():
    figures = {"majority": (0.4, None), "full": (0.8, 0.8), "lora-v1": (0.7, 0.7), "dora": (0.6, 0.6)}
    again = {method: (test + 0.01, test + 0.01) for method, (test, _) in figures.items()}
    first = {
        **{"params.yaml:seed": 4294967295.0, "train.epochs": 3.0, "train.patience": 2.0, "train_lora.v1.rank": 8.0},
        **{"train_peft.entries.dora.learning_rate": "1e-05", "conf/model/tiny.yaml:learning_rate.full": 1e-4},
        **{"conf/data/news.yaml:clean": "None", "evaluate.batch_size": 64.0, "data/prepared": "ab.dir"},
    }
    second = {key: value + 1 if isinstance(value, float) else "2" for key, value in first.items()}
    found = table(revision("one", figures, **first), revision("two", again, **{**second, "train.patience": 2.0}))
    shown = found[found.made_in == "one"].set_index("method").settings.to_dict()
    assert shown == {
        "majority": "seed=4294967295",
        "full": "seed=4294967295 train.epochs=3 learning_rate.full=0.0001",
        "lora-v1": "seed=4294967295 train.epochs=3 train_lora.v1.rank=8",
        "dora": "seed=4294967295 train.epochs=3 train_peft.entries.dora.learning_rate=1e-05",
    }


def test_several_seeds_are_one_result_with_its_deviation():
    row = revision("main", {"full": (0.8, 0.81), "tfidf": (0.6, None)}, seeds="[17, 18]")
    row |= {"metrics/full.json:accuracy_deviation": 0.012, "metrics/full.json:f1_deviation": 0.02}
    found = table(row)
    assert found.seeds.tolist() == ["17, 18", "17, 18"]
    head, full, tfidf = page_table(found, Classification)
    assert dict(zip(head, full, strict=True))["accuracy"] == "80.0% ± 1.2"
    assert dict(zip(head, tfidf, strict=True))["accuracy"] == "60.0%"


@pytest.mark.parametrize(
    "row",
    [
        experiment("waiting", {"full": (0.8, 0.81)}) | {"State": "Queued"},
        experiment("broken", {"full": (0.8, 0.81)}) | {"State": "Failed"},
        revision("unreadable", {}) | {"data": None, "model": None, "seed": None},
        revision("other-project", {"full": (0.8, 0.81)}, model=None),
        revision("no-file", {"full": ("!", "!")}),
        revision("before", {}),
    ],
    ids=lambda row: row["Experiment"] or row["rev"],
)
def test_a_revision_without_figures_of_its_own_gives_no_result(row: dict):
    assert results(row) == []


# --- from git and DVC

TRAIN = """
import json, pathlib, yaml
params = yaml.safe_load(open("params.yaml"))
figures = {
    "tfidf": 0.6 if params["data"] == "news" else 0.9,
    "full": round(0.7 + 0.01 * params["train"]["epochs"], 2),
    "lora-v1": round(0.7 + 0.01 * params["train_lora"]["v1"]["rank"], 2),
}
for method, figure in figures.items():
    for path in (f"metrics/{method}.json", f"metrics/validation/{method}.json"):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        names = ["accuracy", "f1", "precision", "recall", "loss"][: None if path.count("/") == 1 else 2]
        json.dump(dict.fromkeys([*names, "loss"], figure), open(path, "w"))
"""
STAGE = {
    "cmd": "python train.py",
    "deps": ["train.py"],
    "params": ["data", "train", "train_lora", {"conf/data/${data}.yaml": None}],
    "metrics": [
        {f"metrics/{folder}{method}.json": {"cache": False}}
        for folder in ("", "validation/")
        for method in ("tfidf", "full", "lora-v1")
    ],
}


@pytest.fixture(scope="module")
def researched(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A history with experiments whose "training" takes no time."""
    made = Project(tmp_path_factory.mktemp("researched"))

    def commit(message: str, *options: str) -> None:
        made.run("git", "add", "-A")
        made.run("git", "commit", "-qm", message, *options)

    made.run("git", "init", "-q", "-b", "main")
    (made.folder / "readme.md").write_text("Before DVC.\n")
    commit("start")
    made.run("dvc", "init", "-q")
    shutil.copy(ROOT / ".gitignore", made.folder)
    (made.folder / "train.py").write_text(TRAIN)
    (made.folder / "conf/data").mkdir(parents=True)
    for name in ("news", "films"):
        made.write_yaml(f"conf/data/{name}.yaml", {"source": f"data/raw/{name}.csv"})
    settings = {"data": "news", "model": "tiny", "seed": 17, "train": {"epochs": 3}, "train_lora": {"v1": {"rank": 8}}}
    made.write_yaml("params.yaml", settings)
    made.write_yaml("dvc.yaml", {"stages": {"train": STAGE}})
    commit("code, and no figures")
    made.run("dvc", "repro", "-q")
    commit("results")
    made.run("dvc", "exp", "run", "-q", "-n", "rank-4", "-S", "train_lora.v1.rank=4")
    made.run("git", "reset", "-q", "--hard")
    commit("results, as a rebase leaves them", "--amend")
    made.edit_yaml("params.yaml", train={"epochs": 2})
    for path in ("metrics/full.json", "metrics/validation/full.json"):
        (made.folder / path).write_text('{"accuracy": 0.72, "f1": 0.72, "loss": 0.72}')
    commit("worse, so taken back")
    made.run("git", "revert", "--no-edit", "HEAD")
    (made.folder / "dvc.yaml").write_text("stages: [")
    commit("a mistake")
    made.run("git", "revert", "--no-edit", "HEAD")
    made.run("dvc", "exp", "run", "-q", "-n", "films", "-S", "data=films", "-S", "train.epochs=5")
    made.run("git", "reset", "-q", "--hard")
    made.run("dvc", "exp", "run", "-q", "--queue", "-n", "waiting", "-S", "train.epochs=9")
    return made


def test_the_command_finds_every_result_of_commits_and_experiments(researched: Project):
    done = researched.run("python", "-m", "stages.leaderboard", environment=HERE)
    out = researched.folder / "plots/leaderboard"
    found = pd.read_csv(out / "leaderboard.csv", keep_default_na=False)
    worse = researched.run("git", "log", "--grep=^worse", "--format=%h", "--abbrev=7").stdout.strip()
    columns = ["data", "method", "accuracy", "settings", "chosen", "newest_in"]
    assert found[columns].values.tolist() == [
        ["films", "tfidf", 0.9, "", True, "films"],
        ["films", "full", 0.75, "", True, "films"],
        ["news", "lora-v1", 0.78, "train.epochs=3 train_lora.v1.rank=8", True, "main"],
        ["news", "lora-v1", 0.74, "train.epochs=3 train_lora.v1.rank=4", False, "rank-4"],
        ["news", "full", 0.73, "train.epochs=3", True, "main"],
        ["news", "full", 0.72, "train.epochs=2", False, worse],
        ["news", "tfidf", 0.6, "", True, "main"],
    ]
    # The commit that was amended is on no branch, but an experiment began from it.
    made_in = found.made_in[found.newest_in == "main"].unique()
    assert researched.run("git", "branch", "--contains", *made_in).stdout == ""
    assert "films, tiny" in done.stdout and "90.0%" in done.stdout
    page = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert "## news, tiny" in page and r"| lora-v1 |  | 74.0% |" in page and "luckiest" in page
    assert (out / "leaderboard.png").read_bytes().startswith(b"\x89PNG")
    assert researched.run("git", "status", "--short").stdout == ""


def test_the_same_history_gives_the_same_bytes_however_it_is_read(
    researched: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(researched.folder)
    for name, at_once in (("one", 10), ("two", 1)):
        monkeypatch.setattr("sys.argv", ["leaderboard", "--out", str(tmp_path / name)])
        monkeypatch.setattr(leaderboard_history, "AT_ONCE", at_once)
        leaderboard.main()
    assert [row["rev"] for row in revisions()].count("workspace") == 1
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [f"leaderboard.{kind}" for kind in ("csv", "html", "md", "png")]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ([], "git has no repository here"),
        (
            [["git", "init", "-q"], ["git", "commit", "-q", "--allow-empty", "-m", "x"]],
            "not inside of a DVC repository",
        ),
        ([["git", "init", "-q"], ["dvc", "init", "-q"]], "no commit or experiment has figures on test"),
    ],
    ids=["nothing", "only-git", "no-commit"],
)
def test_where_there_is_nothing_to_read_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]], message: str
):
    for command in commands:
        Project(tmp_path).run(*command)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["leaderboard"])
    with pytest.raises(UserError, match=message):
        leaderboard.main()

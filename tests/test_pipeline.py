"""The whole pipeline on a tiny random model, by the commands a user types: dvc repro, exp run, queue, diff."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ENVIRONMENT, ROOT, Project, make_project

pytestmark = pytest.mark.slow

METHODS = ("full", "lora-v1", "lora-v2", "majority", "probe", "tfidf", "untrained")
TRAINED = ("full", "lora-v1", "lora-v2")
COST = {
    "train_seconds",
    "eval_seconds",
    "samples_per_second",
    "trainable_parameters",
    "total_parameters",
    "artifact_bytes",
    "peak_memory_bytes",
}
STARTS = {*TRAINED, "tfidf", "probe"}
"""Those that are loaded from the disk to answer."""


def repro(project: Project, *arguments: str) -> list[str]:
    """The stages that `dvc repro` ran."""
    output = project.run("dvc", "repro", *arguments).stdout
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def changed(project: Project) -> set[str]:
    return set(json.loads(project.run("dvc", "status", "--json").stdout))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_texts) -> Project:
    """A project after its first `dvc repro`, committed. Tests only read it, or work on a `copy` of it."""
    made = make_project(tmp_path_factory.mktemp("finished") / "project", tiny_model, tiny_texts)
    train = made.read_yaml("params.yaml")["train"]
    made.edit_yaml("params.yaml", train={**train, "epochs": 4, "batch_size": 4, "patience": 0})
    made.commit("code")
    made.run("dvc", "repro")
    made.commit("results")
    return made


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Project:
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


# --- what a run leaves


def test_every_method_has_its_figures(finished: Project):
    for method in METHODS:
        assert set(finished.read_json(f"metrics/{method}.json")) == {"accuracy", "f1", "precision", "recall", "loss"}
        assert set(finished.read_json(f"metrics/cost/{method}.json")) == {
            *COST,
            *(["start_seconds"] if method in STARTS else []),
            *(["answer_memory_bytes"] if method in TRAINED else []),
        }
        assert (finished.folder / f"plots/confusion_matrices/{method}.png").read_bytes().startswith(b"\x89PNG")


def test_training_learns_what_a_bag_of_words_can_tell(finished: Project):
    assert finished.read_json("metrics/tfidf.json")["accuracy"] > 0.9
    for method in TRAINED:
        assert (
            finished.read_json(f"metrics/{method}.json")["accuracy"]
            > finished.read_json("metrics/majority.json")["accuracy"] + 0.2
        )


def test_adapters_train_fewer_parameters_and_leave_smaller_folders(finished: Project):
    full, v1, v2 = (finished.read_json(f"metrics/cost/{method}.json") for method in TRAINED)
    assert v1["trainable_parameters"] < v2["trainable_parameters"] < full["trainable_parameters"]
    assert full["trainable_parameters"] == full["total_parameters"]
    # Rank 8 on query and value of 2 layers of width 32; pooler 32 x 32 + 32; classifier 32 x 2 + 2.
    assert v1["trainable_parameters"] == 2 * 2 * 8 * (32 + 32) + (32 * 32 + 32) + (32 * 2 + 2)
    assert v1["artifact_bytes"] < full["artifact_bytes"]


def test_what_a_trained_model_costs_in_use_is_measured_where_it_answers(finished: Project):
    for method in TRAINED:
        cost = finished.read_json(f"metrics/cost/{method}.json")
        assert cost["start_seconds"] > 0
        assert cost["answer_memory_bytes"] > cost["artifact_bytes"]  # PyTorch alone takes more


def test_reloaded_models_answer_as_in_training(finished: Project):
    for method in TRAINED:
        found = finished.read_json(f"metrics/reload/{method}.json")
        assert found["largest_logit_difference"] <= 1e-6
        assert found["rows"] == finished.profile()["splits"]["validation"]["rows"]


def test_predictions_agree_with_metrics_and_hold_every_test_row(finished: Project):
    profile = finished.profile()
    for method in METHODS:
        table = pd.read_parquet(finished.folder / f"data/predictions/{method}.parquet")
        assert len(table) == profile["splits"]["test"]["rows"]
        right = (table.actual.astype(str) == table.predicted.astype(str)).mean()
        assert right == pytest.approx(finished.read_json(f"metrics/{method}.json")["accuracy"])
        assert np.allclose(table.filter(regex="^p_").sum(axis=1), 1)
        assert table.tokens.max() == profile["splits"]["test"]["tokens"]["max"]


def test_model_folders_hold_what_from_pretrained_reads_and_the_card(finished: Project):
    shared = {"README.md", "config.json", "tokenizer.json", "tokenizer_config.json"}
    expected = {"full": {"model.safetensors"}, "lora-v1": {"adapter_config.json", "adapter_model.safetensors"}}
    for method, own in expected.items():
        assert {path.name for path in (finished.folder / "models" / method).iterdir()} == shared | own


def test_large_weights_are_on_the_disk_once(finished: Project):
    """DVC links its cache to where they were trained and to where they are used."""
    trained, packaged = (finished.folder / f"{place}/full/model.safetensors" for place in ("data/trained", "models"))
    assert trained.stat().st_ino == packaged.stat().st_ino


def test_transformers_and_peft_load_the_models_by_themselves(finished: Project, tiny_model: Path):
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, pipeline

    full = pipeline("text-classification", str(finished.folder / "models/full"))
    assert full("shares rose on monday")[0]["label"] in {"bearish", "bullish"}
    config = AutoConfig.from_pretrained(finished.folder / "models/lora-v1")
    assert config.id2label == {0: "bearish", 1: "bullish"}
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model, config=config)
    adapted = PeftModel.from_pretrained(base, finished.folder / "models/lora-v1")
    assert adapted.peft_config["default"].r == 8


def test_merged_adapter_keeps_head_labels_and_logits(finished: Project):
    import torch

    from tunediff.models.saved import load_saved

    model, tokenizer = load_saved(finished.folder / "models/lora-v2")
    batch = tokenizer(["shares rose on monday", "wheat fell"], return_tensors="pt", padding=True)
    with torch.inference_mode():
        before = model(**batch).logits
        merged = model.merge_and_unload()
        assert torch.allclose(before, merged(**batch).logits, atol=1e-5)
    assert merged.config.id2label == {0: "bearish", 1: "bullish"}


def test_learning_curves_have_every_epoch_of_every_method(finished: Project):
    curves = pd.read_csv(finished.folder / "plots/learning_curves/learning_curves.csv")
    assert curves.groupby("method").epoch.apply(list).to_dict() == {method: [1, 2, 3, 4] for method in TRAINED}
    assert curves[["train_loss", "validation_loss", "validation_f1"]].notna().all(axis=None)


def test_comparison_holds_every_method(finished: Project):
    with (finished.folder / "plots/cost/comparison.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == set(METHODS)


def test_slices_hold_every_method_that_learns_and_every_text(finished: Project):
    slices = pd.read_csv(finished.folder / "plots/slices/slices.csv")
    assert set(slices.method) == {*METHODS} - {"majority", "untrained"}
    rows = slices[slices.method == "full"].groupby("kind").rows.sum()
    assert rows.to_dict() == dict.fromkeys(["all", "length", "label"], 30)  # no text is cut
    assert pd.read_csv(finished.folder / "plots/slices/cut_texts.csv").empty
    assert "Cut texts" not in (finished.folder / "plots/report.md").read_text(encoding="utf-8")


def test_the_leaderboard_has_what_the_pipeline_writes(copy: Project):
    copy.run("python", "-m", "stages.leaderboard")
    found = pd.read_csv(copy.folder / "plots/leaderboard/leaderboard.csv").set_index("method")
    assert sorted(found.index) == sorted(METHODS) and found.chosen.all()
    for method, row in found.iterrows():
        assert (row.data, row.model, row.made_in, row.newest_in) == ("tiny", "tiny", "main", "main")
        figures = copy.read_json(f"metrics/{method}.json") | copy.read_json(f"metrics/cost/{method}.json")
        for name in ("accuracy", "f1", "loss", "trainable_parameters", "train_seconds"):
            assert row[name] == pytest.approx(figures[name])
    for method in TRAINED:
        assert found.validation_f1[method] == copy.read_json(f"metrics/validation/{method}.json")["f1"]


def test_dvclive_leaves_dvc_yaml_and_the_experiments_alone(finished: Project):
    assert finished.run("git", "diff", "HEAD~1", "--stat", "--", "dvc.yaml", "params.yaml").stdout == ""
    assert not (finished.folder / "dvclive").exists()
    assert "refs/exps" not in finished.run("git", "for-each-ref").stdout


def test_nothing_of_this_machine_gets_into_results(finished: Project):
    """The tiny model's own folder is named by its conf file, so it may stand in the models; nothing else may."""
    pages = ("plots/report.html", "plots/report.md")
    for folder in ("metrics", "plots/learning_curves", "plots/cost", *pages, "data/profile.json", "dvc.lock"):
        paths = [finished.folder / folder] if "." in folder else (finished.folder / folder).rglob("*.*")
        for path in paths:
            if path.suffix in {".json", ".csv", ".lock", ".html", ".md"}:
                assert str(finished.folder) not in path.read_text(encoding="utf-8")


# --- what DVC sees


def test_second_repro_does_nothing_and_status_is_clean(copy: Project):
    assert changed(copy) == set()
    assert repro(copy) == []
    assert copy.run("git", "status", "--short").stdout == ""


def test_editing_scoring_trains_nothing(copy: Project):
    with (copy.folder / "tunediff/evidence/scoring.py").open("a") as file:
        file.write("\n# edited\n")
    evaluated = {f"evaluate@{method}" for method in TRAINED}
    assert changed(copy) == {"settings", "baseline", "report", *evaluated}


def test_editing_the_loop_trains_everything(copy: Project):
    with (copy.folder / "tunediff/training/loop.py").open("a") as file:
        file.write("\n# edited\n")
    assert changed(copy) == {"settings", "train_full", "train_lora@v1", "train_lora@v2"}


def test_changing_a_variant_runs_that_variant_alone(copy: Project):
    variants = copy.read_yaml("params.yaml")["train_lora"]
    copy.edit_yaml("params.yaml", train_lora={**variants, "v2": {**variants["v2"], "rank": 4}})
    assert repro(copy) == ["settings", "train_lora@v2", "evaluate@lora-v2", "package@lora-v2", "report"]


def test_each_seed_is_a_training_of_its_own(copy: Project):
    def weights(folder: str) -> bytes:
        return (copy.folder / folder / "model.safetensors").read_bytes()

    def trained_with(*seeds: int) -> dict:
        copy.edit_yaml("params.yaml", seeds=list(seeds))
        assert "train_full" in repro(copy, "package@full")
        return copy.read_json("metrics/full.json")

    first, alone = weights("models/full"), copy.read_json("metrics/full.json")
    both = trained_with(17, 18)
    assert weights("models/full") == first
    second = weights("models/full/seed-18")
    config = copy.read_json("models/full/seed-18/config.json")["tunediff"]
    assert config["seed"] == 18 and config["temperature"] != 1

    other = trained_with(18)
    assert weights("models/full") == second != first
    assert not (copy.folder / "models/full/seed-18").exists()
    for name, value in both.items():
        if not name.endswith("_deviation"):
            assert value == pytest.approx((alone[name] + other[name]) / 2, abs=2e-6)  # files have six decimals
    assert both["f1_deviation"] == pytest.approx(abs(alone["f1"] - other["f1"]) / np.sqrt(2), abs=2e-6)


def test_class_weights_reach_every_method_and_nothing_else_runs(copy: Project):
    train = copy.read_yaml("params.yaml")["train"]
    copy.edit_yaml("params.yaml", train={**train, "class_weights": "balanced"})
    assert changed(copy) == {"settings"}
    copy.run("dvc", "repro", "settings")
    assert changed(copy) == {"baseline", "label_noise", "train_full", "train_lora@v1", "train_lora@v2"}


def test_a_method_is_named_trained_and_left_out_again(copy: Project):
    def methods(names: list[str]) -> list[str]:
        peft = copy.read_yaml("params.yaml")["train_peft"]
        copy.edit_yaml("params.yaml", train_peft={**peft, "methods": names})
        return repro(copy)

    def compared() -> set[str]:
        return set(pd.read_csv(copy.folder / "plots/cost/comparison.csv").method)

    assert methods(["ia3"]) == ["settings", "train_peft@ia3", "evaluate_peft@ia3", "package_peft@ia3", "report"]
    assert compared() == {*METHODS, "ia3"}
    assert methods([]) == ["report"]  # DVC has kept what `settings` gave for these values
    assert compared() == set(METHODS)


def test_fewer_training_rows_have_figures_of_their_own(copy: Project):
    assert "Would more labels help?" not in (copy.folder / "plots/report.md").read_text(encoding="utf-8")
    copy.edit_yaml(
        "params.yaml", training_rows={"shares": [0.25, 0.5], "per_label": [], "methods": ["tfidf", "probe", "lora-v1"]}
    )
    assert repro(copy) == ["settings", "training_rows@0.25", "training_rows@0.5", "report"]
    assert "Would more labels help?" in (copy.folder / "plots/report.md").read_text(encoding="utf-8")
    assert (copy.folder / "plots/learning_curves/training_rows.png").read_bytes().startswith(b"\x89PNG")
    quarter, half = (copy.read_json(f"metrics/training_rows/{share}.json") for share in (0.25, 0.5))
    rows = copy.profile()["splits"]["train"]["rows"]
    assert (quarter["rows"], half["rows"]) == (rows / 4, rows / 2)
    for figures in (quarter, half):
        assert set(figures) == {"rows", "tfidf", "probe", "lora-v1"}
        assert set(figures["lora-v1"]) == {"accuracy", "f1", "loss"}
    assert quarter["tfidf"]["loss"] > half["tfidf"]["loss"] > copy.read_json("metrics/validation/tfidf.json")["loss"]
    # All rows are what the method's own stage trains on, and give what it gives.
    copy.run(
        "python",
        "-m",
        "stages.training_rows",
        "--settings",
        "data/settings/training_rows.json",
        "--splits",
        "data/prepared",
        "--metrics",
        "metrics/training_rows/1.0.json",
    )
    all_rows = copy.read_json("metrics/training_rows/1.0.json")
    for method in ("tfidf", "probe", "lora-v1"):
        own = copy.read_json(f"metrics/validation/{method}.json")
        assert all_rows[method] == {name: own[name] for name in ("accuracy", "f1", "loss")}


def test_few_labels_are_drawn_several_times_and_scored_on_test(copy: Project):
    rows = {"shares": [], "per_label": [4, 8], "draws": 2, "steps": 4, "methods": ["tfidf", "probe", "lora-v1"]}
    copy.edit_yaml("params.yaml", training_rows=rows)
    assert repro(copy) == ["settings", "few_labels@4", "few_labels@8", "report"]
    page = (copy.folder / "plots/report.md").read_text(encoding="utf-8")
    assert "How many labels?" in page and "a power law through the points is not supported" in page
    assert (copy.folder / "plots/learning_curves/few_labels.png").read_bytes().startswith(b"\x89PNG")
    points = pd.read_csv(copy.folder / "plots/learning_curves/few_labels.csv")
    train, test = (copy.profile()["splits"][side]["rows"] for side in ("train", "test"))
    assert points[points.method == "probe"].rows.tolist() == [8, 16, train]  # of two labels
    for number in (4, 8):
        figures = copy.read_json(f"metrics/few_labels/{number}.json")
        assert set(figures) == {"rows", "per_label_of_all", "tfidf", "probe", "lora-v1"}
        assert {"accuracy", "accuracy_deviation", "f1", "f1_deviation", "loss"} <= set(figures["lora-v1"])
        counts = np.load(copy.folder / f"data/predictions/few_labels/{number}.npz")
        assert counts["lora-v1"].shape[:2] == (2, test)
        hits = np.split(counts["tfidf"], 3, axis=-1)[2]
        assert hits.sum() / (2 * test) == pytest.approx(figures["tfidf"]["accuracy"], abs=1e-6)
    # The last points are those of the methods' own stages.
    last = points[points.rows == train].set_index("method").value
    for method in rows["methods"]:
        assert last[method] == pytest.approx(copy.read_json(f"metrics/{method}.json")["f1"], abs=1e-6)


def test_a_share_that_leaves_a_label_without_rows_is_refused(copy: Project):
    copy.edit_yaml("params.yaml", training_rows={"shares": [0.005], "per_label": [], "methods": ["tfidf"]})
    failed = copy.run("dvc", "repro", "training_rows", check=False)
    assert failed.returncode != 0
    message = failed.stdout + failed.stderr
    assert re.search(r"training_rows.shares: 0.005 of 140 rows has none of label '\w+'; take a larger share", message)
    assert "Traceback" not in message


def test_stages_at_once_from_scratch_give_the_files_of_dvc_repro_but_for_cost(finished: Project, tmp_path: Path):
    finished.run("git", "clone", "-q", str(finished.folder), str(tmp_path / "again"))
    again = Project(tmp_path / "again")
    # The clone has no cache: everything runs. Nor has it the files to which DVC adds what stages write.
    for name in ("dvc.lock", *again.run("git", "ls-files", "*/.gitignore", ":!.dvc").stdout.split()):
        (again.folder / name).unlink()
    again.run("python", "-m", "stages.repro", "--jobs", "2", environment=ENVIRONMENT)
    changed_files = again.run("git", "diff", "--name-only").stdout.split()
    assert [name for name in changed_files if not re.search(r"cost|^dvc\.lock$", name)] == []

    def without_cost(project: Project) -> dict:
        """Nor the folder that holds cost too, nor the page, which shows it and names the commit."""
        stages = project.read_yaml("dvc.lock")["stages"]
        return {
            name: {
                kind: [
                    entry for entry in stage.get(kind, []) if not re.search("cost|^metrics$|/report[.]", entry["path"])
                ]
                for kind in ("deps", "outs")
            }
            for name, stage in stages.items()
        }

    assert without_cost(again) == without_cost(finished)
    assert list(without_cost(again)) == list(without_cost(finished))
    assert [name for name, stage in without_cost(again).items() if not stage["outs"]] == []


# --- experiments


def test_a_number_set_on_the_command_line_is_a_number(copy: Project):
    """`dvc exp run -S x=1e-5` writes `1e-05`, which PyYAML reads as a string."""
    copy.run("dvc", "exp", "run", "train_full", "-S", "conf/model/tiny.yaml:learning_rate.full=1e-5", "-n", "slow")
    assert isinstance(copy.read_yaml("conf/model/tiny.yaml")["learning_rate"]["full"], str)
    accuracy = copy.read_json("metrics/validation/full.json")["accuracy"]
    diff = json.loads(copy.run("dvc", "metrics", "diff", "main", "--json").stdout)
    assert diff["metrics/validation/full.json"]["loss"]["new"] == copy.read_json("metrics/validation/full.json")["loss"]
    assert 0 <= accuracy <= 1


def test_a_value_of_one_method_trains_that_method_alone_in_an_experiment(copy: Project):
    ran = copy.run("dvc", "exp", "run", "-S", "conf/model/tiny.yaml:learning_rate.full=1e-4", "-n", "slower").stdout
    stages = re.findall("^Running stage '(.+)':$", ran, re.MULTILINE)
    assert stages == ["settings", "train_full", "evaluate@full", "package@full", "report"]
    shown = json.loads(copy.run("dvc", "params", "diff", "--json").stdout)
    assert shown["conf/model/tiny.yaml"]["learning_rate.full"]["new"] == 1e-4


def test_queued_grid_finishes_and_is_compared(copy: Project):
    copy.run("dvc", "exp", "run", "--queue", "-S", "train_lora.v1.rank=4,2")
    copy.run("dvc", "queue", "start")
    copy.run("dvc", "queue", "logs", "-f", check=False)
    deadline = 60
    while "Running" in (status := copy.run("dvc", "queue", "status").stdout) or "Queued" in status:
        import time

        time.sleep(2)
        deadline -= 1
        assert deadline, status
    assert status.count("Success") == 2, status
    shown = copy.run("dvc", "exp", "show", "--csv").stdout
    rows = [row for row in csv.DictReader(shown.splitlines()) if row["train_lora.v1.rank"] in {"2", "4"}]
    assert sorted(row["train_lora.v1.rank"] for row in rows) == ["2", "4"]
    assert all(float(row["metrics/lora-v1.json:accuracy"]) > 0 for row in rows)
    name = rows[0]["Experiment"]
    diff = json.loads(copy.run("dvc", "metrics", "diff", "main", name, "--json").stdout)
    assert "metrics/cost/lora-v1.json" in diff
    copy.run("dvc", "exp", "apply", name)
    applied = copy.read_yaml("params.yaml")["train_lora"]["v1"]["rank"]
    assert str(applied) == rows[0]["train_lora.v1.rank"]


def test_a_typo_in_a_key_stops_before_any_work(copy: Project):
    copy.edit_yaml("params.yaml", seed=18, presision="fp32")
    failed = copy.run("dvc", "repro", check=False)
    assert failed.returncode != 0
    assert "params.yaml: presision: unknown key" in failed.stderr + failed.stdout
    assert "Traceback" not in failed.stderr + failed.stdout


def test_plots_are_drawn_for_both_sides_of_a_diff(copy: Project):
    shown = json.loads(copy.run("dvc", "plots", "diff", "main", "HEAD", "--json").stdout)["data"]
    assert {"Validation loss", "Validation macro F1", "Accuracy against trainable parameters"} <= set(shown)
    assert "plots/cost/comparison.png" in shown
    methods = {point["method"] for point in shown["Validation loss"][0]["content"]["data"]["values"]}
    assert methods == set(TRAINED)


# --- the page


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_in_a_browser(finished: Project, tmp_path: Path, width: int):
    """With a script added that clicks through it and says in the title what it finds."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    page = (finished.folder / "plots/report.html").read_text(encoding="utf-8")
    script = """<script>addEventListener("load", () => {
        const shown = () => document.querySelectorAll("#records td:first-child").length;
        document.querySelectorAll("details").forEach(one => one.open = true);
        const wide = document.documentElement.scrollWidth - innerWidth, all = shown();
        const set = (name, value) => { const one = document.getElementsByName(name)[0]; one.value = value;
            one.dispatchEvent(new Event("input")); return shown(); };
        const one = document.querySelector("#records td:nth-child(3)").textContent;
        const own = set("method", one), cells = [...document.querySelectorAll("#records td:nth-child(3)")];
        const methods = new Set(cells.map(cell => cell.textContent));
        const sure = set("probability", "1"), none = set("text", "no text has this");
        const charts = [...document.querySelectorAll("svg")];
        const pictures = document.images.length;
        document.title = [wide, all, own, one, [...methods].join("+"), sure, none, pictures, charts.length,
            charts.filter(chart => chart.getBoundingClientRect().height < 50).length].join(); })</script>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{script}</body>"), encoding="utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},900")
    done = finished.run(browser, *options, f"--user-data-dir={tmp_path}", "--dump-dom", f"file://{tmp_path}/page.html")
    assert "CONSOLE" not in done.stderr
    title = re.search("<title>(.*)</title>", done.stdout)[1]
    wide, errors, own, method, methods, sure, none, pictures, charts, flat = title.split(",")
    assert int(wide) <= 0 and (int(pictures), int(flat)) == (0, 0) and int(charts) >= 8
    assert int(errors) >= int(own) > int(sure) >= int(none) == 0 and methods == method
    sections = re.findall('<section id="([^"]+)"', done.stdout)
    assert [section for section in sections if section != "likely-label-noise"] == [  # which is there if one is found
        *("methods", "what-each-method-is", "quality-against-cost", "how-sure-this-is", "answer-only-if-sure"),
        *("where-to-draw-the-line", "label-by-label", "confusion", "calibration", "differences", "where-it-fails"),
        *("learning-curves", "wrong-for-every-method", "errors", "where-it-comes-from"),
    ]
    assert re.findall('href="#([^"]+)"', done.stdout) == sections
    advice = re.search('id="verdict">(.*?)<nav>', done.stdout, re.DOTALL)[1]
    assert advice.count('class="tile"') == 3 and " sure that it is " in advice and "<code>" in advice


def test_the_page_says_where_it_comes_from(finished: Project):
    page = (finished.folder / "plots/report.md").read_text(encoding="utf-8")
    commit = finished.run("git", "rev-parse", "HEAD~1").stdout.strip()
    assert f"commit {commit}" in page and "not in it" not in page
    assert "tiny.csv sha256:" in page and "train 140, validation 30, test 30" in page


def test_the_page_is_not_in_git(finished: Project):
    assert "report.html" not in finished.run("git", "ls-files").stdout


def test_models_keep_what_validation_said_of_their_probabilities(finished: Project):
    for method in TRAINED:
        saved = finished.read_json(f"models/{method}/config.json")["tunediff"]
        assert (
            finished.read_json(f"metrics/detail/{method}.json")["with_temperature"]["temperature"]
            == saved["temperature"]
        )
        assert saved["temperature"] != 1
        assert set(saved["confidences"]) <= {"0.8", "0.9", "0.95", "0.99"}
        assert all(0 < confidence < 1 for confidence in saved["confidences"].values())
    assert saved["confidences"], "30 rows are enough for 0.8"


# --- models elsewhere


def test_another_repository_gets_models_and_figures(copy: Project, tmp_path: Path):
    """From a bare clone and the remote alone, as from a server."""
    copy.run("dvc", "push", "models/full", "data/predictions/full.parquet")
    copy.run("dvc", "remote", "modify", "storage", "url", str(tmp_path / "tunediff-storage"))
    copy.run("git", "commit", "-qam", "a remote that a clone finds")
    copy.run("git", "clone", "-q", "--bare", str(copy.folder), str(tmp_path / "server.git"))
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    elsewhere.run("dvc", "get", "../server.git", "models/full")
    files = {path.name: path.read_bytes() for path in (copy.folder / "models/full").iterdir()}
    assert {path.name: path.read_bytes() for path in (elsewhere.folder / "full").iterdir()} == files

    code = """
import json, dvc.api, pandas
metrics = json.loads(dvc.api.read("metrics/full.json", repo="../server.git", rev="main"))
with dvc.api.open("data/predictions/full.parquet", repo="../server.git", mode="rb") as file:
    print(metrics["accuracy"], len(pandas.read_parquet(file)))
"""
    accuracy, rows = elsewhere.run("python", "-c", code).stdout.split()
    assert float(accuracy) == copy.read_json("metrics/full.json")["accuracy"]
    assert int(rows) == copy.profile()["splits"]["test"]["rows"]


# --- a model that is not what it was


def test_a_changed_model_is_not_scored(copy: Project):
    """A head lost on the way is noticed, whatever the accuracy says."""
    from safetensors.numpy import load_file, save_file

    weights = copy.folder / "data/trained/full/model.safetensors"
    tensors = load_file(weights)
    tensors["classifier.weight"] = -tensors["classifier.weight"]
    weights.unlink()
    save_file(tensors, weights, metadata={"format": "pt"})
    failed = copy.run("dvc", "repro", "-s", "-f", "evaluate@full", check=False)
    assert failed.returncode != 0
    assert "does not answer as it did in training" in failed.stderr


def test_the_commands_of_the_readme_fit_120_columns(copy: Project):
    """An experiment with another rank, as DVC tables it."""
    lora = copy.read_yaml("params.yaml")["train_lora"]
    copy.edit_yaml("params.yaml", train_lora={**lora, "v1": {**lora["v1"], "rank": 4}})
    for name in ("validation/lora-v1", "lora-v1", "cost/lora-v1"):
        file = copy.folder / f"metrics/{name}.json"
        file.write_text(json.dumps({key: value / 2 for key, value in json.loads(file.read_text()).items()}))
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line.partition("  #")[0] for line in lines if line.startswith(("dvc exp show", "dvc metrics diff"))]
    assert len(commands) == 2
    for command in commands:
        shown = copy.run(
            "sh", "-c", command.replace("main NAME", "main"), environment={**ENVIRONMENT, "COLUMNS": "120"}
        )
        assert "f1" in shown.stdout and "…" not in shown.stdout
        assert max(map(len, shown.stdout.splitlines())) <= 120
        assert "rank" in shown.stdout or "metrics" in command

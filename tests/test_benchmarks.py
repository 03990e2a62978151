"""What a benchmark compares must do the same work."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import test_generation
from conftest import ROOT, SIDES, Project

from benchmarks import gpu, language_model, peer_study, rows, study

MORE = ["Once more.,neutral", "once (MORE)!,neutral", "once more,bullish", "?!,neutral"]


@pytest.mark.slow
def test_prepare_and_its_peer_keep_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows.make_project(tmp_path, 200, headlines=1)
    with (tmp_path / "data/raw/rows.csv").open("a", encoding="utf-8") as file:
        file.write("\n".join(MORE) + "\n")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    figures = rows.beside_peer(tmp_path, rounds=1)
    assert figures["peer_over_prepare"] > 0

    def kept(folder: str) -> list[tuple]:
        table = pd.concat(pd.read_parquet(tmp_path / folder / f"{side}.parquet") for side in SIDES)
        return sorted(table[["text", "label", "tokens"]].itertuples(index=False, name=None))

    assert len(kept("peer")) == 202
    assert kept("peer") == kept("data/prepared")


@pytest.mark.slow
def test_the_scripts_of_peers_learn_what_the_stages_learn(project: Project, monkeypatch: pytest.MonkeyPatch):
    # With fewer epochs, or an early stop, one seed in four learns nothing: which one depends on the processor.
    train = project.read_yaml("params.yaml")["train"]
    project.edit_yaml("params.yaml", train={**train, "epochs": 12, "patience": 0})
    project.prepare_here(monkeypatch)
    for script in study.SCRIPTS:
        monkeypatch.setattr(sys, "argv", ["peer_study", script, "--out", "peer"])
        peer_study.main()
    table = pd.read_csv(project.folder / "peer/table.csv").set_index("method")
    assert table.index.tolist() == ["tfidf", "full", "lora-v1", "lora-v2"]
    assert (table > 0.7).all(axis=None), table  # of two labels
    adapter = project.read_json("peer/lora-v2/adapter_config.json")
    assert (adapter["r"], adapter["lora_alpha"], adapter["peft_type"]) == (16, 32, "LORA")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["write", "label"])
def test_a_language_model_is_timed_beside_loop_and_pipeline(
    what: str,
    project: Project,
    tiny_decoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    if what == "write":
        project = test_generation.make(tmp_path / "writing")
    else:
        project.write_yaml("conf/model/decoder.yaml", {"name": str(tiny_decoder), "max_length": 512})
        prompts = project.read_yaml("params.yaml")["prompts"]
        project.edit_yaml("params.yaml", prompts={**prompts, "model": "decoder", "methods": ["few-shot"]})
    project.prepare_here(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["language_model", what, "--rows", "2", "--rounds", "1"])
    language_model.main()
    shown = re.findall(r"^ours, (.+) = 1: [\d.]+, [\d.]+ to [\d.]+$", capsys.readouterr().out, re.MULTILINE)
    loop = {"write": "a loop of generate", "label": "a loop over texts and labels"}[what]
    assert shown == [loop, "pipeline"]


@pytest.fixture
def gpu_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """What `python -m benchmarks.gpu --tiny` prints."""

    def table(*arguments: str) -> str:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["gpu", "--tiny", *arguments])
        with mock.patch.dict(os.environ):  # where the Trainer notes that it compiles
            gpu.main()
        return capsys.readouterr().out

    return table


@pytest.mark.slow
def test_the_script_for_a_gpu_measures_every_row(gpu_table: Callable[..., str], monkeypatch: pytest.MonkeyPatch):
    cases = [case for case in gpu.cases(gpu.TINY) if case.tokens == 16 and case.shape != "SmolLM2-135M"]
    plain, compiled = ([case for case in cases if case.compiled is side] for side in (False, True))
    assert [case.step for case in compiled] == ["Trainer", "ours"] * 4
    cases = [*plain, compiled[1]]  # of these, one: it takes its time
    monkeypatch.setattr(gpu, "cases", lambda size: cases)
    row = r"^\|(.+?)\|(\d+)\|(.+?)\|(.+?)\|(\d+)\|([\d.]+)\|([\d.]+)%\|([\d.]+)\|$"
    rows = re.findall(row, gpu_table(), re.MULTILINE)
    assert [(*row[:4],) for row in rows] == [
        (case.shape, str(case.tokens), case.method, case.step + ", compiled" * case.compiled) for case in cases
    ]
    assert all(float(figure) > 0 for row in rows for figure in row[4:])
    assert {float(row[5]) for row in rows if row[3] == "Trainer"} == {1.0}


def test_the_operations_of_a_step_are_those_of_its_matrices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of each of two layers: four square matrices of attention, and two of 32 by 64; LoRA adds its own of rank 16."""
    monkeypatch.chdir(ROOT)
    weights = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    adapters = 2 * 16 * (4 * (32 + 32) + 2 * (32 + 64))
    for method, expected in (("full", 6 * weights), ("LoRA", 4 * weights + 6 * adapters)):
        assert gpu.measure(gpu.Case("bert-base", 8, method, "ours"), gpu.TINY, tmp_path)[1] == expected
    assert gpu.attention(gpu.Case("bert-base", 8, "full", "ours"), gpu.TINY) == 12 * 2 * 32 * 8


@pytest.mark.slow
def test_the_script_for_a_gpu_ends_in_time(gpu_table: Callable[..., str]):
    rows = len(list(gpu.cases(gpu.TINY)))
    assert gpu_table("--minutes", "0").endswith(f"The time was over before {rows} more rows.\n")

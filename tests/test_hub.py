"""Data sets and models by their Hub names, through huggingface_hub's own client and a Hub on this machine (hub.py)."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import hub
import hub_data
import hub_models
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT, SIDES, Project, World, make_project
from test_generation import tiny_llama

from tunediff.core.splits import load_split
from tunediff.sources.hub_part import _evenly, _shares_asked_for
from tunediff.sources.settings import DataConf
from tunediff.tasks import with_keys

pytestmark = pytest.mark.slow  # of a server, and of clients that wait for it

DATA = {
    name: yaml.safe_load((ROOT / f"conf/data/{name}.yaml").read_text(encoding="utf-8"))
    for name in ("twitter-financial", "bbc-news", "amazon-polarity", "imdb")
}
NAMES = {
    "twitter-financial": list(hub_data.TWEETS),
    "bbc-news": list(hub_data.NEWS),
    "amazon-polarity": list(hub_data.REVIEWS),
    "imdb": list(hub_data.FILMS),
}
ARCHITECTURES = {
    "distilbert-base-cased": "DistilBertForSequenceClassification",
    "distilbert-base-uncased": "DistilBertForSequenceClassification",
    "bert-base-uncased": "BertForSequenceClassification",
    "gpt2": "GPT2ForSequenceClassification",
    "Qwen/Qwen2.5-1.5B": "Qwen2ForSequenceClassification",
    "answerdotai/ModernBERT-base": "ModernBertForSequenceClassification",
    "xlm-roberta-base": "XLMRobertaForSequenceClassification",
}
TEXTS = ["The old bridge opened its doors.", "the old bridge OPENED its doors.", "Our neighbour ran out of flour."]


@pytest.fixture
def project(tmp_path: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    return hub_project(tmp_path / "project", tiny_texts)


def hub_project(folder: Path, tiny_texts: list[tuple[str, str]]) -> Project:
    """A project with DistilBERT from the Hub, and `tiny` as a data set of its own."""
    made = make_project(folder, Path("unused"), tiny_texts)
    made.write_yaml(
        "conf/model/hub.yaml",
        {"name": "distilbert-base-cased", "max_length": 64, "learning_rate": {"full": 1e-4, "lora": 1e-3}},
    )
    made.edit_yaml("params.yaml", model="hub")
    return made


def prepared(project: Project) -> pd.DataFrame:
    """All prepared rows; index is (split in the source, row there)."""
    return project.prepared().set_index(["split", "row"])


# --- data sets


@pytest.mark.parametrize("name", ["samsum", "xsum", "multi30k", "dolly", "opus_books"])
def test_texts_to_be_written_are_read_from_the_hub(world: World, project: Project, tmp_path: Path, name: str) -> None:
    conf = yaml.safe_load((ROOT / f"conf/data/{name}.yaml").read_text(encoding="utf-8"))
    tiny_llama(tmp_path / "llama")
    project.write_yaml("conf/model/hub.yaml", {"name": str(tmp_path / "llama"), "max_length": 96})
    project.edit_yaml("params.yaml", data=name, generate={"max_new_tokens": 16})
    done = world.prepare(project, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    rows = {side: pd.read_parquet(project.folder / f"data/prepared/{side}.parquet") for side in SIDES}
    sizes = {side: len(table) for side, table in rows.items()}
    assert sizes == (
        hub_data.WRITTEN if "train" in conf["splits"].values() else {"train": 48, "validation": 6, "test": 6}
    )
    assert project.profile()["instruction"] == conf.get("instruction", "")
    first = rows["test"].sort_values("row").iloc[0]
    assert any(town in first.label["target"] for town in hub_data.TOWNS)
    begins = {"samsum": "Ann", "xsum": "The bridge", "multi30k": "A man", "dolly": "What", "opus_books": "The house"}
    assert first.text.startswith(begins[name])
    if name == "opus_books":
        assert first.label["target"].startswith("La maison")
        project.edit_yaml(f"conf/data/{name}.yaml", target="translation.de")
        missing = world.prepare(project, tmp_path / "home")
        assert "opus_books.yaml: target: " in missing.stderr and "'translation.de'" in missing.stderr
        assert "translation.en" in missing.stderr and "Traceback" not in missing.stderr


@pytest.mark.parametrize("name", DATA)
def test_prepare_reads_a_hub_data_set_once(world: World, project: Project, tmp_path: Path, name: str) -> None:
    project.edit_yaml("params.yaml", data=name)
    done = world.prepare(project, tmp_path / "home")
    assert done.returncode == 0, done.stderr

    # The commit is recorded, and every row has the label that it has in the source.
    id = DATA[name]["source"]
    assert {origin.split(" (")[0] for origin in project.profile()["source"].values()} == {f"{id} {world.commits[id]}"}
    rows, truth = prepared(project), true_labels(name, world.folders[id])
    assert rows.name.to_dict() == {place: truth[place] for place in rows.index}
    for side in SIDES:
        assert set(rows[rows.side == side].name) == set(NAMES[name])
    assert set(project.profile()["labels"]) == set(NAMES[name])

    # Without a network afterwards: the same, and nothing is asked of the Hub.
    first = (project.profile(), rows)
    world.hub.requests.clear()
    done = world.prepare(project, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert world.hub.requests == []
    assert project.profile() == first[0]
    pd.testing.assert_frame_equal(prepared(project), first[1])


@pytest.mark.parametrize("name", ["conll2003", "wnut17", "goemotions"])
def test_prepare_reads_tags_and_lists_of_labels(world: World, project: Project, tmp_path: Path, name: str) -> None:
    project.edit_yaml("params.yaml", data=name)
    done = world.prepare(project, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    id = project.read_yaml(f"conf/data/{name}.yaml")["source"]
    assert set(project.profile()["source"].values()) == {f"{id} {world.commits[id]}"}
    splits = {side: load_split(project.folder / "data/prepared", side) for side in SIDES}
    assert [len(split) for split in splits.values()] == [20, 10, 10]
    rows = [row for split in splits.values() for row in split]
    if name == "goemotions":
        assert project.profile()["labels"] == sorted(hub_data.FEELINGS)
        for row in rows:
            told = [label for label, text in sorted(hub_data.FEELINGS.items()) if text in row["text"]]
            assert [sorted(hub_data.FEELINGS)[label] for label in row["label"]] == told
        return
    kinds = hub_data.NAMES if name == "conll2003" else hub_data.FINDS
    assert project.profile()["labels"] == sorted(kinds)
    marked = [(row["text"][span["start"] : span["end"]], span["label"]) for row in rows for span in row["label"]]
    assert set(marked) == {(kinds[kind], number) for number, kind in enumerate(sorted(kinds))}
    assert sum(not row["label"] for row in rows) == len(hub_data.TOWNS)


def true_labels(name: str, folder: Path) -> dict[tuple[str, int], str]:
    """The label of each row of what is served, by (split, row from 1)."""
    readers = {
        ".csv": pd.read_csv,
        ".jsonl": lambda path: pd.read_json(path, lines=True),
        ".parquet": lambda path: pq.ParquetFile(path).read(columns=["label"]).to_pandas(),
    }
    splits: dict[str, list[int]] = {}
    for file in map(Path, hub.files(folder)):
        if reader := readers.get(file.suffix):
            split = file.stem.removeprefix("sent_").split("-")[0].replace("valid", "validation")
            splits.setdefault(split, []).extend(reader(folder / file).label)
    return {
        (split, row): NAMES[name][label]
        for split, labels in splits.items()
        for row, label in enumerate(labels, 1)
        if label != -1
    }


def test_a_pinned_commit_stays_when_main_moves(world: World, project: Project, tmp_path: Path) -> None:
    id, texts = "acme/moving-texts", {}
    for version in ("old", "new"):
        texts[version] = tmp_path / version
        texts[version].mkdir()
        lines = [f"{version} {'good' if i % 2 else 'bad'} text {i},{i % 2}" for i in range(40)]
        (texts[version] / "train.csv").write_text("\n".join(["text,label", *lines]))
    old = world.hub.add("datasets", id, texts["old"])
    new = world.hub.add("datasets", id, texts["new"])
    assert old != new
    for revision, commit, word in ((old, old, "old"), ("main", new, "new")):
        project.write_yaml("conf/data/hub.yaml", {"source": id, "revision": revision, "text": "text", "label": "label"})
        project.edit_yaml("params.yaml", data="hub")
        done = world.prepare(project, tmp_path / "home")
        assert done.returncode == 0, done.stderr
        assert project.profile()["source"] == {"train": f"{id} {commit}"}
        assert set(prepared(project).text.str.split().str[0]) == {word}


def test_a_few_rows_of_a_large_data_set_are_not_all_of_it(world: World, project: Project, tmp_path: Path) -> None:
    project.write_yaml("conf/data/amazon.yaml", {**DATA["amazon-polarity"], "rows": 200})
    project.edit_yaml("params.yaml", data="amazon")
    id = DATA["amazon-polarity"]["source"]
    total = sum(path.stat().st_size for path in world.folders[id].rglob("*.parquet"))
    # Trouble on the way changes nothing.
    faults = [hub.Fault("/blob/.*train-00001", times=1, after=50), hub.Fault("/blob/.*test-00000", 1, status=503)]
    world.hub.requests.clear()
    world.hub.faults[:] = faults
    done = world.prepare(project, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert [fault.times for fault in faults] == [0, 0]
    assert 0 < world.hub.sent(".parquet") < 0.45 * total

    # As many rows as asked for, from all over the splits, which are sorted by label: labels keep their shares.
    sizes = {"train": 120, "validation": 13, "test": 67}
    table = prepared(project)
    assert table.side.value_counts().to_dict() == sizes
    for side, size in sizes.items():
        assert (table[table.side == side].name == "negative").sum() == pytest.approx(size / 2, abs=size * 0.1)
    # Each row has its own number in the source, which is part of the title here.
    assert [f"({row})" in text for (_, row), text in table.text.items()] == [True] * len(table)
    truth = true_labels("amazon-polarity", world.folders[id])
    assert table.name.to_dict() == {place: truth[place] for place in table.index}
    # What was read is no secret.
    first = project.profile()
    assert first["rows"]["read"] < 0.5 * len(truth)
    assert first["source"]["train"].startswith(f"{id} {world.commits[id]} (")
    assert first["source"]["train"].endswith(" of 80 row groups)")

    world.hub.requests.clear()
    done = world.prepare(project, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert (world.hub.requests, project.profile()) == ([], first)
    pd.testing.assert_frame_equal(prepared(project), table)


def test_how_much_of_each_split_is_read() -> None:
    def shares(rows: int | dict, **changes: object) -> dict[str, float]:
        conf = with_keys(DataConf, "classification")(**{**DATA["amazon-polarity"], **changes, "rows": rows})
        sizes = {"train": 8000, "test": 2000} if conf.named_splits else {"train": 8000}
        return {split: round(share, 9) for split, share in _shares_asked_for(conf, sizes).items()}

    assert shares(500) == {"train": 0.05, "test": 0.05}
    # A tenth of `train` is cut off for validation: it must be large enough for that, too.
    assert shares({"train": 720, "validation": 8, "test": 100}) == {"train": 0.1, "test": 0.05}
    assert shares({"train": 72, "validation": 80, "test": 100}) == {"train": 0.1, "test": 0.05}
    # What `rows` leaves out is wanted whole.
    assert shares({"train": 72, "validation": 8}) == {"train": 0.01, "test": 1}
    cut = {"train": 0.8, "validation": 0.1, "test": 0.1}
    assert shares({"train": 64, "validation": 16, "test": 8}, splits=cut) == {"train": 0.02}


def test_row_groups_are_evenly_spaced() -> None:
    assert _evenly(100, 0.04) == [12, 37, 62, 87]
    assert _evenly(100, 0.031) == _evenly(100, 0.04)
    assert _evenly(3, 0.01) == [1]
    assert _evenly(4, 0.5) == _evenly(4, 7.0) == [0, 1, 2, 3]


# --- models

LOAD = """
import hashlib, json, sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from tunediff.models import loading, tokens
from tunediff.core.errors import UserError
from tunediff.models.settings import ModelConf
from tunediff.tasks.classification import Classification

def digest(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()

request, results = json.loads(sys.argv[1]), {}
place = Path("conf/model/hub.yaml")
texts = request["texts"]
for name, revision, folder in request["models"]:
    conf = ModelConf(name=name, revision=revision, max_length=32, learning_rate={})
    result = results[f"{name}@{revision}"] = {}
    try:
        tokenizer = loading.load_tokenizer(conf, place)
    except UserError as error:
        result["tokenizer error"] = str(error)
        tokenizer = loading.load_tokenizer(ModelConf(name="gpt2", max_length=32, learning_rate={}), place)
    try:
        model = loading.load_pretrained(conf, place, tokenizer, Classification(["no", "yes", "maybe"]), seed=3).eval()
    except UserError as error:
        result["error"] = str(error)
        continue
    batch = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        logits = model(**batch).logits
        alone = [model(**tokenizer([t], return_tensors="pt", return_token_type_ids=False)).logits[0] for t in texts]
    here = {digest(tensor) for tensor in model.state_dict().values()}
    ids = tokenizer(texts)["input_ids"]
    result.update(
        architecture=type(model).__name__,
        revision=model.config.tunediff["revision"],
        id2label=model.config.id2label,
        pad_token=tokenizer.pad_token,
        pad=[tokenizer.pad_token_id, model.config.pad_token_id],
        ids=ids,
        pieces=tokenizer.tokenize(texts[0]),
        decoded=tokenizer.batch_decode(ids, skip_special_tokens=True),
        lengths=tokens.token_lengths(texts, conf, place),
        logits=logits.tolist(),
        padding_error=float((logits - torch.stack(alone)).abs().max()),
        lost=[key for key, value in load_file(Path(folder, "model.safetensors")).items() if digest(value) not in here],
    )
print(json.dumps(results))
"""
BAD_MODELS = {  # name, revision: how the message begins
    ("acme/nothing", "main"): "conf/model/hub.yaml: name: cannot load 'acme/nothing' (revision main): ",
    ("acme/locked-bert", "main"): "conf/model/hub.yaml: name: cannot load 'acme/locked-bert' (revision main): ",
    ("acme/pickled-bert", "main"): "conf/model/hub.yaml: name: cannot load 'acme/pickled-bert' (revision main): acme/"
    "pickled-bert does not appear to have a file named model.safetensors",
    ("bert-base-uncased", "v9"): "conf/model/hub.yaml: revision: cannot load 'bert-base-uncased' (revision v9): ",
}


@pytest.fixture(scope="session")
def loaded(
    world: World, tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[tuple[str, str]]
) -> dict[str, dict[str, dict]]:
    """Every architecture loaded with the Hub in trouble, then once more without a network. Importing torch is slow."""
    root = tmp_path_factory.mktemp("loaded")
    project = hub_project(root / "project", tiny_texts)
    folders = {model.alias or id: str(world.folders[id]) for id, model in hub_models.MODELS.items()}
    good = [(name, "main", folders[name]) for name in ARCHITECTURES]
    results = {}
    world.hub.faults[:] = [
        hub.Fault("distilbert-base-cased/resolve/.*/config.json", 2, status=503),
        hub.Fault("/blob/.*/model.safetensors", 2, after=1000),
    ]
    for when, offline, wanted in (
        ("online", "0", [*good, *((*bad, "") for bad in BAD_MODELS)]),
        ("offline", "1", good),
    ):
        world.hub.requests.clear()
        request = json.dumps({"texts": TEXTS, "models": wanted})
        done = world.run(project, root / "home", "-c", LOAD, request, HF_HUB_OFFLINE=offline)
        assert done.returncode == 0, done.stderr
        results[when] = json.loads(done.stdout)
        assert "Traceback" not in done.stderr
        results[when]["requests"] = list(world.hub.requests)
    assert [fault.times for fault in world.hub.faults] == [0, 0]
    return results


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_loads_by_its_hub_name(world: World, loaded: dict[str, dict], name: str) -> None:
    result = loaded["online"][f"{name}@main"]
    assert result["architecture"] == ARCHITECTURES[name]
    assert result["revision"] == world.commits[name]
    assert result["id2label"] == {"0": "no", "1": "yes", "2": "maybe"}
    # All weights are the served ones but for the head that they were pretrained with; the new head tells texts apart.
    assert [key for key in result["lost"] if not key.startswith(("vocab_", "cls.", "lm_head.", "decoder."))] == []
    first, second, third = result["logits"]
    assert max(abs(a - b) for a, b in zip(first, third, strict=True)) > 1e-3
    # Padding changes nothing, and the model knows it from the text.
    pad_tokens = {**dict.fromkeys(("gpt2", "Qwen/Qwen2.5-1.5B"), "<|endoftext|>"), "xlm-roberta-base": "<pad>"}
    assert result["pad_token"] == pad_tokens.get(name, "[PAD]")
    assert result["pad"][0] == result["pad"][1]
    assert result["padding_error"] < 1e-4
    # The tokenizer is of its kind, and `prepare` counts with the same one. Equal texts in one batch are equal up to
    # rounding: which rows a product takes together depends on the processor.
    alike = max(abs(a - b) for a, b in zip(first, second, strict=True)) < 1e-5
    assert alike == (result["ids"][0] == result["ids"][1]) == name.endswith("-uncased")
    assert result["lengths"] == [len(ids) for ids in result["ids"]]
    assert result["decoded"][0] == (TEXTS[0].lower() if name.endswith("-uncased") else TEXTS[0])
    byte_level = ("gpt2", "Qwen/Qwen2.5-1.5B", "answerdotai/ModernBERT-base")
    marks = {**dict.fromkeys(byte_level, "Ġold"), "xlm-roberta-base": "▁o"}
    assert marks.get(name, "old") in result["pieces"]

    offline = {**loaded["offline"][f"{name}@main"]}
    assert np.allclose(offline.pop("logits"), result["logits"], rtol=0, atol=1e-5)
    assert offline.pop("padding_error") < 1e-4
    assert offline == {key: value for key, value in result.items() if key not in ("logits", "padding_error")}


def test_no_request_for_cached_models_offline(loaded: dict[str, dict]) -> None:
    assert loaded["online"]["requests"] != []
    assert loaded["offline"]["requests"] == []


@pytest.mark.parametrize("bad", BAD_MODELS, ids=" ".join)
def test_a_model_that_cannot_be_had_is_one_message(loaded: dict[str, dict], bad: tuple[str, str]) -> None:
    result = loaded["online"]["@".join(bad)]
    assert ("tokenizer error" in result) == ("pickled" not in bad[0])
    for message in result.values():
        assert message.startswith(BAD_MODELS[bad])
        assert "\n" not in message
        assert "hf auth login" in message


# --- what goes wrong in `prepare`

TWEETS = DATA["twitter-financial"]
LOCKED = {"source": "acme/locked-texts"}
NO_NETWORK = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # where nothing listens: the port is the discard service's
WRONG = {  # changes to conf/data/hub.yaml, to conf/model/hub.yaml; the environment; what the message says
    "data set never whole": ({"source": "acme/cut-texts"}, {}, {}, ["data/hub.yaml: source: ", "the network"]),
    "model never whole": (None, {"name": "acme/cut-bert"}, {}, ["model/hub.yaml: name: ", "the network"]),
    "data set missing": ({"source": "acme/nothing"}, {}, {}, ["data/hub.yaml: source: ", "acme/nothing"]),
    "data set gated": (LOCKED, {}, {}, ["data/hub.yaml: source: ", "gated", "be authenticated", "hf auth login"]),
    "data set refused": (LOCKED, {}, {"HF_TOKEN": "hf_x"}, ["data/hub.yaml: source: ", "gated", "ask for access"]),
    "data set revision": ({"revision": "v9"}, {}, {}, ["data/hub.yaml: revision: ", "v9"]),
    "part of no revision": ({"revision": "v9", "rows": 9}, {}, {}, ["data/hub.yaml: revision: ", "v9"]),
    "data set offline": ({}, {}, {"HF_HUB_OFFLINE": "1"}, ["data/hub.yaml: source: ", "Offline"]),
    "model missing": (None, {"name": "acme/nothing"}, {}, ["model/hub.yaml: name: ", "acme/nothing"]),
    "model gated": (None, {"name": "acme/locked-bert"}, {}, ["model/hub.yaml: name: ", "gated", "hf auth login"]),
    "model revision": (None, {"revision": "v9"}, {}, ["model/hub.yaml: revision: ", "v9"]),
    "no network for data": ({}, {}, NO_NETWORK, ["data/hub.yaml: source: ", "the network"]),
    "no network for a model": (None, {}, NO_NETWORK, ["model/hub.yaml: name: ", "the network"]),
}


@dataclass
class Case:
    project: Project
    home: Path
    done: Future


def start(name: str, world: World, root: Path, tiny_texts: list[tuple[str, str]], pool: ThreadPoolExecutor) -> Case:
    data, model, environment, _ = WRONG[name]
    project = hub_project(root / "project", tiny_texts)
    project.write_yaml("conf/data/hub.yaml", {**TWEETS, **(data or {})})
    project.edit_yaml("conf/model/hub.yaml", **model)
    if data is not None:
        project.edit_yaml("params.yaml", data="hub")
    return Case(project, root / "home", pool.submit(world.prepare, project, root / "home", **environment))


@pytest.fixture(scope="session", autouse=True)
def no_network(
    world: World, tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[tuple[str, str]]
) -> Iterator[dict[str, Case]]:
    """Started before all tests: the client waits 23 seconds before it gives up."""
    names = [name for name in WRONG if name.startswith("no network")]
    with ThreadPoolExecutor() as pool:
        yield {name: start(name, world, tmp_path_factory.mktemp("wrong"), tiny_texts, pool) for name in names}


@pytest.fixture(scope="session")
def wrong(
    world: World,
    no_network: dict[str, Case],
    tmp_path_factory: pytest.TempPathFactory,
    tiny_texts: list[tuple[str, str]],
) -> dict[str, Case]:
    """Every case of WRONG, some at a time."""
    world.hub.faults[:] = [
        hub.Fault("acme/cut-texts/.*train.csv", 99, after=9),
        hub.Fault("acme/cut-bert/.*tokenizer.json", 99, after=9),
    ]
    names = [name for name in WRONG if name not in no_network]
    with ThreadPoolExecutor(max_workers=3) as pool:
        cases = {name: start(name, world, tmp_path_factory.mktemp("wrong"), tiny_texts, pool) for name in names}
    world.hub.faults.clear()
    return {**no_network, **cases}


@pytest.mark.parametrize("name", WRONG)
def test_what_goes_wrong_is_one_message(wrong: dict[str, Case], name: str) -> None:
    done = wrong[name].done.result()
    *_, message = done.stderr.strip().splitlines()
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert message.startswith("error: conf/")
    assert done.stderr.count("error: conf/") == 1
    for part in WRONG[name][-1]:
        assert part in message
    assert not (wrong[name].project.folder / "data/prepared").exists()


@pytest.mark.parametrize("name", ["data set never whole", "model never whole", "no network for data"])
def test_the_next_run_works(world: World, wrong: dict[str, Case], name: str) -> None:
    case = wrong[name]
    assert case.done.result().returncode == 1
    done = world.prepare(case.project, case.home)
    assert done.returncode == 0, done.stderr
    assert len(prepared(case.project)) == case.project.profile()["rows"]["read"] > 100


def test_an_overloaded_hub_and_a_cut_transfer_are_tried_again(world: World, project: Project, tmp_path: Path) -> None:
    project.write_yaml("conf/data/hub.yaml", TWEETS)
    project.edit_yaml("params.yaml", data="hub")
    id = TWEETS["source"]
    faults = [
        hub.Fault(f"{id}/resolve/main/README.md", times=2, status=503),
        hub.Fault(f"{id}/resolve/.*/sent_train.csv", times=1, after=1000),
        hub.Fault("distilbert-base-cased/resolve/.*/tokenizer.json", times=1, after=1000),
    ]
    world.hub.requests.clear()
    world.hub.faults[:] = faults
    done = world.prepare(project, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert [fault.times for fault in faults] == [0, 0, 0]
    assert world.hub.sent("sent_train.csv") == 1000 + (world.folders[id] / "sent_train.csv").stat().st_size
    rows, truth = prepared(project), true_labels("twitter-financial", world.folders[id])
    assert rows.name.to_dict() == truth

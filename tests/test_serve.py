"""The service: what models answer together, what waits together, what is refused, and what a stop leaves undone."""

import asyncio
import contextlib
import csv
import json
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from conftest import ENVIRONMENT, ROOT, save_as_trained
from playwright.sync_api import Page, sync_playwright

from benchmarks import serve_load
from stages import predict
from tunediff.core.csv_cells import harmless
from tunediff.core.errors import UserError
from tunediff.models import saved
from tunediff.models.inference import predict_logits, probabilities
from tunediff.models.settings import ModelConf
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode
from tunediff.use import occlusion, service_app, service_guard, service_models, service_schema
from tunediff.use.classifier import Classifier
from tunediff.use.classifier_torch import TorchClassifier
from tunediff.use.export_onnx import convert
from tunediff.use.service_hosts import Hosts
from tunediff.use.service_queue import Batcher, QueueFull

pytestmark = pytest.mark.slow

TEXTS = ["shares rose", "wheat fell on monday in early trade", "the index", "copper jumped after the report"]
LABELS = ["bearish", "bullish", "neutral"]
LORA = {
    "lora-v1": {"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"]},
    "lora-v2": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    """Saved models, by method: `full`, also exported, LoRA on the same base, and IA3, another kind of adapter."""
    root = tmp_path_factory.mktemp("models")
    conf = ModelConf(name=str(tiny_model), max_length=16, learning_rate={"full": 1e-3}, head=["pooler"])
    full = save_as_trained(conf, LABELS, root / "full")
    for seed, (name, fields) in enumerate(LORA.items(), 1):
        save_as_trained(conf, LABELS, root / name, "LORA", seed, 1.5 + seed, **fields)
    fields = {"target_modules": "keys-values-feedforward", "feedforward_modules": "feedforward"}
    save_as_trained(conf, LABELS, root / "ia3", "IA3", 3, 4.5, **fields)
    onnx = shutil.copytree(full, root / "full-onnx", ignore=shutil.ignore_patterns("*.safetensors"))
    convert(*saved.load_saved(full), onnx, full)
    return {path.name: path for path in root.iterdir()}


# --- models


def test_models_loaded_together_answer_as_each_alone(folders: dict[str, Path]):
    """In turns, so that one model's adapter would be seen in the next one's answer."""
    folders = {name: folder for name, folder in folders.items() if name != "full-onnx"}
    together = service_models.load(list(folders.values()))
    original = service_models.load([folders["full"]])["full"].original.predict(TEXTS)
    for _ in range(2):
        for name, folder in folders.items():
            model, tokenizer = saved.load_saved(folder)
            logits = predict_logits(model, tokenizer, encode(tokenizer, TEXTS), 4, "fp32", name)
            alone = probabilities(logits / model.config.tunediff["temperature"])
            assert np.allclose(together[name].tuned.predict(TEXTS), alone, atol=1e-6), name
            assert np.allclose(together[name].original.predict(TEXTS), original, atol=1e-6), name
            assert np.abs(alone - original).max() > 0.01


def test_adapters_of_one_kind_share_one_base_and_all_models_one_original(folders: dict[str, Path]):
    """The original is an adapter's base without it, and not loaded again."""
    together = service_models.load([folders[name] for name in ("full", *LORA, "ia3")])
    assert together["lora-v1"].tuned._model is together["lora-v2"].tuned._model
    assert together["ia3"].tuned._model is not together["lora-v1"].tuned._model
    [original] = {one.original for one in together.values()}
    assert original._model in [together[name].tuned._model for name in ("lora-v1", "ia3")]


def test_an_exported_model_is_served_in_8_bits_or_by_its_file_and_without_an_original(folders: dict[str, Path]):
    onnx = folders["full-onnx"]
    together = service_models.load([folders["full"], onnx, onnx / "model.onnx"])
    full, int8, fp32 = (one.tuned.predict(TEXTS) for one in together.values())
    assert list(together) == ["full", "full-onnx", "model.onnx"]
    assert np.allclose(fp32, full, atol=1e-5)
    assert 1e-5 < np.abs(int8 - full).max() < 0.05
    assert [one.original is None for one in together.values()] == [False, True, True]


def test_an_exported_model_is_served_without_pytorch(folders: dict[str, Path]):
    """Which would take several times the memory."""
    code = (
        "import sys; from pathlib import Path; from stages import serve; from tunediff.use.service_app import make_app;"
        "served = serve.service_models.load([Path(sys.argv[1])]); make_app(served, 32, serve.Hosts('localhost'));"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(folders["full-onnx"])]
    assert subprocess.check_output(command, cwd=ROOT, env=ENVIRONMENT, text=True) == "False\n"


@pytest.mark.parametrize("name", ["full", "lora-v1"])
def test_a_model_whose_original_is_gone(folders: dict[str, Path], tmp_path: Path, name: str, capsys):
    """The full model answers without it; an adapter is nothing without its base."""
    folder = shutil.copytree(folders[name], tmp_path / name)
    config = json.loads((folder / "config.json").read_text())
    config["tunediff"]["pretrained"] = "package:no_such_package/model"
    (folder / "config.json").write_text(json.dumps(config))
    if (adapter := folder / "adapter_config.json").is_file():
        adapter.write_text(
            json.dumps(json.loads(adapter.read_text()) | {"base_model_name_or_path": "package:no_such_package/model"})
        )
    if name == "full":
        assert service_models.load([folder])["full"].original is None
        assert "'no_such_package' is not installed" in capsys.readouterr().err
    else:
        with pytest.raises(UserError, match="'no_such_package' is not installed"):
            service_models.load([folder])


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="nope: no trained model there"):
        service_models.load([tmp_path / "nope"])


def test_two_folders_of_one_name_are_refused(folders: dict[str, Path], tmp_path: Path):
    other = shutil.copytree(folders["full"], tmp_path / "full")
    with pytest.raises(UserError, match="another model is named 'full'"):
        service_models.load([folders["full"], other])


# --- batches


class Slow:
    """Answers a batch when it is let; knows what it was asked. `rose` makes a text bullish; `explode` is too much."""

    names = LABELS
    task = Classification(LABELS)

    def __init__(self, free: bool = False):
        self.asked: list[list[str]] = []
        self.free = threading.Event()
        self.busy = threading.Event()
        if free:
            self.free.set()

    def predict(self, texts: list[str]) -> np.ndarray:
        self.asked.append(texts)
        self.busy.set()
        self.free.wait(timeout=30)
        if "explode" in texts:
            raise RuntimeError("no memory")
        bullish = np.array([0.9 if "rose" in text.split() else 0.3 for text in texts])
        return np.stack([0.05 + 0 * bullish, bullish, 0.95 - bullish], axis=1)


@contextlib.contextmanager
def batcher(batch_size: int = 4, limit: int = 100) -> Iterator[Batcher]:
    made = Batcher(batch_size, limit, lambda texts, seconds: None)
    try:
        yield made
    finally:
        made.close()


def test_what_waits_is_computed_together_and_each_gets_its_own():
    slow = Slow()
    with batcher() as made:
        futures = [made.submit(slow, ["first"])]
        slow.busy.wait(timeout=30)
        futures += [made.submit(slow, [text]) for text in ("shares rose", "b", "c", "d", "e")]
        slow.free.set()
        answers = [future.result(timeout=30) for future in futures]
    assert slow.asked == [["first"], ["shares rose", "b", "c", "d"], ["e"]]
    assert [answer.shape for answer in answers] == [(1, 3)] * 6
    assert [answer[0, 1] for answer in answers] == [0.3, 0.9, 0.3, 0.3, 0.3, 0.3]


def test_a_long_request_does_not_hold_up_short_ones_nor_one_model_another():
    slow, other = Slow(), Slow(free=True)
    with batcher() as made:
        made.submit(slow, ["first"])
        slow.busy.wait(timeout=30)
        long = made.submit(slow, [f"long {i}" for i in range(8)])
        made.submit(slow, ["short"])
        made.submit(other, ["another model's"])
        slow.free.set()
        assert long.result(timeout=30).shape == (8, 3)
    assert slow.asked[1] == ["long 0", "short", "long 1", "long 2"]
    assert slow.asked[2:] == [["long 3", "long 4", "long 5", "long 6"], ["long 7"]]
    assert other.asked == [["another model's"]]


def test_an_error_is_that_batch_s_alone():
    slow = Slow()
    with batcher(batch_size=2) as made:
        before = made.submit(slow, ["shares rose"])
        slow.busy.wait(timeout=30)
        failed, after = made.submit(slow, ["explode", "b", "c"]), made.submit(slow, ["d"])
        slow.free.set()
        assert before.result(timeout=30)[0, 1] == 0.9
        with pytest.raises(RuntimeError, match="no memory"):
            failed.result(timeout=30)
        with pytest.raises(RuntimeError, match="no memory"):
            after.result(timeout=30)
        assert made.submit(slow, ["shares rose"]).result(timeout=30)[0, 1] == 0.9


def test_closing_answers_what_waits_and_more_than_the_limit_is_refused():
    slow = Slow()
    made = Batcher(2, 3, lambda texts, seconds: None)
    futures = [made.submit(slow, ["first"])]
    slow.busy.wait(timeout=30)
    futures.append(made.submit(slow, ["a", "b", "c"]))
    with pytest.raises(QueueFull):
        made.submit(slow, ["d"])
    threading.Timer(0.1, slow.free.set).start()
    made.close()
    assert all(future.done() for future in futures)


# --- requests, in this process


@contextlib.asynccontextmanager
async def client(
    classifier: Classifier, original: Classifier | None = None, batch_size: int = 32
) -> AsyncIterator[httpx.AsyncClient]:
    app = service_app.make_app({"slow": service_models.Served(classifier, original)}, batch_size, Hosts("test"))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.app.router.lifespan_context(app.app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        yield http


def post(path: str, body: object = None, **more: object) -> httpx.Response:
    """One request to a service of its own."""

    async def ask() -> httpx.Response:
        async with client(Slow(free=True), Slow(free=True)) as http:
            return await http.post(path, **(more or {"json": body}))

    return asyncio.run(ask())


def test_one_text_or_many():
    one, many = (post("/predict", {"texts": texts}).json() for texts in ("shares rose", ["shares rose", "wheat fell"]))
    assert one["answers"] == many["answers"][:1]
    assert one["answers"] == [
        {"label": "bullish", "probabilities": {"bearish": 0.05, "bullish": 0.9, "neutral": pytest.approx(0.05)}}
    ]
    assert many["answers"][1]["label"] == "neutral"
    assert many["originals"] is None
    assert len(post("/predict", {"texts": ["a", "b"], "compare": True}).json()["originals"]) == 2


def test_the_words_that_mattered():
    found = post("/explain", {"text": " Today shares rose, and \U0001f600 rose"}).json()
    assert (found["label"], found["probability"]) == ("bullish", 0.9)
    changes = {word["word"]: word["change"] for word in found["words"]}
    assert changes == {"Today": 0, "shares": 0, "rose,": 0, "and": 0, "\U0001f600": 0, "rose": pytest.approx(0.6)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one", [("one", "")]),
        ("a  b\nc ", [("a", "b\nc"), ("b", "a  c"), ("c", "a  b")]),
        ("株価が rose", [("株", "価が rose"), ("価", "株が rose"), ("が", "株価rose"), ("rose", "株価が")]),
    ],
)
def test_a_word_is_left_out_with_the_space_behind_it(text: str, expected: list[tuple[str, str]]):
    assert occlusion.leave_out(text) == expected


def test_of_a_long_text_runs_of_words_are_left_out():
    words = [f"w{i}" for i in range(300)]
    runs = occlusion.leave_out(" ".join(words))
    assert len(runs) <= occlusion.MAX_PIECES
    assert " ".join(run for run, _ in runs).split() == words
    assert all(len(rest.split()) == 300 - len(run.split()) for run, rest in runs)


LONG = "x" * 10_001


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/predict", {}, 422, "texts: Field required"),
        ("/predict", {"texts": []}, 422, "texts: List should have at least 1 item"),
        ("/predict", {"texts": ["x"] * 257}, 422, "texts: List should have at most 256 items"),
        ("/predict", {"texts": ["x", " \n"]}, 422, "texts.1: empty"),
        ("/predict", {"texts": LONG}, 422, "texts: String should have at most 10000 characters"),
        ("/predict", {"texts": ["x", 3]}, 422, "texts.1: Input should be a valid string"),
        ("/predict", {"texts": None}, 422, "texts: Input should be a valid list"),
        ("/predict", {"texts": "x", "model": "fast"}, 422, "model: Input should be 'slow'"),
        ("/predict", {"texts": "x", "compare": "yes"}, 422, "compare: Input should be a valid boolean"),
        ("/predict", {"texts": "x", "modle": "slow"}, 422, "modle: Extra inputs are not permitted"),
        ("/predict", ["x"], 422, "expected a JSON object"),
        ("/predict", b'{"texts": ', 400, "the body is not JSON: Expecting value at character 10"),
        ("/predict", b'{"texts": "\xff"}', 400, "There was an error parsing the body"),
        ("/predict", b'{"texts": "\\ud800"}', 422, "texts: Input should be a valid string"),
        ("/predict", b'{"texts": "x", "\\ud800": 1}', 422, "the body: Input should be a valid string"),
        ("/predict", b"[" * 100_000, 400, "There was an error parsing the body"),
        ("/predict", b" " * (2**20 + 1), 413, "the body has more than 1048576 bytes"),
        ("/explain", {"text": ["x"]}, 422, "text: Input should be a valid string"),
        ("/explain", {"text": LONG}, 422, "text: String should have at most 10000 characters"),
        ("/nope", {}, 404, "Not Found"),
        ("/health", {}, 405, "Method Not Allowed"),
    ],
)
def test_bad_input_is_refused_with_the_reason(path: str, body: object, status: int, reason: str):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert reason in answer.json()["detail"]


def test_five_hundred_malformed_bodies_are_the_senders_mistake():
    chance = random.Random(17)
    good = json.dumps({"texts": ["shares rose", "wheat fell"], "model": "slow", "compare": True}).encode()
    values = [b"null", b"1", b"1e999", b"NaN", b"true", b"[]", b"{}", b"[[]]", b"[null]", b"[{}]", b'""', b'" "']
    values += [b'"\\ud800"', b"9" * 5000, b'"' + LONG.encode() + b'"', b'{"texts": {}}', b"[" * 5000]

    def malformed() -> bytes:
        match chance.randrange(5):
            case 0:
                return chance.randbytes(chance.randrange(200))
            case 1:
                return good[: chance.randrange(len(good))]
            case 2:
                place = chance.randrange(len(good))
                return good[:place] + chance.choice([b'"', b"\xff", b"\x00"]) + good[place:]
            case 3:
                return b'{"texts": %b, "%c": %b}' % (
                    chance.choice(values),
                    chance.choice(b"abc"),
                    chance.choice(values),
                )
            case _:
                return chance.choice(values) * chance.randrange(1, 3)

    async def statuses() -> list[int]:
        async with client(Slow(free=True)) as http:
            headers = {"content-type": "application/json"}
            paths = ("/predict", "/explain")
            bodies = [malformed() for _ in range(500)]
            answers = [await http.post(chance.choice(paths), content=body, headers=headers) for body in bodies]
            assert all(answer.json()["detail"] for answer in answers)
            return [answer.status_code for answer in answers]

    assert set(asyncio.run(statuses())) == {400, 422}


def test_too_much_at_once_is_refused_until_there_is_room(monkeypatch: pytest.MonkeyPatch):
    """One text is computed, two may wait; then as many requests as may be in work at a time."""
    monkeypatch.setattr(service_schema, "MAX_WAITING", 2)
    monkeypatch.setattr(service_guard, "MAX_REQUESTS", 3)

    async def ask() -> None:
        slow = Slow()
        async with client(slow) as http:
            first = asyncio.create_task(http.post("/predict", json={"texts": "a"}))
            await asyncio.to_thread(slow.busy.wait, 30)
            more = [asyncio.create_task(http.post("/predict", json={"texts": "b"}))]
            while "waiting_texts 1.0" not in (await http.get("/metrics")).text:
                await asyncio.sleep(0.01)
            too_many = await http.post("/predict", json={"texts": ["c", "d"]})
            assert (too_many.status_code, too_many.headers["retry-after"]) == (429, "1")
            assert "more than 2 texts would wait" in too_many.json()["detail"]
            more.append(asyncio.create_task(http.post("/predict", json={"texts": "c"})))
            while "waiting_texts 2.0" not in (await http.get("/metrics")).text:
                await asyncio.sleep(0.01)
            busy = await http.post("/predict", json={"texts": "d"})
            assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
            assert "3 requests are in work already" in busy.json()["detail"]
            assert (await http.get("/health")).status_code == 200
            slow.free.set()
            assert [(await one).status_code for one in (first, *more)] == [200] * 3
            assert (await http.post("/predict", json={"texts": "d"})).status_code == 200

    asyncio.run(ask())


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service_guard, "BODY_SECONDS", 0.05)

    async def trickle() -> AsyncIterator[bytes]:
        yield b'{"texts": '
        await asyncio.sleep(30)

    assert post("/predict", content=trickle()).status_code == 408


def test_a_model_s_error_is_a_500_and_the_service_goes_on():
    async def ask() -> None:
        async with client(Slow(free=True)) as http:
            assert (await http.post("/predict", json={"texts": "explode"})).status_code == 500
            assert (await http.post("/predict", json={"texts": "shares rose"})).status_code == 200
            figures = (await http.get("/metrics")).text
        for line in (
            'tunediff_requests_total{path="/predict",status="500"} 1.0',
            'tunediff_requests_total{path="/predict",status="200"} 1.0',
            'tunediff_answers_total{label="bullish",model="slow"} 1.0',
            "tunediff_batch_texts_count 2.0",
        ):
            assert line in figures

    asyncio.run(ask())


# --- as a user runs it


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[serve_load.Server]:
    served = [folders[name] for name in ("lora-v1", "full", "full-onnx")]
    with serve_load.serving(served, "--allowed-host", "models.example", env=ENVIRONMENT) as started:
        yield started


def test_names_are_answered_as_the_user_allows_them(server: serve_load.Server):
    names = ["models.example", server.url.split("/")[2], "localhost:8000", "evil.example"]
    assert [httpx.get(server.url, headers={"host": name}).status_code for name in names] == [200, 200, 200, 421]


def test_schemathesis_finds_nothing(server: serve_load.Server, tmp_path: Path):
    command = [str(Path(sys.executable).with_name("st")), "run", f"{server.url}openapi.json", "--max-examples", "5"]
    more = ["--seed", "17", "--generation-database", "none", "--no-color"]
    done = subprocess.run([*command, *more], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert "No issues found" in done.stdout


def test_under_load_no_error_no_long_wait_no_growing_memory(server: serve_load.Server):
    found = serve_load.steady(server, TEXTS, clients=16, seconds=3)
    assert set(found["outcomes"]) == {"200"}
    assert found["p99_ms"] < max(10 * found["p50_ms"], 1000)
    before, after = found["memory_mb"]
    assert after < before + 10


def test_texts_of_32_clients_share_calls_of_the_model(tiny_model: Path):
    """Calls are counted, not timed: what a shared call saves is the model's affair, and noisy on a busy machine."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), num_labels=3, **shape))
    sizes: list[int] = []
    model.register_forward_hook(lambda _module, _inputs, output: sizes.append(len(output.logits)))
    classifier = TorchClassifier(model.eval(), tokenizer, Classification(LABELS), {})

    async def calls(batch_size: int) -> list[int]:
        sizes.clear()
        async with client(classifier, batch_size=batch_size) as http:

            async def one_client() -> None:
                for text in TEXTS:
                    assert (await http.post("/predict", json={"texts": text})).status_code == 200

            await asyncio.gather(*(one_client() for _ in range(32)))
        return list(sizes)

    together, alone = (asyncio.run(calls(size)) for size in (32, 1))
    assert len(alone) == sum(alone) == sum(together) == 32 * len(TEXTS)
    assert len(together) < len(alone) / 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "nowhere.invalid"], "--host nowhere.invalid --port 8000: cannot be listened"),
        (["--port", "70000"], "--port 70000: cannot be listened at"),
    ],
)
def test_serve_says_what_is_wrong(arguments: list[str], message: str, tmp_path: Path):
    command = [sys.executable, "-m", "stages.serve", "--model", "models/nope", *arguments]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    failed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert message in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


# --- the page


@pytest.fixture
def page(server: serve_load.Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Open, with a window as wide as the test asks for; what goes wrong in it fails the test."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    wrong, asked = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": request.param, "height": 800})
        opened.set_default_timeout(60_000)
        opened.on("console", lambda message: wrong.append(message.text))
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("request", lambda one: asked.append(one.url))
        opened.goto(server.url)
        yield opened
        assert opened.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        browser.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith((server.url, "data:", "blob:"))] == []


@pytest.mark.parametrize("page", [400, 1200], indirect=True)
def test_texts_typed_into_the_page(page: Page):
    """By the names that a screen reader says."""
    page.get_by_label("Model", exact=True).select_option("full")
    page.get_by_label("Texts, one on each line").fill("shares rose <b>on</b> monday\n\nwheat fell")
    page.get_by_role("button", name="Label").click()
    assert page.get_by_role("status").get_by_text("2 texts are labelled").is_visible()
    page.locator("mark").first.wait_for()
    cards = page.locator("article")
    assert cards.count() == 2
    assert cards.first.locator(".text").inner_text() == "shares rose <b>on</b> monday"
    titles = cards.first.locator("h3").all_inner_texts()
    assert [title.split(":")[0] for title in titles] == ["full", "original, untrained"]
    percentages = [float(cell[:-1]) for cell in cards.first.locator(".tuned td:last-child").all_inner_texts()]
    assert sum(percentages) == pytest.approx(100, abs=0.2) and percentages == sorted(percentages, reverse=True)
    cards.first.locator("summary").click()
    assert cards.first.get_by_role("cell", name="shares", exact=True).is_visible()


@pytest.mark.parametrize("page", [1200], indirect=True)
def test_a_csv_dropped_on_the_page_comes_back_as_predict_writes_it(
    page: Page, tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    rows = [f'{i},"shares rose, {i} ""times""",{i}.50' for i in range(300)]
    source = "\n".join(["id,body,price", *rows, "300,,", ""])
    (tmp_path / "in.csv").write_text(source, encoding="utf-8")
    page.get_by_label("Or a CSV file").set_input_files(tmp_path / "in.csv")
    page.get_by_label("Column of texts").select_option("body")
    page.get_by_role("button", name="Label").click()
    page.get_by_text("300 texts are labelled").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all as CSV").click()
    download.value.save_as(tmp_path / "out.csv")
    files = ["--file", str(tmp_path / "in.csv"), "--text", "body", "--out", str(tmp_path / "expected.csv")]
    monkeypatch.setattr(sys, "argv", ["predict", "--model", str(folders["lora-v1"]), "--compare", *files])
    predict.main()
    found, expected = (pd.read_csv(tmp_path / f"{name}.csv", dtype={"price": str}) for name in ("out", "expected"))
    assert found.predicted.isna().tolist() == [False] * 300 + [True]
    pd.testing.assert_frame_equal(found[:300], expected[:300], rtol=0, atol=1e-6)


@pytest.mark.parametrize("page", [1200], indirect=True)
@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("in.csv", 'id;body;n\n1;"shares; rose";a\n2;so it fell;b\n', "shares; rose"),
        ("in.tsv", 'id\tbody\n1\t"Loved it\n2\tso it fell\n3\t5" more"\n', '"Loved it'),
        ("in.txt", '"id", "body"\n"1", "shares, rose"\n"2", "so it fell"\n', "shares, rose"),
        ("in.csv", "id,,\n1,shares rose,\n2,so it fell,\n", "shares rose"),
    ],
    ids=["semicolons", "tabs", "spaces", "unnamed"],
)
def test_the_page_reads_what_prepare_reads(page: Page, tmp_path: Path, name: str, content: str, text: str):
    """And chooses the column that looks like texts, which is not the first."""
    (tmp_path / name).write_text(content, encoding="utf-16" if name == "in.txt" else "utf-8")
    page.get_by_label("Or a CSV file").set_input_files(tmp_path / name)
    page.get_by_role("button", name="Label").click()
    page.get_by_text(f"{len(content.splitlines()) - 1} texts are labelled").wait_for()
    assert page.locator("article .text").first.inner_text() == text


@pytest.mark.parametrize("page", [1200], indirect=True)
def test_no_label_in_the_pages_csv_is_a_formula(page: Page, tmp_path: Path):
    """They are written as `core.csv_cells` has it; the user's own cells stay."""
    labels = ["=1+1", "+1", "-1.5", "-", "@SUM(A1)", "\t=1", "＝1", "a=1", '=HYPERLINK("x")']
    model = {"name": "it", "labels": labels, "original": True}
    answers = [{"label": label, "probabilities": dict.fromkeys(labels, 0.1)} for label in labels]
    page.route("**/models", lambda route: route.fulfill(json={"models": [model], "max_texts": 256, "max_length": 99}))
    page.route("**/predict", lambda route: route.fulfill(json={"answers": answers, "originals": answers[::-1]}))
    page.route("**/explain", lambda route: route.fulfill(json={"label": "-", "words": []}))
    page.reload()
    (tmp_path / "in.csv").write_text("text,=note\n" + "=x,@y\n" * len(labels), encoding="utf-8")
    page.get_by_label("Or a CSV file").set_input_files(tmp_path / "in.csv")
    page.get_by_role("button", name="Label").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all as CSV").click()
    download.value.save_as(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == [harmless(label) for label in labels]
    assert [row["original"] for row in rows] == [harmless(label) for label in labels[::-1]]
    assert [(row["text"], row["=note"]) for row in rows] == [("=x", "@y")] * len(labels)


@pytest.mark.parametrize("page", [400], indirect=True)
def test_the_page_says_what_is_wrong(page: Page, tmp_path: Path):
    page.get_by_role("button", name="Label").click()
    assert page.get_by_role("alert").inner_text() == "There is no text yet."
    (tmp_path / "in.csv").write_text("text,label\nshares rose\n", encoding="utf-8")
    page.get_by_label("Or a CSV file").set_input_files(tmp_path / "in.csv")
    page.get_by_text("in.csv: row 1 has 1 fields, the header 2").wait_for()


def test_the_page_may_run_nothing_but_its_own_script_and_ask_no_other_host():
    """The browser keeps to the policy; the tests above show that the page works under it."""

    async def ask() -> httpx.Response:
        async with client(Slow()) as http:
            return await http.get("/")

    page = asyncio.run(ask())
    policy = dict(part.split(maxsplit=1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert all(re.fullmatch(r"'sha256-[\w+/=]+'", policy[kind]) for kind in ("script-src", "style-src"))
    assert "http:" not in page.text and "https:" not in page.text


@pytest.mark.parametrize("page", [1200], indirect=True)
def test_the_description_for_programs_needs_no_other_host(page: Page):
    page.goto(page.url + "docs")
    page.get_by_text("/predict").first.wait_for()


# --- the end


def test_a_stop_under_load_loses_no_request(server: serve_load.Server):
    """The last test here: nothing answers after it."""
    found = serve_load.stop(server, TEXTS, serve_load.STOPPED, after=1)
    assert set(found["outcomes"]) == {"200", "refused"}
    assert found["outcomes"]["refused"] == serve_load.STOPPED
    assert found["exit_code"] == 0

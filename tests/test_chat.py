"""The service for models that write: as OpenAI's own client, a program and the page ask it."""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import pytest
import torch
from conftest import ENVIRONMENT, save_as_trained
from playwright.sync_api import sync_playwright
from test_generation import INSTRUCTION, SOURCES, conf, load, tiny_llama

from benchmarks import serve_load
from tunediff.core.errors import UserError
from tunediff.models import generation, saving
from tunediff.models.adapters import adapt
from tunediff.models.generation import Written
from tunediff.tasks.generation import Generation
from tunediff.tasks.settings import Generate
from tunediff.use import chat, service_models
from tunediff.use.classifier_loading import Loader
from tunediff.use.service_metrics import Metrics
from tunediff.use.service_queue import QueueFull

ADAPTERS = ("lora-v1", "lora-v2")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, base: Path) -> dict[str, Path]:
    """Two adapters on one tiny Llama, as training leaves them."""
    made = {}
    for seed, name in enumerate(ADAPTERS):
        model, tokenizer = load(conf(base), Generation(INSTRUCTION))
        model = adapt(model, tokenizer, "LORA", {"r": 4, "target_modules": "all-linear"}, conf(base), "entry")
        torch.manual_seed(seed)
        with torch.no_grad():
            for weights in model.parameters():
                if weights.requires_grad:
                    weights.add_(torch.randn(weights.shape) * 0.3)
        model.config.tunediff["generate"] = {"max_new_tokens": 12}
        made[name] = tmp_path_factory.mktemp("models") / name
        saving.save(model, tokenizer, made[name])
    return made


# --- one answer in parts


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 1.0}, {"beams": 2}, {"max_new_tokens": 3}, {"stop": ["a", "it", "%."]}], ids=str
)
def test_the_parts_together_are_what_is_written(base: Path, settings: dict):
    model, tokenizer = load(conf(base), task := Generation(INSTRUCTION))
    settings = Generate(**{"max_new_tokens": 24, **settings})
    most = 0
    for source in SOURCES:
        parts: list[str] = []
        done = generation.stream(task, model, tokenizer, source, settings, parts.append, lambda: False)
        [expected] = generation.write(task, model, tokenizer, [source], settings, 1, "fp32", "test")
        assert "".join(parts) == done.text == expected
        assert all(parts)
        most = max(most, len(parts))
        assert done.tokens <= settings.max_new_tokens
        assert done.prompt_tokens == len(task.prompt(tokenizer).ids(source))
    assert most == 1 if settings.beams > 1 else most > 1
    done = generation.stream(task, model, tokenizer, source, settings, parts.append, lambda: True)
    assert done.tokens <= 1


# --- requests in this process


class Slow:
    """Writes a word, waits until it is told to go on, and writes until nobody asks any more."""

    def __init__(self):
        self.free = threading.Event()
        self.ended = threading.Event()

    def stream(self, text: str, settings: Generate, tell: Callable[[str], None], stopped: Callable[[], bool]):
        tell("word")
        self.free.wait(timeout=30)
        while not stopped() and text == "endless":
            pass
        self.ended.set()
        if text == "fails":
            raise ValueError("no memory")
        return Written("word", 1, 1, True)


@contextlib.asynccontextmanager
async def runner():
    made = chat.Runner(Metrics())
    async with made.running(None):
        yield made


def test_what_nobody_waits_for_is_not_written_on():
    async def ask() -> None:
        async with runner() as made:
            slow = Slow()
            parts = made.written(slow, "endless", Generate())
            assert await anext(parts) == "word"
            slow.free.set()
            await parts.aclose()
            assert await asyncio.to_thread(slow.ended.wait, 20)
            later = [part async for part in made.written(slow, "next", Generate())]
            assert later == ["word", Written("word", 1, 1, True)]

    asyncio.run(ask())


def test_an_error_is_that_answers_alone_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch):
    async def ask() -> None:
        async with runner() as made:
            slow = Slow()
            monkeypatch.setattr(chat, "MAX_WAITING", 1)
            first = made.written(slow, "fails", Generate())
            assert await anext(first) == "word"
            with pytest.raises(QueueFull):
                await anext(made.written(slow, "more", Generate()))
            slow.free.set()
            with pytest.raises(ValueError, match="no memory"):
                await anext(first)
            events = [e async for e in chat.Completion("slow").events(made.written(slow, "next", Generate()), True)]
            assert events[-1] == "data: [DONE]\n\n" and '"total_tokens": 2' in events[-2]

    asyncio.run(ask())


def test_models_that_label_and_models_that_write_are_not_served_together(
    folders: dict[str, Path], tiny_model: Path, tmp_path: Path
):
    labels = save_as_trained(conf(tiny_model, max_length=16), ["a", "b"], tmp_path / "full")
    with pytest.raises(UserError, match="full: of a model that labels texts and one that writes them, serve each"):
        service_models.load([folders["lora-v2"], labels])


# --- as a user runs it


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[serve_load.Server]:
    with serve_load.serving(list(folders.values()), env=ENVIRONMENT) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: serve_load.Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, text: str, model: str = "lora-v1", **more: object):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


@pytest.mark.slow
def test_openais_client_asks_each_model_by_its_name(client: openai.OpenAI, folders: dict[str, Path]):
    names = ["lora-v1", "lora-v1-original", "lora-v2", "lora-v2-original"]
    assert [model.id for model in client.models.list()] == names
    loader = Loader()
    expected = {name: loader.load(folder).predict(SOURCES) for name, folder in folders.items()}
    expected["lora-v1-original"] = loader.original(folders["lora-v1"]).predict(SOURCES)
    given = {name: [ask(client, text, name) for text in SOURCES] for name in expected}
    assert {name: [one.choices[0].message.content for one in each] for name, each in given.items()} == expected
    assert len(set(map(tuple, expected.values()))) == 3
    one = given["lora-v1"][0]
    assert one.choices[0].finish_reason == ("length" if one.usage.completion_tokens == 12 else "stop")
    assert one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens
    short = ask(client, SOURCES[0], max_tokens=2)
    assert (short.usage.completion_tokens, short.choices[0].finish_reason) == (2, "length")
    parts = client.chat.completions.create(
        model="lora-v1", messages=[{"role": "user", "content": [{"type": "text", "text": SOURCES[0]}]}]
    )
    assert parts.choices[0].message.content == expected["lora-v1"][0]


@pytest.mark.slow
def test_an_answer_is_streamed(client: openai.OpenAI):
    more = {"temperature": 1, "seed": 3}
    whole = ask(client, SOURCES[0], **more)
    chunks = list(ask(client, SOURCES[0], stream=True, stream_options={"include_usage": True}, **more))
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(said) == whole.choices[0].message.content and len(said) > 1
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.slow
def test_what_cannot_be_answered_is_said(client: openai.OpenAI, server: serve_load.Server):
    user = {"role": "user", "content": "Zeta."}
    for body, reason in (
        ({"model": "other"}, "model: Input should be 'lora-v1'"),
        ({"messages": [user, user]}, "messages: List should have at most 1 item"),
        ({"messages": [{"role": "system", "content": "Shout."}]}, "messages.0.role: Input should be 'user'"),
        ({"messages": [{**user, "content": " "}]}, "messages.0.content: empty"),
        ({"max_tokens": 100}, "100 after a prompt of up to 64 tokens .* the model reads 128"),
        ({"max_tokens": 10**9}, "max_tokens: Input should be less than or equal to 4096"),
        ({"stop": ""}, "stop"),
        ({"stop": "x" * 101}, "stop"),
        ({"stop": ["x"] * 5}, "stop"),
        ({"n": 2}, "n: Input should be 1"),
    ):
        sent = {"model": "lora-v1", "messages": [user], **body}
        with pytest.raises(openai.UnprocessableEntityError, match=reason):
            client.chat.completions.create(**sent)
    assert httpx.get(f"{server.url}health").json() == {"status": "ok"}
    assert "tunediff_waiting_texts 0.0" in httpx.get(f"{server.url}metrics").text


@pytest.mark.slow
def test_the_page_shows_the_answer_beside_the_originals(server: serve_load.Server, client: openai.OpenAI):
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    wrong = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(server.url)
        page.get_by_label("Model", exact=True).select_option("lora-v2")
        assert page.get_by_label("Model", exact=True).locator("option").all_inner_texts() == list(ADAPTERS)
        page.get_by_label("Text", exact=True).fill(SOURCES[0])
        page.get_by_role("button", name="Write").click()
        page.get_by_text("The answer is written").wait_for()
        shown = page.locator("article .text").all_text_contents()
        assert page.locator("article h3").all_inner_texts() == ["lora-v2", "original, untrained"]
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        browser.close()
    answers = [ask(client, SOURCES[0], name).choices[0].message.content for name in ("lora-v2", "lora-v2-original")]
    assert shown == [SOURCES[0], *answers]
    assert wrong == []

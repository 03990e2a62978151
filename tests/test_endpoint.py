"""Methods of `prompts` that ask a server: a real one on this machine, and one that fails in every way it can."""

import http.server
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ENVIRONMENT, ROOT, SECRET, Project
from datasets import Dataset
from test_prompting import ask
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq

from tunediff.core.errors import UserError
from tunediff.core.settings import read
from tunediff.evidence import classification as evidence
from tunediff.evidence import costs
from tunediff.evidence.comparison import predictions_of
from tunediff.models.loading import find
from tunediff.models.settings import ModelConf
from tunediff.prompting.endpoint import MOST_IN_A_ROW, Server
from tunediff.prompting.forms import UNSURE, nothing_if_unanswered, wrong_if_unanswered
from tunediff.prompting.method import ask as ask_for
from tunediff.prompting.method import invalid_answers
from tunediff.prompting.parsing import label_of, labels_of
from tunediff.prompting.prompts import Wording
from tunediff.prompting.settings import Endpoint, Entry, Prompting
from tunediff.report.classification import errors
from tunediff.tasks.classification import NO_ANSWER, Classification
from tunediff.tasks.multilabel import Multilabel

LABELS = ["bearish", "bullish"]
TEXTS = [f"text {number}" for number in range(20)]
CONVERSATIONS = [Wording("Choose.", "{text}").conversation(text) for text in TEXTS]


def completion(answer: str, finish_reason: str = "stop", **changes: object) -> tuple[int, dict, str]:
    """Status, headers and body of a good answer."""
    body = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": answer}}
        ],
        "usage": {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32}, **changes,
    }  # fmt: skip
    return 200, {"Content-Type": "application/json"}, json.dumps(body)


def refusal(status: int, message: str) -> tuple[int, dict, str]:
    headers = {"Content-Type": "application/json", "retry-after-ms": "5"}
    return status, headers, json.dumps({"error": {"message": message}})


class FakeServer:
    """Answers by `behave(text, times)`: the text to be labelled, and how often it was asked for until now.

    What it gives is status, headers and body, or a list of parts that come one by one; None cuts the connection in the
    middle of a body.
    """

    def __init__(self, behave: Callable, takes_schema: bool = True):
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.keys: set[str] = set()
        self.headers: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = body["messages"][-1]["content"].splitlines()[-1]
                if "response_format" in body and not takes_schema:
                    return self.give(refusal(400, "response_format is not supported"))
                with fake.lock:
                    fake.bodies.append(body)
                    fake.keys.add(self.headers["Authorization"])
                    fake.headers |= {name.lower() for name in self.headers}
                    fake.asked[text] += 1
                    times = fake.asked[text]
                    fake.at_once += 1
                    fake.most_at_once = max(fake.most_at_once, fake.at_once)
                given = behave(text, times)
                with fake.lock:
                    fake.at_once -= 1
                self.give(given)
                if given and given[0] == 200:
                    fake.answered[text] += 1

            def give(self, given):
                status, headers, body = given or (200, {"Content-Type": "application/json"}, '{"choices": [{"mess')
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                parts = [part.encode() for part in ([body] if isinstance(body, str) else body)]
                self.send_header("Content-Length", str(sum(map(len, parts)) + (0 if given else 500)))
                self.end_headers()
                for number, part in enumerate(parts):
                    time.sleep(0.1 if number else 0)
                    self.wfile.write(part)
                self.close_connection = not given

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeServer]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    servers = []

    def start(behave: Callable, **options: bool) -> FakeServer:
        servers.append(FakeServer(behave, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


def client(url: str, task: str = "classification", **endpoint: object) -> Server:
    entry = Entry(shots=0, endpoint=Endpoint(**{"url": url, "model": "m", "retries": 4, "timeout": 5, **endpoint}))
    settings = Prompting(
        method="ask", task=task, seed=1, precision="fp32", batch_size=8, select_by="f1",
        validation_rows=10, entry=entry,
    )  # fmt: skip
    return Server(settings, LABELS)


def by_number(text: str, times: int) -> tuple[int, dict, str]:
    return completion(json.dumps({"label": LABELS[int(text.split()[-1]) % 2]}))


EXPECTED = [number % 2 for number in range(20)]


# --- answers


def test_a_server_that_takes_a_schema_is_given_the_labels(serve):
    server = serve(by_number)
    scores = client(server.url, concurrency=3, options={"temperature": 0, "seed": 7}).scores(CONVERSATIONS, "test")
    assert scores.scores.argmax(1).tolist() == EXPECTED and not scores.unanswered.any()
    assert (scores.input_tokens, scores.output_tokens) == (600, 40)
    label = server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["label"]
    assert label["enum"] == LABELS
    assert {(body["model"], body["temperature"], body["seed"]) for body in server.bodies} == {("m", 0, 7)}
    assert 1 <= server.most_at_once <= 3


def test_a_server_gives_several_labels_or_none(serve):
    answers = [["bullish", "bearish"], [], ["bullish"]]
    server = serve(lambda text, times: completion(json.dumps({"labels": answers[int(text.split()[-1]) % 3]})))
    scores = client(server.url, "multilabel").scores(CONVERSATIONS[:4], "test").scores
    assert scores.tolist() == [[1, 1], [0, 0], [0, 1], [1, 1]]
    (asked,) = server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"].items()
    assert asked == ("labels", {"type": "array", "items": {"type": "string", "enum": LABELS}})


def test_a_server_that_takes_none_is_asked_in_words(serve):
    server = serve(
        lambda text, times: completion(f" **{LABELS[int(text.split()[-1]) % 2].upper()}**."), takes_schema=False
    )
    assert client(server.url).scores(CONVERSATIONS, "test").scores.argmax(1).tolist() == EXPECTED
    assert server.asked == Counter(TEXTS) and not any("response_format" in body for body in server.bodies)


def test_nothing_is_asked_twice(serve):
    server = serve(by_number)
    half = client(server.url).scores(CONVERSATIONS[:10], "test")
    both = client(server.url).scores(CONVERSATIONS + CONVERSATIONS[:3], "test")
    assert server.asked == Counter(TEXTS)
    assert (both.scores[:10] == half.scores).all() and (both.scores[20:] == half.scores[:3]).all()
    again = client("http://127.0.0.1:1/v1", retries=0)  # another server is another model
    with pytest.raises(UserError, match="cannot be reached"):
        again.scores(CONVERSATIONS[:1], "test")


def test_the_time_of_an_answer_does_not_depend_on_a_later_concurrency(serve):
    server = serve(lambda text, times: time.sleep(0.2) or by_number(text, times))
    started = time.perf_counter()
    seconds = client(server.url, concurrency=10).scores(CONVERSATIONS, "test").seconds
    assert 0.5 < seconds < time.perf_counter() - started  # one alone, and 19 of which ten are asked at once
    assert client(server.url, concurrency=1).scores(CONVERSATIONS, "test").seconds == pytest.approx(seconds)
    assert server.asked == Counter(TEXTS)


def test_another_task_is_another_question(serve):
    """It is asked for in another schema."""
    server = serve(lambda text, times: completion('{"labels": ["bullish", "bearish"]}'))
    client(server.url, "multilabel").scores(CONVERSATIONS[:1], "test")
    client(server.url).scores(CONVERSATIONS[:1], "test")
    asked = [body["response_format"]["json_schema"]["schema"]["required"] for body in server.bodies]
    assert asked == [["labels"], ["label"]]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("bullish", 1),
        ('{"label": "bearish"}', 0),
        ('{"label": "neutral"}', None),
        ("The text is Bullish.", 1),
        ("It is bullish, not bearish.", None),
        ("<think>bearish? no</think>\nbullish", 1),
        ("bullishness", None),
        ("", None),
        ("[1, 2]", None),
        ("null", None),
        ('{"label": ["bullish"]}', 1),
    ],
)
def test_an_answer_names_one_label_or_none(answer: str, label: int | None):
    assert label_of(answer, LABELS) == label


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ('{"labels": ["bullish", "bearish"]}', [0, 1]),
        ('{"labels": []}', []),
        ('["bullish"]', [1]),
        ("Bullish, and a bit bearish.", [0, 1]),
        ("<think>bearish?</think> bullish", [1]),
        ("None.", []),
        ("neutral", None),
        ("", None),
        ("null", None),
    ],
)
def test_an_answer_names_several_labels_or_says_that_there_are_none(answer: str, labels: list[int] | None):
    assert labels_of(answer, LABELS) == labels


def test_labels_in_labels_and_of_one_spelling():
    assert label_of("This is not spam!", ["spam", "not spam"]) == 1
    assert label_of("US", ["us", "US"]) == 1 and label_of("Us", ["us", "US"]) is None


def test_no_valid_answer_is_wrong_whatever_is_true():
    scores = np.array([[1.0, 0, 0], [np.nan] * 3, [np.nan] * 3])
    filled = wrong_if_unanswered(scores, np.array([0, 0, 2]))
    assert filled.tolist() == [[1, 0, 0], [-UNSURE, 0, 0], [0, 0, -UNSURE]]
    filled = nothing_if_unanswered(scores, np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0]], bool))
    assert filled.tolist() == [[1, -1, -1], [-1, -1, -1], [1, 1, 1]]


@pytest.mark.parametrize("task", [Multilabel(LABELS), Classification(LABELS)])
def test_no_threshold_turns_what_was_answered_into_something_else(serve, task: Multilabel | Classification):
    """On validation the server is so bad that one label for all texts would have the better F1."""
    several = isinstance(task, Multilabel)

    def behave(text: str, times: int):
        (said,) = [LABELS[0]] if int(text.split()[-1]) % 4 == 0 else LABELS[1:]
        if several:
            return completion(json.dumps({"labels": [said] if said == LABELS[0] else []}))
        return completion(json.dumps({"label": said}))

    server = serve(behave)
    has = [0 if number % 3 else 1 for number in range(20)]
    rows = {"text": TEXTS, "label": [[] if label else [0] for label in has] if several else has}
    split = Dataset.from_dict(rows)
    settings = client(server.url, task.name).settings.model_copy(update={"validation_rows": 20})
    given = ask_for({"train": split, "validation": split, "test": split}, task, settings)
    answers = task.answers(given.test, given.fitted)
    said = np.arange(20) % 4 == 0
    assert (answers[:, 0] == said).all() and not answers[:, 1].any() if several else (answers == ~said).all()
    assert given.validation["f1"] == task.score(task.targets(split), given.test)["f1"]
    assert not {"threshold", "thresholds"} & given.fitted.keys()


def test_a_text_without_a_valid_answer_is_a_false_positive_of_no_label(serve):
    """In figures, which so do not depend on the labels' order, in costs, files, pictures and the page's errors."""
    names = ["red", "green", "blue"]
    true = [names[number % 3] for number in range(20)]
    silent = np.arange(20) % 4 == 0
    server = serve(lambda text, _: completion("Hm." if silent[row := int(text.split()[-1])] else true[row]))
    settings = client(server.url).settings.model_copy(update={"validation_rows": 20})
    rows = {"text": TEXTS, "split": ["train"] * 20, "row": range(20), "tokens": [2] * 20}
    figures = []
    for labels in (names, names[::-1]):
        task = Classification(labels)
        split = Dataset.from_dict({**rows, "label": list(map(labels.index, true))})
        given = ask_for({"train": split, "validation": split, "test": split}, task, settings)
        figures.append(given.validation)
    assert figures[0] == pytest.approx(figures[1])
    assert figures[1] == task.score(task.targets(split), given.test)
    assert (figures[0]["accuracy"], figures[0]["recall"], figures[0]["precision"]) == (
        0.75,
        pytest.approx(0.75, abs=0.01),
        1,
    )
    assert figures[0]["loss"] == pytest.approx(np.log(3) * 0.25, abs=0.01)
    detail = evidence.detail(task, task.targets(split), given.test)
    assert {one["precision"] for one in detail["labels"].values()} == {1}

    table = evidence.predictions(task, split, 1, given.test)
    assert (table.predicted.isna() == silent).all() and (table.predicted == true).tolist() == (~silent).tolist()
    one = predictions_of(table)
    assert one.confusion.to_dict("list")[NO_ANSWER] == [1, 2, 2, 0]
    assert one.confidence[1].tolist() == (~silent).tolist()
    assert (errors(one).answer == NO_ANSWER).all() and len(errors(one)) == 5
    dear = costs.matrix(task, {"red": {"blue": 5}, "green": {"red": 0.5}}, "")
    spent = costs.counts(dear, one.actual, one.predicted)[0, :, 0] * 5
    assert spent.tolist() == [
        5 * (label == "red") or 1 if none else 0 for label, none in zip(true, silent, strict=True)
    ]


# --- failures


def slow_answer() -> tuple[int, dict, str]:
    time.sleep(1.5)
    return completion("bearish")


JSON, HTML = {"Content-Type": "application/json"}, {"Content-Type": "text/html"}
FAILURES = {
    "429": lambda: refusal(429, "slow down"),
    "500": lambda: refusal(500, "oops"),
    "cut": lambda: None,
    "html": lambda: (200, HTML, "<p>Hi"),
    "no JSON": lambda: (200, JSON, "{"),
    "another JSON": lambda: (200, JSON, '{"choices": []}'),
    "slow": slow_answer,
}


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
def test_a_server_that_fails_is_asked_again_until_every_row_has_its_answer(serve, failure: str):
    server = serve(lambda text, times: FAILURES[failure]() if times < 2 else by_number(text, times))
    scores = client(server.url, concurrency=20, timeout=1).scores(CONVERSATIONS, "test")
    assert scores.scores.argmax(1).tolist() == EXPECTED
    assert min(server.asked.values()) > 1


def test_nonsense_is_counted_and_not_asked_for_again(serve):
    server = serve(lambda text, times: by_number(text, times) if int(text.split()[-1]) < 15 else completion("Hm."))
    scores = client(server.url).scores(CONVERSATIONS, "test")
    assert scores.unanswered.tolist() == [False] * 15 + [True] * 5
    assert (client(server.url).scores(CONVERSATIONS, "test").unanswered == scores.unanswered).all()
    assert server.asked == Counter(TEXTS)


def test_answers_that_a_limit_cut_are_counted_and_read(serve):
    """A label that is there is an answer, whatever the server wanted to say beside it; the record says it was cut."""
    server = serve(lambda text, times: completion("The label is bea" if text == "text 0" else "bullish, as", "length"))
    for _ in range(2):
        scores = client(server.url).scores(CONVERSATIONS, "test")
        assert scores.cut == 20 and np.flatnonzero(scores.unanswered).tolist() == [0]
    assert server.asked == Counter(TEXTS)
    assert invalid_answers({"test": scores.unanswered}, {"test": scores}) == {
        "no_valid_answer": {"test": 0.05}, "cut": {"test": 20},
    }  # fmt: skip
    assert client(serve(by_number).url).scores(CONVERSATIONS, "test").cut == 0


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": 2}, {"prompt_tokens": 30}])
def test_a_server_that_counts_no_tokens_has_no_price(serve, usage: dict | None):
    server = serve(lambda text, times: completion("bearish", usage=usage))
    for _ in range(2):  # and the next run reads the records
        read = 20 * ((usage or {}).get("prompt_tokens") or 0)
        assert client(server.url).scores(CONVERSATIONS, "test").input_tokens == read
    with pytest.raises(UserError, match=r"ask\.endpoint\.price: .* does not say how many tokens .*; leave `price` out"):
        client(server.url, price={"input": 1, "output": 1}).scores(CONVERSATIONS, "test")
    assert server.asked == Counter(TEXTS)


@pytest.mark.parametrize(("status", "takes_schema"), [(400, True), (413, False), (422, True)])
def test_a_text_that_the_server_refuses_has_no_valid_answer(serve, capsys, status: int, takes_schema: bool):
    """Also the first one; and with none but such texts left to ask."""
    long = {"text 0", "text 7", "text 19"}
    server = serve(
        lambda text, times: refusal(status, "too long") if text in long else by_number(text, times),
        takes_schema=takes_schema,
    )
    for _ in range(2):
        scores = client(server.url).scores(CONVERSATIONS, "test")
        assert {TEXTS[row] for row in np.flatnonzero(scores.unanswered)} == long and scores.refused == 3
        assert np.delete(scores.scores.argmax(1), [0, 7, 19]).tolist() == [*EXPECTED[1:7], *EXPECTED[8:19]]
    assert all(server.asked[text] == 1 for text in set(TEXTS) - long)
    assert re.search(r"ask: test: http.*/v1 refuses 3 texts, first: .*too long", capsys.readouterr().out)
    priced = client(server.url, price={"input": 1, "output": 1}).scores(CONVERSATIONS, "test")
    assert priced.input_tokens == 17 * 30


def test_a_server_that_takes_no_more_texts_is_a_failure(serve):
    """Such as one whose credit is used up; what it refused from then on is asked again."""
    empty = threading.Event()
    conversations = [Wording("", "{text}").conversation(f"text {number}") for number in range(60)]

    def behave(text: str, times: int):
        answered = not empty.is_set() or int(text.split()[-1]) < 30
        return by_number(text, times) if answered else refusal(400, "no credit")

    server = serve(behave)
    empty.set()
    for answered in (30, 0):
        with pytest.raises(UserError, match=rf"ask\.endpoint.*no credit.* {answered} of (60|30) answers came"):
            client(server.url, concurrency=1).scores(conversations, "test")
    assert server.asked.total() <= 30 + 3 * MOST_IN_A_ROW  # a new client tries with and without the schema
    empty.clear()
    assert not client(server.url).scores(conversations, "test").unanswered.any()


def test_what_came_before_a_failure_is_kept(serve):
    def breaks(text: str, times: int):
        return by_number(text, times) if broken.is_set() or int(text.split()[-1]) < 12 else refusal(503, "gone")

    broken = threading.Event()
    server = serve(breaks)
    with pytest.raises(UserError, match=r"prompts\.entries\.ask\.endpoint\.url: .* fails .*gone.* 12 of 20 answers"):
        client(server.url, concurrency=1, retries=1).scores(CONVERSATIONS, "test")
    broken.set()
    assert client(server.url).scores(CONVERSATIONS, "test").scores.argmax(1).tolist() == EXPECTED
    assert server.answered == Counter(TEXTS)


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (
            lambda *_: refusal(401, f"wrong key {SECRET}"),
            r"\.key_from: .* refuses the key .*\(key\).*; correct",
        ),
        (
            lambda *_: refusal(404, "no model m"),
            r"\.model: .* has no 'm' .*; its list is at http.*/v1/models.*correct `url`",
        ),
        (lambda *_: refusal(429, "quota"), r"\.concurrency: .* too busy .*quota.*; lower it, or wait"),
        (
            lambda *_: refusal(400, "use max_completion_tokens"),
            r"\.options: .* refuses .*use max_completion.*; correct `options` \(temperature, max_tokens\)",
        ),
        (lambda *_: (200, HTML, "<p>Hi"), r"\.url: .* fails .*no chat completion came back"),
        (
            lambda *_: time.sleep(0.5) or refusal(500, "late"),
            r"\.timeout: .* gives no answer in 0\.2 seconds",
        ),
        (
            lambda *_: (200, {"Content-Type": "application/json"}, [" "] * 9 + [completion("bearish")[2]]),
            r"\.timeout: .* gives no answer in 0\.2 seconds",
        ),
        (  # of which one is cut, being long
            lambda *_: refusal(401, " ".join([SECRET] * 40)),
            r"\.key_from: .* refuses the key .*\(key\).*; correct",
        ),
    ],
)
def test_what_no_repetition_mends_is_one_line(serve, monkeypatch, behave: Callable, message: str):
    monkeypatch.setenv("OUR_KEY", SECRET)
    server = serve(behave)
    with pytest.raises(UserError) as error:
        client(server.url, retries=0, key_from="OUR_KEY", timeout=0.2).scores(CONVERSATIONS[:1], "test")
    assert "\n" not in str(error.value) and SECRET[:4] not in str(error.value)
    error.match(rf"^params\.yaml: prompts\.entries\.ask\.endpoint{message}.*\. 0 of 1 answers came and are kept")


def test_a_quota_for_a_minute_is_waited_for(serve, monkeypatch):
    """Where the server does not say how long; and not so long for one that may be down."""
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("openai._base_client.anyio.sleep", sleep)
    server = serve(lambda text, times: by_number(text, times) if times > 12 else (429, JSON, "{}"), takes_schema=False)
    assert not client(server.url, retries=12).scores(CONVERSATIONS[:1], "test").unanswered.any()
    assert len(waits) == 12 and 120 < sum(waits[:6]) < 155 and max(waits) <= 75
    waits.clear()
    with pytest.raises(UserError, match="cannot be reached"):
        client("http://127.0.0.1:1/v1", retries=6).scores(CONVERSATIONS[:1], "test")
    assert len(waits) == 6 and sum(waits) < 25


def test_what_the_environment_has_for_another_server_is_not_sent(serve, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {SECRET}\nX-Other: {SECRET}")
    server = serve(by_number)
    client(server.url).scores(CONVERSATIONS[:1], "test")
    assert server.keys == {"Bearer none"}
    assert not {"openai-organization", "openai-project", "x-other"} & server.headers


def test_a_server_that_is_down_and_a_missing_key_are_one_line(serve, monkeypatch):
    with pytest.raises(UserError, match=r"endpoint\.url: http://127\.0\.0\.1:1/v1 cannot be reached .*; start"):
        client("http://127.0.0.1:1/v1", retries=0).scores(CONVERSATIONS[:1], "test")
    for key in (None, "", "a b", "k\u0435y"):  # the last with a Cyrillic letter
        if key is not None:
            monkeypatch.setenv("OUR_KEY", key)
        said = r"endpoint\.key_from: the environment variable OUR_KEY is not set, or holds no key"
        with pytest.raises(UserError, match=said):
            client("http://127.0.0.1:1/v1", key_from="OUR_KEY").scores(CONVERSATIONS[:1], "test")


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ({"url": "localhost:8000"}, "endpoint.url: expected an address such as http://localhost:8000/v1"),
        ({"url": f"http://me:{SECRET}@host/v1"}, "endpoint.url: expected an address alone: a key belongs in the env"),
        ({"key_from": f"{SECRET}-x"}, "endpoint.key_from: expected the name of an environment variable"),
        ({"key_from": f"hf_{SECRET}"}, "endpoint.key_from: expected the name of an environment variable"),
        ({"modle": "m"}, "endpoint.modle: unknown key; did you mean model"),
        ({"price": {"input": 1}}, "endpoint.price.output: missing key"),
    ],
)
def test_mistakes_in_an_endpoint_are_one_line(project: Project, monkeypatch, endpoint: dict, message: str):
    with_endpoint(project, **{"url": "http://localhost/v1", **endpoint})
    with pytest.raises(UserError) as error:
        project.prepare_here(monkeypatch)
    assert f"prompts.entries.asked.{message}" in str(error.value)
    assert SECRET not in str(error.value)


# --- the stage


def with_endpoint(project: Project, **endpoint: object) -> None:
    prompts = project.read_yaml("params.yaml")["prompts"]
    entry = {"shots": 1, "endpoint": {"model": "m", **endpoint}}
    project.edit_yaml("params.yaml", prompts={**prompts, "methods": ["asked"], "entries": {"asked": entry}})


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**ENVIRONMENT, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OUR_KEY": SECRET}


@pytest.mark.slow
def test_a_killed_stage_asks_only_for_the_rest(serve, project: Project, monkeypatch, environment):
    """And a run after that asks for nothing; the key is in no file, of the project or of the cache."""

    def by_word(text: str, times: int):
        time.sleep(0.1)
        return completion("bearish" if " fell " in text else "bullish" if " rose " in text else "who knows")

    server = serve(by_word)
    price = {"input": 2.0, "output": 10.0}
    with_endpoint(project, url=server.url, key_from="OUR_KEY", concurrency=2, price=price)
    project.prepare_here(monkeypatch)
    command = project.read_yaml("dvc.yaml")["stages"]["prompt"]["cmd"].replace("${item}", "--method asked").split()
    killed = subprocess.Popen([sys.executable, *command[1:]], cwd=project.folder, env=environment)
    while sum(server.answered.values()) < 8:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    time.sleep(0.3)
    known = {path.stem for path in (Path(environment["XDG_CACHE_HOME"])).rglob("*.json")}
    assert len(known) >= 6
    before = Counter(server.asked)

    ask(project, "asked", environment=environment)
    rows = project.prepared().query("side != 'train'")
    assert set(server.asked) == set(rows.text)
    twice = {text for text, times in server.asked.items() if times > 1}
    assert len(twice) <= 2 and server.asked.total() == len(rows) + len(twice)  # those that were under way
    assert before.total() - len(twice) == len(known)
    cost = project.read_json("metrics/cost/asked.json")
    answers = pd.read_parquet(project.folder / "data/predictions/asked.parquet")
    silent = ~answers.text.str.contains(" fell | rose ")
    assert (answers.predicted.isna() == silent).all()
    confused = pd.read_csv(project.folder / "plots/confusion/asked.csv")
    assert ((confused.predicted == NO_ANSWER) == silent).all()
    assert 0 < cost["no_valid_answer"] == pytest.approx(silent.mean())
    assert (answers.predicted == answers.actual).tolist() == (~silent).tolist()
    assert cost["money_per_1000"] == pytest.approx((30 * 2.0 + 2 * 10.0) / 1e6 * 1000)
    detail = project.read_json("metrics/detail/asked.json")["prompt"]
    assert detail["no_valid_answer"]["test"] == pytest.approx(silent.mean())

    asked = server.asked.total()
    figures = (project.folder / "metrics/asked.json").read_bytes()
    ask(project, "asked", environment={**environment, "OUR_KEY": ""})
    assert server.asked.total() == asked and (project.folder / "metrics/asked.json").read_bytes() == figures
    assert server.keys == {f"Bearer {SECRET}"}
    for folder in (project.folder, Path(environment["XDG_CACHE_HOME"])):
        assert not [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def taught(decoder: Path, answers: dict[str, str], folder: Path) -> Path:
    """A copy of the decoder that has learnt by heart what to answer to each text of CONVERSATIONS."""
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    model = AutoModelForCausalLM.from_pretrained(decoder, dtype="float32")
    rows = []
    for messages, answer in zip(CONVERSATIONS, answers.values(), strict=True):
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        answer = [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
        rows.append({"input_ids": [*prompt, *answer], "labels": [-100] * len(prompt) + answer})
    batch = DataCollatorForSeq2Seq(tokenizer)(rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(300):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.01:
            break
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


ANSWERED = '"POST /v1/chat/completions HTTP/1.1" 200'


@contextmanager
def served(folder: Path, log: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """`transformers serve` with the model of a folder, and its URL; what it says goes to `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "transformers", "serve", folder, "--port", str(port), "--device", "cpu"]
    with log.open("w") as said:
        server = subprocess.Popen(command, env=ENVIRONMENT, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield server, f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_real_server_answers_each_text_once_also_after_a_kill(
    tiny_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`transformers serve`, which overlooks the schema. What is no label, or cut before one, is no valid answer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answers = {text: LABELS[number % 2] for number, text in enumerate(TEXTS)}
    answers |= {
        "text 3": "the index",
        "text 8": "in early trade for a third day against forecasts after the report bearish",
    }
    folder = taught(tiny_decoder, answers, tmp_path / "taught")
    options = {"temperature": 0, "max_tokens": 12}
    with served(folder, tmp_path / "log") as (server, url):
        real = client(url, model=str(folder), retries=40, timeout=60, options=options, concurrency=2)
        asking = multiprocessing.get_context("fork").Process(target=real.scores, args=(CONVERSATIONS, "test"))
        asking.start()
        while len(known := [*(tmp_path / "cache").rglob("*.json")]) < 4:
            assert asking.is_alive() and server.poll() is None
            time.sleep(0.005)
        asking.kill()
        asking.join()
        scores = real.scores(CONVERSATIONS, "test")
        assert (real.scores(CONVERSATIONS, "test").scores[4:8] == scores.scores[4:8]).all()
    assert len(known) < 20 <= (tmp_path / "log").read_text().count(ANSWERED) <= 20 + real.endpoint.concurrency
    assert np.flatnonzero(scores.unanswered).tolist() == [3, 8] and scores.cut == 1
    answered = ~scores.unanswered
    assert scores.scores[answered].argmax(1).tolist() == np.array(EXPECTED)[answered].tolist()
    assert scores.input_tokens > 20 * 20 and 20 <= scores.output_tokens <= 20 * 12


@pytest.mark.slow
def test_the_shipped_decoder_is_asked_through_a_real_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = ROOT / "conf/model/smollm2.yaml"
    folder, _ = find(read(path, ModelConf), path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texts = [f"{name} shares {word} after the report" for name in ("Bank", "Oil") for word in ("rise", "fall", "rest")]
    wording = Wording("Is this good or bad news? Answer with one word, bullish or bearish.", "{text}")
    conversations = [wording.conversation(text) for text in [*texts, texts[0]]]
    with served(Path(folder), tmp_path / "log") as (_, url):
        options = {"temperature": 0, "max_tokens": 8}
        real = client(url, model=str(folder), retries=40, timeout=120, options=options)
        scores = real.scores(conversations, "test")
    again = real.scores(conversations, "test")  # the server is gone
    assert (tmp_path / "log").read_text().count(ANSWERED) == len(texts)
    assert np.array_equal(scores.scores, again.scores, equal_nan=True) and len(scores.scores) == 7
    assert scores.unanswered.sum() + (scores.scores == 1).any(1).sum() == 7 > scores.unanswered.sum()
    assert np.array_equal(scores.scores[0], scores.scores[6], equal_nan=True)
    assert scores.input_tokens > 7 * 20 and 7 <= scores.output_tokens <= 7 * 8

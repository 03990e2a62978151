"""The service under attack: clients that keep others out, names that are not its own, requests of two lengths."""

import asyncio
import contextlib
import errno
import logging
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from conftest import ENVIRONMENT, ROOT
from test_serve import Slow, client

from tunediff.core.errors import UserError
from tunediff.use import service_app, service_connections, service_guard, service_models, service_server
from tunediff.use.service_connections import Connections
from tunediff.use.service_hosts import Hosts

pytestmark = pytest.mark.slow

HALF = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: "
HEALTH = HALF + b"not\r\n\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
TEXT = b'{"texts": "a"}'


@contextlib.asynccontextmanager
async def listening(classifier: Slow | None = None, most: int = 100) -> AsyncIterator[service_server.Server]:
    """A server in this process, with at most so many connections; `server.port` is its own."""
    listener = service_server.bind("127.0.0.1", 0)
    served = {"slow": service_models.Served(classifier or Slow(free=True), None)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_server, "most_connections", lambda: most)
        server = service_server.Server(service_app.make_app(served, 32, Hosts("127.0.0.1")))
    server.port = listener.getsockname()[1]
    running = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        await running


class Client:
    """A connection to a server in this process."""

    @classmethod
    async def to(cls, server: service_server.Server, **more: object) -> "Client":
        made = cls()
        made.reader, made.writer = await asyncio.open_connection("127.0.0.1", server.port, **more)
        return made

    async def ask(self, sent: bytes) -> bytes:
        """The beginning of the answer; nothing if the connection is closed."""
        self.writer.write(sent)
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(2**16), 30)
        return b""

    async def closed(self) -> float:
        """Seconds until the server closes it."""
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(), 30)
        return time.monotonic() - started


def test_a_client_that_comes_while_the_service_stops_is_refused_and_not_cut():
    """It connects between the last look at those who wait and the end of listening."""
    late = socket.socket()
    late.setblocking(False)

    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, tuple]:
            try:
                return super().accept()
            except BlockingIOError:
                late.connect_ex(self.getsockname())
                raise

    async def stop() -> None:
        with pytest.MonkeyPatch.context() as patch:
            bind = service_server.bind
            patch.setattr(service_server, "bind", lambda *place: Listener(fileno=bind(*place).detach()))
            async with listening():
                pass

    with late:
        asyncio.run(stop())
        answered = select.poll()  # takes any number of a file, unlike select
        answered.register(late, select.POLLOUT)
        assert answered.poll(10_000)
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


# --- time


@pytest.mark.parametrize("before", [b"", HEALTH], ids=["at first", "after an answer"])
@pytest.mark.parametrize("sent", [b"", HALF])
def test_a_header_that_does_not_come_is_not_waited_for(before: bytes, sent: bytes, monkeypatch: pytest.MonkeyPatch):
    """Neither if a bit of it comes now and then."""
    monkeypatch.setattr(service_connections, "HEADER_SECONDS", 0.5)

    async def ask() -> float:
        async with listening() as server:
            one = await Client.to(server)
            if before:
                assert b"200 OK" in await one.ask(before)
            one.writer.write(sent)

            async def trickle() -> None:
                while sent:
                    await asyncio.sleep(0.1)
                    one.writer.write(b"x")

            trickling = asyncio.create_task(trickle())
            seconds = await one.closed()
            trickling.cancel()
            return seconds

    assert 0.3 < asyncio.run(ask()) < 3


def test_a_request_in_work_may_take_longer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service_connections, "HEADER_SECONDS", 0.2)

    async def ask() -> bytes:
        slow = Slow()
        async with listening(slow) as server:
            asyncio.get_running_loop().call_later(1, slow.free.set)
            one = await Client.to(server)
            return await one.ask(POST + b"Content-Length: %d\r\n\r\n%b" % (len(TEXT), TEXT))

    assert b"200 OK" in asyncio.run(ask())


@pytest.mark.parametrize("path", ["/", "/static-offline-docs/swagger-ui-bundle.js"], ids=["in one piece", "in pieces"])
def test_an_answer_that_nobody_reads_is_not_kept(path: str, monkeypatch: pytest.MonkeyPatch):
    """Requests in one go, so that the answers are more than the system keeps for a connection."""
    monkeypatch.setattr(service_connections, "ANSWER_SECONDS", 0.5)

    async def ask() -> None:
        async with listening() as server:
            idle = socket.socket()
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect(("127.0.0.1", server.port))
            idle.setblocking(False)
            request = HEALTH.replace(b"/health", path.encode())
            with idle, contextlib.suppress(BlockingIOError):
                idle.send(request * 1000)
                await asyncio.sleep(0.3)
                assert server.server_state.connections
                until = time.monotonic() + 10
                while server.server_state.connections and time.monotonic() < until:
                    await asyncio.sleep(0.05)
                assert not server.server_state.connections

    asyncio.run(ask())


def test_a_body_that_does_not_come_makes_room_for_those_that_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service_guard, "MAX_REQUESTS", 2)
    begun = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield TEXT[:5]
        begun.set()
        await asyncio.sleep(30)

    async def ask() -> None:
        async with client(Slow(free=True)) as http:
            halves = [asyncio.create_task(http.post("/predict", content=half())) for _ in range(2)]
            await begun.wait()
            assert (await http.post("/predict", json={"texts": "a"})).status_code == 200
            done, waiting = await asyncio.wait(halves, timeout=1)
            assert [one.result().status_code for one in done] == [408]
            assert len(waiting) == 1
            waiting.pop().cancel()

    asyncio.run(ask())


# --- number


def test_one_address_has_half_of_the_connections_and_the_longest_wait_ends_first():
    async def ask() -> None:
        async with listening(most=6) as server:
            first, second, third = [await Client.to(server) for _ in range(3)]
            assert b"200 OK" in await first.ask(HEALTH)  # now `second` waits for the longest time
            assert b"200 OK" in await (await Client.to(server)).ask(HEALTH)
            assert await second.closed() < 1
            assert b"200 OK" in await first.ask(HEALTH)
            assert b"200 OK" in await third.ask(HEALTH)

    asyncio.run(ask())


def test_a_connection_in_work_is_not_closed_for_another(capsys: pytest.CaptureFixture):
    async def ask() -> None:
        slow = Slow()
        async with listening(slow, most=4) as server:
            request = POST + b"Content-Length: %d\r\n\r\n%b" % (len(TEXT), TEXT)
            working = [asyncio.create_task((await Client.to(server)).ask(request)) for _ in range(2)]
            while server.config.app._bodies < 2:
                await asyncio.sleep(0.01)
            assert await (await Client.to(server)).ask(HEALTH) == b""
            slow.free.set()
            assert all(b"200 OK" in answer for answer in await asyncio.gather(*working))
            await asyncio.sleep(0.1)
            assert b"200 OK" in await (await Client.to(server)).ask(HEALTH)

    asyncio.run(ask())
    assert "127.0.0.1 has 2 connections, the most for one address: a new one is closed" in capsys.readouterr().err


def test_nothing_is_kept_of_connections_that_are_gone():
    async def ask() -> Connections:
        async with listening(most=4) as server:
            for number in range(20):
                one = await Client.to(server)
                await one.ask([HEALTH, HALF + b"\0\r\n\r\n", b"nonsense\r\n\r\n"][number % 3])
                one.writer.close()
            return server.config.http.args[0]

    kept = asyncio.run(ask())
    assert not kept._open and not kept._waiting and not kept._of_address


@pytest.mark.parametrize(("files", "most"), [(1024, 768), (256, 192), (100_000, 1024), (resource.RLIM_INFINITY, 1024)])
def test_there_are_fewer_connections_than_files_that_may_be_opened(files: int, most: int, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (files, files))
    assert service_connections.most_connections() == most


FILES = 256
SERVER = """
import numpy as np
from tunediff.use import service_server
from tunediff.tasks.classification import Classification
from tunediff.use.service_app import make_app
from tunediff.use.service_hosts import Hosts
from tunediff.use.service_models import Served

class Constant:
    names = ["a", "b"]
    task = Classification(names)
    def predict(self, texts):
        return np.full((len(texts), 2), .5)

listener = service_server.bind("127.0.0.1", 0)
service_server.serve(make_app({"a": Served(Constant(), None)}, 32, Hosts("127.0.0.1")), listener)
"""


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[tuple[subprocess.Popen, int, Path]]:
    """A server that may open 256 files; its port, and its log."""
    log = tmp_path / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
        ) as process,
    ):
        try:
            yield process, int(re.search(r":(\d+)/", process.stdout.readline())[1]), log
        finally:
            process.kill()


def answer(port: int, source: str) -> bytes:
    """The first line of an answer to a client at that address."""
    with socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0)) as one:
        one.sendall(HEALTH)
        return one.recv(1000).partition(b"\r\n")[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs 127.0.0.2 and /proc")
@pytest.mark.parametrize(
    "sent", [HALF, POST + b"Content-Length: 9\r\n\r\n", b"\0\r\n\r\n"], ids=["header", "body", "junk"]
)
def test_a_flood_locks_nobody_out_and_leaves_files_and_a_short_log(attacked, sent: bytes):
    """Four times as many connections as files, all at once: the server cannot run while they are made."""
    process, port, log = attacked
    started = time.monotonic()
    with contextlib.ExitStack() as flood:
        process.send_signal(signal.SIGSTOP)
        for _ in range(4 * FILES if resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 5 * FILES else 2 * FILES):
            one = flood.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            one.sendall(sent)
        process.send_signal(signal.SIGCONT)
        for source in ("127.0.0.1", "127.0.0.2"):
            assert answer(port, source) == b"HTTP/1.1 200 OK"
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < FILES * 3 // 4
    process.terminate()
    assert process.wait(timeout=30) == -signal.SIGTERM
    lines = log.read_text().splitlines()
    assert len(lines) <= 2 * (time.monotonic() - started + 1), lines[:20]
    assert "Too many open files" not in log.read_text()


def test_the_log_has_a_line_once_a_second(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(service_server.time, "monotonic", lambda: now[0])
    limit = service_server.OncePerSecond()

    def record(line: int, text: str) -> logging.LogRecord:
        return logging.LogRecord("it", logging.WARNING, "it.py", line, "%s", (text,), None)

    assert [limit.filter(record(1, "a")) for _ in range(1000)] == [True] + [False] * 999
    assert limit.filter(record(2, "another"))
    now[0] = 1
    later = record(1, "b")
    assert limit.filter(later) and later.getMessage() == "b (999 like it were left out)"
    now[0] = 2
    last = record(1, "c")
    assert limit.filter(last) and last.getMessage() == "c"


# --- whom it answers


@pytest.mark.parametrize(
    ("header", "server", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("LOCALHOST:8000", "127.0.0.1", True),
        ("localhost", "::1", True),
        ("[::1]:8000", "::1", True),
        ("localhost", "192.0.2.1", False),  # of the client's machine, or of what leads here
        ("192.0.2.1:8000", "192.0.2.1", True),
        ("192.0.2.2", "192.0.2.1", False),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("localhost", "::ffff:127.0.0.1", True),
        ("models.example:443", "192.0.2.1", True),
        ("Models.Example", "192.0.2.1", True),
        ("evil.example", "127.0.0.1", False),
        ("models.example.evil.example", "127.0.0.1", False),
        ("evil.models.example", "127.0.0.1", False),
        ("127.0.0.1.evil.example:8000", "127.0.0.1", False),
        ("127.0.0.1:8000@evil.example", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("[::1", "::1", False),
        ("\xe9", "127.0.0.1", False),
        ("127.0.0.1", None, False),  # it listens at no address
    ],
)
def test_a_host_is_answered_if_it_is_the_address_or_an_allowed_name(header: str, server: str | None, allowed: bool):
    hosts = Hosts("0.0.0.0", ["models.example"])
    assert hosts.allow(header, server and (server, 8000)) == allowed


@pytest.mark.parametrize("path", ["/", "/health", "/models", "/docs", "/openapi.json", "/metrics", "/nope"])
def test_a_page_of_another_name_is_not_answered(path: str):
    """Neither is what it sends."""

    async def ask() -> list[httpx.Response]:
        async with client(Slow(free=True)) as http:
            named = {"host": "evil.example:8000"}
            return [
                await http.get(path, headers=named),
                await http.post("/predict", json={"texts": "a"}, headers=named),
            ]

    for refused in asyncio.run(ask()):
        assert refused.status_code == 421
        assert refused.json() == {
            "detail": "the header Host names no address of this service; --allowed-host adds a name"
        }


@pytest.mark.parametrize("name", ["http://models.example", "models.example:8000", "ab.de:80", "*", ""])
def test_an_allowed_host_is_a_name(name: str):
    with pytest.raises(
        UserError, match=re.escape(f"--allowed-host {name}: expected a name or an address, without http")
    ):
        Hosts("127.0.0.1", [name])


# --- where a request ends


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Content-Length: 14\r\nTransfer-Encoding: chunked\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        POST.replace(b"POST /predict", b"GET /health") + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n",
        POST + b"Content-Length: 14\r\nContent-Length: 5\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    ],
)
def test_a_request_of_two_lengths_is_refused_and_is_the_last_on_its_connection(sent: bytes):
    """A second request that one server sees in it, and another does not, is not answered."""
    body = b"e\r\n%b\r\n0\r\n\r\n" % TEXT

    async def ask() -> bytes:
        async with listening() as server:
            one = await Client.to(server)
            one.writer.write(sent + body + HEALTH)
            return await asyncio.wait_for(one.reader.read(), 30)

    answered = asyncio.run(ask())
    assert re.match(rb"HTTP/1.1 (400|501) ", answered) and answered.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answered.lower()


def test_a_length_given_once_is_read_either_way():
    async def ask() -> None:
        async with listening() as server:
            one = await Client.to(server)
            for sent in (
                b"Content-Length: 14\r\n\r\n" + TEXT,
                b"Transfer-Encoding: chunked\r\n\r\ne\r\n%b\r\n0\r\n\r\n" % TEXT,
            ):
                assert b"200 OK" in await one.ask(POST + sent)

    asyncio.run(ask())

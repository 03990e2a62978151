"""The guard around every request to the service: whom it is for, bounds on size and number, headers, figures."""

import asyncio
import time

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunediff.use.service_hosts import Hosts
from tunediff.use.service_metrics import Metrics

MAX_BODY = 2**20  # bytes
MAX_REQUESTS = 256  # with a body, at a time
BODY_SECONDS = 10  # until a request's body is there; less if others need its place

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """Passes a request on when its body is complete, or refuses it with a reason."""

    def __init__(self, app: ASGIApp, hosts: Hosts, metrics: Metrics, paths: set[str]):
        """Requests to `paths` are counted by their path, all others together."""
        self.app = app
        self.hosts = hosts
        self.metrics = metrics
        self.paths = paths
        self.stopping = False
        """Whether the service stops: from then on, each answer is the last on its connection."""
        self._bodies = 0
        self._incomplete: dict[asyncio.Timeout, None] = {}
        """The time limits of bodies that are not complete, the oldest first."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500  # unless there is an answer
        started = time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS]
                if self.stopping:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            with self.metrics.in_flight.track_inprogress():
                await self._admit(scope, receive, answer)
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refused := self._refuse(scope):
            await refused(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
        elif self._bodies >= MAX_REQUESTS and not self._end_longest_wait():
            await refuse(503, f"{MAX_REQUESTS} requests are in work already; try again soon")(scope, receive, send)
        else:
            self._bodies += 1
            try:
                await self._with_body(scope, receive, send)
            finally:
                self._bodies -= 1

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that is for another host, or of which a proxy may see another end."""
        headers = Headers(scope=scope)
        if not self.hosts.allow(headers.get("host", ""), scope["server"]):
            return refuse(421, "the header Host names no address of this service; --allowed-host adds a name")
        if "transfer-encoding" in headers and ("content-length" in headers or scope["http_version"] == "1.0"):
            refused = refuse(400, "expected Content-Length or, in HTTP/1.1, Transfer-Encoding, and not both")
            refused.headers["connection"] = "close"
            return refused
        return None

    def _end_longest_wait(self) -> bool:
        """Give up the body that has been awaited for the longest time, if one is."""
        if not self._incomplete:
            return False
        longest = next(iter(self._incomplete))
        del self._incomplete[longest]
        longest.reschedule(asyncio.get_running_loop().time())
        return True

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(BODY_SECONDS) as limit:
                self._incomplete[limit] = None
                try:
                    body = await self._read(receive)
                finally:
                    self._incomplete.pop(limit, None)
        except TimeoutError:
            reason = f"the body was not there after {BODY_SECONDS} seconds, or when others needed its place"
            await refuse(408, reason)(scope, receive, send)
            return
        if body is None:
            return
        if len(body) > MAX_BODY:
            await refuse(413, f"the body has more than {MAX_BODY} bytes")(scope, receive, send)
            return
        request = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def replay() -> Message:
            return next(request, None) or await receive()

        await self.app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytearray | None:
        """The body, or its beginning if that is too large already; None if the client is gone."""
        body = bytearray()
        complete = False
        while not complete and len(body) <= MAX_BODY:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            complete = not message.get("more_body", False)
        return body


def refuse(status: int, reason: str) -> JSONResponse:
    """An answer in the form of FastAPI's own errors; what is too much now may be tried again."""
    return JSONResponse({"detail": reason}, status, {"retry-after": "1"} if status in (429, 503) else None)

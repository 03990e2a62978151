"""Around every request to the service: bounds on its size and on how many there are, headers, figures."""

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 2**20  # bytes
MAX_REQUESTS = 256  # with a body, at a time
BODY_SECONDS = 10  # until a request's body is there

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Metrics:
    """Of one service, in a registry of its own."""

    def __init__(self):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        more = {"namespace": "tunediff", "registry": self.registry}
        fast = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
        self.requests = Counter("requests", "Requests answered", ["path", "status"], **more)
        self.seconds = Histogram("request_seconds", "From a request to its answer", ["path"], buckets=fast, **more)
        self.answers = Counter("answers", "Texts answered with a label", ["model", "label"], **more)
        self.batch = Histogram("batch_texts", "Texts computed together", buckets=(1, 2, 4, 8, 16, 32, 64, 128), **more)
        self.model_seconds = Histogram("batch_seconds", "Time to compute a batch", buckets=fast, **more)
        self.in_flight = Gauge("requests_in_flight", "Requests that are not answered yet", **more)
        self.waiting = Gauge("waiting_texts", "Texts that wait to be computed", **more)


class Guard:
    """Passes a request on with its whole body, or refuses it with a reason."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: set[str]):
        """`paths` are counted by their names, all others together."""
        self.app, self.metrics, self.paths = app, metrics, paths
        self.stopping = False
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

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
        if scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
        elif self._bodies >= MAX_REQUESTS:
            await refuse(503, f"{MAX_REQUESTS} requests are in work already; try again soon")(scope, receive, send)
        else:
            self._bodies += 1
            try:
                await self._with_body(scope, receive, send)
            finally:
                self._bodies -= 1

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > MAX_BODY:
                        await refuse(413, f"the body has more than {MAX_BODY} bytes")(scope, receive, send)
                        return
        except TimeoutError:
            await refuse(408, f"the body was not there after {BODY_SECONDS} seconds")(scope, receive, send)
            return
        whole = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def replay() -> Message:
            return next(whole, None) or await receive()

        await self.app(scope, replay, send)


def refuse(status: int, reason: str) -> JSONResponse:
    """In the form of FastAPI's own; what is too much now may be tried again."""
    return JSONResponse({"detail": reason}, status, {"retry-after": "1"} if status in (429, 503) else None)

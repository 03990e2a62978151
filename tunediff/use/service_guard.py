"""The guard around every request to the service: bounds on its size and on how many there are, headers, figures."""

import asyncio
import time

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunediff.use.service_metrics import Metrics

MAX_BODY = 2**20  # bytes
MAX_REQUESTS = 256  # with a body, at a time
BODY_SECONDS = 10  # until a request's body is there

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """Passes a request on when its body is complete, or refuses it with a reason."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: set[str]):
        """Requests to `paths` are counted by their path, all others together."""
        self.app = app
        self.metrics = metrics
        self.paths = paths
        self.stopping = False
        """Whether the service stops: from then on, each answer is the last on its connection."""
        self._bodies = 0

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
        body = bytearray()
        complete = False
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while not complete:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    complete = not message.get("more_body", False)
                    if len(body) > MAX_BODY:
                        await refuse(413, f"the body has more than {MAX_BODY} bytes")(scope, receive, send)
                        return
        except TimeoutError:
            await refuse(408, f"the body was not there after {BODY_SECONDS} seconds")(scope, receive, send)
            return
        request = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def replay() -> Message:
            return next(request, None) or await receive()

        await self.app(scope, replay, send)


def refuse(status: int, reason: str) -> JSONResponse:
    """An answer in the form of FastAPI's own errors; what is too much now may be tried again."""
    return JSONResponse({"detail": reason}, status, {"retry-after": "1"} if status in (429, 503) else None)

"""The HTTP service: its paths, and the application that answers them."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tunediff.use import chat, service_schema
from tunediff.use.classification_answers import Explanation
from tunediff.use.classifier import Classifier
from tunediff.use.occlusion import leave_out
from tunediff.use.of_task import of_task
from tunediff.use.service_guard import Guard, refuse
from tunediff.use.service_hosts import Hosts
from tunediff.use.service_metrics import Metrics
from tunediff.use.service_models import Served
from tunediff.use.service_queue import Batcher, QueueFull
from tunediff.use.service_schema import Health, Model, Models, Predictions, explain_errors, problems

PAGE = Path(__file__).with_name("service.html")
STYLES = Path(__file__).with_name("page.css")


def make_app(served: dict[str, Served], batch_size: int, hosts: Hosts) -> Guard:
    """An ASGI application that answers to `hosts`; the first of `served` answers where a request names no model."""
    metrics = Metrics()
    writes = next(iter(served.values())).tuned.task.writes
    runner = chat.Runner(metrics) if writes else Runner(batch_size, metrics)
    app = FastAPIOffline(
        title="tunediff",
        version="1",
        description="Writes texts with trained models." if writes else "Labels texts with trained models.",
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # another host
        lifespan=runner.running,
    )
    if writes:
        chat.add_routes(app, served, runner)
    else:
        add_model_routes(app, served, runner, metrics)

    @app.get("/health", response_model=Health, responses=problems(421, 503))
    async def health() -> Health | JSONResponse:
        """Whether requests are answered."""
        if guard.stopping:
            return refuse(503, "the service stops")
        return Health(status="ok") if runner.alive() else refuse(503, "the thread that runs models has ended")

    @app.get("/metrics", response_class=PlainTextResponse, responses=problems(421))
    async def figures() -> Response:
        """For Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    page, policy = read_page(chat.PAGE if writes else PAGE)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy})

    refused = chat.refused if writes else refuse

    async def refuse_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return refused(*explain_errors(error.errors()))

    async def refuse_more(request: Request, error: QueueFull) -> JSONResponse:
        return refused(429, f"more than {error.limit} texts would wait; try again soon")

    app.add_exception_handler(RequestValidationError, refuse_invalid)
    app.add_exception_handler(QueueFull, refuse_more)
    guard = Guard(app, hosts, metrics, {route.path for route in app.routes})
    return guard


class Runner:
    """Runs the models for all requests, from the start of the service to its end."""

    def __init__(self, batch_size: int, metrics: Metrics):
        self._batch_size = batch_size
        self._metrics = metrics

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """The lifespan of the application; at its end, what waits is answered."""
        self._batcher = Batcher(self._batch_size, service_schema.MAX_WAITING, self._metrics.record_batch)
        self._metrics.waiting.set_function(lambda: self._batcher.waiting)
        yield
        await asyncio.to_thread(self._batcher.close)

    def alive(self) -> bool:
        """Whether the thread that runs models is there."""
        return self._batcher.alive()

    async def predict(self, classifier: Classifier, texts: list[str]) -> np.ndarray:
        """Probabilities, shape [texts, labels]. Raises QueueFull, and what the classifier raises."""
        return await asyncio.wrap_future(self._batcher.submit(classifier, texts))


def add_model_routes(app: FastAPI, served: dict[str, Served], runner: Runner, metrics: Metrics) -> None:
    """Add the paths that models answer, and the one that lists them."""
    PredictBody, ExplainBody = service_schema.request_bodies(list(served))

    @app.post("/predict", responses=problems(400, 408, 413, 421, 422, 429, 503))
    async def predict(body: PredictBody) -> Predictions:
        """The label of each text, and each label's probability."""
        texts = [body.texts] if isinstance(body.texts, str) else body.texts
        tuned, original = served[body.model].tuned, served[body.model].original
        task = of_task(tuned.task)
        predicted = task.answers(tuned, await runner.predict(tuned, texts))
        for label in (label for answer in predicted for label in task.labels(answer)):
            metrics.answers.labels(body.model, label).inc()
        originals = None
        if body.compare and original:
            originals = task.answers(original, await runner.predict(original, texts))
        return Predictions(model=body.model, answers=predicted, originals=originals)

    @app.post("/explain", response_model=Explanation, responses=problems(400, 408, 413, 421, 422, 429, 503))
    async def explain(body: ExplainBody) -> Explanation | JSONResponse:
        """Which words mattered: how the probability of the text's label changes when each is left out."""
        tuned = served[body.model].tuned
        if of_task(tuned.task).explanation is None:
            return refuse(422, f"{body.model} marks spans, and which words matter is asked of labels of whole texts")
        pieces = leave_out(body.text)
        probabilities = await runner.predict(tuned, [body.text, *(rest for _, rest in pieces)])
        return of_task(tuned.task).explanation(body.model, tuned, [word for word, _ in pieces], probabilities)

    @app.get("/models", responses=problems(421))
    async def models() -> Models:
        """What may be asked."""
        listed = [
            Model(name=name, task=one.tuned.task.name, labels=one.tuned.names, original=one.original is not None)
            for name, one in served.items()
        ]
        return Models(models=listed, max_texts=service_schema.MAX_TEXTS, max_length=service_schema.MAX_LENGTH)


def read_page(path: Path) -> tuple[bytes, str]:
    """The page with the styles of all pages, and a Content-Security-Policy under which nothing else runs."""
    page = path.read_bytes().replace(b"/* page.css */", STYLES.read_bytes())

    def hashes(tag: bytes) -> str:
        parts = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part).digest()).decode()}'" for part in parts)

    policy = (
        f"default-src 'none'; script-src {hashes(b'script')}; style-src {hashes(b'style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy

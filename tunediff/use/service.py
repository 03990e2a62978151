"""The HTTP service: what it is asked, what it answers, and what it says where it does not."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from tunediff.use.batching import Batcher, Full
from tunediff.use.classifier import Classifier
from tunediff.use.guard import MAX_BODY, Guard, Metrics, refuse

MAX_TEXTS = 256  # of a request
MAX_LENGTH = 10_000  # characters of a text
MAX_PIECES = 128  # of a text, left out in turn
MAX_WAITING = 1024  # texts

# No white space; of a script that puts none between its words, one character.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


# --- what is sent and answered

ONE, MANY = "(one)", "(many)"
Text = Annotated[str, Field(max_length=MAX_LENGTH, pattern=r"\S")]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    label: str
    probabilities: dict[str, float]


class Predictions(BaseModel):
    model: str
    answers: list[Answer] = Field(description="One for each text")
    originals: list[Answer] | None = Field(
        None, description="The untrained model's, where `compare` asks for them and it could be loaded"
    )


class Word(BaseModel):
    word: str = Field(description="As it stands in the text; of a long text a run of words")
    change: float = Field(description="The label's probability with the word, less that without it")


class Explanation(BaseModel):
    model: str
    label: str
    probability: float
    words: list[Word] = Field(description="The whole text in order")


class Model(BaseModel):
    name: str
    labels: list[str]
    original: bool = Field(description="Whether the untrained model can be compared with")


class Models(BaseModel):
    models: list[Model] = Field(description="The first answers where a request names none")
    max_texts: int
    max_length: int


class Health(BaseModel):
    status: Literal["ok"]


class Problem(BaseModel):
    detail: str = Field(description="What is wrong, and where")


REASONS = {
    400: "The body is not JSON",
    408: "The body did not come in time",
    413: f"The body has more than {MAX_BODY} bytes",
    422: "A value is not what it should be",
    429: f"More than {MAX_WAITING} texts would wait",
    503: "Too many requests at a time, or the service stops",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": REASONS[status]} for status in statuses}


# --- the service


@dataclass
class Served:
    tuned: Classifier
    original: Classifier | None
    """The untrained model that it was; None where that is not there."""


def make_app(served: dict[str, Served], batch_size: int) -> Guard:
    """An ASGI application; the first of `served` answers where a request names no model."""
    metrics = Metrics()
    batcher: Batcher

    def record(texts: int, seconds: float) -> None:
        metrics.batch.observe(texts)
        metrics.model_seconds.observe(seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPIOffline) -> AsyncIterator[None]:
        nonlocal batcher
        batcher = Batcher(batch_size, MAX_WAITING, record)
        metrics.waiting.set_function(lambda: batcher.waiting)
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPIOffline(
        title="tunediff",
        version="1",
        description="Labels texts with trained models.",
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # another host
        lifespan=lifespan,
    )
    Name = Literal[tuple(served)]

    class PredictBody(Strict):
        texts: Annotated[
            Annotated[Text, Tag(ONE)] | Annotated[Texts, Tag(MANY)],
            Discriminator(lambda value: ONE if isinstance(value, str) else MANY),
        ] = Field(description="One text or a list of them", examples=[["Acme beats estimates", "Guidance was cut"]])
        model: Name = next(iter(served))
        compare: bool = Field(False, description="Answer with the original, untrained model as well", strict=True)

    class ExplainBody(Strict):
        text: Text = Field(examples=["Acme beats estimates"])
        model: Name = next(iter(served))

    async def compute(classifier: Classifier, texts: list[str]) -> np.ndarray:
        return await asyncio.wrap_future(batcher.submit(classifier, texts))

    async def answers(classifier: Classifier, texts: list[str]) -> list[Answer]:
        return [
            Answer(
                label=classifier.names[row.argmax()],
                probabilities=dict(zip(classifier.names, row.tolist(), strict=True)),
            )
            for row in await compute(classifier, texts)
        ]

    @app.post("/predict", responses=problems(400, 408, 413, 422, 429, 503))
    async def predict(body: PredictBody) -> Predictions:
        """The label of each text, and each label's probability."""
        texts = [body.texts] if isinstance(body.texts, str) else body.texts
        chosen = served[body.model]
        found = await answers(chosen.tuned, texts)
        for answer in found:
            metrics.answers.labels(body.model, answer.label).inc()
        originals = await answers(chosen.original, texts) if body.compare and chosen.original else None
        return Predictions(model=body.model, answers=found, originals=originals)

    @app.post("/explain", responses=problems(400, 408, 413, 422, 429, 503))
    async def explain(body: ExplainBody) -> Explanation:
        """Which words mattered: how the probability of the text's label changes when each is left out."""
        tuned = served[body.model].tuned
        pieces = leave_out(body.text)
        rows = await compute(tuned, [body.text, *(rest for _, rest in pieces)])
        label = rows[0].argmax()
        changes = rows[0, label] - rows[1:, label]
        return Explanation(
            model=body.model,
            label=tuned.names[label],
            probability=rows[0, label],
            words=[Word(word=word, change=change) for (word, _), change in zip(pieces, changes, strict=True)],
        )

    @app.get("/models")
    async def models() -> Models:
        """What may be asked."""
        listed = [
            Model(name=name, labels=one.tuned.names, original=one.original is not None) for name, one in served.items()
        ]
        return Models(models=listed, max_texts=MAX_TEXTS, max_length=MAX_LENGTH)

    @app.get("/health", response_model=Health, responses=problems(503))
    async def health() -> Health | JSONResponse:
        """Whether requests are answered."""
        if guard.stopping:
            return refuse(503, "the service stops")
        return Health(status="ok") if batcher.alive() else refuse(503, "the thread that runs models has ended")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def figures() -> Response:
        """For Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    page, policy = read_page()

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy})

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return refuse(*explain_errors(error.errors()))

    @app.exception_handler(Full)
    async def full(request: Request, error: Full) -> JSONResponse:
        return refuse(429, f"more than {MAX_WAITING} texts would wait; try again soon")

    guard = Guard(app, metrics, {route.path for route in app.routes})
    return guard


def explain_errors(errors: list[dict[str, Any]]) -> tuple[int, str]:
    """A status and a reason, without the values, which may be long, or what no JSON can hold."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return 400, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
    if first["loc"] == ("body",) and first["type"] in ("missing", "model_attributes_type"):
        return 422, "expected a JSON object, with the header Content-Type: application/json"
    reasons = []
    for error in errors[:3]:
        place = ".".join(str(part)[:50] for part in error["loc"][1:] if part not in (ONE, MANY)) or "the body"
        reasons.append(f"{place}: {'empty' if error['type'] == 'string_pattern_mismatch' else error['msg']}")
    return 422, "; ".join(reasons)


def leave_out(text: str) -> list[tuple[str, str]]:
    """The words of a text, each with what the text is without it; runs of words where they are too many."""
    words = [match.span() for match in WORD.finditer(text)]
    size = -(-len(words) // MAX_PIECES)
    runs = [(words[i][0], words[min(i + size, len(words)) - 1][1]) for i in range(0, len(words), size)]
    # Also the space behind it, so that two do not meet.
    nexts = [start for start, _ in runs[1:]] + [len(text)]
    return [
        (text[start:end], (text[:start] + text[after:]).strip())
        for (start, end), after in zip(runs, nexts, strict=True)
    ]


def read_page() -> tuple[bytes, str]:
    """The page, and a Content-Security-Policy under which nothing but its own script and styles runs."""
    page = Path(__file__).with_name("service.html").read_bytes()

    def hashes(tag: bytes) -> str:
        parts = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(part).digest()).decode()}'" for part in parts)

    policy = (
        f"default-src 'none'; script-src {hashes(b'script')}; style-src {hashes(b'style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy

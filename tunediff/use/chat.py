"""The service for models that write: the part of OpenAI's API that its clients need, one answer after the other."""

import asyncio
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field, field_validator

from tunediff.core import limits
from tunediff.core.errors import UserError
from tunediff.tasks.turns import checked, text_of
from tunediff.use.generation_answers import Writer
from tunediff.use.service_guard import refuse
from tunediff.use.service_metrics import Metrics
from tunediff.use.service_models import Served
from tunediff.use.service_queue import QueueFull
from tunediff.use.service_schema import MAX_LENGTH, problems

if TYPE_CHECKING:
    from tunediff.models.generation import Written
    from tunediff.tasks.settings import Generate

PAGE = Path(__file__).with_name("chat.html")
MAX_WAITING = 64  # answers that wait or are written
ORIGINAL = "-original"
"""The end of the name by which the untrained model of a trained one is asked."""
STATUSES = (400, 408, 413, 421, 422, 429, 503)

MAX_TOKENS = 4096  # of an answer: not every model has a limit of its own
Stop = Annotated[str, Field(min_length=1, max_length=100)]
Chance = Annotated[float, Field(gt=0, le=1)]


class Message(BaseModel):
    role: Literal["user"]
    """There are no others for models that were trained on one turn; the instruction is theirs."""
    content: Annotated[str, Field(max_length=MAX_LENGTH, pattern=r"\S")]

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        """Some clients send a list of parts."""
        if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
            return "".join(str(part.get("text", "")) for part in value)
        return value


class Turn(Message):
    """Of models that were trained on chats."""

    role: Literal["system", "user", "assistant"]


class StreamOptions(BaseModel):
    include_usage: bool = False


class Chat(BaseModel):
    """What clients send beside these is not heeded; where nothing is said, the model writes as it was evaluated."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Chance | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    def changes(self) -> dict[str, Any]:
        """By the names of the section `generate` of params.yaml."""
        wanted = {
            "max_new_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "beams": 1 if self.temperature else None,
        }
        return {name: value for name, value in wanted.items() if value is not None}


class Runner:
    """Runs the models for all requests, one after the other, from the start of the service to its end."""

    def __init__(self, metrics: Metrics):
        self._waiting = 0
        metrics.waiting.set_function(lambda: self._waiting)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """The lifespan of the application; at its end, what waits is written."""
        self._pool = ThreadPoolExecutor(1, "models")
        yield
        await asyncio.to_thread(self._pool.shutdown)

    def alive(self) -> bool:
        """What fails in the thread that runs models ends that one answer."""
        return True

    def check_room(self) -> None:
        if self._waiting >= MAX_WAITING:
            raise QueueFull(MAX_WAITING)

    async def check(self, writer: Writer, text: str) -> None:
        """Raises UserError for a chat that the model cannot read; in the thread of models, as it needs a tokenizer."""
        if writer.task.chat:
            self.check_room()
            self._waiting += 1
            try:
                await asyncio.get_running_loop().run_in_executor(self._pool, writer.check, text)
            finally:
                self._waiting -= 1

    async def written(self, writer: Writer, text: str, settings: "Generate") -> "AsyncIterator[str | Written]":
        """The answer's parts as they come, and at last what it is; what is not asked for any more is not written."""
        self.check_room()
        loop, parts, gone = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

        def tell(part: "str | Written | Exception") -> None:
            loop.call_soon_threadsafe(parts.put_nowait, part)

        def work() -> None:
            try:
                if not gone.is_set():
                    tell(writer.stream(text, settings, tell, gone.is_set))
            except Exception as error:  # such as no memory for it
                tell(error)

        self._waiting += 1
        try:
            self._pool.submit(work)
            while isinstance(part := await parts.get(), str):
                yield part
            if isinstance(part, Exception):
                raise part
            yield part
        finally:
            gone.set()
            self._waiting -= 1


def writers(served: dict[str, Served]) -> dict[str, Writer]:
    """The models by the names in requests; each trained one is followed by its original, where that is there."""
    named: dict[str, Writer] = {}
    for name, one in served.items():
        named |= {name: one.tuned} | ({f"{name}{ORIGINAL}": one.original} if one.original else {})
    return named | {name: one.tuned for name, one in served.items()}


def add_routes(app: FastAPI, served: dict[str, Served], runner: Runner) -> None:
    """Add the paths that models answer, and the one that lists them."""
    models = writers(served)
    Name = Literal[tuple(models)]

    class ChatBody(Chat):
        model: Name = next(iter(models))

    if any(writer.task.chat for writer in models.values()):

        class ChatBody(ChatBody):
            messages: Annotated[list[Turn], Field(min_length=1, max_length=limits.TURNS)]

    @app.post("/v1/chat/completions", responses=problems(*STATUSES), response_model=None)
    async def complete(body: ChatBody) -> JSONResponse | StreamingResponse:
        """What the model writes for the message, as OpenAI's API answers it."""
        writer = models[body.model]
        try:
            settings = writer.settings(body.changes())
            text = source(body.messages, writer, body.model)
            await runner.check(writer, text)
        except UserError as error:
            return refused(422, str(error))
        runner.check_room()
        parts = runner.written(writer, text, settings)
        answer = Completion(body.model)
        if body.stream:
            usage = body.stream_options.include_usage
            return StreamingResponse(answer.events(parts, usage), media_type="text/event-stream")
        async with aclosing(parts):
            async for part in parts:
                done = part
        return JSONResponse(answer.complete(done))

    @app.get("/v1/models", responses=problems(421))
    async def listed() -> dict[str, Any]:
        """What may be asked."""
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", "created": 0, "owned_by": "tunediff"} for name in models],
        }


def source(messages: list[Message], writer: Writer, name: str) -> str:
    """What the model reads, as it was trained. Raises UserError for turns that it cannot read."""
    if not writer.task.chat:
        if len(messages) > 1 or messages[0].role != "user":
            raise UserError(f"messages: {name} was trained on one turn: send one message, of the user")
        return messages[0].content
    try:
        return text_of(checked([(message.role, message.content) for message in messages], "user"))
    except ValueError as error:
        raise UserError(f"messages: {error}") from None


def refused(status: int, reason: str) -> JSONResponse:
    """The guard's answer, with the reason where OpenAI's clients look for it, too."""
    answer = refuse(status, reason)
    body = {"detail": reason, "error": {"message": reason, "type": "invalid_request_error", "code": status}}
    return JSONResponse(body, status, {name: answer.headers[name] for name in answer.headers if name == "retry-after"})


class Completion:
    """One answer, in the form of OpenAI's API."""

    def __init__(self, model: str):
        self._common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def complete(self, done: "Written") -> dict[str, Any]:
        message = {"role": "assistant", "content": done.text}
        choice = {"index": 0, "message": message, "finish_reason": reason(done), "logprobs": None}
        return {**self._common, "object": "chat.completion", "choices": [choice], "usage": usage(done)}

    async def events(self, parts: "AsyncIterator[str | Written]", with_usage: bool) -> AsyncIterator[str]:
        """Server-sent events: one for each part."""
        yield self._event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        async with aclosing(parts):
            try:
                async for part in parts:
                    if isinstance(part, str):
                        yield self._event([{"index": 0, "delta": {"content": part}, "finish_reason": None}])
                    else:
                        yield self._event([{"index": 0, "delta": {}, "finish_reason": reason(part)}])
                        if with_usage:
                            yield self._event([], usage=usage(part))
            except Exception:  # the answer has begun, so that its status cannot say it any more
                yield f"data: {json.dumps({'error': {'message': 'the model failed', 'code': 500}})}\n\n"
                raise
        yield "data: [DONE]\n\n"

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> str:
        chunk = {**self._common, "object": "chat.completion.chunk", "choices": choices, **more}
        return f"data: {json.dumps(chunk)}\n\n"


def reason(done: "Written") -> str:
    return "stop" if done.ended else "length"


def usage(done: "Written") -> dict[str, int]:
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.tokens,
        "total_tokens": done.prompt_tokens + done.tokens,
    }

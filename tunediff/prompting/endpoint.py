"""A server with OpenAI's interface answers. What it has answered is kept, and never asked again."""

import asyncio
import os
import reprlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from tunediff.core.errors import UserError, reason
from tunediff.prompting import answer_cache
from tunediff.prompting.forms import FORMS, Labelling
from tunediff.prompting.prompts import Messages
from tunediff.prompting.settings import Prompting
from tunediff.prompting.usage import Scores, Texts

if TYPE_CHECKING:
    from openai import AsyncOpenAI


REFUSALS = (400, 413, 422)
"""What a server says to a text that it does not take: it is too long, or a filter holds it back.

It says the same to what is wrong with every request, such as an option or the credit. So many in a row end the method:
"""
MOST_IN_A_ROW = 20
MOST_AT_FIRST = 3  # as long as nothing was answered
REFUSED = {"answer": "", "input_tokens": 0, "output_tokens": 0, "seconds": 0.0, "refused": True}


class NonsenseError(Exception):
    """What came back is no chat completion."""


class Server:
    scores_all_labels = False

    def __init__(self, settings: Prompting, labels: list[str]):
        self.settings = settings
        self.endpoint = settings.entry.endpoint
        self.labels = labels
        self.form = FORMS[settings.task]
        self.place = f"params.yaml: prompts.entries.{settings.method}.endpoint"
        self.structured: bool | None = None if isinstance(self.form, Labelling) else False
        """Whether the server is given a schema for its answer; if there is one, the first answer tells."""
        self.answers = False
        """Whether it has answered any text, now or before."""

    @property
    def cost(self) -> dict[str, int]:
        return {}

    def example_tokens(self, frame: Messages, examples: int) -> None:
        """How much the server reads is its own matter."""

    def fits(self, text: str, limit: int | None) -> bool:
        return True

    def cut(self, text: str, limit: int | None) -> str:
        """All of it."""
        return text

    def scores(self, conversations: list[Messages], title: str) -> Scores:
        """1 for a label that was answered, else 0."""
        answered = self._answered(conversations, title)
        scores = np.zeros((len(answered), len(self.labels)))
        for row, record in zip(scores, answered, strict=True):
            named = self.form.named(record["answer"], self.labels)
            row[slice(None) if named is None else named] = np.nan if named is None else 1
        return Scores(scores=scores, **self._usage(answered))

    def texts(self, conversations: list[Messages], title: str) -> Texts:
        answered = self._answered(conversations, title)
        return Texts(texts=[record["answer"] for record in answered], **self._usage(answered))

    def _answered(self, conversations: list[Messages], title: str) -> list[dict[str, Any]]:
        """A record for each conversation; what is not known from before is asked for."""
        keys = [answer_cache.digest(self._content(messages)) for messages in conversations]
        records = {key: record for key in set(keys) if (record := answer_cache.load(key))}
        missing = {key: messages for key, messages in zip(keys, conversations, strict=True) if key not in records}
        self.answers |= not all(record["refused"] for record in records.values())
        if missing:
            print(f"{self.settings.method}: {title}: {len(missing):,} to ask, {len(records):,} known from before")
            records |= self._ask(missing, title)
        return [records[key] for key in keys]

    def _usage(self, answered: list[dict[str, Any]]) -> dict[str, Any]:
        """Raises UserError if there is a price, and the server does not say of how many tokens."""
        if self.endpoint.price and not all(map(counted, answered)):
            raise UserError(
                f"{self.place}.price: {self.endpoint.url} does not say how many tokens it reads and writes (`usage`), "
                "so no money can be counted; leave `price` out. The answers are kept"
            )
        return {
            "seconds": sum(record["seconds"] for record in answered),
            "input_tokens": sum(record["input_tokens"] for record in answered),
            "output_tokens": sum(record["output_tokens"] for record in answered),
            "refused": sum(record["refused"] for record in answered),
            "cut": sum(record.get("cut", False) for record in answered),  # older records do not say it
        }

    def _content(self, messages: Messages) -> dict[str, Any]:
        """What decides an answer."""
        told = self.endpoint.model_dump(include={"url", "model", "options"})
        return {**told, "messages": messages, "labels": self.labels, "task": self.settings.task}

    # --- ask

    def _ask(self, missing: dict[str, Messages], title: str) -> dict[str, dict[str, Any]]:
        """The records of what is missing. Raises UserError if the server fails; what it answered until then is kept."""
        from tunediff.prompting.client import Client  # here: it takes a second to import, and answers may all be known

        key = self._key()
        records: dict[str, dict[str, Any]] = {}
        refused: list[Exception] = []
        since: list[str] = []  # refused since the last answer
        failures: list[UserError] = []
        at_once = min(self.endpoint.concurrency, len(missing))
        progress = tqdm(total=len(missing), desc=f"{self.settings.method}: {title}", unit="text")

        async def work(client: "AsyncOpenAI", rest: Iterator[tuple[str, Messages]], alone: bool = False) -> None:
            for digest, messages in rest:
                if failures:
                    return
                try:
                    records[digest] = await self._answer(client, messages, 1 if alone else at_once)
                except Exception as error:  # of the client's library, of its HTTP library, of a body that is no JSON
                    most = MOST_IN_A_ROW if self.answers else MOST_AT_FIRST
                    if not self._refuses(error) or len(since) == most - 1:
                        failures.append(self._failure(error, key, len(records), len(missing)))
                        return
                    refused.append(error)
                    since.append(digest)
                else:
                    self.answers = True
                    answer_cache.save(digest, records[digest])
                    while since:
                        records[since[-1]] = REFUSED
                        answer_cache.save(since.pop(), REFUSED)
                progress.update()
                if alone and self.answers:
                    return

        async def all_of_them() -> None:
            async with Client(self.endpoint, key) as client:
                rest = iter(missing.items())
                await work(client, rest, alone=True)  # it tells whether the server takes a schema
                await asyncio.gather(*(work(client, rest) for _ in range(at_once)))

        with progress:
            asyncio.run(all_of_them())
        if since and not self.answers:
            failures.append(self._failure(refused[0], key, 0, len(missing)))
        if failures:
            raise failures[0]
        if refused:
            said = self._said(refused[0], key)
            print(f"{self.settings.method}: {title}: {self.endpoint.url} refuses {len(refused):,} texts, first: {said}")
        return records | dict.fromkeys(since, REFUSED)

    def _key(self) -> str | None:
        name = self.endpoint.key_from
        key = os.environ.get(name, "").strip() if name else None
        # With a space in it, a library's message would quote it; with other letters, no header can have it.
        if key is not None and (len(key.split()) != 1 or not key.isascii()):
            raise UserError(
                f"{self.place}.key_from: the environment variable {name} is not set, or holds no key; run "
                f"`export {name}=...` with the key, or leave `key_from` out if the server needs none"
            )
        return key

    async def _answer(self, client: "AsyncOpenAI", messages: Messages, at_once: int) -> dict[str, Any]:
        """One record. A server that is busy or fails is asked again by the client, one that talks nonsense here.

        Its seconds are those that it adds to the time of all, of which `at_once` are asked at the same time.
        """
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        started = time.perf_counter()
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(self.endpoint.retries + 1),
            wait=wait_random_exponential(multiplier=0.5, max=8),
            retry=retry_if_exception_type(NonsenseError),
            reraise=True,
        ):
            with attempt:
                record = await self._with_or_without_schema(client, messages)
        return {**record, "seconds": (time.perf_counter() - started) / at_once}

    async def _with_or_without_schema(self, client: "AsyncOpenAI", messages: Messages) -> dict[str, Any]:
        from openai import BadRequestError, UnprocessableEntityError

        if self.structured is not False:
            try:
                record = await self._request(client, messages, {"response_format": self.form.schema(self.labels)})
            except (BadRequestError, UnprocessableEntityError):
                if self.structured:
                    raise
            else:
                self.structured = True
                return record
        record = await self._request(client, messages, {})
        self.structured = False
        return record

    async def _request(self, client: "AsyncOpenAI", messages: Messages, more: dict[str, Any]) -> dict[str, Any]:
        from openai import APIResponseValidationError

        body = {**self.endpoint.options, **more}
        try:
            completion = await client.chat.completions.create(
                model=self.endpoint.model, messages=messages, extra_body=body
            )
            choice = completion.choices[0]
            answer, cut = choice.message.content, choice.finish_reason == "length"
            usage = completion.usage
            read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        except (APIResponseValidationError, ValueError, AttributeError, IndexError, TypeError) as error:
            raise NonsenseError(f"no chat completion came back ({reason(error)})") from None
        if not isinstance(answer, str | None):
            raise NonsenseError(f"no chat completion came back, but {reprlib.repr(answer)}")
        # Some servers leave out some of these.
        tokens = {"input_tokens": read or 0, "output_tokens": written or 0}
        return {"answer": answer or "", **tokens, "refused": False, "cut": cut}

    @staticmethod
    def _refuses(error: Exception) -> bool:
        from openai import APIStatusError

        return isinstance(error, APIStatusError) and error.status_code in REFUSALS

    @staticmethod
    def _said(error: Exception, key: str | None) -> str:
        """What the server says, without the key."""
        from openai import APIConnectionError

        cause = error.__cause__ if isinstance(error, APIConnectionError) and error.__cause__ else error
        return reason(cause, key)

    def _failure(self, error: Exception, key: str | None, answered: int, asked: int) -> UserError:
        """What is wrong, and what to do."""
        import openai

        url = self.endpoint.url
        said = self._said(error, key)
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                name = self.endpoint.key_from
                problem = f".key_from: {url} refuses the key ({said}); " + (
                    f"correct the environment variable {name}" if name else "name the environment variable that has one"
                )
            case openai.NotFoundError():
                problem = (
                    f".model: {url} has no '{self.endpoint.model}' ({said}); its list is at {url}/models. If that is "
                    "not there either, correct `url`, which mostly ends with /v1"
                )
            case openai.RateLimitError():
                problem = f".concurrency: {url} is too busy or your quota is used up ({said}); lower it, or wait"
            case openai.APITimeoutError():
                problem = (
                    f".timeout: {url} gives no answer in {self.endpoint.timeout:g} seconds; raise it, or lower "
                    "`concurrency`"
                )
            case openai.APIConnectionError():
                problem = f".url: {url} cannot be reached ({said}); start the server, or correct the address"
            case _ if self._refuses(error):
                problem = (
                    f".options: {url} refuses what it is sent ({said}); correct `options` "
                    f"({', '.join(self.endpoint.options)}), or what else it names"
                )
            case openai.APIStatusError() | NonsenseError():
                problem = f".url: {url} fails ({said}); look at its log, or correct the address"
            case _:
                raise error
        kept = f"{answered:,} of {asked:,} answers came and are kept: the next run asks for the rest"
        return UserError(f"{self.place}{problem}. {kept}")


def counted(record: dict[str, Any]) -> bool:
    """Whether the server said how many tokens an answer took, or took none."""
    return record["refused"] or bool(record["input_tokens"] and (record["output_tokens"] or not record["answer"]))

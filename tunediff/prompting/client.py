"""OpenAI's client for any server: it sends nothing that is meant for OpenAI's own, and waits until a quota is new."""

import asyncio
import random
from typing import Any

from huggingface_hub.utils import httpx
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tunediff.prompting.settings import Endpoint

LONGEST = 60  # seconds before a repetition


class WholeAnswers(DefaultAsyncHttpxClient):
    """Waits for a whole answer no longer than the timeout, which httpx itself means for each part of one."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        seconds = request.extensions["timeout"]["read"]
        try:
            async with asyncio.timeout(seconds):
                return await super().send(request, **options)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no whole answer in {seconds:g} seconds", request=request) from None


class Client(AsyncOpenAI):
    def __init__(self, endpoint: Endpoint, key: str | None):
        super().__init__(
            base_url=endpoint.url,
            api_key=key or "none",
            timeout=endpoint.timeout,
            max_retries=endpoint.retries,
            http_client=WholeAnswers(),
        )
        # The library has read them from the environment, and would send them to any server.
        self.organization = self.project = None
        self._custom_headers = {}

    def _calculate_retry_timeout(self, remaining_retries: int, options: Any, response_headers: Any = None) -> float:
        """Seconds. A server that answers is busy, maybe by a quota for a minute; one that does not may be down."""
        seconds = super()._calculate_retry_timeout(remaining_retries, options, response_headers)
        if response_headers is None or self._parse_retry_after_header(response_headers):
            return seconds
        doubled = 2.0 ** (1 + self.max_retries - remaining_retries)
        return min(LONGEST, doubled) * (1 + random.random() / 4)  # so that not all requests come again at once

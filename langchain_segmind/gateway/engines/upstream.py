"""An engine that asks any OpenAI-compatible server."""

from __future__ import annotations

from typing import Any

import httpx

from langchain_segmind.gateway.engines.base import EngineError

TIMEOUT = httpx.Timeout(600.0, connect=5.0)
BAD_REQUEST = 400


class UpstreamEngine:
    """Forwards to Ollama, vLLM, llama-server and the like."""

    name = "upstream"

    def __init__(self, url: str, model: str | None = None, key: str | None = None) -> None:
        """Ask the server at `url`, which ends in `/v1`, for `model`."""
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._model = model
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Open a client on the loop that will use it."""
        self._client = httpx.AsyncClient(headers=self._headers, timeout=TIMEOUT)

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()

    async def complete(self, body: dict[str, Any]) -> Any:
        """Pass a body on, and the answer back as it is."""
        response = await self._send({**body, "model": self._model or body["model"]})
        if not response.is_success:
            # A bad request is the caller's; all else is between us and that server.
            status = BAD_REQUEST if response.status_code == BAD_REQUEST else 502
            raise EngineError(status, _reason(response))
        try:
            return response.json()
        except ValueError as error:
            raise EngineError(502, "The upstream server did not answer with JSON") from error

    async def _send(self, body: dict[str, Any]) -> httpx.Response:
        if self._client is None:
            raise EngineError(500, "The upstream engine was not started")
        try:
            return await self._client.post(self._url, json=body)
        except httpx.HTTPError as error:
            what = type(error).__name__
            raise EngineError(502, f"The upstream server can't be reached: {what}") from error


def _reason(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        body = None
    match body:
        case {"error": {"message": str(message)}} | {"error": str(message)}:
            return message
        case _:
            return f"The upstream server answered {response.status_code}"

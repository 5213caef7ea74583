"""An engine that asks any OpenAI-compatible server."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from langchain_segmind.gateway.engines.base import Engine, EngineError

TIMEOUT = 600.0
"""Seconds; to connect it has five."""


class UpstreamEngine(Engine):
    """Forwards to Ollama, vLLM, llama-server and the like."""

    name = "upstream"

    def __init__(self, url: str, model: str | None = None, key: str | None = None) -> None:
        """Ask the server at `url`, which ends in `/v1`, for `model`."""
        import httpx2

        self._url = f"{url.rstrip('/')}/chat/completions"
        self._model = model
        self._client = httpx2.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(TIMEOUT, connect=5.0),
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def complete(self, body: dict[str, Any]) -> Any:
        """Pass a body on, and the answer back as it is."""
        import httpx2

        try:
            asked = {**body, "model": self._model or body["model"]}
            response = await self._client.post(self._url, json=asked)
            answer = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            what = type(error).__name__
            raise EngineError(502, f"The upstream server gave no JSON: {what}") from error
        if response.is_success:
            return answer
        match answer:
            case {"error": {"message": str(message)}} | {"error": str(message)}:
                pass
            case _:
                message = f"The upstream server answered {response.status_code}"
        # A bad request is the caller's; all else is between us and that server.
        raise EngineError(400 if response.status_code == HTTPStatus.BAD_REQUEST else 502, message)

"""An engine that asks any OpenAI-compatible server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_segmind.gateway.engines.base import Engine, EngineError

if TYPE_CHECKING:
    import httpx2

TIMEOUT = 600.0
"""Seconds; to connect it has five."""
BAD_REQUEST = 400


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

        asked = {**body, "model": self._model or body["model"]}
        try:
            response = await self._client.post(self._url, json=asked)
        except httpx2.HTTPError as error:
            what = type(error).__name__
            raise EngineError(502, f"The upstream server can't be reached: {what}") from error
        if not response.is_success:
            # A bad request is the caller's; all else is between us and that server.
            status = BAD_REQUEST if response.status_code == BAD_REQUEST else 502
            raise EngineError(status, _reason(response))
        try:
            return response.json()
        except ValueError as error:
            raise EngineError(502, "The upstream server did not answer with JSON") from error


def _reason(response: httpx2.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        body = None
    match body:
        case {"error": {"message": str(message)}} | {"error": str(message)}:
            return message
        case _:
            return f"The upstream server answered {response.status_code}"

"""What the network did, told from the exceptions of three libraries, and of two continuations."""

from __future__ import annotations

from typing import Any, Literal

from langchain_segmind._protocol.types import Response, TransportFailure
from langchain_segmind._transport.content_encoding import UnreadableBodyError

Kind = Literal["unsent", "unsent timeout", "timeout", "lost", "unreadable", "refused"]

_KINDS: dict[str, Kind] = {
    "http.ConnectError": "unsent",
    "http.ProxyError": "unsent",
    "http.UnsupportedProtocol": "unsent",
    "http.LocalProtocolError": "unsent",
    "http.ConnectTimeout": "unsent timeout",
    "http.PoolTimeout": "unsent timeout",
    "http.TimeoutException": "timeout",
    "http.NetworkError": "lost",
    "http.ProtocolError": "lost",
    "http.HTTPStatusError": "refused",
    "http.HTTPError": "lost",
    "aiohttp.ClientConnectorError": "unsent",
    "aiohttp.ClientHttpProxyError": "unsent",
    "aiohttp.InvalidURL": "unsent",
    "aiohttp.ConnectionTimeoutError": "unsent timeout",
    "aiohttp.ServerTimeoutError": "timeout",
    "aiohttp.ClientResponseError": "unreadable",
    "aiohttp.ClientError": "lost",
    "builtins.TimeoutError": "timeout",
    "builtins.OSError": "lost",
}
"""By name, since none of the libraries is imported before it is used; the nearest base counts."""
_HTTP = ("httpcore", "httpcore2", "httpx", "httpx2")
"""Libraries that call their errors alike."""


def failure_from(error: Any, head: Response | None) -> TransportFailure | None:
    """Tell what an exception means for the request; None for one that is no network's."""
    detail = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, UnreadableBodyError):
        return TransportFailure("unreadable", detail, head=head)
    match _kind(error):
        case "unsent":
            return TransportFailure("unsent", detail, sent=False)
        case "unsent timeout":
            return TransportFailure("timeout", "no connection in time", sent=False)
        case "timeout":
            return TransportFailure("timeout", "no answer in time", head=head)
        case "unreadable":  # What came is no HTTP.
            return TransportFailure("unreadable", str(error.message), head=head)
        case "refused":  # A hook of the user's called raise_for_status.
            return TransportFailure("lost", detail, head=_head(error))
        case "lost":
            return TransportFailure("lost", detail, head=head)
        case None:
            return None


def _kind(error: Exception) -> Kind | None:
    return next((_KINDS[name] for name in map(_name, type(error).__mro__) if name in _KINDS), None)


def _name(kind: type) -> str:
    library = kind.__module__.partition(".")[0]
    return f"{'http' if library in _HTTP else library}.{kind.__name__}"


def _head(error: Any) -> Response:
    headers = dict(error.response.headers)
    headers.pop("content-encoding", None)  # The hook has read it, and so decoded it.
    return Response(error.response.status_code, headers)

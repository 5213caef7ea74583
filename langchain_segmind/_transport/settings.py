"""Where requests go, and how: the address, the headers and the time-outs, checked."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from langchain_segmind._transport.content_encoding import ACCEPT_ENCODING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx
    import httpx2
    from pydantic import SecretStr

    HttpClient = httpx.Client | httpx2.Client
    AsyncHttpClient = httpx.AsyncClient | httpx2.AsyncClient
    HttpTimeout = httpx.Timeout | httpx2.Timeout

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OUR_HEADERS = frozenset(
    ["x-api-key", "content-type", "content-length", "host", "accept-encoding", "transfer-encoding"]
)
_NO_URL = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"[A-Za-z0-9._~:%-]+")
_SAFE_IN_A_PATH = "/%!$&'()*+,;=:@~"
_NEAR = (
    *(".localhost", ".local", ".internal", ".lan", ".home.arpa"),
    *(".test", ".example", ".invalid"),  # Reserved (RFC 2606): they lead nowhere.
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where requests go, and how; equal settings may share what is costly to build."""

    base_url: str
    api_key: SecretStr
    default_headers: Mapping[str, str] = field(repr=False)
    timeout: Timeout
    http_client: HttpClient | None = None
    http_async_client: AsyncHttpClient | None = None

    def headers(self) -> dict[str, str]:
        """Give the headers of every request: the only place where the key is spelled out."""
        headers = {
            "User-Agent": "langchain-segmind",
            "Accept": "application/json, text/event-stream",
            **self.default_headers,
            "Accept-Encoding": ACCEPT_ENCODING,
            "Content-Type": "application/json",
            "x-api-key": self.api_key.get_secret_value(),
        }
        # The last of a name counts, however it is spelled: no header is sent twice.
        return dict({name.lower(): (name, value) for name, value in headers.items()}.values())

    @property
    def is_https(self) -> bool:
        """Whether TLS is needed to get there."""
        return self.base_url.startswith("https:")


def normalized_base_url(url: str) -> str:
    """Check a base URL and take off a trailing slash and API version.

    Raises:
        ValueError: It is no http(s) URL with a host and nothing but a path behind it.
    """
    url = url.strip()
    if url.startswith("SG_"):
        raise ValueError("base_url holds what looks like an API key: that is api_key's place")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or _NO_URL.search(url):
        shown = url.rpartition("@")[2][:80]  # What stands before may be a password.
        raise ValueError(
            f"base_url must be an http(s) URL such as https://api.segmind.com, not {shown!r}"
        )
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("base_url must not carry a query, a fragment or credentials")
    host = parts.hostname.encode("idna").decode()  # Raises ValueError for what is no host name,
    if not _HOST.fullmatch(host):
        raise ValueError(f"base_url names no host: {host[:80]!r}")
    port = "" if parts.port is None else f":{parts.port}"  # and this for what is no port number.
    host = f"[{host}]" if ":" in host else host
    path = re.sub(r"/v[12]$", "", parts.path.rstrip("/"))
    return f"{parts.scheme}://{host}{port}{quote(path.rstrip('/'), safe=_SAFE_IN_A_PATH)}"


def warn_of_plain_http(base_url: str) -> None:
    """Warn of a URL to which the key would go in the clear, beyond the network one is in."""
    parts = urlsplit(base_url)
    if parts.scheme == "http" and not _is_near(parts.hostname or ""):
        warnings.warn(
            f"base_url is http://{parts.hostname}: the API key and the prompts go there "
            "unencrypted, for anyone on the way to read. Use https://.",
            stacklevel=2,
        )


def _is_near(host: str) -> bool:
    """Tell this machine and its network: private addresses, and names no public DNS knows."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host.rstrip(".") or host.rstrip(".").endswith(_NEAR)


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Refuse headers that are malformed, or that this package sets itself."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is no header name")
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"default_headers cannot set {name!r}: this package does")
        if not value.isprintable() or not value.isascii():
            raise ValueError(f"the value of the header {name!r} has characters that HTTP forbids")
    return dict(headers)


def checked_timeout(timeout: object) -> object:
    """Check seconds, and take a `Timeout` of httpx or httpx2 apart, which cannot be serialized."""
    if hasattr(timeout, "as_dict"):  # Told without importing either library.
        timeout = tuple(Timeout(**timeout.as_dict()))
    if isinstance(timeout, (list, tuple)) and not 1 <= len(timeout) <= len(Timeout._fields):
        raise ValueError("timeout takes up to four numbers: connect, read, write, pool")
    for part in timeout if isinstance(timeout, (list, tuple)) else (timeout,):
        if isinstance(part, (int, float)) and not 0 < part < float("inf"):
            raise ValueError("timeout takes positive numbers of seconds, or None for no limit")
    return timeout


_KINDS = {
    "http_client": ("a Client", "blocking", "__enter__"),
    "http_async_client": ("an AsyncClient", "awaited", "__aenter__"),
}


def checked_client(client: object, name: str) -> Any:
    """Refuse what is no client of httpx or httpx2, or not of the kind that its field is for."""
    if client is None:
        return None
    (other,) = _KINDS.keys() - {name}
    kind, calls, method = _KINDS[name]
    is_client = hasattr(client, "build_request") and not isinstance(client, type)
    if is_client and hasattr(client, method):
        return client
    if is_client and hasattr(client, _KINDS[other][2]):
        raise ValueError(
            f"{name} is for {calls} calls and takes {kind} of httpx2 or httpx: "
            f"{_KINDS[other][0]} goes into {other}"
        )
    shown = f"the class {client.__name__}" if isinstance(client, type) else type(client).__name__
    raise ValueError(f"{name} takes {kind} of httpx2 or httpx, not {shown}")


class Timeout(NamedTuple):
    """The seconds that each step may take, None for no limit."""

    connect: float | None = None
    read: float | None = None
    write: float | None = None
    pool: float | None = None

    def total(self) -> float | None:
        """Give the deadline of a whole call: the longest that any of its steps may take."""
        return max((step for step in self if step is not None), default=None)


def as_timeout(timeout: object) -> Timeout:
    """Spell out seconds for every step, or up to four of them; what is missing has no limit."""
    steps = timeout if isinstance(timeout, (list, tuple)) else [timeout] * len(Timeout._fields)
    return Timeout(*steps)

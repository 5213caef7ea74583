"""The route to Segmind, step by step: name, connection, tunnel, TLS. No request is sent."""

from __future__ import annotations

import http.client
import socket
import ssl
from base64 import b64encode
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from langchain_segmind._transport.environment import ssl_context
from langchain_segmind.cli.findings import Finding
from langchain_segmind.cli.setup_checks import GATEWAY, LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult

_PORTS = {"http": 80, "https": 443}
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF", "RECORD_LAYER_FAILURE", "EOF")
_NO_PROXY = "Correct the proxy's name in HTTPS_PROXY, or unset it."
_NO_ADDRESS = """Is this machine online? A wrong SEGMIND_BASE_URL, or a network that reaches the
internet only through a proxy (HTTPS_PROXY), looks the same."""
_DATES = (9, 10)
"""OpenSSL's codes for a certificate that is not valid yet, or no longer."""
_NAMES = (62, 64)
"""Its codes for a certificate of another host or address."""


@dataclass(frozen=True)
class Route:
    """Where connections go."""

    target: SplitResult
    proxy: SplitResult | None
    timeout: float

    @property
    def first(self) -> SplitResult:
        """What this machine itself connects to."""
        return self.proxy or self.target


def check_route(base_url: str, proxy: str | None, timeout: float) -> Iterator[Finding]:
    """Follow the route to the server as far as it leads; the first problem ends it."""
    route = Route(urlsplit(base_url), urlsplit(proxy) if proxy else None, timeout)
    try:
        with _connect(route) as connection:
            address = connection.getpeername()[0]
            yield Finding("connection", "ok", f"{_place(route.first)} answers, from {address}.")
            if route.target.scheme != "https":
                return
            if route.proxy is not None:
                yield _tunnel(connection, route)
            if route.first.scheme == "https" and route.proxy is not None:
                return  # TLS inside TLS is more than a socket can do; the credits will tell.
            yield _handshake(connection, route)
    except _RouteError as end:
        yield end.finding


class _RouteError(Exception):
    def __init__(self, subject: str, message: str, advice: str) -> None:
        super().__init__(message)
        self.finding = Finding(subject, "problem", message, advice)


@contextmanager
def _connect(route: Route) -> Iterator[socket.socket]:
    first = route.first
    try:
        connection = socket.create_connection((first.hostname, _port(first)), route.timeout)
        if route.proxy is not None and first.scheme == "https":
            connection = ssl_context().wrap_socket(connection, server_hostname=first.hostname)
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is no name"
        advice = _NO_ADDRESS if route.proxy is None else _NO_PROXY
        raise _RouteError("name", f"{first.hostname} has no address: {why}.", advice) from None
    except OSError as error:
        message = f"{_place(first)} cannot be reached: {_reason(error, route.timeout)}."
        raise _RouteError("connection", message, _advice_on(route)) from None
    with connection:
        yield connection


def _reason(error: OSError, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    return error.strerror or str(error)


def _advice_on(route: Route) -> str:
    if route.proxy is not None:
        return "That is the proxy: correct HTTPS_PROXY, unset it, or ask who runs it."
    if route.target.hostname in LOCAL:
        return f"Is the local Segmind running? {GATEWAY}"
    return "A firewall may be in the way; if this network needs a proxy, set HTTPS_PROXY."


def _tunnel(connection: socket.socket, route: Route) -> Finding:
    target = f"{route.target.hostname}:{_port(route.target)}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if route.proxy is not None and route.proxy.username:
        name, password = unquote(route.proxy.username), unquote(route.proxy.password or "")
        credentials = b64encode(f"{name}:{password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    try:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        with closing(http.client.HTTPResponse(connection, method="CONNECT")) as answer:
            answer.begin()
            status, reason = answer.status, answer.reason
    except (OSError, http.client.HTTPException) as error:
        message = f"The proxy broke off: {str(error) or type(error).__name__}."
        raise _RouteError("tunnel", message, _advice_on(route)) from None
    if status == http.client.PROXY_AUTHENTICATION_REQUIRED:
        advice = "Name both in HTTPS_PROXY: http://user:password@host:port"
        raise _RouteError("tunnel", "The proxy wants a user and a password.", advice)
    if not http.client.OK <= status < http.client.MULTIPLE_CHOICES:
        message = f"The proxy refuses to connect to {target}: {status} {reason}."
        raise _RouteError("tunnel", message, f"Ask who runs the proxy to allow {target}.")
    return Finding("tunnel", "ok", f"The proxy connects to {target}.")


def _handshake(connection: socket.socket, route: Route) -> Finding:
    host = route.target.hostname
    try:
        with ssl_context().wrap_socket(connection, server_hostname=host) as secured:
            return Finding("encryption", "ok", f"{secured.version()}, and {host} is who it says.")
    except ssl.SSLCertVerificationError as error:
        message = f"The certificate is not trusted: {error.verify_message}."
        advice = _advice_on_certificate(error.verify_code)
        raise _RouteError("encryption", message, advice) from None
    except OSError as error:
        reason = getattr(error, "reason", None) or _reason(error, route.timeout)
        is_plain = any(word in str(reason) for word in _NO_TLS)
        advice = "Does it speak http:// instead?" if is_plain else _advice_on(route)
        message = f"{_place(route.target)} does not answer with TLS ({reason})."
        raise _RouteError("encryption", message, advice) from None


def _advice_on_certificate(code: int) -> str:
    if code in _DATES:
        now = datetime.now(UTC)
        return f"Is this machine's clock right? It says {now:%Y-%m-%d %H:%M} UTC."
    if code in _NAMES:
        return "It belongs to another host: correct SEGMIND_BASE_URL, or what HTTPS_PROXY leads to."
    return (
        "A company's proxy may sign with its own certificate: save that as a PEM file and set "
        "SSL_CERT_FILE to its path."
    )


def _port(url: SplitResult) -> int:
    return url.port or _PORTS[url.scheme]


def _place(url: SplitResult) -> str:
    return f"{url.hostname}:{_port(url)}"

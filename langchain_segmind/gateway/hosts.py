"""Who may be spoken to, and by which web pages.

A browser lets any page send requests to this machine, and a name that a stranger's DNS points at
127.0.0.1 lets it read the answers too. Both show: in `Origin`, and in `Host`.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from langchain_segmind.gateway.errors import ApiError

if TYPE_CHECKING:
    from langchain_segmind.gateway.exchange import Request
    from langchain_segmind.gateway.settings import Settings


def check_host(request: Request, settings: Settings) -> None:
    """Refuse a name that is not ours, and a web page from elsewhere."""
    host = request.headers.get("host", "")
    if not _is_ours(_name(host), settings):
        raise ApiError(
            403, f"The gateway does not answer to the Host {host[:100]!r}; see --allow-host"
        )
    origin = request.headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != host.lower():
        raise ApiError(403, "The gateway does not answer web pages of another origin")


def is_local(request: Request) -> bool:
    """Say whether a request comes from this machine, and by a name of this machine."""
    return _is_loopback(_name(request.headers.get("host", ""))) and _is_loopback(request.client)


def _is_ours(name: str, settings: Settings) -> bool:
    if _is_loopback(name) or name in {settings.host.lower(), *settings.allow_hosts}:
        return True
    # A wildcard has no name of its own; an address needs no DNS that could lie.
    bound = _address(settings.host)
    return bound is not None and bound.is_unspecified and _address(name) is not None


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return name == "localhost" if address is None else address.is_loopback


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None

"""A request and its answer, between the server and the app."""

from __future__ import annotations

import json
import logging
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


@dataclass
class Request:
    """A request whose head has arrived; its body is still on the way."""

    method: str
    target: str
    """As it was sent: printable ASCII, which HTTP makes sure of."""
    headers: dict[str, str]
    """By their names in lower case."""
    client: str
    """The address of the other end."""
    read: Callable[[], Awaitable[bytes]]
    """Gives the body; what is never asked for is never kept."""
    request_id: str = field(default_factory=lambda: str(uuid4()))
    is_authenticated: bool = False
    """Whether it carries the key."""

    @property
    def path(self) -> str:
        """The path of its URL, decoded."""
        return unquote(self.target.partition("?")[0])


@dataclass
class Response:
    """An answer, or what is left of it."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: Literal["whole", "half", "nothing"] = "whole"
    """How much of it arrives before the connection closes."""
    cost: float | None = None
    """Credits that were billed, whether the answer arrives or not."""


def json_response(content: object, status: int = 200) -> Response:
    """Answer with JSON, in ASCII so that a lone surrogate in a text can't break it."""
    return Response(status, json.dumps(content).encode(), {"content-type": "application/json"})


def html_response(page: str, status: int = 200) -> Response:
    """Answer with a page."""
    return Response(status, page.encode(), {"content-type": "text/html; charset=utf-8"})


def log_failure(what: str) -> None:
    """Log the exception that is being handled; it may quote what a stranger sent."""
    logger.error("%s:\n%s", what, printable(traceback.format_exc()))


def printable(text: str) -> str:
    r"""Write control characters as `\x1b`, so that they can't reach a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)

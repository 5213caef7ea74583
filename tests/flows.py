"""The least of flows, for tests of what performs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_segmind._protocol.types import Flow, Request, Response, TransportFailure


def send(request: Request) -> Flow[Response | TransportFailure]:
    """Send one request, and give what came of it."""
    outcome: Response | TransportFailure = yield request
    return outcome

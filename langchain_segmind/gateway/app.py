"""Segmind's HTTP surface."""

from __future__ import annotations

import secrets
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from langchain_segmind.gateway import errors
from langchain_segmind.gateway.account import Post
from langchain_segmind.gateway.errors import ApiError, AuthenticationError, MethodNotAllowedError
from langchain_segmind.gateway.exchange import Response, html_response, json_response
from langchain_segmind.gateway.faults import Fault
from langchain_segmind.gateway.hosts import check_host, is_local
from langchain_segmind.gateway.page import Exchange, show_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_segmind.gateway.core import Answer, Gateway
    from langchain_segmind.gateway.exchange import Request
    from langchain_segmind.gateway.faults import FaultSource

    Endpoint = Callable[[Gateway, Request, bytes], Awaitable[Response]]

MALFORMED = (
    b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "cut o',
    errors.proxy_page(502).encode(),
    b"",
    b"null",
)


class Route(NamedTuple):
    """What answers a request, and what may go wrong with it."""

    endpoint: Endpoint
    faults: FaultSource | None = None


async def answer(gateway: Gateway, request: Request) -> Response:
    """Answer a request of any kind."""
    started = time.perf_counter()
    try:
        check_host(request, gateway.settings)
        response = await _answer(gateway, request)
    except ApiError as error:
        response = error.response()
    response.headers.update(gateway.rate_limit.headers())
    seconds = time.perf_counter() - started
    if request.method == "POST":
        gateway.exchanges.append(Exchange.of(request, response, seconds))
    if gateway.settings.verbose:
        outcome = "dropped" if response.sent == "nothing" else response.status
        # The path as it was sent has no control characters.
        path = request.target.partition("?")[0]
        sys.stderr.write(f"{request.method} {path} {outcome} {seconds * 1000:.0f} ms\n")
    return response


async def _answer(gateway: Gateway, request: Request) -> Response:
    if request.path == "/" and request.method == "GET" and gateway.settings.page:
        return _show_page(gateway, request)
    route = _find_route(gateway, request)
    body = await _admit(gateway, request)
    if route.faults is None:
        return await _respond(gateway, request, body, route.endpoint)
    fault = route.faults.draw()
    await gateway.pause(route.faults.faults.latency)
    if fault is Fault.ERROR:
        status = (500, 502, 503)[route.faults.pick(3)]
        return json_response({"error": errors.SERVER_ERROR}, status)
    if fault is Fault.DROP_BEFORE:
        return Response(0, sent="nothing")
    response = await _respond(gateway, request, body, route.endpoint)
    return _spoil(response, fault, route.faults)


def _find_route(gateway: Gateway, request: Request) -> Route:
    polls = gateway.poll_faults
    match request.path.split("/")[1:]:
        case ["v1", "get-user-credits"] if request.method == "GET":
            return Route(_show_credits)
        case ["v1", slug] if slug:
            method, route = "POST", Route(partial(_call, slug=slug), gateway.post_faults)
        case ["v2", slug] if slug:
            method, route = "POST", Route(partial(_submit, slug=slug), gateway.post_faults)
        case ["v2", "requests", key] if key:
            method, route = "GET", Route(partial(_show_job, key=key, whole=True), polls)
        case ["v2", "requests", key, "status"] if key:
            method, route = "GET", Route(partial(_show_job, key=key, whole=False), polls)
        case _:
            raise ApiError(404, errors.NOT_FOUND)
    if request.method != method:
        raise MethodNotAllowedError
    return route


async def _admit(gateway: Gateway, request: Request) -> bytes:
    """Check the key, and only then read and note what was sent."""
    try:
        _authenticate(gateway, request)
    except AuthenticationError:
        if request.method == "POST":
            gateway.account.record(_post(request, b""))
        raise
    request.is_known = True
    if request.method != "POST":
        return b""
    body = await request.read()
    gateway.account.record(_post(request, body))
    return body


def _authenticate(gateway: Gateway, request: Request) -> None:
    key = request.headers.get("x-api-key")
    if key is None:
        # A bearer token passes for a header, but not for a key.
        given = "authorization" in request.headers
        raise AuthenticationError(errors.BAD_KEY if given else errors.NO_KEY)
    if not secrets.compare_digest(key.encode(), gateway.settings.api_key.encode()):
        raise AuthenticationError(errors.BAD_KEY)


def _post(request: Request, body: bytes) -> Post:
    headers = {key: value for key, value in request.headers.items() if key != "x-api-key"}
    return Post(request.request_id, request.path, body, headers)


async def _respond(gateway: Gateway, request: Request, body: bytes, endpoint: Endpoint) -> Response:
    try:
        response = await endpoint(gateway, request, body)
    except ApiError as error:
        response = error.response()
    if request.method == "POST":
        response.headers["x-request-id"] = request.request_id
    return response


def _spoil(response: Response, fault: Fault | None, faults: FaultSource) -> Response:
    if fault is Fault.DROP_AFTER:
        return replace(response, sent="nothing")
    if fault is Fault.HALF_BODY:
        return replace(response, sent="half")
    if fault is Fault.MALFORMED:
        body = MALFORMED[faults.pick(len(MALFORMED))]
        headers = {"content-type": "application/json"}
        return replace(response, status=200, body=body, headers=headers)
    if fault is Fault.PROXY_TIMEOUT:
        statuses = list(errors.PROXY_STATUSES)
        status = statuses[faults.pick(len(statuses))]
        return replace(html_response(errors.proxy_page(status), status), cost=response.cost)
    return response


def _show_page(gateway: Gateway, request: Request) -> Response:
    if not is_local(request):
        raise ApiError(403, "The page is shown on the gateway's own machine only")
    return show_page(gateway, f"http://{request.headers['host']}")


async def _show_credits(gateway: Gateway, _: Request, __: bytes) -> Response:
    account = gateway.account
    return json_response({"credits": account.credits, "free-credits": account.free_credits})


async def _call(gateway: Gateway, request: Request, body: bytes, *, slug: str) -> Response:
    _check_call(gateway, request, slug)
    done = await gateway.call(request.request_id, slug, body)
    response = json_response(done.completion)
    response.headers.update(_accounting(done))
    response.cost = done.charge.cost
    return response


async def _submit(gateway: Gateway, request: Request, body: bytes, *, slug: str) -> Response:
    _check_call(gateway, request, slug)
    job = gateway.submit(request.request_id, slug, body)
    result = f"http://{request.headers['host']}/v2/requests/{job.request_id}"
    return json_response(
        {
            "request_id": job.request_id,
            "status": "QUEUED",
            "poll_url": f"{result}/status",
            "status_url": f"{result}/status",
            "response_url": result,
        }
    )


async def _show_job(gateway: Gateway, _: Request, __: bytes, *, key: str, whole: bool) -> Response:
    if gateway.settings.rate_polls:
        gateway.rate_limit.count()
    job = gateway.jobs.get(key)
    return json_response(job.result_body() if whole else job.status_body(), job.http_status)


def _check_call(gateway: Gateway, request: Request, slug: str) -> None:
    gateway.rate_limit.count()
    content_type = request.headers.get("content-type", "").partition(";")[0]
    if content_type.strip().lower() != "application/json":
        raise ApiError(406, errors.CONTENT_TYPE)
    gateway.check_slug(slug)


def _accounting(done: Answer) -> dict[str, str]:
    return {
        "x-remaining-credits": f"{done.charge.remaining:.10f}",
        "x-cost": f"{done.charge.cost:.10f}",
        "x-generation-time": f"{done.seconds:.6f}",
        "x-seed-value": str(done.seed),
    }

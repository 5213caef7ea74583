"""Segmind's HTTP surface."""

from __future__ import annotations

import secrets
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_segmind.gateway import errors
from langchain_segmind.gateway.account import Post
from langchain_segmind.gateway.errors import ApiError
from langchain_segmind.gateway.exchange import Response, html_response, json_response
from langchain_segmind.gateway.hosts import check_host
from langchain_segmind.gateway.jobs import Job
from langchain_segmind.gateway.page import Exchange, show_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_segmind.gateway.core import Gateway
    from langchain_segmind.gateway.exchange import Request
    from langchain_segmind.gateway.faults import FaultSource

    Endpoint = Callable[[bytes], Awaitable[Response]]

MALFORMED = (
    b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "cut o',
    errors.proxy_page(502).encode(),
    b"",
    b"null",
)


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
        return show_page(gateway, request)
    endpoint, faults = _find_route(gateway, request)
    body = await _authenticate(gateway, request)
    if faults is None:
        return await endpoint(body)
    fault = faults.draw()
    await gateway.pause(faults.faults.latency)
    if fault == "error":
        return json_response({"error": errors.SERVER_ERROR}, faults.random.choice((500, 502, 503)))
    if fault == "drop_before":
        return Response(0, sent="nothing")
    try:
        response = await endpoint(body)
    except ApiError as error:
        response = error.response()
    if request.method == "POST":
        response.headers["x-request-id"] = request.request_id
    return _apply_fault(response, fault, faults)


def _find_route(gateway: Gateway, request: Request) -> tuple[Endpoint, FaultSource | None]:
    """Find what answers a request, and what may go wrong with it."""
    endpoint: Endpoint
    match request.path.split("/")[1:]:
        case ["v1", "get-user-credits"] if request.method == "GET":
            return partial(_show_credits, gateway), None
        case ["v1", slug] if slug:
            method, endpoint = "POST", partial(_call, gateway, request, slug)
        case ["v2", slug] if slug:
            method, endpoint = "POST", partial(_submit, gateway, request, slug)
        case ["v2", "requests", key] if key:
            method, endpoint = "GET", partial(_show_job, gateway, key, Job.result_body)
        case ["v2", "requests", key, "status"] if key:
            method, endpoint = "GET", partial(_show_job, gateway, key, Job.status_body)
        case _:
            raise ApiError(404, errors.NOT_FOUND)
    if request.method != method:
        raise ApiError(405, "Method Not Allowed")
    return endpoint, gateway.post_faults if method == "POST" else gateway.poll_faults


async def _authenticate(gateway: Gateway, request: Request) -> bytes:
    """Check the key, and only then read what was sent; a POST is noted in either case."""
    refusal = _refuse_key(gateway, request)
    request.is_authenticated = not refusal
    body = b""
    if request.method == "POST":
        if request.is_authenticated:
            body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name != "x-api-key"}
        gateway.account.record(Post(request.request_id, request.path, body, headers))
    if refusal:
        raise ApiError(401, refusal)
    return body


def _refuse_key(gateway: Gateway, request: Request) -> str:
    key = request.headers.get("x-api-key")
    if key is None and "authorization" not in request.headers:
        return errors.NO_KEY
    # A bearer token passes for a header, but not for a key.
    is_right = secrets.compare_digest((key or "").encode(), gateway.settings.api_key.encode())
    return "" if is_right else errors.BAD_KEY


def _apply_fault(response: Response, fault: str | None, faults: FaultSource) -> Response:
    match fault:
        case "drop_after":
            return replace(response, sent="nothing")
        case "half_body":
            return replace(response, sent="half")
        case "malformed":
            headers, body = {"content-type": "application/json"}, faults.random.choice(MALFORMED)
            return replace(response, status=200, body=body, headers=headers)
        case "proxy_timeout":
            status = faults.random.choice(list(errors.PROXY_STATUSES))
            return replace(html_response(errors.proxy_page(status), status), cost=response.cost)
        case _:
            return response


async def _show_credits(gateway: Gateway, _: bytes) -> Response:
    account = gateway.account
    return json_response({"credits": account.credits, "free-credits": account.free_credits})


async def _call(gateway: Gateway, request: Request, slug: str, body: bytes) -> Response:
    _check_call(gateway, request, slug)
    done = await gateway.call(request.request_id, slug, body)
    response = json_response(done.completion)
    response.cost = done.charge.cost
    response.headers |= {
        "x-remaining-credits": f"{done.charge.remaining:.10f}",
        "x-cost": f"{done.charge.cost:.10f}",
        "x-generation-time": f"{done.seconds:.6f}",
        "x-seed-value": str(done.seed),
    }
    return response


async def _submit(gateway: Gateway, request: Request, slug: str, body: bytes) -> Response:
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


async def _show_job(
    gateway: Gateway, key: str, describe: Callable[[Job], dict[str, Any]], _: bytes
) -> Response:
    if gateway.settings.rate_polls:
        gateway.rate_limit.count()
    job = gateway.jobs.find(key)
    if job is None:
        raise ApiError(404, f"Request {key} not found")
    status = 422 if job.status == "FAILED" else 200
    return json_response(describe(job), status)


def _check_call(gateway: Gateway, request: Request, slug: str) -> None:
    gateway.rate_limit.count()
    content_type = request.headers.get("content-type", "").partition(";")[0]
    if content_type.strip().lower() != "application/json":
        raise ApiError(406, errors.CONTENT_TYPE)
    gateway.check_slug(slug)

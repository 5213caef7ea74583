"""Segmind's HTTP surface."""

from __future__ import annotations

import secrets
import sys
import time
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from langchain_segmind.gateway import errors
from langchain_segmind.gateway.account import Post
from langchain_segmind.gateway.connections import HalfAnswer, NoAnswer
from langchain_segmind.gateway.errors import ApiError, AuthenticationError, json_response
from langchain_segmind.gateway.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_segmind.gateway.core import Answer, Gateway
    from langchain_segmind.gateway.faults import FaultSource

    Endpoint = Callable[[Gateway, Request], Awaitable[Response]]

LONGEST_BODY = 64 * 1024 * 1024
"""Bytes of a request, of which only images make so many."""

MALFORMED = (
    b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "cut o',
    errors.PROXY_PAGE.encode(),
    b"",
    b"null",
)


def create_app(gateway: Gateway) -> Starlette:
    """Serve a gateway."""
    post = partial(_route, gateway, method="POST", faults=gateway.post_faults)
    poll = partial(_route, gateway, method="GET", faults=gateway.poll_faults)
    app = Starlette(
        routes=[
            _route(gateway, "/v1/get-user-credits", _show_credits, method="GET"),
            post("/v1/{slug}", _call),
            poll("/v2/requests/{request_id}/status", _show_status),
            poll("/v2/requests/{request_id}", _show_result),
            post("/v2/{slug}", _submit),
        ],
        exception_handlers={HTTPException: _no_such_route},
    )
    app.router.redirect_slashes = False
    app.state.gateway = gateway
    return app


def _route(
    gateway: Gateway,
    path: str,
    endpoint: Endpoint,
    *,
    method: str,
    faults: FaultSource | None = None,
) -> Route:
    async def serve(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await _exchange(gateway, request, endpoint, faults)
        except ClientDisconnect:
            response = NoAnswer()
        if gateway.settings.verbose:
            _report(request, response, time.perf_counter() - started)
        return response

    return Route(path, serve, methods=[method])


async def _exchange(
    gateway: Gateway, request: Request, endpoint: Endpoint, faults: FaultSource | None
) -> Response:
    request.state.request_id = str(uuid4())
    if request.method == "POST":
        if not await _fits(request):
            return errors.error_response(ApiError(413, errors.TOO_LARGE))
        gateway.account.record(await _post(request))
    if faults is None:
        return await _respond(gateway, request, endpoint)
    fault = faults.draw()
    await gateway.pause(faults.faults.latency)
    if fault is Fault.ERROR:
        return errors.broken_server(faults.pick(3))
    if fault is Fault.DROP_BEFORE:
        return NoAnswer()
    response = await _respond(gateway, request, endpoint)
    return _spoil(response, fault, faults)


def _spoil(response: Response, fault: Fault | None, faults: FaultSource) -> Response:
    if fault is Fault.DROP_AFTER:
        return NoAnswer()
    if fault is Fault.HALF_BODY:
        return HalfAnswer(response)
    if fault is Fault.MALFORMED:
        body = MALFORMED[faults.pick(len(MALFORMED))]
        return Response(body, media_type="application/json")
    return response


async def _respond(gateway: Gateway, request: Request, endpoint: Endpoint) -> Response:
    try:
        _authenticate(gateway, request)
        response = await endpoint(gateway, request)
    except AuthenticationError as error:
        return errors.error_response(error)
    except ApiError as error:
        response = errors.error_response(error)
    if request.method == "POST":
        response.headers["x-request-id"] = request.state.request_id
    return response


async def _show_credits(gateway: Gateway, _: Request) -> Response:
    account = gateway.account
    return json_response({"credits": account.credits, "free-credits": account.free_credits})


async def _call(gateway: Gateway, request: Request) -> Response:
    slug = _admit(gateway, request)
    answer = await gateway.call(request.state.request_id, slug, await request.body())
    return json_response(answer.completion, headers=_accounting(answer))


async def _submit(gateway: Gateway, request: Request) -> Response:
    slug = _admit(gateway, request)
    job = gateway.submit(request.state.request_id, slug, await request.body())
    result = f"{str(request.base_url).rstrip('/')}/v2/requests/{job.request_id}"
    return json_response(
        {
            "request_id": job.request_id,
            "status": "QUEUED",
            "poll_url": f"{result}/status",
            "status_url": f"{result}/status",
            "response_url": result,
        }
    )


async def _show_status(gateway: Gateway, request: Request) -> Response:
    if gateway.settings.rate_polls:
        gateway.rate_limit.count()
    job = gateway.jobs.get(request.path_params["request_id"])
    return json_response(job.status_body(), job.http_status)


async def _show_result(gateway: Gateway, request: Request) -> Response:
    if gateway.settings.rate_polls:
        gateway.rate_limit.count()
    job = gateway.jobs.get(request.path_params["request_id"])
    return json_response(job.result_body(), job.http_status)


def _authenticate(gateway: Gateway, request: Request) -> None:
    key = request.headers.get("x-api-key")
    if key is None:
        # A bearer token passes for a header, but not for a key.
        given = "authorization" in request.headers
        raise AuthenticationError(errors.BAD_KEY if given else errors.NO_KEY)
    if not secrets.compare_digest(key.encode(), gateway.settings.api_key.encode()):
        raise AuthenticationError(errors.BAD_KEY)


def _admit(gateway: Gateway, request: Request) -> str:
    """Check what can be checked without the body, and give the slug."""
    gateway.rate_limit.count()
    content_type = request.headers.get("content-type", "").partition(";")[0]
    if content_type.strip().lower() != "application/json":
        raise ApiError(406, errors.CONTENT_TYPE)
    slug: str = request.path_params["slug"]
    gateway.check_slug(slug)
    return slug


def _accounting(answer: Answer) -> dict[str, str]:
    return {
        "x-remaining-credits": f"{answer.charge.remaining:.10f}",
        "x-cost": f"{answer.charge.cost:.10f}",
        "x-generation-time": f"{answer.seconds:.6f}",
        "x-seed-value": str(answer.seed),
    }


async def _fits(request: Request) -> bool:
    """Read the body, unless it would fill the memory."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > LONGEST_BODY:
            return False
        parts.append(part)
    request._body = b"".join(parts)  # noqa: SLF001  Where Starlette looks for what was read.
    return True


async def _post(request: Request) -> Post:
    headers = {key: value for key, value in request.headers.items() if key != "x-api-key"}
    body = await request.body()
    return Post(request.state.request_id, request.url.path, body, headers)


async def _no_such_route(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:  # noqa: PLR2004
        return errors.method_not_allowed()
    return json_response({"error": errors.NOT_FOUND}, 404)


def _report(request: Request, response: Response, seconds: float) -> None:
    outcome = "dropped" if isinstance(response, NoAnswer) else response.status_code
    line = f"{request.method} {request.url.path} {outcome} {seconds * 1000:.0f} ms"
    sys.stderr.write(line + "\n")

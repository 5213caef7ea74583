"""What the storm's server does to calls, and what it bills: some thirty kinds of bad days."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

from tests.servers import (
    FaultServer,
    Later,
    Received,
    Wire,
    chunked,
    completion,
    head,
    http,
    refused_url,
)

Fault: TypeAlias = Callable[[bytes], Any]
"""Makes of a good answer what a `FaultServer` is to answer."""
Step: TypeAlias = tuple[tuple[bool, Fault], ...]
"""Whether a request is billed, and what is answered: one of these is drawn."""

TIMEOUT = 4.0
"""Seconds of a call of v1, and of a submit."""
NGINX_READ_TIMEOUT = 0.5
"""Seconds, as `nginx` is to be configured for the kinds that go through it."""


# --- Faults -------------------------------------------------------------------------------------


def whole(good: bytes) -> bytes:
    """Answer well."""
    return good


def late(seconds: float) -> Fault:
    """Answer well after a while."""
    return lambda good: Later(seconds, good)


def instead(answer: bytes) -> Fault:
    """Answer something else."""
    return lambda _: answer


def status(code: int, words: str = "no", **headers: str) -> Fault:
    """Answer a status in Segmind's JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return instead(http({"error": words}, code, named))


def page(code: int) -> Fault:
    """Answer as a proxy does that gave up."""
    text = f"<html><title>{code}</title><h1>{code} A proxy gave up</h1></html>"
    return instead(http(text.encode(), code, content_type="text/html"))


def break_off(part: Callable[[bytes], bytes], end: Callable[[Wire], None]) -> Fault:
    """Send a part of the good answer, and end the connection."""

    def fault(good: bytes) -> Callable[[Received, Wire], None]:
        def answer(_received: Received, wire: Wire) -> None:
            wire.send(part(good))
            end(wire)

        return answer

    return fault


def nothing(_: bytes) -> bytes:
    """Send nothing."""
    return b""


def half_a_head(good: bytes) -> bytes:
    """Give less than tells whether it is good."""
    return good[:30]


def half_a_body(good: bytes) -> bytes:
    """Give the head, and less than it promises."""
    return good[: (_body_start(good) + len(good)) // 2]


def in_chunks(good: bytes) -> bytes:
    """Send the same in chunks."""
    return _chunks(good) + chunked()


def _chunks(good: bytes) -> bytes:
    body = good[_body_start(good) :]
    parts = [body[at : at + 50] for at in range(0, len(body), 50)]
    coded = {"content-type": "application/json", "transfer-encoding": "chunked"}
    return head(200, coded) + chunked(*parts, end=False)


def hinted(good: bytes) -> bytes:
    """Send early hints first."""
    return b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3 + good


def announced_close(good: bytes) -> Any:
    """Say that the connection ends, and end it."""
    return closed_after(good.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))


def with_surplus(good: bytes) -> bytes:
    """Send an answer that nobody asked for behind it."""
    return good + http(completion("smuggled"))


def silence(_: bytes) -> Later:
    """Say nothing while anybody waits."""
    return Later(3600, b"")


def dripping(good: bytes) -> Callable[[Received, Wire], None]:
    """Send bytes of a body for longer than anybody waits."""

    def answer(_received: Received, wire: Wire) -> None:
        wire.send(good[: _body_start(good)])
        wire.drip(b" ", pause=0.5)

    return answer


def endless_headers(_: bytes) -> Callable[[Received, Wire], None]:
    """Send headers until the other side has had enough."""

    def answer(_received: Received, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\n")
        wire.drip(b"x-a: b\r\n" * 4000, pause=0)

    return answer


def _body_start(answer: bytes) -> int:
    return answer.index(b"\r\n\r\n") + 4


closed_after = break_off(whole, Wire.close)
CLOSED = break_off(nothing, Wire.close), break_off(nothing, Wire.reset)
HALF = break_off(half_a_body, Wire.close), break_off(half_a_body, Wire.reset)
GZIP = {"content-encoding": "gzip"}
BOMB = http(gzip.compress(bytes(20 * 1024 * 1024)), headers=GZIP)
USELESS = tuple(
    instead(http(body))
    for body in (
        *(b"", b"null", b"{}", b"[" * 20_000, b'{"choices": [{"message": {"content": "cut'),
        *(b'{"choices": []}', b'{"error": "overloaded"}', b"<html>Welcome</html>"),
    )
)
REFUSALS = tuple(status(code) for code in (400, 401, 403, 404, 406, 410, 413, 422))
REDIRECTS = tuple(instead(http(b"", code, {"location": "/elsewhere"})) for code in (301, 302, 307))
PAGES = tuple(page(code) for code in (502, 503, 520, 522, 524))
IN_JSON = tuple(status(code) for code in (500, 502, 503))
SOON = "0.05"
"""Seconds after which a refused poll or call may come again."""


def paid(*faults: Fault) -> Step:
    """Bill the request, whatever its caller hears."""
    return tuple((True, fault) for fault in faults)


def free(*faults: Fault) -> Step:
    """Bill nothing."""
    return tuple((False, fault) for fault in faults)


# --- Kinds --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """What becomes of a call's POSTs, one after the other, and of its polls; the last one stays."""

    name: str
    posts: tuple[Step, ...]
    polls: tuple[tuple[Fault, ...], ...] = ((whole,),)
    is_queued_only: bool = False
    through_nginx: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the model."""


def _queued(name: str, *polls: tuple[Fault, ...], billed: bool = True, **settings: Any) -> Kind:
    step = paid(whole) if billed else free(whole)
    return Kind(name, (step,), polls, is_queued_only=True, settings=settings)


_KINDS = [
    Kind("answered", (paid(whole),)),
    Kind("answered late", (paid(late(0.3)),)),
    Kind("answered in chunks", (paid(in_chunks),)),
    Kind("early hints first", (paid(hinted),)),
    Kind("`Connection: close`", (paid(announced_close),)),
    Kind("closed after the answer, unsaid", (paid(closed_after),)),
    Kind("a second answer behind it", (paid(with_surplus),)),
    Kind("500, 502, 503 in JSON, then an answer", (free(*IN_JSON), paid(whole))),
    Kind("500, 502, 503 in JSON, always", (free(*IN_JSON),)),
    Kind("429 with a reset, then an answer", (free(status(429, retry_after=SOON)), paid(whole))),
    Kind("429 without a reset, always", (free(status(429)),)),
    Kind("400, 401, 403, 404, 406, 410, 413, 422", (free(*REFUSALS),)),
    Kind("a redirect", (free(*REDIRECTS),)),
    Kind("504 of a proxy", (paid(page(504)),)),
    Kind("502, 503, 520, 522, 524 as a page", (paid(*PAGES),)),
    Kind("503 in JSON, then a proxy's 504", (free(status(503)), paid(page(504)))),
    Kind("closed or reset, and billed", (paid(*CLOSED),)),
    Kind("closed or reset, not billed", (free(*CLOSED),)),
    Kind("half a head", (paid(break_off(half_a_head, Wire.close)),)),
    Kind("half a body", (paid(*HALF),)),
    Kind("chunks without an end", (paid(break_off(_chunks, Wire.close)),)),
    Kind("no answer at all", (paid(silence),)),
    Kind("a body that drips", (paid(dripping),)),
    Kind("no HTTP", (paid(instead(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")),)),
    Kind("200 of no use", (paid(*USELESS),)),
    Kind("a gzip bomb", (paid(instead(BOMB)),)),
    Kind("headers without end", (paid(endless_headers),)),
    Kind("nobody listens", (paid(whole),), settings={"base_url": refused_url()}),
    _queued(
        "polls: 5xx, closed, half, no JSON",
        *[(*IN_JSON, *PAGES, *USELESS, *CLOSED, *HALF)] * 3,
        (whole,),
    ),
    _queued("polls: 429", *[(status(429, retry_after=SOON),)] * 2, (whole,)),
    _queued(
        "the job fails",
        (instead(http({"status": "FAILED", "error": "out of memory"}, 422)),),
        billed=False,
    ),
    _queued("the job is lost", (status(404, "not found"),)),
    _queued("the job never ends", (instead(http({"status": "PROCESSING"})),), queue_timeout=3),
    Kind("nginx gives up", (paid(late(2 * NGINX_READ_TIMEOUT)),), through_nginx=True),
]
ANY = tuple(
    choice
    for kind in _KINDS
    if not (kind.is_queued_only or kind.through_nginx or kind.settings)
    for step in kind.posts
    for choice in step
)
KINDS = [*_KINDS, Kind("any of these at each attempt", (ANY,))]
BURSTS = Kind("nginx closes idle connections", (paid(whole),), through_nginx=True)


# --- The server ---------------------------------------------------------------------------------


class StormServer(FaultServer):
    """Answers each call as its kind has it, and keeps the bill."""

    def __init__(self, kinds: list[Kind], seed: int) -> None:
        """Know the kind of each call by its number."""
        super().__init__()
        self.bill: Counter[int] = Counter()
        """How often each call was billed."""
        self._kinds = kinds
        self._random = Random(seed)
        self._posts: Counter[int] = Counter()
        self._polls: Counter[int] = Counter()

    def next_answer(self, received: Received) -> Any:
        """Bill a POST and spoil its answer, or that of a poll."""
        if received.head.startswith(b"GET"):
            return self._poll(received.head)
        number = int(_NUMBER.search(received.body)[1])  # type: ignore[index]
        steps = self._kinds[number].posts
        step = steps[min(self._posts[number], len(steps) - 1)]
        self._posts[number] += 1
        is_billed, fault = self._random.choice(step)
        self.bill[number] += is_billed
        is_submit = received.head.startswith(b"POST /v2/")
        return fault(http({"request_id": f"job-{number}"} if is_submit else _completion(number)))

    def _poll(self, request: bytes) -> Any:
        number = int(_JOB.search(request)[1])  # type: ignore[index]
        steps = self._kinds[number].polls
        faults = steps[min(self._polls[number], len(steps) - 1)]
        self._polls[number] += 1
        record: dict[str, Any] = {"status": "COMPLETED"}
        if b"/status " not in request:
            record |= {"output": json.dumps(_completion(number)), "metrics": {"cost": 0.001}}
        return self._random.choice(faults)(http(record))


_NUMBER = re.compile(rb"#(\d+)#")
_JOB = re.compile(rb"/v2/requests/job-(\d+)")


def _completion(number: int) -> dict[str, Any]:
    return completion(f"#{number}#")

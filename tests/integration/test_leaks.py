"""The key stays where it belongs: in one request header, and nowhere else."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.load import dumpd, dumps
from pydantic import ValidationError

from langchain_segmind import ChatSegmindLlama, SegmindError
from tests.leaks import everything_told_by
from tests.servers import (
    COLOURS,
    KEY,
    TRANSPORTS,
    Received,
    Wire,
    ask,
    chunked,
    completion,
    delta,
    events,
    faults,
    head,
    http,
    model,
    refused_url,
    streamed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ECHOES: dict[str, str] = {
    "plain": KEY,
    "JSON": "".join(f"\\u{ord(character):04x}" for character in KEY),
    "JSON capitals": KEY.replace("_", "\\u005F"),
    "HTML": "".join(f"&#{ord(character)};" for character in KEY),
    "HTML hex": "".join(f"&#x{ord(character):X};" for character in KEY),
    "HTML names": KEY.replace("_", "&lowbar;"),
    "URL": "".join(f"%{ord(character):02X}" for character in KEY),
}
HEADERS = {"x-request-id": f"r-{KEY}", "x-seed-value": KEY, "x-cost": KEY, "location": f"/{KEY}"}


def cut_short(_received: Received, wire: Wire) -> None:
    wire.send(head(200, {"content-length": "9999", **HEADERS}) + KEY.encode())
    wire.close()


def no_http(_received: Received, wire: Wire) -> None:
    wire.send(f"HTTP/9.9 {KEY}\r\n{KEY}\r\n\r\n".encode())
    wire.close()


def odd_reason(_received: Received, _wire: Wire) -> bytes:
    return http({"error": "no"}, 401).replace(b"Reason", KEY.encode())


def hang(_received: Received, wire: Wire) -> None:
    wire.hang()


def broken_events(_received: Received, wire: Wire) -> None:
    wire.send(
        head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked", **HEADERS})
        + chunked(events(delta("x"), done=False), KEY.encode(), end=False)
    )
    wire.close()


FAULTS: dict[str, Any] = {
    **{
        f"{status} {name}": http(form.replace("KEY", echo).encode(), status, HEADERS)
        for status in (401, 500)
        for name, echo in ECHOES.items()
        for form in ['{"error": "the key KEY is wrong"}' if "JSON" in name else "<p>no: KEY</p>"]
    },
    "200 with an error": http({"error": {"message": f"wrong: {KEY}"}}, 200, HEADERS),
    "200 with an odd body": http(f"wrong: {KEY}".encode(), 200, HEADERS),
    "UTF-16": http(KEY.encode("utf-16"), 500, HEADERS),
    "event with an error": http(
        events({"error": {"message": KEY}}), 200, HEADERS, content_type="text/event-stream"
    ),
    "events in escapes": http(
        ('data: {"error": "' + ECHOES["JSON"] + '"}\n\n').encode(),
        content_type="text/event-stream",
    ),
    "broken events": broken_events,
    "cut short": cut_short,
    "no HTTP": no_http,
    "odd reason": odd_reason,
    "no answer": hang,
    "an encoding": http(b"", 200, {"content-encoding": KEY, **HEADERS}),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", FAULTS)
def test_no_error_tells_the_key_that_a_server_echoes(
    name: str, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with faults(FAULTS[name]) as server, pytest.raises(SegmindError) as caught:
        ask(model(server, max_retries=0, timeout=0.5), transport)
    assert KEY not in everything_told_by(caught.value)
    assert not any(KEY in r.getMessage() for r in caplog.records if r.name == "langchain_segmind")


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", FAULTS)
def test_no_streamed_error_tells_the_key(
    name: str, colour: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with faults(FAULTS[name]) as server, pytest.raises(SegmindError) as caught:
        streamed(model(server, max_retries=0, timeout=0.5, streaming=True), colour)
    assert KEY not in everything_told_by(caught.value)
    assert not any(KEY in r.getMessage() for r in caplog.records if r.name == "langchain_segmind")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_unreachable_server_tells_no_key(
    transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    llm = ChatSegmindLlama(api_key=KEY, base_url=refused_url(), max_retries=0)
    with pytest.raises(SegmindError) as caught:
        ask(llm, transport)
    assert KEY not in everything_told_by(caught.value)
    assert not any(KEY in r.getMessage() for r in caplog.records if r.name == "langchain_segmind")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("echo", ["plain", "JSON"])
def test_no_answer_tells_the_key_in_its_metadata(
    echo: str, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = json.dumps(completion("Hello!", id="KEY", model="KEY")).replace("KEY", ECHOES[echo])
    with faults(http(body.encode(), headers=HEADERS)) as server:
        message = ask(model(server), transport)
    assert message.content == "Hello!"
    assert KEY not in repr(message)
    assert KEY not in message.model_dump_json()
    assert not any(KEY in r.getMessage() for r in caplog.records if r.name == "langchain_segmind")


@pytest.mark.parametrize("colour", COLOURS)
def test_no_stream_tells_the_key_in_its_metadata(colour: str) -> None:
    """Not even where it comes in pieces."""

    def dribble(_received: Received, wire: Wire) -> bytes:
        wire.send(head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}))
        body = events({**delta("Hello!", "stop"), "model": KEY, "id": KEY})
        return chunked(*(body[at : at + 1] for at in range(len(body))))

    with faults(dribble) as server:
        chunks = streamed(model(server, streaming=True), colour)
    assert "".join(chunk.content for chunk in chunks) == "Hello!"
    assert KEY not in repr(chunks)


SHOWN: dict[str, Callable[[ChatSegmindLlama], object]] = {
    "repr": repr,
    "str": str,
    "dumps": dumps,
    "dumpd": dumpd,
    "asdict": lambda llm: llm.asdict(),
    "model_dump": lambda llm: llm.model_dump(),
    "model_dump_json": lambda llm: llm.model_dump_json(),
    "to_json": lambda llm: llm.to_json(),
    "identifying parameters": lambda llm: llm._identifying_params,
    "LangSmith parameters": lambda llm: llm._get_ls_params(),
    "cache key": lambda llm: llm._get_llm_string(),
    "metadata": lambda llm: llm.metadata,
    "bound": lambda llm: repr(llm.bind(stop=["x"])),
    "configurable": lambda llm: repr(llm.with_config(tags=["x"])),
    "copy": copy.deepcopy,
    "settings": lambda llm: llm._connected().settings,
    "clients": lambda llm: llm._connected(),
}


@pytest.mark.parametrize("name", SHOWN)
def test_no_view_of_a_model_shows_its_secrets(name: str) -> None:
    llm = ChatSegmindLlama(api_key=KEY, default_headers={"x-secret": "hush-hush"})
    shown = str(SHOWN[name](llm))
    assert KEY not in shown
    assert "hush-hush" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 9},
        {"base_url": "ftp://x"},
        {"model": "../x"},
        {"model_kwargs": {"messages": []}},
        {"default_headers": {"x-secret": "hush\nhush"}},
        {"default_headers": {"x-api-key": "hush"}},
        {"max_retries": -1},
        {"timeout": -1},
    ],
)
def test_a_refused_construction_shows_no_secrets(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatSegmindLlama(**{"api_key": KEY, "default_headers": {"x-secret": "hush"}, **wrong})
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value.errors())
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"default_headers": {"x-secret": ["hush"]}}, "default_headers"),
        ({"default_headers": "hush"}, "default_headers"),
        ({"base_url": "http://me:hush@h"}, "base_url"),
        ({"base_url": "http:/me:hush@h"}, "base_url"),
        ({"model_kwargs": "hush"}, "model_kwargs"),
        ({"api_key": ["hush"]}, "api_key"),
        ({"api_key": b"\xffhush"}, "api_key"),
        ({"temperature": "hush", "seed": "hush"}, "temperature"),
    ],
)
@pytest.mark.parametrize(
    "build", [lambda given: ChatSegmindLlama(**given), ChatSegmindLlama.model_validate]
)
def test_no_form_of_a_refusal_holds_what_was_given(
    build: Callable[[dict[str, Any]], object], wrong: dict[str, Any], field: str
) -> None:
    """Logs and reports of errors keep more than the text: lines, JSON and what came before."""
    with pytest.raises(ValidationError) as caught:
        build({"api_key": KEY, **wrong})
    error = caught.value
    told = f"{error} {error!r} {error.errors()} {error.json()} {error.__context__!r}"
    assert "hush" not in told
    assert KEY not in told
    assert error.errors()[0]["loc"][0] == field


@pytest.mark.parametrize(
    "build",
    [
        lambda: ChatSegmindLlama(api_key=KEY, temperature=9),
        lambda: ChatSegmindLlama(api_key=KEY + "\n"),
        lambda: ChatSegmindLlama(apikey=KEY),  # type: ignore[call-arg]
        lambda: ChatSegmindLlama(KEY),  # type: ignore[call-arg]
    ],
)
def test_no_frame_below_a_refused_construction_holds_the_key(build: Callable[[], object]) -> None:
    """Reports of errors show the locals of frames; half a model must not make them fail."""
    with pytest.raises((ValueError, TypeError, SegmindError)) as caught:
        build()
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in told.stack if frame.filename != __file__]
    assert frames
    assert KEY not in str([frame.locals for frame in frames])


@pytest.mark.parametrize("name", ["apikey", "api_keys", "segmind_key", "segmind_apikey"])
def test_a_misspelt_key_is_refused_and_not_sent_in_a_body(name: str) -> None:
    with pytest.raises(TypeError, match="api_key") as caught:
        ChatSegmindLlama(**{"api_key": KEY, name: "SG_other"})  # type: ignore[arg-type]
    assert "SG_other" not in str(caught.value)


ECHO = b"who? not hush%%20hush, hush hush or %b" % b64encode(b"me:hush hush")
"""What a proxy answers that repeats what it was told."""


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_another_password_is_not_told_of_this_one(
    scheme: str, colour: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with faults(http(ECHO, 407, {"proxy-authenticate": "Basic"})) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://me:hush%20hush@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        llm = model(proxy, base_url=f"{scheme}://segmind.invalid", max_retries=0)
        with pytest.raises(SegmindError, match="407") as caught:
            ask(llm, colour)
    told = everything_told_by(caught.value) + caplog.text
    sent = b64encode(b"me:hush hush").decode()
    assert proxy.requests[0].values("proxy-authorization") == [f"Basic {sent}"]
    assert "hush" not in told
    assert sent not in told


INTERRUPTED = """
import signal, socket, sys, threading, time, traceback, asyncio
from langchain_segmind import ChatSegmindLlama
import aiohttp

with socket.create_server(("127.0.0.1", 0)) as listener:
    accepted = []  # And nothing is read.
    threading.Thread(target=lambda: accepted.append(listener.accept()), daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    llm = ChatSegmindLlama(api_key=KEY, base_url=url)
    prompt = "x" * 12_000_000
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    class TimeLimit(Exception):
        pass
    def interrupt(*_):
        raise INTERRUPTION
    signal.signal(signal.SIGALRM, interrupt)
    try:
        if sys.argv[1] == "sync":
            llm.invoke(prompt)
        else:
            asyncio.run(llm.ainvoke(prompt))
    except INTERRUPTION as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames = "".join(told.format(chain=True))
        print("invoke" in frames, KEY in frames)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no such timer")
@pytest.mark.parametrize(
    ("colour", "interruption"),
    [("sync", "KeyboardInterrupt"), ("async", "KeyboardInterrupt"), ("sync", "TimeLimit")],
)
def test_a_signal_during_a_large_write_leaves_no_key_in_a_frame(
    colour: str, interruption: str
) -> None:
    """Error reporters send the locals of every frame; those of an HTTP library hold the headers.

    A handler of an application's own raises what it likes, as Celery's for its soft time limit.
    """
    code = INTERRUPTED.replace("api_key=KEY", "api_key='SG_' + 'c0ffee5e' * 2")
    code = code.replace("INTERRUPTION", interruption)
    code = code.replace("KEY in frames", "'c0ffee5e' * 2 in frames")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, colour]
    ended = subprocess.run(
        command, env=env, text=True, capture_output=True, timeout=60, check=False
    )
    assert ended.stdout.startswith("True False"), ended.stderr + ended.stdout


def test_a_successful_call_logs_no_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with faults(http(headers=HEADERS)) as server:
        for transport in TRANSPORTS:
            ask(model(server), transport)
        asyncio.run(model(server).ainvoke("hi"), debug=True)
    assert caplog.records
    assert not any(KEY in r.getMessage() for r in caplog.records if r.name == "langchain_segmind")

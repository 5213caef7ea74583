"""A connection that the server has closed meanwhile is not used again."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from langchain_segmind import ChatSegmindLlama, SegmindError
from tests.servers import COLOURS, KEY, certificate, faults, http, model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEEP_ALIVE = 0.6
"""Seconds, so short that many connections end while calls begin."""
BURSTS, CALLS = 25, 64

SERVER = """
import asyncio, ssl, sys
from contextlib import suppress
from tests.servers import http

async def serve(reader, writer):
    patience = 20.0
    with suppress(TimeoutError, asyncio.IncompleteReadError, OSError):
        while True:
            head = await asyncio.wait_for(reader.readuntil(b"\\r\\n\\r\\n"), patience)
            patience = float(sys.argv[1])
            lines = [line for line in head.lower().splitlines() if b"content-length" in line]
            await reader.readexactly(int(lines[0].split(b":")[1]))
            writer.write(http())
    writer.close()

async def main():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*sys.argv[2:])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
"""In a process of its own, as servers are: in ours it would close what we were about to use."""


@contextmanager
def impatient_server(folder: Path) -> Iterator[str]:
    files = map(str, certificate(folder))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SERVER, str(KEEP_ALIVE), *files]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"https://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()


async def call(llm: ChatSegmindLlama, colour: str, threads: Executor | None = None) -> None:
    if colour == "async":
        await llm.ainvoke("hi")
    else:
        await asyncio.get_running_loop().run_in_executor(threads, llm.invoke, "hi")


async def bursts(llm: ChatSegmindLlama, colour: str) -> list[SegmindError]:
    """Call in bursts, with about the server's patience between them."""
    lost: list[SegmindError] = []
    threads = ThreadPoolExecutor(CALLS)

    async def try_to_call() -> None:
        try:
            await call(llm, colour, threads)
        except SegmindError as error:
            lost.append(error)

    with threads:
        async with llm:
            for number in range(BURSTS):
                await asyncio.gather(*(try_to_call() for _ in range(CALLS)))
                await asyncio.sleep(KEEP_ALIVE * (0.9 + 0.2 * number / BURSTS))
    return lost


@pytest.mark.parametrize("colour", COLOURS)
def test_calls_in_bursts_outlive_the_connections_of_an_impatient_server(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with impatient_server(tmp_path) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        for _ in range(2):
            llm = ChatSegmindLlama(api_key=KEY, base_url=url, max_retries=0)
            if len(lost := asyncio.run(bursts(llm, colour))) <= 1:
                break  # A machine that stands still for a moment may close in between; once.
    assert len(lost) <= 1, lost[0]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("headers", "connections"),
    [
        ({}, 1),
        ({"keep-alive": "timeout=60, max=100"}, 1),
        ({"keep-alive": "timeout=1"}, 2),
        ({"connection": "close"}, 2),
    ],
)
async def test_what_a_server_says_of_its_patience_is_heeded(
    headers: dict[str, str], connections: int, colour: str
) -> None:
    with faults(http(headers=headers)) as server:
        async with model(server) as llm:
            await call(llm, colour)
            await asyncio.sleep(0.9)  # Less than the server's second, and too close to it.
            await call(llm, colour)
        assert server.connections == connections


@pytest.mark.parametrize("colour", COLOURS)
async def test_a_connection_is_kept_over_tls(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
    with faults(tls=tls) as server:
        async with model(server, base_url=server.url.replace("http:", "https:")) as llm:
            for _ in range(3):
                await call(llm, colour)
        assert server.connections == 1

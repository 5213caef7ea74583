"""Starting, stopping and watching a gateway."""

from __future__ import annotations

import gc
import socket
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from langchain_segmind import gateway as package
from langchain_segmind.gateway import (
    EngineUnavailableError,
    LlamaEngine,
    ScriptedEngine,
    Settings,
    serve,
)
from langchain_segmind.gateway.serving import listen, url_of

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/v1/llama-v3p1-70b-instruct"
BODY = {"messages": [{"role": "user", "content": "hi"}]}


def connect_until_refused(port: int) -> None:
    with suppress(OSError):
        while True:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()


class TestServe:
    def test_leaves_no_thread_and_no_listener(self) -> None:
        before = set(threading.enumerate())
        with serve() as gateway:
            [_its_own] = set(threading.enumerate()) - before

        assert set(threading.enumerate()) <= before
        with pytest.raises(httpx.ConnectError):
            httpx.get(gateway.url)

    def test_leaves_no_socket_open_where_clients_connect_while_it_stops(self) -> None:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ResourceWarning)
            for _ in range(30):
                with serve() as gateway:
                    port = int(gateway.url.rpartition(":")[2])
                    client = threading.Thread(target=connect_until_refused, args=(port,))
                    client.start()
                client.join()
            gc.collect()

        assert told == []

    def test_takes_another_engine_while_it_runs(self) -> None:
        with serve() as gateway:
            gateway.engine = ScriptedEngine(lambda _: "another")
            headers = {"x-api-key": gateway.api_key}
            answer = httpx.post(gateway.url + PATH, json=BODY, headers=headers).json()

        assert gateway.engine.name == "scripted"
        assert answer["choices"][0]["message"]["content"] == "another"

    def test_an_engine_that_cannot_start_is_reported(self, tmp_path: Path) -> None:
        pytest.importorskip("xllamacpp")
        junk = tmp_path / "junk.gguf"
        junk.write_bytes(b"junk")
        with pytest.raises(EngineUnavailableError, match="junk"), serve(engine=LlamaEngine(junk)):
            pass

    def test_can_come_back_on_its_port(self) -> None:
        """A client that holds a URL finds the gateway again after it was restarted."""
        with serve() as first:
            port = int(first.url.rpartition(":")[2])
        with serve(port=port) as second:
            assert second.url == first.url

    def test_survives_a_client_that_leaves_in_the_middle(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        head = b"POST /v1/llama-v3p1-70b-instruct HTTP/1.1\r\nhost: localhost\r\n"
        with serve() as gateway:
            port = int(gateway.url.rpartition(":")[2])
            key = f"x-api-key: {gateway.api_key}\r\ncontent-length: 9\r\n\r\n{{"
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(head + key.encode())
            headers = {"x-api-key": gateway.api_key}
            status = httpx.post(gateway.url + PATH, json=BODY, headers=headers).status_code

        assert status == 200
        assert caplog.records == []

    def test_a_client_that_leaves_is_billed_all_the_same(self) -> None:
        started, release = threading.Event(), threading.Event()

        def answer(_: object) -> str:
            started.set()
            release.wait(5)
            return "done"

        with serve(engine=ScriptedEngine(answer)) as gateway:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    gateway.url + PATH,
                    json=BODY,
                    headers={"x-api-key": gateway.api_key},
                    timeout=httpx.Timeout(5, read=0.02),
                )
            release.set()
            httpx.get(gateway.url)

        assert started.is_set()
        assert gateway.account.charge_count == 1

    def test_reports_requests_without_the_key(self, capfd: pytest.CaptureFixture[str]) -> None:
        with serve(Settings(verbose=True)) as gateway:
            httpx.post(gateway.url + PATH, json=BODY, headers={"x-api-key": gateway.api_key})
        report = capfd.readouterr().err

        assert report.startswith(f"POST {PATH} 200 ")
        assert gateway.api_key not in report


class TestPublicNames:
    def test_are_sorted_and_there(self) -> None:
        capitals = [name for name in package.__all__ if name.isupper()]
        others = [name for name in package.__all__ if not name.isupper()]

        assert [*capitals, *sorted(others)] == package.__all__
        assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize(
    ("host", "reached"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]")]
)
def test_the_url_can_be_used_on_this_machine(host: str, reached: str) -> None:
    with listen(host, 0) as listener:
        assert url_of(listener) == f"http://{reached}:{listener.getsockname()[1]}"

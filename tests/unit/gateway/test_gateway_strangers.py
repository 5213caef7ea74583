"""What the gateway does with bytes, names and web pages of strangers."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from langchain_segmind.gateway import (
    DEFAULT_API_KEY,
    Account,
    EngineError,
    Post,
    ScriptedEngine,
    Settings,
    account,
    serve,
    server,
)
from langchain_segmind.gateway.exchange import Request
from langchain_segmind.gateway.hosts import check_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_segmind.gateway import RunningGateway

PATH = "/v1/llama-v3p1-70b-instruct"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
KEY = {"x-api-key": DEFAULT_API_KEY}
JSON = {"content-type": "application/json"}
HEAD = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\n"
HEAD_WITH_KEY = f"{HEAD}x-api-key: {DEFAULT_API_KEY}\r\ncontent-type: application/json\r\n"


@contextmanager
def connected(gateway: RunningGateway) -> Iterator[socket.socket]:
    port = int(gateway.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def exchange(gateway: RunningGateway, sent: str | bytes) -> bytes:
    """Send bytes, and give all that comes until the gateway closes."""
    with connected(gateway) as connection:
        connection.sendall(sent.encode() if isinstance(sent, str) else sent)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionResetError:
        pass
    return answer


@contextmanager
def in_another_process(descriptors: int = 1024) -> Iterator[tuple[str, int]]:
    """Run the command; give its URL and the number of its process."""
    gateway = [sys.executable, "-m", "langchain_segmind.gateway", "--engine=echo", "--port=0"]
    command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *gateway]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().partition("BASE_URL=")[2].split()[0], process.pid
        finally:
            process.terminate()


def peak_memory(process: int) -> int:
    """Give the bytes that a process ever held at once."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("Linux says this of every process")


class TestBodies:
    def test_are_answered_before_they_are_sent_where_there_is_no_key(self) -> None:
        """The gateway waits for nothing of 64 MiB that never come."""
        with serve() as gateway, connected(gateway) as connection:
            connection.sendall(f"{HEAD}content-length: 67108864\r\n\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much memory is held")
    def test_of_strangers_are_not_kept(self) -> None:
        content = b"x" * 32 * server.MIB
        with in_another_process() as (url, process), ThreadPoolExecutor(8) as threads:
            before = peak_memory(process)
            posts = [threads.submit(httpx.post, url + PATH, content=content) for _ in range(8)]
            statuses = [post.result().status_code for post in posts]
            grown = peak_memory(process) - before

        assert statuses == [401] * 8
        assert grown < 16 * server.MIB

    def test_of_all_connections_are_bounded_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "MOST_BUFFERED", 1000)
        arrived, release = threading.Event(), threading.Event()
        body = {"messages": [{"role": "user", "content": "x" * 700}]}

        async def hold(_: object) -> str:
            arrived.set()
            await asyncio.to_thread(release.wait, 20)
            return "held"

        def post() -> httpx.Response:
            return httpx.post(gateway.url + PATH, json=body, headers=KEY)

        with serve(engine=ScriptedEngine(hold)) as gateway, ThreadPoolExecutor(1) as threads:
            first = threads.submit(post)
            arrived.wait(20)
            refused = post()
            release.set()
            assert first.result().status_code == 200
            again = post()

        assert refused.status_code == 503
        assert "too many large requests" in refused.json()["error"]
        assert again.status_code == 200

    def test_in_the_ledger_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(account, "LEDGER_BYTES", 1000)
        opened = Account(1.0, 0.0, 0.0, 0.0)
        for number in range(10):
            opened.record(Post(str(number), PATH, b"x" * 300, {}))

        assert [post.request_id for post in opened.posts] == ["7", "8", "9"]
        assert opened.post_count == 10

    def test_arrive_when_they_are_asked_for(self) -> None:
        """`Expect: 100-continue` is what curl sends before a large body."""
        raw = b'{"prompt": "hi"}'
        with serve() as gateway, connected(gateway) as connection:
            head = f"{HEAD_WITH_KEY}content-length: {len(raw)}\r\nexpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(65536) == b"HTTP/1.1 100 \r\n\r\n"
            connection.sendall(raw)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


class TestFraming:
    @pytest.mark.parametrize(
        "headers",
        [
            "content-length: 2\r\ncontent-length: 2\r\n",
            "content-length: 2\r\ncontent-length: 3\r\n",
            "content-length: 2, 2\r\n",
            "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
            "transfer-encoding: gzip\r\n",
            "content-length: -1\r\n",
            "content-length : 2\r\n",
            "no header\r\n",
        ],
    )
    def test_what_can_be_read_in_two_ways_is_refused(self, headers: str) -> None:
        with serve() as gateway:
            answer = exchange(gateway, f"{HEAD_WITH_KEY}{headers}\r\n{{}}")

        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
        assert answer.count(b"HTTP/1.1 ") == 1
        assert gateway.account.post_count == 0

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (HEAD + "x-a: " + "a" * 70_000 + "\r\n\r\n", b"431"),
            ("GET / HTTP/9\r\n\r\n", b"400"),
            (HEAD_WITH_KEY + "transfer-encoding: chunked\r\n\r\nxyz\r\n", b"400"),
            (f"HEAD {PATH} HTTP/1.1\r\nhost: localhost\r\n\r\n", b"405"),
        ],
    )
    def test_the_rest_is_answered_in_words(self, sent: str, status: bytes) -> None:
        with serve() as gateway:
            answer = exchange(gateway, sent)

        assert answer.startswith(b"HTTP/1.1 " + status)

    def test_chunks_and_a_second_request_on_the_connection_are_fine(self) -> None:
        raw = b'{"prompt": "hi"}'
        chunked = b"transfer-encoding: chunked\r\n\r\n8\r\n%b\r\n8\r\n%b\r\n0\r\n\r\n"
        first = HEAD_WITH_KEY.encode() + chunked % (raw[:8], raw[8:])
        last = f"{HEAD_WITH_KEY}connection: close\r\ncontent-length: {len(raw)}\r\n\r\n".encode()
        with serve() as gateway:
            answer = exchange(gateway, first + last + raw)

        assert answer.count(b"HTTP/1.1 200 ") == 2


class TestDeadlines:
    def test_slow_connections_are_closed_while_others_are_answered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some say nothing, some half a head, some half a body."""
        monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
        monkeypatch.setattr(server, "BODY_SECONDS", 0.3)
        halves = [b"", HEAD.encode(), f"{HEAD_WITH_KEY}content-length: 9\r\n\r\n{{".encode()]
        with serve() as gateway, ExitStack() as stack:
            slow = [stack.enter_context(connected(gateway)) for _ in range(150)]
            for number, connection in enumerate(slow):
                connection.sendall(halves[number % 3])
            status = httpx.post(gateway.url + PATH, json=BODY, headers=KEY).status_code
            answers = [read_all(connection) for connection in slow]

        assert status == 200
        assert answers[0] == answers[1] == b""
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers[2::3])

    def test_a_connection_too_many_closes_the_oldest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "MOST_UNAUTHENTICATED", 3)
        monkeypatch.setattr(server, "MIN_AGE_SECONDS", 0)
        with serve() as gateway, ExitStack() as stack:
            with httpx.Client(base_url=gateway.url, headers=KEY) as known:
                assert known.post(PATH, json=BODY).status_code == 200
                many = [stack.enter_context(connected(gateway)) for _ in range(5)]
                closed = [read_all(connection) for connection in many[:2]]
                again = known.post(PATH, json=BODY)
            many[4].sendall(b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n")
            last = read_all(many[4])

        assert closed == [b"", b""]
        assert again.status_code == 200
        assert last.startswith(b"HTTP/1.1 404 ")

    def test_a_burst_of_clients_closes_none_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They have come together, and will say who they are in a moment."""
        monkeypatch.setattr(server, "MOST_UNAUTHENTICATED", 3)
        get = (
            f"GET /v1/get-user-credits HTTP/1.1\r\nhost: localhost\r\nx-api-key: {DEFAULT_API_KEY}"
        )
        with serve() as gateway, ExitStack() as stack:
            burst = [stack.enter_context(connected(gateway)) for _ in range(20)]
            for connection in burst:
                connection.sendall(f"{get}\r\nconnection: close\r\n\r\n".encode())
            answers = [read_all(connection) for connection in burst]

        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)

    @pytest.mark.skipif(sys.platform != "linux", reason="a limit of file descriptors is set")
    def test_where_no_descriptor_is_left_the_oldest_make_room(self) -> None:
        with in_another_process(descriptors=64) as (url, _), ExitStack() as stack:
            address = ("127.0.0.1", int(url.rpartition(":")[2]))
            for _ in range(100):
                stack.enter_context(socket.create_connection(address))
            answer = httpx.get(f"{url}/v1/get-user-credits", headers=KEY, timeout=8)

        assert answer.status_code == 200

    def test_a_client_that_has_the_key_may_rest_for_so_long(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "IDLE_SECONDS", 0.05)
        with serve() as gateway:
            answer = exchange(gateway, f"{HEAD_WITH_KEY}content-length: 2\r\n\r\n{{}}")

        assert b"connection: close" not in answer
        assert answer.startswith(b"HTTP/1.1 400 ")

    def test_who_does_not_take_an_answer_does_not_get_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No more than what the sockets hold, where there is no time at all."""
        monkeypatch.setattr(server, "SEND_SECONDS", 0)
        raw = b'{"prompt": "hi"}'
        with serve(engine=ScriptedEngine(lambda _: "x" * 64 * server.MIB)) as gateway:
            head = f"{HEAD_WITH_KEY}content-length: {len(raw)}\r\n\r\n"
            answer = exchange(gateway, head.encode() + raw)

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(answer) < 64 * server.MIB


class TestHosts:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 200),
            ({"host": "localhost"}, 200),
            ({"host": "LOCALHOST.:1"}, 200),
            ({"host": "127.1.2.3:80"}, 200),
            ({"host": "[::1]:80"}, 200),
            ({"host": "gateway:8765"}, 200),
            ({"host": "gateway.example"}, 403),
            ({"host": "localhost.example"}, 403),
            ({"host": "192.168.1.5"}, 403),
            ({"host": "[::1"}, 403),
            ({"host": ""}, 403),
            ({"host": "localhost:1", "origin": "http://localhost:1"}, 200),
            ({"host": "localhost:1", "origin": "http://localhost:2"}, 403),
            ({"origin": "https://page.example"}, 403),
            ({"origin": "null"}, 403),
            ({"origin": "http://[::1"}, 403),
        ],
    )
    def test_a_page_from_elsewhere_and_a_name_that_lies_are_refused(
        self, headers: dict[str, str], status: int
    ) -> None:
        with serve(Settings(allow_hosts=frozenset({"gateway"}))) as gateway:
            answer = httpx.post(gateway.url + PATH, json=BODY, headers={**KEY, **headers})

        assert answer.status_code == status
        assert gateway.account.charge_count == (status == 200)
        if status == 403:
            assert "does not answer" in answer.json()["error"]

    @pytest.mark.parametrize(
        ("bound", "host"),
        [("0.0.0.0", "192.168.1.5:1"), ("::", "[fd00::1]:1"), ("box.lan", "box.lan:1")],
    )
    def test_the_address_it_listens_on_is_its_own(self, bound: str, host: str) -> None:
        async def read() -> bytes:
            return b""

        request = Request("GET", "/", {"host": host}, "192.168.1.9", read)
        check_host(request, Settings(host=bound))


class TestTerminal:
    def test_gets_no_control_characters(
        self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither those of a URL nor those that an engine passes on."""

        def fail(body: dict[str, Any]) -> str:
            raise RuntimeError(body["messages"][0]["content"])

        said = {"messages": [{"role": "user", "content": "\x1b[2Jgone\x07"}]}
        with serve(Settings(verbose=True), ScriptedEngine(fail)) as gateway:
            httpx.post(f"{gateway.url}/v1/%1b%5b2J%0ax", json=BODY, headers=KEY)
            httpx.post(gateway.url + PATH, json=said, headers=KEY)
        report = capfd.readouterr().err

        assert report.startswith("POST /v1/%1b%5b2J%0ax 404 ")
        assert "\x1b" not in report + caplog.text
        assert "\\x1b[2Jgone\\x07" in caplog.text

    def test_an_error_of_an_engine_goes_to_its_caller_alone(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def refuse(_: dict[str, Any]) -> str:
            raise EngineError(400, "\x1b[2J")

        with serve(Settings(verbose=True), ScriptedEngine(refuse)) as gateway:
            answer = httpx.post(gateway.url + PATH, json=BODY, headers=KEY)

        assert answer.json() == {"error": "\x1b[2J"}
        assert "\x1b" not in capfd.readouterr().err

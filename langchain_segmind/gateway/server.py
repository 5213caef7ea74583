"""HTTP/1.1 on asyncio, with h11 as its parser: for strangers' bytes there is no room.

A test wants connections that close in the middle of an answer, and a gateway that stops at once;
no server framework has a public way to do either.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
from email.utils import formatdate
from typing import TYPE_CHECKING

import h11

from langchain_segmind.gateway.errors import SERVER_ERROR, ApiError
from langchain_segmind.gateway.exchange import Request, Response, log_failure

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

HEAD_SECONDS = 10.0
"""For the first head of a connection to arrive."""
BODY_SECONDS = 30.0
"""For a body to arrive."""
SEND_SECONDS = 30.0
"""For an answer to be taken."""
IDLE_SECONDS = 60.0
"""For a client that has the key to send the head of another request."""
LINGER_SECONDS = 2.0
"""For what a refused client still sends, which is thrown away."""
GRACE_SECONDS = 1.0
"""For answers that are under way when the server is stopped."""
MIN_AGE_SECONDS = 1.0
"""For which a connection is not closed to make room for another."""
PAUSE_SECONDS = 0.02
"""Until the next connection is accepted where there was no file descriptor for one."""

MIB = 1024 * 1024
LONGEST_HEAD = 64 * 1024
LONGEST_BODY = 64 * MIB
"""Bytes of a request, of which only images make so many."""
MOST_BUFFERED = 256 * MIB
"""Bytes of bodies, of all requests that are being answered together."""
MOST_UNAUTHENTICATED = 4096
"""Connections that have not shown a key yet; one more closes the oldest."""
CLOSED_TOGETHER = 64
"""How many of the oldest are closed where no file descriptor is left for another."""
BLOCK = 64 * 1024
HEAD_END = b"\r\n\r\n"
TLS_HANDSHAKE = b"\x16"
"""The first byte of a client that takes us for https (RFC 8446, section 5.1)."""


class Server:
    """Accepts connections and answers their requests until it is stopped."""

    def __init__(
        self, answer: Callable[[Request], Awaitable[Response]], listener: socket.socket
    ) -> None:
        self.answer = answer
        self.is_stopping = False
        self.unauthenticated: dict[Connection, float] = {}
        self.buffered = 0
        self._listener = listener
        self._connections: set[Connection] = set()

    def start(self) -> None:
        """Accept connections, on the running event loop.

        One at a turn: so each is read before the next comes, and none is lost when we stop.
        """
        self._listener.settimeout(0)
        self._watch()

    def _watch(self) -> None:
        if not self.is_stopping:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def stop(self, interrupt: Callable[[], Awaitable[None]]) -> None:
        """Accept no more, `interrupt` what is under way, and close what does not end soon."""
        self.is_stopping = True
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for connection in self._connections:
            if connection.is_idle:
                connection.task.cancel()
        await interrupt()
        if tasks := [connection.task for connection in self._connections]:
            _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            accepted, address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            # No file descriptor is left: there will be some in a moment.
            self._close_oldest(CLOSED_TOGETHER)
            loop.remove_reader(self._listener)
            loop.call_later(PAUSE_SECONDS, self._watch)
            return
        if len(self.unauthenticated) >= MOST_UNAUTHENTICATED:
            self._close_oldest(1)
        connection = Connection(self, accepted, address[0])
        self.unauthenticated[connection] = loop.time()
        self._connections.add(connection)
        connection.task.add_done_callback(lambda _: self._forget(connection))

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.unauthenticated.pop(connection, None)

    def _close_oldest(self, count: int) -> None:
        """Make room, but not by closing a client that has only just come."""
        latest = asyncio.get_running_loop().time() - MIN_AGE_SECONDS
        for connection, since in list(self.unauthenticated.items())[:count]:
            if since < latest:
                connection.task.cancel()
                del self.unauthenticated[connection]


class Connection:
    """One connection, and the request on it."""

    def __init__(self, server: Server, accepted: socket.socket, client: str) -> None:
        self.is_idle = False
        """Whether nothing is lost where `task` is cancelled."""
        self.task = asyncio.create_task(self._run(accepted))
        self._server = server
        self._client = client
        self._http = h11.Connection(h11.SERVER)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._unparsed = bytearray()
        """What has arrived and belongs to no request yet."""
        self._buffered = 0

    async def _run(self, accepted: socket.socket) -> None:
        """Answer one request after the other, while the client keeps to the deadlines."""
        self._reader, self._writer = await asyncio.open_connection(sock=accepted, limit=BLOCK)
        # So that what was sent has left when `drain` returns.
        self._writer.transport.set_write_buffer_limits(0)
        try:
            while not self._server.is_stopping and await self._exchange():
                pass
        except (OSError, EOFError):
            self._writer.transport.abort()
        finally:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _exchange(self) -> bool:
        """Answer a request, and say whether another may follow."""
        head = await self._read_head()
        request = None
        try:
            request = self._parse(head)
            response = await self._server.answer(request)
        except ApiError as error:
            response = error.response()
        except Exception:
            log_failure("An answer failed")
            response = ApiError(500, SERVER_ERROR).response()
        finally:
            self._server.buffered -= self._buffered
            self._buffered = 0
        return await self._send(response, request)

    async def _read_head(self) -> bytes:
        """Give a head, or what came instead."""
        is_new = self in self._server.unauthenticated
        self.is_idle = True
        async with asyncio.timeout(HEAD_SECONDS if is_new else IDLE_SECONDS):
            while (end := self._unparsed.find(HEAD_END)) < 0:
                # Who takes us for https waits for an answer: what is sent has no such end.
                if len(self._unparsed) > LONGEST_HEAD or self._unparsed.startswith(TLS_HANDSHAKE):
                    break
                data = await self._reader.read(BLOCK)
                if not data:
                    raise EOFError
                self._unparsed += data
        self.is_idle = False
        head = bytes(self._unparsed if end < 0 else self._unparsed[: end + len(HEAD_END)])
        del self._unparsed[: len(head)]
        return head

    def _parse(self, head: bytes) -> Request:
        if len(head) > LONGEST_HEAD:
            raise ApiError(431, "The head of the request is too long")
        self._http.receive_data(head)
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise ApiError(error.error_status_hint, f"This is no HTTP request: {error}") from error
        # h11 takes what can be read in two ways; a proxy in front may have read the other one.
        lengths = re.findall(rb"(?im)^content-length:(.*)", head)
        if len(lengths) > 1 or b"," in b"".join(lengths):
            raise ApiError(400, "The request has two Content-Length headers")
        if lengths and re.search(rb"(?im)^transfer-encoding:", head):
            raise ApiError(400, "The request has both Content-Length and Transfer-Encoding")
        if not isinstance(event, h11.Request):
            raise ApiError(400, "This is no HTTP request")
        headers: dict[str, str] = {}
        for name, value in event.headers:
            key, text = name.decode("ascii"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        if not {"content-length", "transfer-encoding"} & headers.keys():
            self._http.next_event()  # The end of the message.
        method, target = event.method.decode("ascii"), event.target.decode("ascii")
        return Request(method, target, headers, self._client, self._read_body)

    async def _read_body(self) -> bytes:
        """Read the body, of a client that has shown the key."""
        self._server.unauthenticated.pop(self, None)
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._write(self._http.send(go_on))
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while (part := await self._read_part()) is not None:
                    self._hold(len(part))
                    parts.append(part)
        except TimeoutError as error:
            raise ApiError(408, "The request body did not arrive in time") from error
        except h11.RemoteProtocolError as error:
            raise ApiError(400, f"The request body is no HTTP: {error}") from error
        return b"".join(parts)

    async def _read_part(self) -> bytes | None:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(self._unparsed) or await self._reader.read(BLOCK))
            self._unparsed.clear()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    def _hold(self, size: int) -> None:
        self._buffered += size
        self._server.buffered += size
        if self._buffered > LONGEST_BODY:
            raise ApiError(413, "The request body is too large")
        if self._server.buffered > MOST_BUFFERED:
            raise ApiError(503, "The gateway has too many large requests at once")

    async def _send(self, response: Response, request: Request | None) -> bool:
        """Send an answer, or what is to arrive of it, and say whether the connection stays."""
        if response.sent == "nothing":
            self._writer.transport.abort()
            return False
        is_authenticated = request is not None and request.is_authenticated
        if is_authenticated:
            self._server.unauthenticated.pop(self, None)
        is_whole = self._http.their_state in {h11.DONE, h11.MUST_CLOSE}
        # A stranger's connection makes room for another's.
        stays = is_whole and is_authenticated and not self._server.is_stopping
        head = self._http.send(self._head(response, stays=stays))
        body = b"" if request is not None and request.method == "HEAD" else response.body
        if response.sent == "half":
            await self._write(head, self._http.send(h11.Data(data=body[: len(body) // 2])))
            self._writer.transport.abort()
            return False
        data = self._http.send(h11.Data(data=body))
        await self._write(head, data, self._http.send(h11.EndOfMessage()))
        if self._http.our_state is self._http.their_state is h11.DONE:
            self._unparsed += self._http.trailing_data[0]
            self._http = h11.Connection(h11.SERVER)
            return True
        if not is_whole:
            await self._linger()
        return False

    def _head(self, response: Response, *, stays: bool) -> h11.Response:
        headers = {
            "date": formatdate(usegmt=True),
            "content-length": str(len(response.body)),
            **({} if stays else {"connection": "close"}),
            **response.headers,
        }
        reason = http.client.responses.get(response.status, "")
        return h11.Response(
            status_code=response.status, headers=list(headers.items()), reason=reason
        )

    async def _write(self, *parts: bytes | None) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            self._writer.write(b"".join(filter(None, parts)))
            await self._writer.drain()

    async def _linger(self) -> None:
        """Throw away what still comes: a reset would take the answer from who has not read it."""
        self.is_idle = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                self._writer.write_eof()
                while await self._reader.read(BLOCK):
                    pass

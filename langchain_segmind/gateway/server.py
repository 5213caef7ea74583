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
"""For a head to arrive, from the connection or from its first byte."""
BODY_SECONDS = 30.0
"""For a body to arrive."""
SEND_SECONDS = 30.0
"""For an answer to be taken."""
IDLE_SECONDS = 60.0
"""For a client that has the key to send another request."""
LINGER_SECONDS = 2.0
"""For what a refused client still sends, which is thrown away."""
GRACE_SECONDS = 1.0
"""For answers that are under way when the server is stopped."""
PATIENCE_SECONDS = 1.0
"""For which a connection is not closed to make room for another."""
PAUSE_SECONDS = 0.02
"""Until the next connection is accepted where there was no file descriptor for one."""

MIB = 1024 * 1024
LONGEST_HEAD = 64 * 1024
LONGEST_BODY = 64 * MIB
"""Bytes of a request, of which only images make so many."""
MOST_BUFFERED = 256 * MIB
"""Bytes of bodies, of all requests that are being answered together."""
MOST_NEWCOMERS = 4096
"""Connections that have not shown a key yet; one more closes the oldest."""
ROOM = 64
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
        """Serve what `answer` says on a socket that listens."""
        self.answer = answer
        self.is_stopping = False
        self.newcomers: dict[Connection, float] = {}
        self.buffered = 0
        self._listener = listener
        self._tasks: dict[asyncio.Task[None], Connection] = {}

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
        for task, connection in self._tasks.items():
            if not connection.is_busy:
                task.cancel()
        await interrupt()
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _accept(self) -> None:
        try:
            accepted, address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            # No file descriptor is left: there will be some in a moment.
            self._close_oldest(ROOM)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            loop.call_later(PAUSE_SECONDS, self._watch)
            return
        accepted.settimeout(0)
        if len(self.newcomers) >= MOST_NEWCOMERS:
            self._close_oldest(1)
        connection = Connection(self, accepted, address[0])
        self.newcomers[connection] = asyncio.get_running_loop().time()
        task = asyncio.create_task(connection.run())
        self._tasks[task] = connection
        task.add_done_callback(self._tasks.pop)

    def _close_oldest(self, count: int) -> None:
        """Make room, but not by closing a client that has only just come."""
        latest = asyncio.get_running_loop().time() - PATIENCE_SECONDS
        for connection, since in list(self.newcomers.items())[:count]:
            if since < latest:
                connection.abort()
                del self.newcomers[connection]


class Connection:
    """One connection, and the request on it."""

    def __init__(self, server: Server, accepted: socket.socket, client: str) -> None:
        """Own an accepted socket."""
        self.is_busy = True  # A socket that is cancelled while it is opened would stay open.
        self._server = server
        self._socket = accepted
        self._client = client
        self._http = h11.Connection(h11.SERVER)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._left = bytearray()
        """What has arrived and belongs to no request yet."""
        self._request: Request | None = None
        self._buffered = 0

    def abort(self) -> None:
        """Close the connection without another byte."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def run(self) -> None:
        """Answer one request after the other, while the client keeps to the deadlines."""
        try:
            self._reader, self._writer = await asyncio.open_connection(
                sock=self._socket, limit=BLOCK
            )
            # So that what was sent has left when `drain` returns.
            self._writer.transport.set_write_buffer_limits(0)
            self.is_busy, idle = False, None
            while not self._server.is_stopping and await self._exchange(
                await self._read_head(idle)
            ):
                self.is_busy, idle = False, IDLE_SECONDS
        except (OSError, EOFError, TimeoutError):
            self.abort()
        finally:
            self._server.newcomers.pop(self, None)
            await self._close()

    async def _close(self) -> None:
        if self._writer is None:
            self._socket.close()
            return
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read_head(self, idle: float | None) -> bytes:
        """Give a head, or nothing where it is too long; it may begin after `idle` seconds."""
        if idle is not None and not self._left:
            async with asyncio.timeout(idle):
                self._left += await self._receive()
        seen = 0
        async with asyncio.timeout(HEAD_SECONDS):
            while (end := self._left.find(HEAD_END, seen)) < 0:
                if len(self._left) > LONGEST_HEAD:
                    return b""
                if self._left[:1] == TLS_HANDSHAKE:  # It waits for our answer: it has no end.
                    return bytes(self._left)
                seen = max(len(self._left) - len(HEAD_END), 0)
                self._left += await self._receive()
        end += len(HEAD_END)
        if end > LONGEST_HEAD:
            return b""
        head = bytes(self._left[:end])
        del self._left[:end]
        return head

    async def _receive(self) -> bytes:
        data = await self._reader.read(BLOCK)
        if not data:
            raise EOFError
        return data

    async def _exchange(self, head: bytes) -> bool:
        """Answer a request, and say whether another may follow."""
        self.is_busy = True
        self._request = None
        try:
            self._request = self._parse(head)
            response = await self._server.answer(self._request)
        except ApiError as error:
            response = error.response()
        except Exception:
            log_failure("An answer failed")
            response = ApiError(500, SERVER_ERROR).response()
        finally:
            self._server.buffered -= self._buffered
            self._buffered = 0
        if self._request is not None and self._request.is_known:
            self._server.newcomers.pop(self, None)
        return await self._send(response)

    def _parse(self, head: bytes) -> Request:
        if not head:
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
        if self._http.they_are_waiting_for_100_continue:
            await self._write(
                self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
            )
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
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(bytes(self._left) or await self._reader.read(BLOCK))
                self._left.clear()
            elif isinstance(event, h11.Data):
                return bytes(event.data)
            else:
                return None

    def _hold(self, size: int) -> None:
        self._buffered += size
        self._server.buffered += size
        if self._buffered > LONGEST_BODY:
            raise ApiError(413, "The request body is too large")
        if self._server.buffered > MOST_BUFFERED:
            raise ApiError(503, "The gateway has too many large requests at once")

    async def _send(self, response: Response) -> bool:
        if response.sent == "nothing":
            self.abort()
            return False
        is_whole = self._http.their_state in {h11.DONE, h11.MUST_CLOSE}
        request = self._request
        # A stranger's connection makes room for another's.
        stay = is_whole and request is not None and request.is_known
        await self._write(self._head(response, stay=stay and not self._server.is_stopping))
        body = b"" if request is not None and request.method == "HEAD" else response.body
        if response.sent == "half":
            await self._write(self._http.send(h11.Data(data=body[: len(body) // 2])))
            self.abort()
            return False
        end = self._http.send(h11.Data(data=body)), self._http.send(h11.EndOfMessage())
        await self._write(b"".join(part or b"" for part in end))
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._left += self._http.trailing_data[0]
            self._http = h11.Connection(h11.SERVER)
            return True
        if not is_whole:
            await self._linger()
        return False

    def _head(self, response: Response, *, stay: bool) -> bytes | None:
        headers = {
            "date": formatdate(usegmt=True),
            "content-length": str(len(response.body)),
            **({} if stay else {"connection": "close"}),
            **response.headers,
        }
        event = h11.Response(
            status_code=response.status,
            headers=list(headers.items()),
            reason=http.client.responses.get(response.status, ""),
        )
        return self._http.send(event)

    async def _write(self, data: bytes | None) -> None:
        if self._writer is not None and data:
            async with asyncio.timeout(SEND_SECONDS):
                self._writer.write(data)
                await self._writer.drain()

    async def _linger(self) -> None:
        """Throw away what still comes: a reset would take the answer from who has not read it."""
        self.is_busy = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                if self._writer is not None:
                    self._writer.write_eof()
                while await self._reader.read(BLOCK):
                    pass

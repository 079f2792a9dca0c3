"""The floor program: what asyncio and hiredis allow at best, the yardstick of the benchmarks.

A bare protocol, a parser and a queue of futures. It has no deadlines, no errors, no reconnection and
no flow control, so nobody can use it; a client that does all of that is measured by how close it comes.

Rules of this file:

1. Written at once when nothing is in flight, else one joined write per loop turn: the batching that
   any multiplexing client can do.
2. It speaks RESP3, as aioredis_kit does, so that both parse the same bytes.
3. Nothing is added that the server doesn't need: a slower floor flatters everyone measured against it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from hiredis import Reader, pack_command

if TYPE_CHECKING:
    import ssl

_NOTHING_YET = object()


class FloorClient(asyncio.Protocol):
    """Commands as coroutine methods on one connection; replies as hiredis delivers them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(notEnoughData=_NOTHING_YET)
        self._in_flight: deque[asyncio.Future[Any]] = deque()
        self._unwritten: list[bytes] = []

    @classmethod
    async def connect(cls, host: str, port: int, tls: ssl.SSLContext | None = None) -> FloorClient:
        """Return a client that is connected and speaks RESP3."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, host, port, ssl=tls)
        await client._issue("HELLO", "3")
        return client

    async def get(self, name: str) -> Any:
        return await self._issue("GET", name)

    async def set(self, name: str, value: bytes) -> Any:
        return await self._issue("SET", name, value)

    async def hgetall(self, name: str) -> Any:
        return await self._issue("HGETALL", name)

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        next_reply, next_future = self._reader.gets, self._in_flight.popleft
        while (reply := next_reply()) is not _NOTHING_YET:
            next_future().set_result(reply)

    def _issue(self, *command: str | bytes) -> asyncio.Future[Any]:
        packed = pack_command(command)  # type: ignore[arg-type]  # hiredis's stub knows one argument
        if not self._in_flight:
            self._transport.write(packed)
        else:
            if not self._unwritten:
                self._loop.call_soon(self._flush)
            self._unwritten.append(packed)
        future = self._loop.create_future()
        self._in_flight.append(future)
        return future

    def _flush(self) -> None:
        self._transport.write(b"".join(self._unwritten))
        self._unwritten.clear()

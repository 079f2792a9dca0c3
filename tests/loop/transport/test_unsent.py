"""What was not got through when a connection is lost is not tried again by the kernel, behind everybody's back."""

from __future__ import annotations

import asyncio
import socket

import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import HealthCheckError

VALUE = b"x" * 2**18


class Stalling:
    """A server that answers PING alone, and stops reading when told.

    Attributes:
        url: To connect to.
    """

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._loop = asyncio.get_running_loop()

    async def accept(self):
        """Take a connection, and answer its handshake."""
        self._connection, _ = await self._loop.sock_accept(self._listener)
        while b"PING" not in await self._loop.sock_recv(self._connection, 2**16):
            pass
        await self._loop.sock_sendall(self._connection, b"+PONG\r\n")

    async def read_to_end(self):
        """Read what comes until nothing does: ``b""``, or the error."""
        while chunk := await self._loop.sock_recv(self._connection, 2**16):
            del chunk

    def close(self):
        self._connection.close()
        self._listener.close()


@pytest.fixture
async def stalling():
    server = Stalling()
    yield server
    server.close()


def client_of(server):
    options = {"protocol": 2, "disable_client_info": True, "reconnect_strategy": False}
    return create_client(server.url, ping_interval=0.05, ping_timeout=0.05, **options)


@pytest.mark.pins("P3", "P4")
async def test_a_lost_connection_with_commands_in_flight_is_reset(stalling):
    """Else a write of unknown outcome could be executed after later ones, when the network mends."""
    client = client_of(stalling)
    await asyncio.gather(client.connect(), stalling.accept())
    with pytest.raises(HealthCheckError) as caught:
        await client.set("k", VALUE)
    assert caught.value.maybe_executed
    with pytest.raises(ConnectionResetError):
        await stalling.read_to_end()
    client.destroy()


async def test_one_without_ends_as_usual(stalling):
    client = client_of(stalling)
    await asyncio.gather(client.connect(), stalling.accept())
    client.destroy()
    await stalling.read_to_end()

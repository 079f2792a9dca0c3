"""Each fault of `FaultProxy`, on plain sockets in front of a real server."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager, suppress

import anyio.to_thread
import pytest

from aioredis_kit.testing import FaultProxy, RedisServer
from aioredis_kit.testing.flows import BUFFER_LIMIT
from aioredis_kit.testing.resp import bulk, command

PONG = b"+PONG\r\n"


@pytest.fixture(scope="module")
def server():
    """A server of this module's own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def proxy(server):
    """A proxy without faults."""
    async with FaultProxy(server.host, server.port) as proxy:
        yield proxy


class Client:
    """A client of a plain socket, which reads every byte as it comes."""

    def __init__(self, sock):
        self.sock = sock
        self.reads = []

    async def send(self, data):
        """Send bytes."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self):
        """Read once; empty at the end, `ConnectionResetError` after RST."""
        async with asyncio.timeout(5):
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20)
        self.reads.append(data)
        return data

    async def read_exactly(self, count):
        """Read *count* more bytes."""
        reads = []
        while sum(map(len, reads)) < count:
            reads.append(await self.read())
            assert reads[-1], "the connection ended"
        assert sum(map(len, reads)) == count
        return b"".join(reads)

    async def ask(self, *words, expect):
        """Send a command and read the reply that is expected."""
        await self.send(command(*words))
        assert await self.read_exactly(len(expect)) == expect

    async def read_to_end(self):
        """Read until FIN, and return all bytes that came."""
        reads = [await self.read()]
        while reads[-1]:
            reads.append(await self.read())
        return b"".join(reads)

    async def hears_nothing(self, seconds=0.05):
        """Fail if anything comes within a moment."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_recv(self.sock, 1)


@asynccontextmanager
async def connected(proxy):
    """Connect a client to a proxy (or a server)."""
    with socket.socket() as sock:
        sock.settimeout(0)
        await asyncio.get_running_loop().sock_connect(sock, (proxy.host, proxy.port))
        yield Client(sock)


async def eventually(condition):
    """Wait until *condition* holds, or fail."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_transparent(proxy):
    """Without a fault commands, replies and FIN pass; the statistics tell how many."""
    async with connected(proxy) as client:
        await client.ask("SET", "k", b"\x00" * 100_000, expect=b"+OK\r\n")
        await client.ask("GET", "k", expect=bulk(b"\x00" * 100_000))
        statistics = proxy.statistics()
        assert statistics.connections_seen == statistics.connections_open == 1
        assert statistics.bytes_to_server > 100_000
        assert statistics.bytes_to_client == sum(map(len, client.reads))
        client.sock.shutdown(socket.SHUT_WR)
        assert await client.read_to_end() == b""
    await eventually(lambda: proxy.statistics().connections_open == 0)


async def test_order_under_load(proxy):
    """Bytes keep their order through both directions, whatever their number."""
    count = 20_000
    tokens = [f"token-{number:08}" for number in range(count)]
    wire = b"".join(command("ECHO", token) for token in tokens)
    expected = b"".join(bulk(token) for token in tokens)
    async with connected(proxy) as client, asyncio.TaskGroup() as group:
        group.create_task(client.send(wire))
        assert await client.read_exactly(len(expected)) == expected


async def test_upstream_is_down(server):
    """Where nobody listens upstream, the accepted connection is reset."""
    with RedisServer() as other:
        port = other.port
    async with FaultProxy(server.host, port) as proxy, connected(proxy) as client:
        with pytest.raises(ConnectionResetError):
            await client.read()
        await eventually(lambda: proxy.statistics().connections_open == 0)


async def test_server_is_killed():
    """The end of the server reaches the client; after its restart the proxy serves again."""
    server = RedisServer()
    await anyio.to_thread.run_sync(server.start)
    try:
        async with FaultProxy(server.host, server.port) as proxy:
            async with connected(proxy) as client:
                await client.ask("PING", expect=PONG)
                server.kill()
                with suppress(ConnectionResetError):
                    assert await client.read_to_end() == b""
            await anyio.to_thread.run_sync(server.start)
            async with connected(proxy) as client:
                await client.ask("PING", expect=PONG)
    finally:
        await anyio.to_thread.run_sync(server.stop)


async def test_client_resets(proxy, server):
    """A client's RST reaches the server."""
    async with connected(proxy) as client, connected(server) as observer:
        await client.ask("CLIENT", "SETNAME", "resetting", expect=b"+OK\r\n")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.sock.close()
        async with asyncio.timeout(5):
            while True:
                await observer.send(command("CLIENT", "LIST"))
                if b"resetting" not in await observer.read():
                    break


async def test_refuse(proxy):
    """Refused connections get no connection at all; open ones go on; the port stays the same."""
    port = proxy.port
    async with connected(proxy) as old:
        await old.ask("PING", expect=PONG)
        for _ in range(3):
            proxy.refuse()
            proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                async with connected(proxy):
                    pass
            await old.ask("PING", expect=PONG)
            proxy.accept()
            proxy.accept()
            assert proxy.port == port
            async with connected(proxy) as new:
                await new.ask("PING", expect=PONG)


@pytest.mark.parametrize("reset", [True, False])
async def test_cut(proxy, reset):
    """All open connections end, as told by RST or FIN; new ones are served."""
    async with connected(proxy) as first, connected(proxy) as second:
        await first.ask("PING", expect=PONG)
        proxy.cut(reset=reset)
        assert proxy.statistics().connections_open == 0
        for client in (first, second):
            if reset:
                with pytest.raises(ConnectionResetError):
                    await client.read()
            else:
                assert await client.read() == b""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)


async def test_cut_with_fin_while_the_client_sends(proxy):
    """FIN stays FIN: bytes that are still on their way don't turn it into RST."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        await client.send(command("PING"))
        proxy.cut()
        await client.send(command("PING"))
        assert await client.read() == b""
        await client.send(command("PING"))
        assert await client.read() == b""


async def test_half_close_to_client(proxy, server):
    """The client reads the end, and the server still gets what it sends."""
    async with connected(proxy) as client, connected(server) as observer:
        await observer.ask("DEL", "half", "count", expect=b":0\r\n")
        await client.ask("PING", expect=PONG)
        proxy.half_close("to_client")
        assert await client.read() == b""
        await client.send(command("RPUSH", "half", "x"))
        await observer.ask("BLPOP", "half", "5", expect=b"*2\r\n$4\r\nhalf\r\n$1\r\nx\r\n")


async def test_half_close_to_server(proxy):
    """The server reads the end, and closes, which reaches the client."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.half_close("to_server")
        assert await client.read_to_end() == b""
    await eventually(lambda: proxy.statistics().connections_open == 0)


async def test_stall_to_server(proxy, server):
    """What the client sends doesn't reach the server until resumed, and then all of it does."""
    async with connected(proxy) as client, connected(server) as observer:
        await observer.send(command("DEL", "stalled"))
        await observer.read()
        await client.ask("PING", expect=PONG)
        proxy.stall("to_server")
        await client.send(command("INCR", "stalled"))
        await client.send(command("INCR", "stalled"))
        await client.hears_nothing()
        await observer.ask("GET", "stalled", expect=b"$-1\r\n")
        proxy.resume("to_server")
        assert await client.read_exactly(8) == b":1\r\n:2\r\n"


async def test_stall_to_client(proxy, server):
    """The server runs what it is sent; its reply waits."""
    async with connected(proxy) as client, connected(server) as observer:
        await client.ask("PING", expect=PONG)
        proxy.stall("to_client")
        await client.send(command("RPUSH", "reply", "x"))
        await observer.ask("BLPOP", "reply", "5", expect=b"*2\r\n$5\r\nreply\r\n$1\r\nx\r\n")
        await client.hears_nothing()
        proxy.resume()
        assert await client.read_exactly(4) == b":1\r\n"


async def test_stalled_from_the_start(proxy):
    """Connections are accepted and never answered, until resumed."""
    async with connected(proxy) as old:
        await old.ask("PING", expect=PONG)
        proxy.stall(scope="future")
        async with connected(proxy) as new:
            await new.send(command("PING"))
            await new.hears_nothing()
            await old.ask("PING", expect=PONG)
            proxy.resume()
            assert await new.read_exactly(len(PONG)) == PONG


async def test_stall_hides_the_end(proxy):
    """A stalled client sees neither FIN nor RST of the server before it is resumed."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.stall("to_client")
        await client.send(command("ECHO", "last words") + command("QUIT"))
        await client.hears_nothing()
        proxy.resume()
        assert await client.read_to_end() == bulk("last words") + b"+OK\r\n"


async def test_stall_is_bounded(proxy):
    """A stalled proxy stops reading: the sender's writes pile up at the sender."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.stall()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        sent = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while sent < 32 * 1024 * 1024:
                    await client.send(b"x" * 64 * 1024)
                    sent += 64 * 1024
        flow = proxy._connections[0].flows["to_server"]
        assert BUFFER_LIMIT < flow._size <= 2 * BUFFER_LIMIT
        assert sent < 32 * 1024 * 1024


async def test_backpressure(proxy, server):
    """A client that doesn't read makes the proxy stop reading from the server."""
    async with connected(server) as observer:
        await observer.ask("SET", "large", b"x" * 1_000_000, expect=b"+OK\r\n")
    async with connected(proxy) as client:
        await client.send(command("GET", "large") * 40)
        await eventually(lambda: proxy.statistics().connections_seen)
        flow = proxy._connections[0].flows["to_client"]
        await eventually(lambda: flow._size > BUFFER_LIMIT)
        assert flow._size <= 2 * BUFFER_LIMIT
        reply = bulk(b"x" * 1_000_000)
        assert await client.read_exactly(40 * len(reply)) == reply * 40


@pytest.mark.parametrize("direction", ["to_server", "to_client", "both"])
async def test_delay(proxy, direction):
    """Each byte is late by the delay, once per direction, however many follow each other."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.delay(0.1, direction)
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(client.read_exactly(20 * len(PONG)))
            for _ in range(20):
                await client.send(command("PING"))
                await asyncio.sleep(0.001)  # so that they don't travel as one chunk
        expected = 0.2 if direction == "both" else 0.1
        assert expected <= time.monotonic() - started < 1.0


async def test_delay_ends_for_what_waits(proxy):
    """Ending a delay lets out what it held back, in order."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.delay(3600, "to_client")
        await client.send(command("ECHO", "a") + command("ECHO", "b"))
        await client.hears_nothing()
        proxy.heal()
        assert await client.read_exactly(14) == bulk("a") + bulk("b")


class Reads(asyncio.Protocol):
    """Keep what each read of a transport returned."""

    def __init__(self):
        self.reads = []

    def data_received(self, data):
        """Keep one read."""
        self.reads.append(data)


async def test_split(proxy):
    """Every byte arrives by itself, and all of them do."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Reads, proxy.host, proxy.port)
    proxy.split()
    reply = bulk("single bytes")
    transport.write(command("ECHO", "single bytes"))
    await eventually(lambda: len(protocol.reads) >= len(reply))
    assert protocol.reads == [reply[n : n + 1] for n in range(len(reply))]
    proxy.heal()
    transport.write(command("ECHO", "whole"))
    await eventually(lambda: protocol.reads[-1] == bulk("whole"))
    transport.close()


@pytest.mark.parametrize(("skip", "mask"), [(0, 0xFF), (4, 0x01), (7, 0x20)])
async def test_corrupt_to_client(proxy, skip, mask):
    """Exactly one byte changes, the one that was asked for, once."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.corrupt("to_client", skip=skip, mask=mask)
        damaged = bytearray(bulk("payload"))
        damaged[skip] ^= mask
        await client.ask("ECHO", "payload", expect=bytes(damaged))
        await client.ask("ECHO", "payload", expect=bulk("payload"))


async def test_corrupt_across_chunks(proxy):
    """The bytes to leave alone are counted over several chunks."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.corrupt("to_client", skip=len(PONG), mask=0x02)
        await client.ask("PING", expect=PONG)
        await client.ask("PING", expect=b")" + PONG[1:])
        await client.ask("PING", expect=PONG)


async def test_corrupt_to_server(proxy):
    """A byte on its way to the server changes too, here a letter's case."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        wire = command("ECHO", "payload")
        proxy.corrupt("to_server", skip=wire.index(b"payload"), mask=0x20)
        await client.ask("ECHO", "payload", expect=bulk("Payload"))


@pytest.mark.parametrize("count", range(9))
async def test_cut_after_to_client(proxy, count):
    """The client gets exactly so many bytes of the reply, then the end."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.cut_after(count, "to_client")
        await client.send(command("ECHO", "abc"))
        assert await client.read_to_end() == bulk("abc")[:count]


async def test_cut_after_with_reset(proxy):
    """With RST the connection is reset after so many bytes."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.cut_after(3, "to_client", reset=True)
        await client.send(command("ECHO", "abc"))
        with pytest.raises(ConnectionResetError):
            await client.read_to_end()


async def test_cut_after_to_server(proxy, server):
    """The server never gets the rest of a command, so it never runs it."""
    async with connected(proxy) as client, connected(server) as observer:
        await client.ask("PING", expect=PONG)
        wire = command("SET", "cut", "x")
        proxy.cut_after(len(wire) - 1, "to_server")
        await client.send(wire)
        assert await client.read_to_end() == b""
        await observer.ask("GET", "cut", expect=b"$-1\r\n")


async def test_scope_of_one_shots(proxy):
    """By default a cut-to-come concerns open connections; "future": each one that comes."""
    async with connected(proxy) as old:
        await old.ask("PING", expect=PONG)
        proxy.cut_after(3, "to_client", scope="future")
        for _ in range(2):
            async with connected(proxy) as new:
                await new.send(command("PING"))
                assert await new.read_to_end() == PONG[:3]
        await old.ask("PING", expect=PONG)
        proxy.heal()
        async with connected(proxy) as new:
            proxy.cut_after(3, "to_client")
            await new.send(command("PING"))
            assert await new.read_to_end() == PONG[:3]
        async with connected(proxy) as new:
            await new.ask("PING", expect=PONG)


async def test_faults_add_up(proxy):
    """Several faults at once each do their part."""
    async with connected(proxy) as client:
        await client.ask("PING", expect=PONG)
        proxy.split()
        proxy.delay(0.02, "to_client")
        proxy.corrupt("to_client", skip=1, mask=0x01)
        proxy.cut_after(5, "to_client")
        started = time.monotonic()
        await client.send(command("PING"))
        assert await client.read_to_end() == b"+QONG"
        assert time.monotonic() - started >= 0.02


async def test_leaving_closes_everything(server):
    """Leaving the proxy ends its connections, its timers and its port."""
    async with FaultProxy(server.host, server.port) as proxy:
        port = proxy.port
        clients = [socket.create_connection((proxy.host, proxy.port)) for _ in range(3)]
        proxy.delay(3600)
        proxy.refuse()
        for client in clients:
            client.sendall(command("PING"))
        await eventually(lambda: all(c.flows["to_server"]._size for c in proxy._connections))
    for client in clients:
        client.settimeout(0)
        with client, suppress(ConnectionResetError):
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect((server.host, port))
    with pytest.raises(RuntimeError, match="isn't running"):
        _ = proxy.port
    assert proxy.statistics().connections_open == 0


def test_url():
    """A proxy's URL is the server's, by another door."""

    async def main():
        async with FaultProxy.for_url("rediss://ada:p%40ss@localhost:1/7?x=y") as proxy:
            assert proxy.url == f"rediss://ada:p%40ss@127.0.0.1:{proxy.port}/7?x=y"
        async with FaultProxy("localhost", 1) as proxy:
            assert proxy.url == f"redis://127.0.0.1:{proxy.port}"

    asyncio.run(main())
    with pytest.raises(ValueError, match="unix"):
        FaultProxy.for_url("unix:///run/redis.sock")


@pytest.mark.parametrize(
    "misuse",
    [
        lambda proxy: proxy.stall("upstream"),
        lambda proxy: proxy.stall(scope="past"),
        lambda proxy: proxy.corrupt("to_client", mask=0),
        lambda proxy: proxy.corrupt("to_client", skip=-1),
        lambda proxy: proxy.cut_after(-1, "to_client"),
        lambda proxy: proxy.delay(-1),
    ],
)
async def test_misuse(proxy, misuse):
    """A fault that makes no sense is refused."""
    with pytest.raises(ValueError, match="must be"):
        misuse(proxy)


async def test_uvloop():
    """All of it works on uvloop."""
    uvloop = pytest.importorskip("uvloop")

    async def main():
        for test in (
            test_transparent,
            test_order_under_load,
            test_refuse,
            test_split,
            test_cut_after_to_server,
        ):
            async with FaultProxy(server.host, server.port) as proxy:
                await (test(proxy) if test.__code__.co_argcount == 1 else test(proxy, server))

    with RedisServer() as server:
        await anyio.to_thread.run_sync(lambda: uvloop.run(main()))

"""`ScriptedPeer` does what the test says, and records what really came."""

import asyncio
import socket
from contextlib import suppress

import pytest
import redis.asyncio

from aioredis_kit.testing import ScriptedPeer, resp


@pytest.fixture
async def peer():
    """A peer that knows the handshake only."""
    async with ScriptedPeer() as peer:
        yield peer


@pytest.fixture(params=["port", "socket pair"])
async def streams(request, peer):
    """A reader and a writer that are connected to the peer."""
    if request.param == "port":
        reader, writer = await asyncio.open_connection(peer.host, peer.port)
    else:
        reader, writer = await asyncio.open_connection(sock=peer.connect())
    yield reader, writer
    writer.close()
    with suppress(OSError):  # the peer may have reset it
        await writer.wait_closed()


async def read(reader, count):
    """Read *count* bytes, or fail after a while."""
    async with asyncio.timeout(5):
        return await reader.readexactly(count)


async def read_to_end(reader):
    """Read until FIN."""
    async with asyncio.timeout(5):
        return await reader.read()


async def test_rules(peer, streams):
    """A rule answers at once: with the same reply, with one after another, or by a callable."""
    reader, writer = streams
    peer.on("GET", resp.bulk("first"), resp.bulk("then"))
    peer.on("echo", lambda received: resp.bulk(received.words[1]))
    writer.write(resp.command("GET", "k") * 3 + resp.command("ECHO", "x"))
    expected = resp.bulk("first") + resp.bulk("then") * 2 + resp.bulk("x")
    assert await read(reader, len(expected)) == expected
    peer.on("GET", resp.null())
    writer.write(resp.command("get", "k"))
    assert await read(reader, 3) == resp.null()


async def test_silence(peer, streams):
    """A command whose answer is None is never answered, nor is it expected by hand."""
    reader, writer = streams
    peer.on("GET", None)
    writer.write(resp.command("GET", "k") + resp.command("PING"))
    assert await read(reader, 7) == resp.simple("PONG")
    writer.write(resp.command("SET", "k", "v"))
    await peer.connections[0].expect("SET", "k", "v")


async def test_by_hand(peer, streams):
    """Without a rule a command waits for the test, which answers when and how it likes."""
    reader, writer = streams
    (connection,) = await peer.wait_for_connections()
    writer.write(resp.command("GET", "a") + resp.command("INCRBY", "b", 2))
    received = await connection.expect("get", "a")
    assert received.words == (b"GET", b"a")
    assert received.name == "GET"
    assert received.connection is connection
    await connection.expect("INCRBY", "b", 2)
    connection.send(resp.push("invalidate", resp.array(resp.bulk("a"))), resp.bulk("x")[:3])
    connection.send(resp.bulk("x")[3:], resp.integer(2))
    expected = resp.push("invalidate", resp.array(resp.bulk("a"))) + resp.bulk("x") + b":2\r\n"
    assert await read(reader, len(expected)) == expected


async def test_expect_by_name_only(peer, streams):
    """An expectation without arguments takes any."""
    _, writer = streams
    (connection,) = await peer.wait_for_connections()
    writer.write(resp.command("GET", "a"))
    assert (await connection.expect("GET")).words[1] == b"a"


async def test_expectation_is_not_met(peer, streams):
    """Another command, no command, or a client that left: each is an error that tells."""
    _, writer = streams
    (connection,) = await peer.wait_for_connections()
    writer.write(resp.command("GET", "a"))
    with pytest.raises(AssertionError, match=r"expected .*SET.* got .*GET"):
        await connection.expect("SET")
    with pytest.raises(TimeoutError, match="received: GET"):
        await connection.expect("SET", timeout=0.01)
    writer.close()
    with pytest.raises(AssertionError, match="client has left"):
        await connection.expect("SET")


async def test_handshake(peer, streams):
    """The handshake is answered as by a server, until a rule says otherwise."""
    reader, writer = streams
    writer.write(resp.command("HELLO", 3) + resp.command("CLIENT", "SETINFO", "lib-name", "x"))
    hello = await read(reader, len(b"%7\r\n"))
    assert hello == b"%7\r\n"
    body = await read(reader, len(b"".join(_hello_fields(3))) + 5)
    assert body == b"".join(_hello_fields(3)) + resp.simple("OK")
    writer.write(resp.command("HELLO"))
    body = resp.array(*_hello_fields(2))
    assert await read(reader, len(body)) == body
    peer.on("HELLO", resp.error("ERR unknown command 'HELLO'"))
    peer.on("CLIENT", resp.error("ERR no"))
    writer.write(resp.command("HELLO", 3))
    assert (await read(reader, 6)) == b"-ERR u"
    writer.write(resp.command("CLIENT", "SETNAME", "x") + resp.command("CLIENT", "ID"))
    rest = await read(reader, len("nknown command 'HELLO'\r\n") + 5 + 9)
    assert rest.endswith(resp.simple("OK") + resp.error("ERR no"))


def _hello_fields(protocol):
    texts = {"server": "redis", "version": "8.0.0"}
    frames = [resp.bulk(word) for pair in texts.items() for word in pair]
    frames += [resp.bulk("proto"), resp.integer(protocol), resp.bulk("id"), resp.integer(1)]
    frames += [resp.bulk(word) for word in ("mode", "standalone", "role", "master", "modules")]
    return [*frames, resp.array()]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_py_takes_it_for_a_server(peer, protocol):
    """redis-py's own client connects to the peer and is answered."""
    peer.on("GET", resp.bulk("x"))
    async with redis.asyncio.Redis(host=peer.host, port=peer.port, protocol=protocol, client_name="me", db=3) as client:
        assert await client.get("k") == b"x"
        assert await client.ping()
    names = [received.name for received in peer.commands]
    assert names[-2:] == ["GET", "PING"]
    assert "SELECT" in names
    assert (await peer.wait_for_command("CLIENT SETNAME")).words[2] == b"me"


async def test_records_tell_the_chunk(peer, streams):
    """Each command is recorded with the read that completed it."""
    reader, writer = streams
    writer.write(resp.command("PING") * 2)
    await read(reader, 14)
    writer.write(resp.command("PING") + resp.command("GET", "split")[:9])
    await read(reader, 7)
    writer.write(resp.command("GET", "split")[9:])
    await peer.wait_for_command("GET")
    (connection,) = peer.connections
    assert [(each.name, each.chunk) for each in connection.commands] == [
        ("PING", 0),
        ("PING", 0),
        ("PING", 1),
        ("GET", 2),
    ]
    assert connection.commands == list(peer.commands)
    assert b"".join(connection.chunks) == resp.command("PING") * 3 + resp.command("GET", "split")


async def test_records_byte_by_byte(peer):
    """Commands that arrive a byte at a time are recorded whole, with their last byte's chunk."""
    wire = resp.command("SET", "k", "a\r\nb") + resp.command("PING")
    loop = asyncio.get_running_loop()
    with peer.connect() as sock:
        for index in range(len(wire)):
            await loop.sock_sendall(sock, wire[index : index + 1])
            async with asyncio.timeout(5):
                while len(peer.connections[0].chunks) <= index:
                    await asyncio.sleep(0)
        await peer.wait_for_command("PING")
    assert [(each.words, each.chunk) for each in peer.commands] == [
        ((b"SET", b"k", b"a\r\nb"), len(resp.command("SET", "k", "a\r\nb")) - 1),
        ((b"PING",), len(wire) - 1),
    ]


async def test_waiting(peer):
    """Waiting for the n-th command or connection counts from the start, over all connections."""
    peer.on("GET", None)

    async def write_later():
        for number in range(3):
            _, writer = await asyncio.open_connection(peer.host, peer.port)
            writers.append(writer)
            writer.write(resp.command("GET", number))

    writers = []
    async with asyncio.TaskGroup() as group:
        group.create_task(write_later())
        third = await peer.wait_for_command("get", count=3)
        connections = await peer.wait_for_connections(3)
    assert third.words == (b"GET", b"2")
    assert [connection.number for connection in connections] == [0, 1, 2]
    assert (await peer.wait_for_command("GET", count=1)).words == (b"GET", b"0")
    with pytest.raises(TimeoutError, match="GET number 4; received: GET, GET, GET"):
        await peer.wait_for_command("GET", count=4, timeout=0.01)
    with pytest.raises(TimeoutError, match="connection number 4"):
        await peer.wait_for_connections(4, timeout=0.01)
    for writer in writers:
        writer.close()


async def test_close(peer, streams):
    """FIN comes behind everything sent, whatever the client still sends; its end is noticed."""
    reader, writer = streams
    (connection,) = await peer.wait_for_connections()
    writer.write(resp.command("GET", "k"))
    await connection.expect("GET")
    writer.write(resp.command("GET", "unread"))
    connection.send(resp.bulk("x" * 1_000_000))
    connection.close()
    connection.send(resp.bulk("never"))
    assert await read_to_end(reader) == resp.bulk("x" * 1_000_000)
    writer.write(resp.command("GET", "discarded"))
    await writer.drain()
    assert len(connection.commands) == 1
    writer.close()
    await connection.wait_closed()


async def test_reset(peer):
    """RST comes at once."""
    peer.on("GET", lambda received: received.connection.reset())
    reader, writer = await asyncio.open_connection(peer.host, peer.port)
    writer.write(resp.command("GET", "k"))
    with pytest.raises(ConnectionResetError):
        await read_to_end(reader)
    writer.close()


async def test_partial_reply_then_the_end(peer, streams):
    """A reply can be broken off in the middle."""
    reader, writer = streams

    def break_off(received):
        received.connection.send(resp.bulk("abc")[:6])
        received.connection.close()

    peer.on("GET", break_off)
    writer.write(resp.command("GET", "k"))
    assert await read_to_end(reader) == b"$3\r\nab"


async def test_on_connection():
    """A peer can act on a connection before anything is read from it."""
    async with ScriptedPeer(lambda connection: connection.close()) as peer:
        reader, writer = await asyncio.open_connection(peer.host, peer.port)
        assert await read_to_end(reader) == b""
        writer.close()
        await peer.connections[0].wait_closed()
    assert peer.commands == ()


async def test_pause_reading():
    """A peer that doesn't read lets the client's writes pile up, and loses none."""
    async with ScriptedPeer(lambda connection: connection.pause_reading()) as peer:
        peer.on("SET", resp.simple("OK"))
        reader, writer = await asyncio.open_connection(peer.host, peer.port)
        for _ in range(40):
            writer.write(resp.command("SET", "k", b"x" * 1_000_000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await writer.drain()
        assert peer.commands == ()
        peer.connections[0].resume_reading()
        assert await read(reader, 200) == resp.simple("OK") * 40
        writer.close()


async def test_what_is_no_command(peer):
    """A client that doesn't speak RESP is an error that the loop reports."""
    loop, reported = asyncio.get_running_loop(), asyncio.Event()
    before = loop.get_exception_handler()
    contexts = []

    def note(loop, context):
        contexts.append(context)
        reported.set()

    loop.set_exception_handler(note)
    try:
        with peer.connect() as sock:
            sock.send(b"GET / HTTP/1.1\r\n")
            async with asyncio.timeout(5):
                await reported.wait()
    finally:
        loop.set_exception_handler(before)
    assert isinstance(contexts[0]["exception"], ValueError)


async def test_leaving_closes_everything():
    """Leaving the peer ends its connections and its port."""
    async with ScriptedPeer() as peer:
        host, port = peer.host, peer.port
        reader, writer = await asyncio.open_connection(host, port)
        pair = peer.connect()
        await peer.wait_for_connections(2)
    with pytest.raises(ConnectionResetError):
        await read_to_end(reader)
    writer.close()
    with pair:
        assert pair.recv(1) == b""
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect((host, port))


async def test_misuse():
    """A rule without an answer, and a peer that wasn't entered, are errors."""
    peer = ScriptedPeer()
    with pytest.raises(ValueError, match="needs an answer"):
        peer.on("GET")
    with pytest.raises(RuntimeError, match="isn't running"):
        _ = peer.port


def test_uvloop():
    """All of it works on uvloop."""
    uvloop = pytest.importorskip("uvloop")

    async def main():
        for test in (test_reset, test_waiting, test_records_byte_by_byte):
            async with ScriptedPeer() as peer:
                await test(peer)
        await test_pause_reading()
        await test_leaving_closes_everything()

    uvloop.run(main())

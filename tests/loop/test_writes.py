"""What leaves the socket: exactly which bytes, and in how many writes."""

from __future__ import annotations

import asyncio
import enum
import itertools
import threading
import time

import pytest

from aioredis_kit.exceptions import ClientClosedError, ConnectionLostError, NotConnectedError
from aioredis_kit.testing import resp
from aioredis_kit.wire import machine
from tests.support.observing import turns


class Number(enum.IntEnum):
    SEVEN = 7


@pytest.mark.pins("case-51")
async def test_commands_of_one_turn_leave_together(peer, client):
    """Ten of one turn: at most two writes (the first goes at once); ten of two turns: at most one more."""
    (connection,) = peer.connections
    before = len(connection.chunks)
    await asyncio.gather(*(client.get(str(number)) for number in range(10)))
    assert len(connection.chunks) - before <= 2
    peer.on("FOO", None)
    first = [asyncio.create_task(client.execute_command("FOO", number)) for number in range(10)]
    await peer.wait_for_command("FOO", count=10)
    before = len(connection.chunks)
    second = [asyncio.create_task(client.execute_command("FOO", number)) for number in range(10)]
    await peer.wait_for_command("FOO", count=20)
    assert len(connection.chunks) - before == 1
    client.destroy()
    await asyncio.gather(*first, *second, return_exceptions=True)


@pytest.mark.pins("P4")
async def test_the_first_half_of_many_leaves_before_the_second_goes_on(peer, client):
    """So the server works while the others issue theirs: two writes, in order."""
    callers = 20
    peer.on("GET", None)

    async def call(number):
        await client.get(f"a{number}")
        await client.get(f"b{number}")

    tasks = [asyncio.create_task(call(number)) for number in range(callers)]
    await peer.wait_for_command("GET", count=callers)
    (connection,) = peer.connections
    before = client.statistics().socket_writes
    connection.send(resp.bulk(b"x") * callers)
    await peer.wait_for_command("GET", count=2 * callers)
    assert client.statistics().socket_writes == before + 2
    assert [each.words[1] for each in peer.commands if each.name == "GET"][callers:] == [
        b"b%d" % number for number in range(callers)
    ]
    connection.send(resp.bulk(b"x") * callers)
    await asyncio.gather(*tasks)


@pytest.mark.pins("P1", "P4")
@pytest.mark.parametrize("end", ["cancel", "raise", "drop", "destroy"])
async def test_what_happens_while_many_go_on(peer, client, end):
    """One of many that were answered does something drastic; everybody else gets what is theirs, in order."""
    callers, culprit = 20, 7
    replies = {}
    peer.on("ECHO", lambda command: resp.bulk(command.words[1]))

    async def call(number):
        replies[number] = await client.echo(str(number))
        if number != culprit:
            replies[-number] = await client.echo(str(-number))
        elif end == "cancel":
            tasks[13].cancel()
        elif end == "raise":
            raise ValueError
        elif end == "drop":
            peer.connections[0].close()
        else:
            client.destroy()

    tasks = [asyncio.create_task(call(number)) for number in range(1, callers + 1)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(reply == str(number).encode() for number, reply in replies.items())
    failed = [type(result) for result in results if result is not None]
    assert (
        failed
        == {
            "cancel": [asyncio.CancelledError],
            "raise": [ValueError],
            "drop": [],  # ECHO only reads, so it is sent again
            "destroy": [ClientClosedError] * (callers - 1),
        }[end]
    )


@pytest.mark.pins("4.6", "case-51")
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("SET", "k", "v"), ("SET", "k", "v")),
        ((b"SET", b"k", bytearray(b"v")), ("SET", "k", "v")),
        (("SET", memoryview(b"k"), memoryview(b"abcdef")[::2]), ("SET", "k", "ace")),
        (("SET", 1, -2.5), ("SET", "1", "-2.5")),
        (("SET", "k", Number.SEVEN), ("SET", "k", "7")),
        (("SET", "", b""), ("SET", "", "")),
        (("SET", "grüße", "\x00\r\n\U0001f600"), ("SET", "grüße", "\x00\r\n\U0001f600")),
        (("CONFIG GET", "port"), ("CONFIG", "GET", "port")),
        ((b" config  get\t", "port"), ("config", "get", "port")),
        (("SET", "k", 1e300), ("SET", "k", "1e+300")),
    ],
)
async def test_commands_as_they_are_sent(peer, client, args, words):
    """Names are split at their spaces, arguments never; numbers are sent as text."""
    peer.on("CONFIG", resp.mapping({}))
    await client.execute_command(*args)
    assert peer.connections[0].chunks[-1] == resp.command(*words)


@pytest.mark.pins("4.6")
async def test_a_buffer_is_copied_when_the_command_is_issued(peer, make_client):
    """Its owner may change it while the command waits."""
    peer.on("PING", None)
    client = make_client()
    buffers = [bytearray(b"x" * size) for size in (3, 100_000)]
    tasks = [asyncio.create_task(client.set(str(number), buffer)) for number, buffer in enumerate(buffers)]
    await peer.wait_for_command("PING")
    await turns()
    for buffer in buffers:
        buffer[:] = b"y" * len(buffer)
    peer.connections[0].send(resp.simple("PONG"))
    await asyncio.gather(*tasks)
    assert [each.words[2] for each in peer.commands if each.name == "SET"] == [b"x" * 3, b"x" * 100_000]


@pytest.mark.pins("P4", "P1")
async def test_large_and_small_values_keep_their_order(peer, client):
    """Large values are written without a copy, between small ones."""
    sizes = [0, 1, 16 * 1024 - 1, 16 * 1024, 5, 300_000, 7, 64 * 1024, 3] * 5
    values = [bytes([number]) * size for number, size in enumerate(sizes)]
    await asyncio.gather(*(client.set(str(number), value) for number, value in enumerate(values)))
    sent = [each.words[1:] for each in peer.commands if each.name == "SET"]
    assert sent == [(str(number).encode(), value) for number, value in enumerate(values)]


@pytest.mark.pins("case-38")
async def test_writing_to_a_socket_that_died_meanwhile(peer, make_client):
    """EPIPE and ECONNRESET escape nowhere: each command ends as lost, or is carried out on the next connection."""
    client = await make_client(reconnect_strategy=0.0).connect()
    for round_number in range(10):
        peer.connections[-1].reset()
        value = b"x" * (300_000 if round_number % 2 else 10)
        results = await asyncio.gather(*(client.set("k", value) for _ in range(20)), return_exceptions=True)
        assert all(result is True or getattr(result, "maybe_executed", False) for result in results)
        assert await client.get("k") == b"k"
    assert len(peer.connections) == 11


@pytest.mark.pins("P5")
async def test_commands_of_many_arguments_count_by_their_size(peer, make_client):
    """Each has 2 MB in small pieces: no more is in flight than `commands_queue_max_bytes` allows."""
    client = await make_client(commands_queue_max_bytes=5 * 2**20, command_timeout=30).connect()
    peer.on("MSET", None)
    args = [word for number in range(200) for word in (f"k{number}", b"x" * 10_000)]
    tasks = [asyncio.create_task(client.execute_command("MSET", *args)) for _ in range(5)]
    await peer.wait_for_command("MSET", count=2)
    await turns(1000)  # what was written in excess would arrive, too
    assert [each.name for each in peer.commands].count("MSET") == 2
    assert 4_000_000 < client._core.lane.connection.bytes_in_flight <= 5 * 2**20
    client.destroy()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.pins("P1", "4.11")
@pytest.mark.parametrize("where", ["writing", "reading"])
async def test_what_goes_wrong_between_queue_and_wire_ends_the_connection(peer, client, monkeypatch, where):
    """Nobody knows which commands have left, or which reply was whose: all goes on on a new connection."""
    peer.on("ECHO", lambda command: resp.bulk(command.words[1]))
    stock = machine.join if where == "writing" else machine.Machine._read_alike
    unlucky = iter([True])

    def fail_once(*args):
        if where == "writing" and len(args[0]) < 2:
            return stock(*args)
        if next(unlucky, False):
            raise MemoryError
        return stock(*args)

    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(type(context["exception"])))
    if where == "writing":
        monkeypatch.setattr(machine, "join", fail_once)
    else:
        monkeypatch.setattr(machine.Machine, "_read_alike", fail_once)
    tokens = [str(number).encode() for number in range(9)]
    assert await asyncio.gather(*map(client.echo, tokens)) == tokens
    assert await asyncio.gather(*map(client.echo, tokens)) == tokens
    assert len(peer.connections) == 2
    assert set(errors) <= {MemoryError}


@pytest.mark.pins("P1")
async def test_another_thread_can_not_disturb_a_write(peer, client, monkeypatch):
    """Its command is refused, wherever the switch of threads happens."""
    peer.on("ECHO", lambda command: resp.bulk(command.words[1]))
    refused = []
    stock = machine.Machine.send

    def intrude():
        async def use():
            try:
                await client.set("k", "v")
            except RuntimeError:
                refused.append(1)

        asyncio.run(use())

    def send(self, slots, moment):
        slots = iter(slots)
        payload = stock(self, itertools.islice(slots, 2), moment)
        if len(refused) < 10 and payload and client.is_ready:
            thread = threading.Thread(target=intrude)
            thread.start()
            thread.join()
        rest = stock(self, slots, moment)
        return b"".join([payload, rest])

    monkeypatch.setattr(machine.Machine, "send", send)

    async def call(number):
        for turn in range(4):
            token = f"{number}-{turn}".encode()
            assert await client.echo(token) == token

    await asyncio.gather(*map(call, range(20)))
    assert refused


@pytest.mark.pins("4.4", "4.10", "4.11", "P4")
@pytest.mark.parametrize("options", [{}, {"queue_full": "raise"}, {"disable_offline_queue": True}], ids=repr)
async def test_a_connection_that_dies_between_two_batches(peer, make_client, options):
    """What had not left keeps its place, or ends, as if the connection had died at any other moment."""
    client = await make_client(reconnect_strategy=0.0, **options).connect()
    peer.on("GET", lambda command: resp.bulk(command.words[1]))
    keys = [f"k{number:0100}" for number in range(3000)]
    tasks = [asyncio.create_task(client.get(key)) for key in keys]

    async def cut():
        peer.connections[0].reset()
        time.sleep(0.02)  # noqa: ASYNC251  # until the kernel knows

    cutting = asyncio.create_task(cut())
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await cutting
    if "disable_offline_queue" in options:
        assert {type(result) for result in results} == {ConnectionLostError, NotConnectedError}
    else:  # GET only reads, so what was lost is sent again
        assert results == [key.encode() for key in keys]
    sent = [each.words[1] for each in peer.commands if each.name == "GET"]
    assert sent == sorted(sent)
    assert client._core.lane._waiting_bytes == 0

"""What a client counts: every command ends in exactly one of the numbers, and what waits is told while it waits."""

from __future__ import annotations

import asyncio

import pytest
import redis

from aioredis_kit import Statistics
from aioredis_kit.exceptions import CommandTimeoutError, ConnectionLostError, NotConnectedError, QueueFullError
from aioredis_kit.testing import resp
from tests.support.observing import outcome, turns, until


def ended(client):
    """The outcomes of commands that are not nothing, by name."""
    commands = client.statistics().commands
    return {name: count for name in commands.__slots__ if (count := getattr(commands, name))}


def sent(peer):
    """How many commands of the peer's that are not the client's own."""
    return len([each for each in peer.commands if each.name not in {"HELLO", "CLIENT SETINFO", "CLIENT", "PING"}])


async def test_a_client_that_was_never_connected_has_done_nothing(make_client):
    assert make_client().statistics() == Statistics()


async def test_answers_are_counted_and_the_clients_own_commands_are_not(peer, client):
    await asyncio.gather(*(client.get(number) for number in range(50)))
    pipe = client.pipeline(transaction=False)
    for number in range(5):
        pipe.get(number)
    await pipe.execute()
    await client.health()
    assert ended(client) == {"answered": 55}
    numbers = client.statistics()
    assert numbers.latency.pings == 1
    assert numbers.latency.latest == numbers.latency.longest == numbers.latency.total > 0
    assert (numbers.connections.opened, numbers.connections.shared.ready) == (1, 1)


async def test_bytes_are_those_of_the_socket(peer, make_client):
    client = await make_client().connect()
    before = client.statistics()
    await client.get("k" * 1000)
    after = client.statistics()
    assert after.bytes_written - before.bytes_written == len(resp.command("GET", "k" * 1000))
    assert after.bytes_read - before.bytes_read == len(resp.bulk("k" * 1000))
    assert before.bytes_written > 0  # the handshake


async def test_error_replies(peer, client):
    peer.on("GET", resp.error("ERR no"))
    assert isinstance(await outcome(client.get("k")), redis.ResponseError)
    assert ended(client) == {"answered": 1, "errors": 1}


async def test_a_refused_command_that_goes_again_is_answered_once(peer, client):
    peer.on("GET", resp.error("LOADING not yet"), resp.error("LOADING not yet"), resp.bulk("v"))
    assert await client.get("k") == b"v"
    assert ended(client) == {"answered": 1, "errors": 2, "retried": 2}


async def test_a_time_out_and_the_reply_that_comes_after_it(peer, clock, make_client):
    client = await make_client(command_timeout=1, ping_interval=None).connect()
    peer.on("GET", None)
    with pytest.raises(CommandTimeoutError):
        await client.get("k")
    assert ended(client) == {"timed_out": 1, "maybe_executed": 1}
    queue = client.statistics().queue
    assert (queue.in_flight, queue.abandoned) == (2, 1)  # and a ping, as there is a doubt
    peer.connections[0].send(resp.bulk("late"))
    peer.on("GET", resp.bulk("v"))
    assert await client.get("k") == b"v"
    assert ended(client) == {"timed_out": 1, "maybe_executed": 1, "dropped_replies": 1, "answered": 1}
    assert client.statistics().queue.abandoned == 0


async def test_cancelled_commands(peer, client):
    peer.on("GET", None)
    tasks = [asyncio.create_task(client.get(number)) for number in range(3)]
    await peer.wait_for_command("GET", count=3)
    queue = client.statistics().queue
    assert (queue.in_flight, queue.abandoned, queue.bytes_in_flight) == (3, 0, 3 * len(resp.command("GET", "0")))
    assert queue.oldest_in_flight > 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert ended(client) == {"cancelled": 3, "maybe_executed": 3}
    assert client.statistics().queue.abandoned == 3


async def test_who_only_looks_changes_nothing(peer, client):
    """It may be done in another thread, while the loop's counts what was answered of what it had written."""
    peer.on("GET", None)
    peer.on("PING", None)
    tasks = [asyncio.create_task(client.ping())]
    await peer.wait_for_command("PING", count=2)  # the handshake's is the first
    tasks.append(asyncio.create_task(client.get("k")))
    await peer.wait_for_command("GET")
    peer.connections[0].send(resp.simple("PONG"))
    await tasks[0]
    machine = client._core.life.router.route(()).shared.queues[0].connection._machine
    written = list(machine._writes)
    assert client.statistics().queue.bytes_in_flight == len(resp.command("GET", "k"))
    assert list(machine._writes) == written
    peer.connections[0].send(resp.bulk("v"))
    await tasks[1]


async def test_lost_repeated_and_never_sent(peer, make_client):
    """What was written is lost if it is a write, and goes again if it is a read; the rest goes once."""
    client = await make_client(reconnect_strategy=0.01).connect()
    peer.on("SET", None)
    peer.on("GET", None)
    write, read = (asyncio.create_task(each) for each in (client.set("k", 1), client.get("k")))
    await peer.wait_for_command("GET")
    await peer.wait_for_command("SET")
    peer.on("GET", resp.bulk("v"))
    peer.connections[0].reset()
    assert isinstance(await outcome(write), ConnectionLostError)
    assert await read == b"v"
    assert ended(client) == {"lost": 1, "maybe_executed": 1, "retried": 1, "answered": 1}
    connections = client.statistics().connections
    assert (connections.opened, connections.reconnects, connections.losses, connections.failures) == (2, 1, 1, 0)
    assert peer.url.removeprefix("redis://") in connections.latest_loss


async def test_what_waits_while_there_is_no_connection(clock, make_client, unused_port):
    client = make_client(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=60, command_timeout=100)
    tasks = [asyncio.create_task(client.get("k"))]
    await asyncio.sleep(3)
    tasks.append(asyncio.create_task(client.with_options(command_timeout=None).get("k")))
    await asyncio.sleep(2)
    numbers = client.statistics()
    assert (numbers.queue.waiting, numbers.queue.in_flight) == (2, 0)
    assert numbers.queue.oldest == pytest.approx(5, abs=0.1)
    assert (numbers.connections.failures, numbers.connections.shared.waiting) == (1, 1)
    tasks[0].cancel()
    await turns()
    assert client.statistics().queue.waiting == 1
    assert client.statistics().queue.oldest == pytest.approx(5, abs=0.1)  # at most: it has no deadline to tell by
    client.destroy()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert ended(client) == {"cancelled": 1, "unsent": 1}


async def test_refused_at_once(peer, make_client, unused_port):
    """No connection and no offline queue; a full queue."""
    client = make_client(f"redis://127.0.0.1:{unused_port}", disable_offline_queue=True, reconnect_strategy=60)
    assert isinstance(await outcome(client.get("k")), NotConnectedError)
    assert ended(client) == {"unsent": 1}
    client = await make_client(commands_queue_max_length=1, queue_full="raise").connect()
    peer.on("GET", None)
    task = asyncio.create_task(client.get("k"))
    await peer.wait_for_command("GET")
    assert isinstance(await outcome(client.get("k")), QueueFullError)
    assert ended(client) == {"unsent": 1}
    task.cancel()
    await outcome(task)


async def test_leases(peer, make_client):
    peer.on("BLPOP", None)
    peer.on("CLIENT UNBLOCK", resp.integer(1))
    client = await make_client(max_dedicated_connections=1, command_timeout=0.2).connect()
    tasks = [asyncio.create_task(client.blpop("k", 0)) for _ in range(2)]
    await peer.wait_for_command("BLPOP")
    numbers = client.statistics()
    assert (numbers.connections.dedicated.ready, numbers.queue.waiting_for_lease) == (1, 1)
    await outcome(tasks[1])
    assert client.statistics().connections.lease_timeouts == 1
    tasks[0].cancel()
    await turns()
    peer.connections[-1].send(resp.null())
    await outcome(tasks[0])
    assert ended(client)["cancelled"] == 1
    await until(lambda: client.statistics().connections.dedicated.idle == 1)
    assert client.statistics().connections.losses == 0


async def test_two_connections_are_told_together(peer, make_client):
    client = await make_client(connections=2).connect()
    await asyncio.gather(*(client.get(number) for number in range(100)))
    numbers = client.statistics()
    assert (numbers.commands.answered, numbers.connections.shared.ready) == (100, 2)
    assert numbers.socket_writes == client.statistics().socket_writes >= 4


async def test_counting_begins_anew_with_each_life(peer, client):
    await client.get("k")
    await client.aclose()
    assert client.statistics().commands.answered == 1
    assert client.statistics().queue.in_flight == 0
    await client.get("k")
    assert client.statistics().commands.answered == 1

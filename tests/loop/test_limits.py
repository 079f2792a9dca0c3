"""Limits of what may wait and be in flight: by number and by bytes, waiting or raising (4.5, P5)."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit.exceptions import CommandTimeoutError, QueueFullError
from aioredis_kit.testing import resp
from tests.support.observing import outcome, turns, until

HOUR = 3600.0
MIB = 2**20


def arrived(peer, name="SLOW"):
    """How many commands of a name have come in."""
    return sum(each.name == name for each in peer.commands)


def issue(client, count, *args):
    """Issue the same command so many times."""
    return [asyncio.create_task(client.execute_command(*(args or ("SLOW",)))) for _ in range(count)]


def pair(client):
    """A pipeline of two commands."""
    return client.pipeline(transaction=False).get("a").get("b")


async def end(client, tasks):
    """End all and have every outcome looked at."""
    client.destroy()
    await asyncio.gather(*tasks, return_exceptions=True)


# -- by number --------------------------------------------------------------------------------------


@pytest.mark.pins("4.5", "P4", "P5")
async def test_more_commands_wait(peer, make_client):
    """So many are in flight, never more; the rest follows as replies come, first come first served."""
    client = await make_client(commands_queue_max_length=3).connect()
    tasks = [asyncio.create_task(client.execute_command("SLOW", number)) for number in range(10)]
    (connection,) = peer.connections
    for answered in range(10):
        await until(lambda answered=answered: arrived(peer) >= min(answered + 3, 10))
        await turns()
        assert arrived(peer) == min(answered + 3, 10)
        connection.send(resp.simple(str(answered)))
    assert await asyncio.gather(*tasks) == [str(number).encode() for number in range(10)]
    assert [each.words[1] for each in peer.commands if each.name == "SLOW"] == [str(n).encode() for n in range(10)]


@pytest.mark.pins("4.5", "4.7", "P2", "P3")
async def test_waiting_for_room_is_within_the_deadline(peer, make_client):
    """Not executed, never sent; a cancelled one neither. The place goes to the next."""
    client = await make_client(commands_queue_max_length=1, command_timeout=None).connect()
    (connection,) = peer.connections
    flying = asyncio.create_task(client.execute_command("SLOW", 0))
    await connection.expect("SLOW", 0)
    hasty = asyncio.create_task(client.with_options(command_timeout=0.03).execute_command("SLOW", 1))
    cancelled = asyncio.create_task(client.execute_command("SLOW", 2))
    patient = asyncio.create_task(client.execute_command("SLOW", 3))
    await turns()
    cancelled.cancel()
    error = await outcome(hasty)
    assert isinstance(error, CommandTimeoutError)
    assert error.maybe_executed is False
    assert (error.diagnosis.in_flight, error.diagnosis.state) == (0, "ready")
    assert error.diagnosis.commands_ahead == 1
    connection.send(resp.simple("zero"))
    assert await flying == b"zero"
    await connection.expect("SLOW", 3)
    connection.send(resp.simple("three"))
    assert await patient == b"three"
    assert isinstance(await outcome(cancelled), asyncio.CancelledError)


@pytest.mark.pins("4.5", "P3", "case-47")
@pytest.mark.parametrize("phase", ["ready", "connecting"])
async def test_more_commands_raise(peer, make_client, phase):
    """With `queue_full="raise"`: at once, not executed; what waits and what is in flight count alike."""
    client = make_client(commands_queue_max_length=2, queue_full="raise")
    if phase == "ready":
        await client.connect()
    else:
        peer.on("PING", None)
    tasks = issue(client, 2)
    await turns()
    for _ in range(3):
        with pytest.raises(QueueFullError, match="commands_queue_max_length is 2") as caught:
            await client.get("k")
        assert (caught.value.limit, caught.value.maybe_executed) == (2, False)
    if phase == "connecting":
        peer.connections[0].send(resp.simple("PONG"))
    await until(lambda: arrived(peer) == 2)
    peer.connections[0].send(resp.simple("1"))
    assert await tasks[0] == b"1"
    tasks += issue(client, 1)
    await turns()
    with pytest.raises(QueueFullError):
        await client.get("k")
    await end(client, tasks)


@pytest.mark.pins("4.5", "4.12", "P5")
async def test_waiting_pipelines_count_with_all_their_commands(make_client, unused_port):
    """Each is one unit in the queue, and so many commands in its limit."""
    client = make_client(
        f"redis://127.0.0.1:{unused_port}", commands_queue_max_length=10, queue_full="raise", reconnect_strategy=HOUR
    )
    tasks = [asyncio.create_task(pair(client).execute()) for _ in range(5)]
    await turns()
    assert not [task for task in tasks if task.done()]
    for call in (client.get("k"), pair(client).execute()):
        with pytest.raises(QueueFullError, match="10 commands wait"):
            await call
    tasks.pop().cancel()
    await turns()
    tasks.append(asyncio.create_task(pair(client).execute()))
    await turns()
    assert not tasks[-1].done()
    await end(client, tasks)


@pytest.mark.pins("4.5", "4.12", "P5")
@pytest.mark.parametrize("limit", [{"commands_queue_max_length": 4}, {"commands_queue_max_bytes": 4000}], ids=str)
@pytest.mark.parametrize("phase", ["ready", "connecting"])
async def test_refused_pipelines_make_no_room(peer, make_client, phase, limit):
    """They were never in the queue: what leaves it for them would be let in beyond the limit."""
    client = make_client(queue_full="raise", **limit)
    if phase == "ready":
        await client.connect()
    else:
        peer.on("PING", None)
    value = b"x" * 900
    tasks = issue(client, 4, "SLOW", value)
    await turns()
    for _ in range(10):
        with pytest.raises(QueueFullError):
            await client.pipeline(transaction=False).set("a", value).set("b", value).execute()
    for _ in range(2):
        with pytest.raises(QueueFullError):
            await client.set("k", value)
    if phase == "connecting":
        peer.connections[0].send(resp.simple("PONG"))
    await until(lambda: arrived(peer) == 4)
    peer.connections[0].send(*[resp.simple("done")] * 4)
    assert await asyncio.gather(*tasks) == [b"done"] * 4
    assert await asyncio.gather(*(client.set("k", value) for _ in range(4))) == [True] * 4


@pytest.mark.pins("4.5", "P5")
@pytest.mark.parametrize("kind", ["dedicated()", "client()", "single connection"])
async def test_a_sessions_queue_raises_too(peer, make_client, kind):
    is_single = kind == "single connection"
    client = await make_client(
        commands_queue_max_length=2, queue_full="raise", single_connection_client=is_single
    ).connect()
    session = client if is_single else client.client() if kind == "client()" else client.dedicated()
    await session.get("k")
    tasks = issue(session, 2)
    await turns()
    with pytest.raises(QueueFullError, match="commands_queue_max_length is 2"):
        await session.get("k")
    await until(lambda: arrived(peer) == 2)
    peer.connections[1].send(resp.simple("1"), resp.simple("2"))
    assert await asyncio.gather(*tasks) == [b"1", b"2"]
    assert await session.get("k") == b"k"
    await session.close()


@pytest.mark.pins("4.5", "4.7", "4.8")
async def test_the_places_of_those_who_have_gone(peer, make_client):
    """Gone before the write: free at once. After it: taken until the reply has been read."""
    client = await make_client(commands_queue_max_length=2, queue_full="raise").connect()
    (connection,) = peer.connections
    written, unwritten = issue(client, 2)
    await turns(1)  # the first is written at once, the second at the end of the turn
    unwritten.cancel()
    (third,) = issue(client, 1)
    await until(lambda: arrived(peer) == 2)
    with pytest.raises(QueueFullError):
        await client.execute_command("SLOW")
    written.cancel()
    await asyncio.gather(written, unwritten, return_exceptions=True)
    with pytest.raises(QueueFullError):
        await client.execute_command("SLOW")
    connection.send(resp.simple("to nobody"))
    await turns()
    (fourth,) = issue(client, 1)
    await until(lambda: arrived(peer) == 3)
    connection.send(resp.simple("three"), resp.simple("four"))
    assert await asyncio.gather(third, fourth) == [b"three", b"four"]


@pytest.mark.pins("4.5", "4.10", "P5")
@pytest.mark.parametrize("queue_full", ["wait", "raise"])
async def test_the_limits_hold_across_a_loss(peer, make_client, queue_full):
    """What is put back counts as before; afterwards all places are free again."""
    client = make_client(commands_queue_max_length=3, queue_full=queue_full, reconnect_strategy=0.02)
    await client.connect()
    peer.on("GET", None)
    tasks = [asyncio.create_task(client.get(str(number))) for number in range(3)]
    await peer.wait_for_command("GET", count=3)
    peer.connections[0].close()
    await until(lambda: not client.is_ready)
    if queue_full == "raise":
        with pytest.raises(QueueFullError):
            await client.get("k")
    peer.on("GET", lambda each: resp.bulk(each.words[1]))
    assert await asyncio.gather(*tasks) == [b"0", b"1", b"2"]
    for _ in range(5):
        assert await asyncio.gather(*(client.get(str(number)) for number in range(3))) == [b"0", b"1", b"2"]


# -- by bytes ---------------------------------------------------------------------------------------


@pytest.mark.pins("4.5", "P5")
@pytest.mark.parametrize(("size", "count"), [(1000, 40), (20_000, 40), (MIB, 16)], ids=["small", "large", "huge"])
async def test_more_bytes_wait(peer, make_client, size, count):
    """However many commands that is, whether issued together or one by one: never more than the limit is in flight."""
    limit = 12 * MIB if size == MIB else 9 * size + 9 * 64
    client = await make_client(commands_queue_max_bytes=limit, command_timeout=30).connect()
    value = b"x" * size
    tasks = issue(client, count, "SLOW", value)
    (connection,) = peer.connections
    most = limit // len(resp.command("SLOW", value))
    for answered in range(count):
        await until(lambda answered=answered: arrived(peer) >= min(answered + 1, count))
        await turns(1000 if size == MIB and not answered else 20)  # what was written in excess would arrive, too
        assert arrived(peer) - answered <= most
        connection.send(resp.simple("done"))
    assert await asyncio.gather(*tasks) == [b"done"] * count


@pytest.mark.pins("4.5", "P5")
async def test_one_larger_command_is_admitted_alone(peer, make_client):
    """When nothing else is in flight; what comes behind it waits for its reply."""
    client = await make_client(commands_queue_max_bytes=1000, command_timeout=30).connect()
    (connection,) = peer.connections
    before = issue(client, 1, "SLOW", "before")
    await connection.expect("SLOW", "before")
    large = issue(client, 1, "SLOW", b"x" * 100_000)
    behind = issue(client, 1, "SLOW", "behind")
    await turns()
    assert arrived(peer) == 1
    connection.send(resp.simple("1"))
    await until(lambda: arrived(peer) == 2)
    await turns()
    assert arrived(peer) == 2
    connection.send(resp.simple("2"))
    await until(lambda: arrived(peer) == 3)
    connection.send(resp.simple("3"))
    assert await asyncio.gather(*before, *large, *behind) == [b"1", b"2", b"3"]


@pytest.mark.pins("4.5", "P5", "P3")
async def test_more_bytes_raise(peer, make_client):
    """With `queue_full="raise"`: counted are what waits and what is in flight; one larger command goes alone."""
    client = await make_client(commands_queue_max_bytes=1000, queue_full="raise").connect()
    (connection,) = peer.connections
    tasks = issue(client, 1, "SLOW", b"x" * 900)
    await turns()
    with pytest.raises(QueueFullError, match="commands_queue_max_bytes is 1000") as caught:
        await client.execute_command("SLOW", b"x" * 900)
    assert caught.value.limit == 1000
    tasks += issue(client, 1, "SLOW", "small")
    await until(lambda: arrived(peer) == 2)
    connection.send(resp.simple("1"), resp.simple("2"))
    assert await asyncio.gather(*tasks) == [b"1", b"2"]
    large = issue(client, 1, "SLOW", b"x" * 5000)
    await until(lambda: arrived(peer) == 3)
    with pytest.raises(QueueFullError):
        await client.get("k")
    connection.send(resp.simple("3"))
    assert await large[0] == b"3"
    assert await client.get("k") == b"k"


@pytest.mark.pins("4.5", "4.19", "4.20", "P2")
@pytest.mark.parametrize("how", ["close", "destroy"])
async def test_ending_with_commands_that_wait_for_room(peer, make_client, how):
    """`close()` lets them go out as room comes; `destroy()` ends them, not executed."""
    client = await make_client(commands_queue_max_length=1).connect()
    (connection,) = peer.connections
    tasks = [asyncio.create_task(client.execute_command("SLOW", number)) for number in range(5)]
    await connection.expect("SLOW", 0)
    if how == "destroy":
        client.destroy()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error.maybe_executed for error in errors] == [True] + [False] * 4
        return
    closing = asyncio.create_task(client.close())
    connection.send(resp.simple("0"))
    for number in range(1, 5):
        await connection.expect("SLOW", number)
        connection.send(resp.simple(str(number)))
    assert await asyncio.gather(*tasks) == [b"0", b"1", b"2", b"3", b"4"]
    await closing


# -- back-pressure ----------------------------------------------------------------------------------


@pytest.mark.pins("P5", "P1", "P4", "4.7")
async def test_a_peer_that_does_not_read(peer, make_client):
    """Writing stops at the transport's high-water mark; what was not handed over is still ours to take back."""
    client = await make_client(command_timeout=30).connect()
    (connection,) = peer.connections
    connection.pause_reading()
    value = b"x" * 100_000
    tasks = [asyncio.create_task(client.set(str(number), value)) for number in range(300)]
    await until(lambda: not client.is_ready)
    late = [asyncio.create_task(client.set(f"late-{number}", 1)) for number in range(3)]
    await turns()
    late[1].cancel()
    assert isinstance(await outcome(late[1]), asyncio.CancelledError)
    connection.resume_reading()
    assert await asyncio.gather(*tasks, late[0], late[2]) == [True] * 302
    keys = [each.words[1] for each in peer.commands if each.name == "SET"]
    assert keys == [*(str(number).encode() for number in range(300)), b"late-0", b"late-2"]
    assert client.is_ready

"""Deadlines and pings: what ends when, in virtual time, to the bounds of DESIGN 4.7 to 4.9."""

from __future__ import annotations

import asyncio
import builtins
import time

import pytest
import redis

from aioredis_kit.exceptions import CommandTimeoutError, ConnectionLostError, HealthCheckError
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, outcome, timers, turns, until

HOUR = 3600.0
LATE = 0.05
"""How late a deadline may be noticed, in seconds."""


async def fall_silent(peer):
    """Let the peer answer nothing any more."""
    for name in ("PING", "GET", "SET", "INCR"):
        peer.on(name, None)


# -- deadlines --------------------------------------------------------------------------------------


@pytest.mark.pins("P2", "4.8", "case-42")
async def test_every_command_ends_by_its_deadline(peer, clock, make_client):
    """At most 50 ms late, whatever deadlines the others have; the first is noticed as well as the last."""
    client = await make_client(ping_interval=None, ping_timeout=HOUR).connect()
    await fall_silent(peer)

    async def ask(timeout):
        begun = clock()
        error = await outcome(client.with_options(command_timeout=timeout).get("k"))
        assert isinstance(error, CommandTimeoutError)
        return clock() - begun - timeout

    tasks = []
    for timeout in (5, 0.001, 3, 0.03, 0.02, 4.99, 1.01, 1):
        tasks.append(asyncio.create_task(ask(timeout)))
        await asyncio.sleep(0.013)  # of virtual time: so that deadlines fall at odd moments
    late = await asyncio.gather(*tasks)
    assert all(-0.001 <= each <= LATE for each in late), late


@pytest.mark.pins("P2", "4.7", "4.3")
async def test_deadlines_run_from_the_call(peer, clock, make_client):
    """Queue, connecting, back-off, reply: one deadline for all."""
    peer.on("HELLO", None, resp.error("ERR go away"), resp.mapping({}))
    client = make_client(connect_timeout=1, reconnect_strategy=1, command_timeout=4)
    peer.on("GET", None)
    error = await outcome(client.get("k"))
    assert clock() == pytest.approx(4, abs=LATE)
    assert error.maybe_executed is True
    assert error.diagnosis.queued == pytest.approx(3, abs=0.1)
    assert error.diagnosis.in_flight == pytest.approx(1, abs=0.1)


@pytest.mark.pins("P2")
async def test_no_deadline(peer, clock, make_client):
    """`command_timeout=None` waits as long as the connection lives."""
    client = await make_client(command_timeout=None, ping_interval=None).connect()
    task = asyncio.create_task(client.execute_command("SLOW"))
    (connection,) = peer.connections
    await connection.expect("SLOW")
    await asyncio.sleep(10 * HOUR)
    assert not task.done()
    connection.send(resp.simple("done"))
    assert await task == b"done"


@pytest.mark.pins("P2", "4.8")
async def test_a_time_out_says_where_the_time_went(peer, clock, make_client):
    """In words and as fields; caught as redis-py's and as Python's."""
    client = await make_client(command_timeout=2, ping_interval=None).connect()
    ahead = [asyncio.create_task(client.execute_command("SLOW", "x" * 100)) for _ in range(3)]
    await peer.wait_for_command("SLOW", count=3)
    await asyncio.sleep(1)
    task = asyncio.create_task(client.execute_command("FOO.SLOW"))
    await peer.wait_for_command("FOO.SLOW")
    peer.connections[0].send(resp.simple("first"))
    error = await outcome(task)
    assert isinstance(error, redis.TimeoutError)
    assert isinstance(error, builtins.TimeoutError)
    diagnosis = error.diagnosis
    assert (diagnosis.timeout, diagnosis.state, diagnosis.commands_ahead) == (2, "ready", 2)
    assert diagnosis.bytes_ahead == 2 * len(resp.command("SLOW", "x" * 100))
    assert diagnosis.bytes_read == len(resp.simple("first"))
    assert diagnosis.in_flight == pytest.approx(2, abs=LATE)
    assert diagnosis.lag <= LATE
    for part in (
        "FOO.SLOW was not answered within 2 s",
        f"2 commands with {diagnosis.bytes_ahead} bytes ahead",
        "8 bytes read",
        "slow commands",
    ):
        assert part in str(error)
    await asyncio.gather(*ahead, return_exceptions=True)


@pytest.mark.pins("P2", "4.7")
async def test_what_has_timed_out_is_ahead_of_nobody(clock, make_client, unused_port):
    """While there is no connection it stays in the queue, to be passed over."""
    client = make_client(f"redis://127.0.0.1:{unused_port}", command_timeout=1)
    ended = [outcome(client.get("k")), outcome(client.pipeline(transaction=False).get("k").get("k").execute())]
    await asyncio.gather(*ended)
    error = await outcome(client.get("k"))
    assert (error.diagnosis.commands_ahead, error.diagnosis.bytes_ahead) == (0, 0)


@pytest.mark.pins("P2", "4.8")
async def test_a_time_out_tells_of_a_blocked_loop(peer, make_client):
    """Lag is how late the sweep fired."""
    client = await make_client(command_timeout=0.05, ping_timeout=10).connect()
    task = asyncio.create_task(client.execute_command("SLOW"))
    await peer.connections[0].expect("SLOW")
    time.sleep(0.3)  # noqa: ASYNC251  # blocking the loop is what this is about
    error = await outcome(task)
    assert error.diagnosis.lag >= 0.2
    assert "event loop was blocked" in str(error)


@pytest.mark.pins("P2", "4.8")
async def test_a_reply_that_came_while_the_loop_was_blocked_is_in_time(peer, make_client):
    """Its deadline has passed when the loop goes on and first sends another command; but the reply is there to be read."""
    client = await make_client(command_timeout=0.1).connect()
    (connection,) = peer.connections
    slow = asyncio.create_task(client.execute_command("SLOW"))
    await connection.expect("SLOW")

    def block():
        connection.send(resp.simple("slow"))
        time.sleep(0.2)

    other = asyncio.create_task(client.with_options(command_timeout=5).get("k"))
    asyncio.get_running_loop().call_soon(block)
    assert await asyncio.gather(slow, other) == [b"slow", b"k"]


@pytest.mark.pins("P2", "4.12")
@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_time_out_of_a_pipeline_says_where_the_time_went(peer, clock, make_client, is_answered):
    """Its time begins anew with each reply: it was not queued before it was written. Its own commands are not ahead."""
    client = await make_client(command_timeout=5, ping_interval=None).connect()
    ahead = asyncio.create_task(client.with_options(command_timeout=None).execute_command("SLOW"))
    await peer.wait_for_command("SLOW")
    pipe = client.pipeline(transaction=False)
    for number in range(3):
        pipe.execute_command("TYPE", number)
    peer.on("TYPE", None)
    task = asyncio.create_task(pipe.execute())
    await peer.wait_for_command("TYPE", count=3)
    if is_answered:
        await asyncio.sleep(4)
        peer.connections[0].send(resp.simple("slow"), resp.simple("string"))
    error = await outcome(task)
    assert isinstance(error, CommandTimeoutError)
    diagnosis = error.diagnosis
    assert clock() == pytest.approx(9 if is_answered else 5, abs=LATE)
    assert diagnosis.queued == 0
    assert diagnosis.in_flight == pytest.approx(clock(), abs=LATE)
    assert diagnosis.commands_ahead == (0 if is_answered else 1)
    assert diagnosis.bytes_ahead == (0 if is_answered else len(resp.command("SLOW")))
    await asyncio.gather(ahead, return_exceptions=True)


@pytest.mark.pins("P2", "P6")
async def test_deadlines_cost_one_timer(peer, clock, make_client):
    """However many commands wait."""
    client = await make_client(ping_interval=None).connect()
    before = len(timers(asyncio.get_running_loop()))
    tasks = [asyncio.create_task(client.execute_command("SLOW", number)) for number in range(500)]
    await peer.wait_for_command("SLOW", count=500)
    assert len(timers(asyncio.get_running_loop())) <= before + 2
    client.destroy()
    await asyncio.gather(*tasks, return_exceptions=True)


# -- pings ------------------------------------------------------------------------------------------


@pytest.mark.pins("4.9", "case-73")
@pytest.mark.parametrize(("interval", "timeout"), [(30, 5), (1, 5), (0.5, 0.5), (5, 1)])
async def test_pings_come_as_often_as_they_should(peer, clock, make_client, interval, timeout):
    """After each interval of silence; any byte that is read begins it anew."""
    client = await make_client(ping_interval=interval, ping_timeout=timeout).connect()
    events = EventRecord(client)
    begun = clock()
    await events.wait_for("ping-interval", 6, timeout=HOUR)
    assert clock() - begun == pytest.approx(6 * interval, rel=0.05)
    pings = len([each for each in peer.commands if each.name == "PING"])
    for _ in range(8):
        await asyncio.sleep(interval * 0.7)
        await client.get("k")
    assert len([each for each in peer.commands if each.name == "PING"]) == pings
    assert all(0 <= latency < 0.1 for latency in events.of("ping-interval"))


@pytest.mark.pins("4.9")
async def test_no_pings(peer, clock, make_client):
    """`ping_interval=None`, or 0 in redis-py's spelling: none unless there is a doubt."""
    for options in ({"ping_interval": None}, {"health_check_interval": 0}):
        client = await make_client(**options).connect()
        await asyncio.sleep(HOUR)
        assert [each.name for each in peer.connections[-1].commands].count("PING") == 1  # the handshake's
        client.destroy()


@pytest.mark.pins("4.9", "case-136", "P2")
@pytest.mark.parametrize(
    ("interval", "command_timeout", "timeout"),
    [(30, 5, 5), (30, 0.5, 1), (2, 5, 1), (1, None, 5), (None, 3, 2), (5, 60, 5)],
)
@pytest.mark.parametrize("phase", [0.0, 0.3, 1.1])
async def test_a_stall_is_noticed_in_time(peer, clock, make_client, interval, command_timeout, timeout, phase):
    """Under load, whenever it begins: at most `min(ping_interval, command_timeout) + ping_timeout` after it began."""
    client = await make_client(
        ping_interval=interval, command_timeout=command_timeout, ping_timeout=timeout, reconnect_strategy=0.0
    ).connect()
    events = EventRecord(client)
    bounds = [each for each in (interval, command_timeout) if each is not None]
    await asyncio.sleep(phase * (interval or 1))
    await client.get("k")
    stalled = clock()
    await fall_silent(peer)
    task = asyncio.create_task(client.incr("n"))
    await events.wait_for("error", timeout=HOUR)
    assert clock() - stalled <= min(bounds) + timeout + LATE + 0.02
    (error,) = events.of("error")
    assert isinstance(error, HealthCheckError)
    assert error.silent_for == pytest.approx(clock() - stalled, abs=0.1)
    result = await outcome(task)
    assert isinstance(result, CommandTimeoutError | ConnectionLostError)
    assert result.maybe_executed is True


@pytest.mark.pins("4.9", "4.8")
@pytest.mark.parametrize("patience", [0.0, 0.5])
async def test_a_stall_is_noticed_by_impatient_callers_too(peer, clock, make_client, patience):
    """Each gives up before its command's deadline; that deadline passes all the same, and nothing was read."""
    client = await make_client(command_timeout=2, ping_interval=30, ping_timeout=1, reconnect_strategy=0.0).connect()
    events = EventRecord(client)
    await client.get("k")
    stalled = clock()
    await fall_silent(peer)

    async def give_up():
        async with asyncio.timeout(patience or None):
            task = asyncio.create_task(client.get("k"))
            await turns(3)
            if not patience:
                task.cancel()
            await task

    assert isinstance(await outcome(give_up()), asyncio.CancelledError | TimeoutError)
    await events.wait_for("error", timeout=HOUR)
    assert clock() - stalled <= 2 + 1 + LATE + 0.02
    assert isinstance(events.of("error")[0], HealthCheckError)


@pytest.mark.pins("4.9", "4.8", "P1")
async def test_one_slow_command_does_not_cost_the_connection(peer, clock, make_client):
    """While others are answered before it, or a ping behind it shows that the server reads on."""
    client = await make_client(command_timeout=1, ping_timeout=5, ping_interval=30).connect()
    peer.on("PING", None)
    for _ in range(5):
        task = asyncio.create_task(client.execute_command("SLOW"))
        await peer.connections[0].expect("SLOW")
        assert isinstance(await outcome(task), CommandTimeoutError)
        pings = [each.name for each in peer.commands].count("PING")
        assert pings >= 2  # the handshake's, and the one for the doubt
        await asyncio.sleep(2)
        peer.connections[0].send(resp.simple("late"), resp.simple("PONG"))
        await turns()
    assert len(peer.connections) == 1
    assert client.is_ready


@pytest.mark.pins("4.9")
async def test_any_byte_proves_life(peer, clock, make_client):
    """A large reply that trickles in for longer than every limit."""
    client = await make_client(command_timeout=None, ping_timeout=1, ping_interval=2).connect()
    peer.on("PING", None)
    task = asyncio.create_task(client.execute_command("SLOW"))
    (connection,) = peer.connections
    await connection.expect("SLOW")
    connection.send(b"$30\r\n")
    for _ in range(30):
        await asyncio.sleep(0.9)
        connection.send(b"x")
    connection.send(b"\r\n")
    assert await task == b"x" * 30
    assert len(peer.connections) == 1


@pytest.mark.pins("4.7")
async def test_what_is_late_when_the_connection_is_back_is_never_sent(peer, clock, make_client):
    """Even though the next look at the deadlines is due a moment later."""
    client = await make_client(ping_interval=None, reconnect_strategy=0.115).connect()
    peer.connections[0].reset()
    await until(lambda: not client.is_ready)
    calls = [client.with_options(command_timeout=timeout).get(f"{timeout}") for timeout in (0.1, 0.11, 0.2)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(each, "maybe_executed", each) for each in errors] == [False, False, b"0.2"]
    assert "connection connecting" in str(errors[1])
    assert [each.words for each in peer.commands if each.name == "GET"] == [(b"GET", b"0.2")]

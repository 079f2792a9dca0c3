"""Reconnect strategies: what they are asked, what they may answer, and that no bad one ever kills the client."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from tenacity import stop_after_attempt, stop_after_delay, wait_exponential, wait_fixed

from aioredis_kit import ClientState
from aioredis_kit.client.base import ClientCore
from aioredis_kit.client.client import _Keeper
from aioredis_kit.exceptions import ClientClosedError, ConnectError, ConnectionLostError, ReconnectStrategyError
from aioredis_kit.testing import ScriptedPeer, resp
from tests.support.observing import EventRecord, job_tasks, outcome, turns, until

HOUR = 3600.0
GO_AWAY = resp.error("ERR go away")


async def loses(peer, client):
    """Connect, then lose the connection while no other is to be had."""
    await client.connect()
    events = EventRecord(client)
    peer.on("HELLO", GO_AWAY)
    peer.connections[-1].close()
    return events


# -- the default ------------------------------------------------------------------------------------


@pytest.mark.pins("5.1")
async def test_the_default_delays(peer, clock, make_client):
    """50 ms, doubled up to 2 s, with up to 200 ms more; from the loss on, the first included."""
    client = make_client(command_timeout=None)
    events = await loses(peer, client)
    await events.wait_for("reconnecting", 12, timeout=HOUR)
    delays = events.of("reconnecting")
    assert [retries for retries, _ in delays] == list(range(12))
    for retries, delay in delays:
        least = min(0.05 * 2**retries, 2)
        assert least <= delay <= least + 0.2
    waited = sum(delay for _, delay in delays[:-1])
    assert clock() == pytest.approx(waited, abs=0.01)


@pytest.mark.pins("5.1")
async def test_the_counter_begins_anew_with_each_loss(peer, make_client):
    """0 after each `ready`, however many attempts the loss before took."""
    asked = []
    client = make_client(reconnect_strategy=lambda retries, cause: asked.append(retries) or 0.0)
    await client.connect()
    for failures in (0, 2, 1):
        peer.on("HELLO", *[GO_AWAY] * failures, resp.mapping({}))
        known = len(peer.connections)
        peer.connections[-1].close()
        await until(lambda known=known, failures=failures: len(peer.connections) > known + failures and client.is_ready)
    assert asked == [0, 0, 1, 2, 0, 1]


# -- what it may be ---------------------------------------------------------------------------------


@pytest.mark.pins("5.1", "case-22")
async def test_a_function_is_told_the_count_and_the_cause(peer, make_client):
    """0, 1, 2, 3: then it has had enough."""
    asked = []

    def strategy(retries, cause):
        asked.append((retries, cause))
        return 0.0 if retries < 3 else ConnectError("3")

    peer.on("HELLO", GO_AWAY)
    client = make_client(reconnect_strategy=strategy)
    error = await outcome(client.connect())
    assert isinstance(error, ReconnectStrategyError)
    assert str(error) == "3"
    assert error.attempts == 4
    assert [retries for retries, _ in asked] == [0, 1, 2, 3]
    assert all(isinstance(cause, ConnectError) and "go away" in str(cause) for _, cause in asked)


@pytest.mark.pins("5.1", "case-21")
@pytest.mark.parametrize("strategy", [0, 0.0, timedelta(0), lambda *_: 0, lambda *_: timedelta(0)])
async def test_no_delay(peer, make_client, strategy):
    """Zero is at once, not never; the client stays open and the loop alive."""
    peer.on("HELLO", GO_AWAY)
    client = make_client(reconnect_strategy=strategy)
    events = EventRecord(client)
    connecting = asyncio.create_task(client.connect())
    await events.wait_for("reconnecting", 50)
    assert (client.is_open, client.is_ready) == (True, False)
    client.destroy()
    assert client.is_open is False
    assert isinstance(await outcome(connecting), ClientClosedError)


@pytest.mark.pins("5.1")
@pytest.mark.parametrize("strategy", [5, 5.0, timedelta(seconds=5), wait_fixed(5), lambda *_: timedelta(seconds=5)])
async def test_the_same_delay_always(peer, clock, make_client, strategy):
    """As a number of seconds, a timedelta or a tenacity wait."""
    events = await loses(peer, make_client(reconnect_strategy=strategy))
    await events.wait_for("reconnecting", 4, timeout=HOUR)
    assert events.of("reconnecting") == [(retries, 5.0) for retries in range(4)]
    assert clock() == pytest.approx(15, abs=0.01)


@pytest.mark.pins("5.1", "4.18")
@pytest.mark.parametrize(
    ("stop", "delays"),
    [(stop_after_attempt(4), [1, 2, 4]), (stop_after_delay(6.5), [1, 2, 4])],
    ids=["attempts", "delay"],
)
async def test_tenacitys_wait_and_stop(peer, clock, make_client, stop, delays):
    """A pair of both gives up where tenacity would."""
    events = await loses(peer, make_client(reconnect_strategy=(wait_exponential(), stop)))
    await events.wait_for("terminated", timeout=HOUR)
    assert [delay for _, delay in events.of("reconnecting")] == delays
    assert clock() == pytest.approx(sum(delays), abs=0.01)


@pytest.mark.pins("5.1")
async def test_an_asynchronous_strategy(peer, make_client):
    """A coroutine function, or a callable that returns something to await."""

    class Strategy:
        def __init__(self):
            self.asked = []

        async def __call__(self, retries, cause):
            await asyncio.sleep(0)
            self.asked.append(retries)
            return 0.0

    strategy = Strategy()
    events = await loses(peer, make_client(reconnect_strategy=strategy))
    await events.wait_for("reconnecting", 3)
    assert strategy.asked[:3] == [0, 1, 2]


# -- what it should not be --------------------------------------------------------------------------


@pytest.mark.pins("5.1", "case-24")
@pytest.mark.parametrize(
    "nonsense",
    ["1", None, True, -1, float("nan"), float("inf"), -0.001, [1], 10**400, timedelta(-1), ValueError, b"", 1j],
    ids=str,
)
async def test_an_answer_that_makes_no_sense(peer, clock, make_client, nonsense):
    """An `error` that says what is wanted, and the default's delay for that attempt."""
    events = await loses(peer, make_client(reconnect_strategy=lambda retries, cause: nonsense))
    await events.wait_for("reconnecting", 3, timeout=HOUR)
    errors = events.of("error")
    assert [type(error) for error in errors[:2]] in (
        [TypeError, ConnectionLostError],
        [ValueError, ConnectionLostError],
    )
    assert "must return seconds" in str(errors[0])
    for retries, delay in events.of("reconnecting"):
        assert 0.05 * 2**retries <= delay <= 0.05 * 2**retries + 0.2
    peer.on("HELLO", resp.mapping({}))
    assert await client_of(events).get("k") == b"k"


def client_of(events):
    return events._client


@pytest.mark.pins("5.1", "case-23")
@pytest.mark.parametrize("failure", [LookupError, asyncio.CancelledError, TimeoutError])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_strategy_that_raises(peer, make_client, is_async, failure):
    """Survived with the default delay; its next answer counts again."""

    def strategy(retries, cause):
        if retries == 0:
            raise failure("mine")
        return ConnectError("enough")

    async def asynchronous(retries, cause):
        return strategy(retries, cause)

    peer.on("HELLO", GO_AWAY)
    client = make_client(reconnect_strategy=asynchronous if is_async else strategy)
    events = EventRecord(client)
    error = await outcome(client.connect())
    assert isinstance(error, ReconnectStrategyError)
    assert str(error) == "enough"
    assert events.names == ["connect", "error", "error", "reconnecting", "connect", "terminated", "error"]
    reported = events.of("error")[0]
    assert isinstance(reported, failure) or isinstance(reported.__cause__, failure)
    assert 0.05 <= events.of("reconnecting")[0][1] <= 0.25


@pytest.mark.pins("5.1", "P2")
async def test_a_strategy_that_hangs(peer, clock, make_client):
    """After 5 seconds the default decides."""

    async def strategy(retries, cause):
        await asyncio.Event().wait()

    events = await loses(peer, make_client(reconnect_strategy=strategy))
    await events.wait_for("reconnecting", 2, timeout=HOUR)
    assert 10.05 <= clock() <= 10.5
    assert [type(error) for error in events.of("error")[:2]] == [TimeoutError, ConnectionLostError]


@pytest.mark.pins("5.1", "4.20", "P6")
async def test_ending_while_the_strategy_is_asked(peer, make_client):
    """An asynchronous strategy is cancelled with the rest."""
    ended = []

    async def strategy(retries, cause):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(retries)

    client = make_client(reconnect_strategy=strategy)
    events = await loses(peer, client)
    await until(lambda: client.state is ClientState.RECONNECTING or not client.is_ready)
    await turns()
    await client.close()
    assert ended == [0]
    assert events.names == ["end"]


@pytest.mark.pins("5.1", "4.20")
@pytest.mark.parametrize("end", ["destroy", "connect", "command"])
async def test_a_strategy_that_uses_the_client(peer, make_client, end):
    """It may look at the client, use it and even destroy it."""
    tasks = []

    def strategy(retries, cause):
        if end == "destroy":
            client.destroy()
        elif end == "connect":
            tasks.append(asyncio.create_task(client.connect()))
        else:
            tasks.append(asyncio.create_task(client.get("k")))
        return 0.0

    client = make_client(reconnect_strategy=strategy)
    await client.connect()
    events = EventRecord(client)
    peer.connections[0].close()
    if end == "destroy":
        await events.wait_for("end")
        await client.close()
        assert events.names == ["end"]
        assert not job_tasks()
    else:
        await events.wait_for("ready")
        assert await tasks[0] in {client, b"k"}


# -- storms -----------------------------------------------------------------------------------------


@pytest.mark.pins("P1", "P2", "5.1")
async def test_a_reconnect_storm(peer, make_client):
    """Each connection is cut after some replies: every command ends once, with its own reply or as lost."""
    client = await make_client(reconnect_strategy=0.0, retry_unanswered="never").connect()
    served = iter(range(10**6))

    def serve(received):
        if next(served) % 97 == 96:
            received.connection.close()
            return None
        return resp.bulk(received.words[1])

    peer.on("GET", serve)

    async def ask(number):
        await turns(number % 50)
        return await outcome(client.get(f"value-{number}"))

    replies = await asyncio.gather(*(ask(number) for number in range(2000)))
    answered = sum(reply == f"value-{number}".encode() for number, reply in enumerate(replies))
    lost = [reply for reply in replies if isinstance(reply, ConnectionLostError)]
    assert answered + len(lost) == 2000
    assert answered > 100
    assert lost
    assert all(error.maybe_executed for error in lost)
    assert len(peer.connections) > 5
    peer.on("GET", lambda received: resp.bulk(received.words[1]))
    await client.connect()
    await until(lambda: client.is_ready)
    assert await client.get("after") == b"after"


@pytest.mark.pins("5.1")
async def test_a_server_that_accepts_and_hangs_up(make_client):
    """Fifty times in a row, and then it serves: each time one error, one reconnecting."""

    def hang_up(connection):
        if connection.number < 50:
            connection.close()

    async with ScriptedPeer(on_connection=hang_up) as peer:
        client = make_client(peer.url, reconnect_strategy=0.0)
        events = EventRecord(client)
        await client.connect()
        assert events.names.count("error") == events.names.count("reconnecting") == 50
        assert [retries for retries, _ in events.of("reconnecting")] == list(range(50))
        assert await client.ping() is True
        await client.close()


@pytest.mark.pins("P1", "P6")
async def test_two_clients_at_once(peer, make_client):
    """The end of one is nothing to the other."""
    first, second = make_client(client_name="first"), make_client(client_name="second")
    await asyncio.gather(first.connect(), second.connect())
    names = [f"{number}" for number in range(100)]
    loads = [asyncio.gather(*map(client.get, names)) for client in (first, second)]
    assert await asyncio.gather(*loads) == [[name.encode() for name in names]] * 2
    first.destroy()
    assert await second.get("k") == b"k"
    with pytest.raises(ClientClosedError):
        await first.get("k")


# -- a job that keeps failing -----------------------------------------------------------------------


@pytest.mark.pins("4.18", "5.1", "P2")
async def test_a_job_that_keeps_failing(peer, make_client):
    """A defect of ours in the link's job is an `error`; three within a second: `terminated`, and commands end."""
    broken = make_client(reconnect_strategy=lambda retries, cause: "nonsense", commands_queue_max_length=1)

    def fail(low, high):
        raise ZeroDivisionError

    core = ClientCore(replace(broken._core.equipment, uniform=fail))  # the default strategy's chance is out of order
    broken._core, broken._keeper = core, _Keeper(core)
    events = EventRecord(broken)
    await broken.connect()
    task = asyncio.create_task(broken.execute_command("SLOW"))
    await peer.connections[0].expect("SLOW")
    peer.on("HELLO", GO_AWAY)
    waiting = asyncio.create_task(broken.get("k"))
    await turns()
    peer.connections[0].close()
    await events.wait_for("terminated")
    failures = [error for error in events.of("error") if isinstance(error, ZeroDivisionError)]
    assert len(failures) == 3
    assert isinstance(await outcome(task), ConnectionLostError)
    error = await outcome(waiting)
    assert isinstance(error, ConnectError)
    assert error.maybe_executed is False
    assert isinstance(error.__cause__.__cause__, ZeroDivisionError)
    assert broken.is_open is False
    await turns()
    assert not job_tasks()

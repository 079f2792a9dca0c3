"""The order of events in each scenario of section 2.3 of node-redis.md, with its bug register (B…) fixed.

Departures that DESIGN asks for: `terminated(cause)` goes before the one `error` of a strategy that gave up; a wrong
password at first is final; `reconnecting` comes before the wait, not after it. And one that follows from strategies
that may be asynchronous: commands in flight end as soon as the connection is lost, before `error`.
"""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit import ClientState
from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    ClientClosedError,
    CommandTimeoutError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    HealthCheckError,
    ReconnectStrategyError,
)
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, outcome, turns, until

WRONGPASS = resp.error("WRONGPASS invalid username-password pair or user is disabled.")
HOUR = 3600.0


@pytest.fixture
def record(make_client):
    """A function that makes a client and the record of its events."""

    def make(*args, **options):
        client = make_client(*args, **options)
        return client, EventRecord(client)

    return make


# -- connecting for the first time ------------------------------------------------------------------


@pytest.mark.pins("5.1", "case-18")
async def test_first_connect(record):
    """`connect` (open, not ready), `ready`, and then `connect()` returns."""
    client, events = record()
    client.on("connect", lambda: events.note(client.is_open, client.is_ready))
    client.on("ready", lambda: events.note(client.is_open, client.is_ready))
    await client.connect()
    events.note("returned")
    assert events == [("connect",), (True, False), ("ready",), (True, True), ("returned",)]


@pytest.mark.pins("5.1")
async def test_first_connect_is_refused(record, clock, unused_port):
    """`error`, `reconnecting`, the wait, and so on; `connect()` waits as long as it may, not for ever."""
    client, events = record(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=4)
    for name in ("error", "reconnecting"):
        client.on(name, lambda *_: events.note(round(clock(), 2)))
    error = await outcome(client.connect())
    events.note("raised")
    assert isinstance(error, ConnectTimeoutError)
    assert [each[0] for each in events] == [
        *("error", 0.0, "reconnecting", 0.0),
        *("error", 4.0, "reconnecting", 4.0),
        *("error", 8.0, "reconnecting", 8.0),
        *("end", "raised"),
    ]
    assert events.of("reconnecting") == [(0, 4.0), (1, 4.0), (2, 4.0)]
    assert all(isinstance(each, ConnectError) for each in events.of("error"))
    assert clock() == pytest.approx(10, abs=0.01)


@pytest.mark.pins("5.1", "4.18")
async def test_wrong_password(peer, record):
    """node-redis tries for ever. Here waiting can't mend it: `terminated`, `error`, and `connect()` raises that."""
    peer.on("HELLO", WRONGPASS)
    client, events = record(password="wr0ng-one")
    error = await outcome(client.connect())
    assert isinstance(error, AuthenticationFailedError)
    assert events.names == ["connect", "terminated", "error"]
    assert error.__cause__ is events.of("error")[0] is events.of("terminated")[0]


@pytest.mark.pins("5.1", "5.3")
@pytest.mark.parametrize("reason", ["a strategy", "a provider"])
async def test_wrong_password_that_may_change(peer, record, reason):
    """With a strategy of one's own, or a provider that may know better next time, it is tried again."""
    peer.on("HELLO", WRONGPASS, WRONGPASS, resp.mapping({}))
    passwords = iter(["s3cret-1", "s3cret-2", "s3cret-3"])
    if reason == "a strategy":
        client, events = record(password="wr0ng-one", reconnect_strategy=0.0)
    else:
        client, events = record(credential_provider=lambda: ("user", next(passwords)))
    await client.connect()
    assert events.names == ["connect", "error", "reconnecting"] * 2 + ["connect", "ready"]


@pytest.mark.pins("5.1", "case-20", "case-39")
async def test_strategy_false_at_first(record, unused_port):
    """`terminated` and one `error`, both when the client is closed already; `connect()` raises it."""
    client, events = record(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=False)
    for name in ("terminated", "error"):
        client.on(name, lambda _: events.note(client.is_open))
    error = await outcome(client.connect())
    assert [each[0] for each in events] == ["terminated", False, "error", False]
    assert error.__cause__ is events.of("error")[0]
    assert type(error) is ConnectError


@pytest.mark.pins("5.1")
async def test_strategy_that_returns_an_error_at_first(record, unused_port):
    """The same, with `ReconnectStrategyError` and the strategy's error as its cause."""
    client, events = record(
        f"redis://127.0.0.1:{unused_port}", reconnect_strategy=lambda retries, cause: ValueError("no more")
    )
    error = await outcome(client.connect())
    assert isinstance(error, ReconnectStrategyError)
    assert str(error) == "no more"
    assert events.names == ["terminated", "error"]
    assert isinstance(events.of("error")[0].__cause__, ValueError)


@pytest.mark.pins("5.1", "case-19")
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_socket_dies_during_the_handshake(peer, record, how):
    """One `error`, not two."""
    numbers = []

    def die_twice(received):
        numbers.append(received.connection.number)
        if len(numbers) <= 2:
            getattr(received.connection, how)()
            return None
        return resp.simple("PONG")

    peer.on("PING", die_twice)
    client, events = record(reconnect_strategy=0.0)
    await client.connect()
    assert events.names == ["connect", "error", "reconnecting"] * 2 + ["connect", "ready"]
    assert [retries for retries, _ in events.of("reconnecting")] == [0, 1]


# -- losing the connection --------------------------------------------------------------------------


@pytest.mark.pins("5.1", "case-35")
async def test_drop_while_idle(peer, record):
    """`error` and `reconnecting` in the same turn; the first delay is honoured (B7)."""
    client, events = record(reconnect_strategy=0.05)
    await client.connect()
    loop = asyncio.get_running_loop()
    for name in ("error", "reconnecting", "connect"):
        client.on(name, lambda *_: events.note(loop.time()))
    peer.connections[0].close()
    await events.wait_for("ready", 2)
    names = [each[0] for each in events[2:] if isinstance(each[0], str)]
    assert names == ["error", "reconnecting", "connect", "ready"]
    failed, reconnecting, connected = [each[0] for each in events if isinstance(each[0], float)]
    assert reconnecting - failed < 0.02
    assert connected - reconnecting >= 0.05
    assert events.of("reconnecting") == [(0, 0.05)]
    assert isinstance(events.of("error")[0], ConnectionLostError)
    assert await client.get("k") == b"k"


@pytest.mark.pins("5.1", "4.11", "case-48")
async def test_drop_with_commands_in_flight(peer, record):
    """They end before the next `connect`; queued ones are answered after it, and never before `ready` (B12)."""
    client, events = record(reconnect_strategy=0.0, commands_queue_max_length=1, retry_unanswered="never")
    await client.connect()

    async def note(command):
        result = await outcome(command)
        events.note(type(result).__name__)

    flying = asyncio.create_task(note(client.execute_command("SLOW")))
    await peer.connections[0].expect("SLOW")
    queued = asyncio.create_task(note(client.get("k")))
    await turns()
    peer.connections[0].close()
    await asyncio.gather(flying, queued)
    names = [each[0] for each in events[2:]]
    assert names[:2] in (["ConnectionLostError", "error"], ["error", "reconnecting"])
    names.remove("ConnectionLostError")
    assert names == ["error", "reconnecting", "connect", "ready", "bytes"]


@pytest.mark.pins("5.1", "4.18", "case-39")
@pytest.mark.parametrize("answer", [False, ValueError("no more")])
async def test_drop_and_give_up_at_once(peer, record, answer):
    """One `terminated`, one `error`, no `end` (B6); and `connect()` opens it again."""
    client, events = record(reconnect_strategy=lambda retries, cause: answer)
    await client.connect()
    for name in ("terminated", "error"):
        client.on(name, lambda _: events.note(client.is_open, client.state))
    peer.connections[0].close()
    await events.wait_for("error")
    await turns()
    closed = (False, ClientState.TERMINATED)
    assert [each if len(each) == 2 and each[0] is False else each[0] for each in events[2:]] == [
        *("terminated", closed),
        *("error", closed),
    ]
    with pytest.raises(ClientClosedError):
        await client.get("k")
    await client.connect()
    assert await client.get("k") == b"k"


@pytest.mark.pins("5.1", "4.18")
async def test_give_up_later(peer, record):
    """After some attempts: the counter runs 0, 1, 2 … (B7), then `terminated` and one `error`."""
    seen = []

    def strategy(retries, cause):
        seen.append((retries, type(cause)))
        return 0.0 if retries < 3 else False

    client, events = record(reconnect_strategy=strategy)
    await client.connect()
    peer.on("HELLO", resp.error("ERR go away"))
    peer.connections[0].close()
    await events.wait_for("terminated")
    await turns()
    again = ["error", "reconnecting", "connect"]
    assert events.names[2:] == [*again * 3, "terminated", "error"]
    assert [retries for retries, _ in seen] == [0, 1, 2, 3]
    assert seen[0][1] is ConnectionLostError
    assert all(issubclass(kind, ConnectError) for _, kind in seen[1:])


@pytest.mark.pins("5.1", "4.9", "case-136")
async def test_a_peer_that_stops_answering(peer, record, clock):
    """A ping has a deadline (B9): lost as by a hang-up, with `HealthCheckError`."""
    client, events = record(ping_interval=10, ping_timeout=3, reconnect_strategy=1)
    await client.connect()
    peer.on("PING", None, resp.simple("PONG"))
    await events.wait_for("ready", 2, timeout=HOUR)
    assert events.names == ["connect", "ready", "error", "reconnecting", "connect", "ready"]
    assert isinstance(events.of("error")[0], HealthCheckError)
    assert 13 <= clock() < 14.1


# -- ending -----------------------------------------------------------------------------------------


@pytest.mark.pins("5.1", "4.19", "case-32")
async def test_close_with_commands_pending(peer, record):
    """Closed at once; the replies, `end`, and then `close()` returns."""
    client, events = record()
    await client.connect()
    pending = asyncio.create_task(client.execute_command("SLOW"))
    pending.add_done_callback(lambda _: events.note("reply"))
    await peer.connections[0].expect("SLOW")
    closing = asyncio.create_task(client.close())
    await turns()
    assert client.is_open is False
    peer.connections[0].send(resp.simple("done"))
    await closing
    events.note("returned")
    assert events.names[2:] == ["reply", "end", "returned"]
    assert await pending == b"done"


@pytest.mark.pins("5.1", "4.19")
async def test_close_while_idle(record):
    """`end`, and it returns."""
    client, events = record()
    await client.connect()
    await client.close()
    events.note("returned")
    assert events.names[2:] == ["end", "returned"]


@pytest.mark.pins("5.1", "4.20", "case-30", "case-33")
async def test_destroy(peer, record):
    """What is pending ends, `end` is emitted; a second time changes nothing."""
    client, events = record()
    await client.connect()
    pending = asyncio.create_task(client.execute_command("SLOW"))
    pending.add_done_callback(lambda _: events.note("ended"))
    await peer.connections[0].expect("SLOW")
    client.destroy()
    client.destroy()
    await client.close()
    client.destroy()
    await turns()
    assert sorted(events.names[2:]) == ["end", "ended"]
    assert isinstance(await outcome(pending), ClientClosedError)


@pytest.mark.pins("5.1", "4.20", "case-135", "case-21")
@pytest.mark.parametrize("end", ["destroy", "close"])
async def test_end_during_back_off(record, unused_port, clock, end):
    """`end` and nothing after it (B1); `connect()` raises."""
    client, events = record(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=2)
    connecting = asyncio.create_task(client.connect())
    await events.wait_for("reconnecting")
    assert (client.is_open, client.is_ready) == (True, False)
    if end == "destroy":
        client.destroy()
    else:
        await client.close()
    assert isinstance(await outcome(connecting), ClientClosedError)
    assert client.is_open is False
    await asyncio.sleep(60)
    assert events.names == ["error", "reconnecting", "end"]


@pytest.mark.pins("5.1", "4.20", "case-27")
async def test_destroy_while_the_provider_is_asked(peer, record):
    """`connect()` raises; no `error`, no `reconnecting`."""
    is_asked = asyncio.Event()

    async def provider():
        is_asked.set()
        await asyncio.Event().wait()

    client, events = record(credential_provider=provider)
    connecting = asyncio.create_task(client.connect())
    await is_asked.wait()
    client.destroy()
    assert isinstance(await outcome(connecting), ClientClosedError)
    await client.close()
    assert events.names == ["end"]
    assert len(peer.connections) == 0


# -- the rest of the bug register -------------------------------------------------------------------


@pytest.mark.pins("5.1", "5.4", "case-20")
async def test_nobody_listens_to_error(peer, make_client, caplog):
    """It is logged and nothing else: no raise, the strategy is asked, the client goes on (2.4, B5)."""
    asked = []
    client = make_client(reconnect_strategy=lambda retries, cause: asked.append(retries) or 0.0)
    await client.connect()
    task = asyncio.create_task(client.execute_command("SLOW"))
    await peer.connections[0].expect("SLOW")
    peer.connections[0].close()
    assert isinstance(await outcome(task), ConnectionLostError)
    await until(lambda: client.is_ready)
    assert asked == [0]
    assert await client.get("k") == b"k"
    (logged,) = [each for each in caplog.records if each.levelname not in {"DEBUG", "INFO"}]
    assert (logged.levelname, logged.name.split(".")[0]) == ("WARNING", "aioredis_kit")
    assert "closed the connection" in logged.getMessage()


@pytest.mark.pins("5.1", "P5")
async def test_the_handshake_does_not_count(peer, record):
    """It has a place even where one command fills the queue, at first and after a loss (B10)."""
    client, events = record(commands_queue_max_length=1, queue_full="raise", reconnect_strategy=0.0, db=1)
    waiting = asyncio.create_task(client.get("k"))
    await client.connect()
    assert await waiting == b"k"
    peer.connections[0].close()
    await events.wait_for("error")
    assert await client.get("k") == b"k"


@pytest.mark.pins("5.1", "P1")
async def test_nothing_that_raises_shifts_replies(peer, record):
    """Neither listeners that raise nor text that is none (B11)."""
    client, events = record(decode_responses=True, ping_interval=0.001)

    def fail(*_):
        raise RuntimeError

    for name in ("ping-interval", "ready", "connect"):
        client.on(name, fail)
    await client.connect()
    peer.on("BAD", resp.bulk(b"\xff"))
    names = [str(number) for number in range(100)]
    replies = await asyncio.gather(
        *(outcome(client.execute_command(*(("BAD",) if int(n) % 3 else ("GET", n)))) for n in names)
    )
    assert all(reply == n for n, reply in zip(names, replies, strict=True) if not int(n) % 3)
    assert all(isinstance(reply, UnicodeDecodeError) for n, reply in zip(names, replies, strict=True) if int(n) % 3)
    await events.wait_for("ping-interval")
    await until(lambda: len(events.of("error")) >= 3)
    assert {type(error) for error in events.of("error")} == {RuntimeError}


@pytest.mark.pins("5.1", "4.8")
async def test_time_outs_work_after_the_write(peer, record):
    """Deadlines and cancellation end a command that was written (B9)."""
    client, _ = record(command_timeout=0.05)
    await client.connect()
    assert isinstance(await outcome(client.execute_command("SLOW")), CommandTimeoutError)
    task = asyncio.create_task(client.with_options(command_timeout=None).execute_command("SLOW"))
    await peer.wait_for_command("SLOW", count=2)
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)

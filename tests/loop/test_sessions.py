"""Sessions: a client whose commands have one connection to themselves, until they end or lose it."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest
import redis.asyncio

from aioredis_kit.exceptions import (
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectionLostError,
)
from aioredis_kit.testing import resp
from tests.support.blocking import dedicated_lane, lease_count, words_on
from tests.support.observing import outcome, timers, turns, until

MINUTES = 300.0


@pytest.fixture(autouse=True)
def states(peer):
    """The peer takes what changes a connection."""
    for name in ("CLIENT NO-EVICT", "WATCH", "UNWATCH", "MULTI", "DISCARD", "RESET"):
        peer.on(name, resp.simple("OK"))


# -- one connection ---------------------------------------------------------------------------------


@pytest.mark.pins("P1", "P4")
async def test_all_commands_go_over_its_connection_in_their_order(peer, client):
    """Those that change it, those that don't, and concurrent ones; the client's go over the shared one."""
    async with client.dedicated() as session:
        assert isinstance(session, redis.asyncio.Redis)
        await session.select(5)
        tasks = [asyncio.create_task(session.get(f"k{number}")) for number in range(10)]
        tasks.append(asyncio.create_task(session.client_no_evict("ON")))
        tasks += [asyncio.create_task(session.set(f"k{number}", 1)) for number in range(10)]
        await asyncio.gather(*tasks, client.get("shared"))
    assert words_on(peer.connections[0]) == ["GET shared"]
    assert words_on(peer.connections[1])[:22] == [
        "SELECT 5",
        *(f"GET k{number}" for number in range(10)),
        "CLIENT NO-EVICT ON",
        *(f"SET k{number} 1" for number in range(10)),
    ]


@pytest.mark.parametrize("way", ["async with", "connect", "first command", "several at once"])
async def test_when_its_connection_is_leased(peer, client, way):
    session = client.dedicated()
    assert not session.is_open
    assert lease_count(client) == (0, 0)
    if way == "async with":
        await session.__aenter__()
    elif way == "connect":
        assert await session.connect() is session
    elif way == "first command":
        await session.get("k")
    else:
        await asyncio.gather(*(session.get("k") for _ in range(5)))
    assert session.is_open
    assert session.is_ready
    assert lease_count(client) == (1, 1)
    await session.close()
    await session.close()
    assert not session.is_open
    assert not session.is_ready
    assert lease_count(client) == (1, 0)
    assert len(peer.connections) == 2


@pytest.mark.pins("4.2")
async def test_it_opens_a_client_that_was_never_connected(make_client):
    client = make_client()
    async with client.dedicated() as session:
        assert await session.get("k") == b"k"
    assert client.is_ready


@pytest.mark.pins("4.1")
@pytest.mark.parametrize("renews", [False, True])
async def test_after_its_end_it_takes_no_command(client, renews):
    session = client.client() if renews else client.dedicated()
    await session.get("k")
    await session.aclose()
    for call in (lambda: session.get("k"), lambda: session.select(1), session.connect, session.__aenter__):
        error = await outcome(call())
        assert isinstance(error, ClientClosedError)
        assert "the session has ended" in str(error)
        assert error.maybe_executed is False
    assert lease_count(client) == (1, 0)
    assert await client.get("k") == b"k"


@pytest.mark.pins("4.1")
async def test_one_of_a_closed_client_takes_none_either(client):
    session = client.dedicated()
    await client.close()
    assert isinstance(await outcome(session.get("k")), ClientClosedError)


async def test_quit_ends_the_session_and_not_the_client(peer, client):
    session = await client.dedicated().connect()
    assert await session.execute_command("QUIT") is True
    assert not session.is_open
    assert await client.get("k") == b"k"
    assert "QUIT" not in words_on(peer.connections[1])


@pytest.mark.pins("P5")
async def test_its_views_share_its_connection(peer, clock, make_client):
    client = await make_client(ping_interval=None).connect()
    async with client.dedicated() as session:
        view = session.with_options(command_timeout=0.5, decode_responses=True)
        assert await view.get("k") == "k"
        assert await session.get("k") == b"k"
        began = clock()
        assert isinstance(await outcome(view.execute_command("SLOW")), CommandTimeoutError)
        assert clock() - began == pytest.approx(0.5, abs=0.06)
        assert lease_count(client) == (1, 1)


async def test_a_session_of_a_session_is_another_one(peer, client):
    """As ``client.client()`` of redis-py, with a connection of its own."""
    async with client.dedicated() as session, session.client() as other:
        await other.get("other")
        assert lease_count(client) == (2, 2)
    assert lease_count(client) == (2, 0)
    assert words_on(peer.connections[2]) == ["GET other"]


async def test_its_responses_are_shaped_as_the_clients(client):
    client.set_response_callback("GET", len)
    async with client.dedicated() as session:
        assert await session.get("four") == 4
        session.set_response_callback("GET", bytes)
        assert await session.get("four") == b"four"
    assert await client.get("four") == 4


async def test_responses_follow_the_protocol_that_it_speaks(peer, client):
    """After RESET it is RESP2; HELLO changes it back."""
    peer.on("HGETALL", lambda _: None)
    shapes = {3: resp.mapping({resp.bulk("f"): resp.bulk("v")}), 2: resp.array(resp.bulk("f"), resp.bulk("v"))}
    async with client.dedicated() as session:
        for command, protocol in ((None, 3), (("RESET",), 2), (("HELLO", 3), 3), (("HELLO", 2), 2), (("HELLO", 3), 3)):
            if command is not None:
                await session.execute_command(*command)
            peer.on("HGETALL", shapes[protocol])
            assert await session.hgetall("h") == {b"f": b"v"}


@pytest.mark.pins("P1")
async def test_it_is_at_home_on_the_clients_loop_only(client):
    session = await client.dedicated().connect()

    async def use():
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            await session.get("k")

    await asyncio.to_thread(asyncio.run, use())
    assert await session.get("k") == b"k"
    await session.close()


@pytest.mark.pins("P6")
async def test_one_that_is_forgotten_gives_its_connection_back(client):
    """With a warning, as a client that is not closed."""
    session = await client.dedicated().connect()
    await session.select(5)
    with pytest.warns(ResourceWarning, match="a session was not closed"):
        del session
        gc.collect()
    await until(lambda: lease_count(client) == (1, 0))
    async with client.dedicated() as session:
        await session.get("k")


async def test_one_that_is_forgotten_without_a_connection_warns_of_nothing(peer, client):
    """Never used, ended, or lost: nothing of it is open."""
    sessions = [client.dedicated() for _ in range(3)]
    await sessions[0].connect()
    await sessions[0].close()
    await sessions[1].connect()
    peer.connections[-1].close()
    await until(lambda: lease_count(client)[0] == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del sessions
        gc.collect()


@pytest.mark.pins("P1")
async def test_what_can_not_be_attributed_is_refused_here_too(peer, client):
    async with client.dedicated() as session:
        for args in (("SUBSCRIBE", "c"), ("MONITOR",), ("CLIENT", "REPLY", "OFF")):
            with pytest.raises(ConfigurationError):
                await session.execute_command(*args)
        assert await session.get("k") == b"k"
    assert words_on(peer.connections[1]) == ["GET k"]


@pytest.mark.pins("P1", "4.8")
@pytest.mark.parametrize("kind", ["dedicated()", "client()", "a view", "single connection"])
async def test_what_is_registered_later_counts(peer, make_client, kind):
    """Also for a name that was used before: from then on it is unblocked when its caller has gone."""
    is_single = kind == "single connection"
    client = await make_client(single_connection_client=is_single).connect()
    session = client if is_single else client.client() if kind == "client()" else client.dedicated()
    if kind == "a view":
        session = session.with_options(decode_responses=True)
    peer.on("MY.WAIT", resp.null(), None)
    await session.execute_command("MY.WAIT", "k")
    client.register_command("MY.WAIT", blocking=True, keys=1)
    waiting = asyncio.create_task(session.execute_command("MY.WAIT", "k"))
    await peer.wait_for_command("MY.WAIT", count=2)
    peer.on("CLIENT UNBLOCK", lambda _: (peer.connections[1].send(resp.null()), resp.integer(1))[1])
    waiting.cancel()
    await outcome(waiting)
    assert await session.get("k") == ("k" if kind == "a view" else b"k")
    assert words_on(peer.connections[0]) == ["CLIENT UNBLOCK 2"]
    await session.close()


# -- errors and repetitions -------------------------------------------------------------------------


@pytest.mark.pins("4.13")
async def test_a_server_that_does_not_serve_yet_is_asked_again(peer, client):
    peer.on("GET", resp.error("LOADING dataset"), resp.bulk("v"))
    peer.on("WATCH", resp.error("LOADING dataset"), resp.simple("OK"))
    peer.on("BLPOP", resp.error("LOADING dataset"), resp.null())
    async with client.dedicated() as session:
        assert await session.get("k") == b"v"
        assert await session.execute_command("WATCH", "k")
        assert await session.blpop("k", 0) is None
        await session.execute_command("UNWATCH")


@pytest.mark.pins("P1", "4.13")
async def test_in_a_transaction_nothing_is_sent_again(peer, client):
    """It would be answered as another command of it."""
    peer.on("GET", resp.error("LOADING dataset"), resp.bulk("v"))
    async with client.dedicated() as session:
        await session.execute_command("MULTI")
        assert isinstance(await outcome(session.get("k")), redis.exceptions.BusyLoadingError)
        await session.execute_command("DISCARD")


@pytest.mark.pins("4.9", "P1")
async def test_no_ping_gets_into_a_transaction(clock, peer, make_client):
    """It would be answered QUEUED, and EXEC with one reply more. Before and behind it there are pings."""
    client = await make_client(ping_interval=10, ping_timeout=2, command_timeout=None).connect()

    def pings():
        return words_on(peer.connections[1], handshakes=True).count("PING")

    async with client.dedicated() as session:
        await asyncio.sleep(25)
        assert pings() == 3
        await session.execute_command("MULTI")
        slow = asyncio.create_task(session.execute_command("SLOW"))
        hasty = session.with_options(command_timeout=1.0)
        assert isinstance(await outcome(hasty.execute_command("SLOW")), CommandTimeoutError)  # a doubt, but no ping
        await asyncio.sleep(MINUTES)
        assert pings() == 3
        peer.connections[1].send(resp.simple("QUEUED"), resp.simple("QUEUED"))
        assert await slow == b"QUEUED"
        await session.execute_command("DISCARD")
        await asyncio.sleep(25)
        assert pings() > 3


@pytest.mark.pins("4.9")
async def test_a_session_whose_server_fell_silent_is_lost(clock, peer, make_client):
    client = await make_client(ping_interval=10, ping_timeout=2, command_timeout=None).connect()
    session = await client.dedicated().connect()
    peer.connections[1].pause_reading()
    error = await outcome(session.get("k"))
    assert isinstance(error, ConnectionLostError)
    assert clock() == pytest.approx(12, abs=0.2)
    await session.close()


# -- a lost connection ------------------------------------------------------------------------------


@pytest.mark.pins("P3", "4.11")
async def test_what_was_lost_stays_lost(peer, client):
    """From then on every command of the session says so; the state that was there is not there any more."""
    session = await client.dedicated().connect()
    await session.select(5)
    asking = asyncio.create_task(session.execute_command("SLOW"))
    await peer.wait_for_command("SLOW")
    peer.connections[1].close()
    error = await outcome(asking)
    assert isinstance(error, ConnectionLostError)
    assert error.maybe_executed is True
    assert not session.is_open
    known = len(peer.commands)
    for call in (lambda: session.get("k"), lambda: session.select(5), session.connect, lambda: session.blpop("k", 0)):
        error = await outcome(call())
        assert isinstance(error, ConnectionLostError)
        assert error.maybe_executed is False
        assert "begin another session" in str(error)
    assert len(peer.commands) == known
    assert lease_count(client) == (0, 0)
    assert await client.get("k") == b"k"
    await session.close()


@pytest.mark.pins("P3")
async def test_redis_pys_kind_goes_on_on_another_connection(peer, client):
    """``client.client()``: the next command leases one, without what was done to the last."""
    session = client.client()
    await session.select(5)
    asking = asyncio.create_task(session.execute_command("SLOW"))
    await peer.wait_for_command("SLOW")
    peer.connections[1].close()
    assert isinstance(await outcome(asking), ConnectionLostError)
    assert await asyncio.gather(*(session.get(f"k{number}") for number in range(3))) == [b"k0", b"k1", b"k2"]
    assert words_on(peer.connections[2]) == ["GET k0", "GET k1", "GET k2"]
    assert lease_count(client) == (1, 1)
    await session.close()


@pytest.mark.pins("4.11")
async def test_nothing_of_a_session_is_sent_again(peer, client):
    """Not even what reads: the connection that it was asked on is gone."""
    async with client.dedicated() as session:
        asking = asyncio.create_task(session.get("k"))
        peer.on("GET", lambda received: received.connection.close())
        assert isinstance(await outcome(asking), ConnectionLostError)
    assert [each.name for each in peer.commands].count("GET") == 1


@pytest.mark.pins("P1", "4.17")
async def test_out_of_step_means_lost(peer, client):
    session = await client.dedicated().connect()
    peer.connections[1].send(resp.simple("nobody asked"))
    await until(lambda: not session.is_open)
    assert isinstance(await outcome(session.get("k")), ConnectionLostError)
    assert await client.get("k") == b"k"
    await session.close()


# -- cancellation -----------------------------------------------------------------------------------


@pytest.mark.pins("P1", "P2", "4.8")
async def test_a_command_that_is_cancelled_shifts_no_reply(peer, client):
    async with client.dedicated() as session:
        for number in range(5):
            task = asyncio.create_task(session.execute_command("SLOW"))
            await peer.wait_for_command("SLOW", count=number + 1)
            task.cancel()
            assert isinstance(await outcome(task), asyncio.CancelledError)
            other = asyncio.create_task(session.execute_command("OTHER"))
            await peer.wait_for_command("OTHER", count=number + 1)
            peer.connections[1].send(resp.simple("slow"), resp.simple("other"))
            assert await other == b"other"


@pytest.mark.pins("P2", "P5", "case-92")
async def test_cancelled_at_any_point_a_session_leaves_nothing_behind(peer, make_client):
    """No lost lease, and the next user finds it as new."""
    client = await make_client(max_dedicated_connections=1).connect()

    async def use():
        async with client.dedicated() as session:
            await session.execute_command("WATCH", "k")
            await session.get("k")
            await session.execute_command("MULTI")
            await session.set("k", 1)
            await session.execute_command("DISCARD")
            await session.client_no_evict("ON")

    for count in range(60):
        task = asyncio.create_task(use())
        await turns(count)
        task.cancel()
        await outcome(task)
        await until(lambda: lease_count(client)[1] == 0)
        async with client.dedicated() as session:
            await session.set("next", count)
        assert lease_count(client)[0] <= 1
    for connection in peer.connections[1:]:
        state = set()
        for words in words_on(connection):
            state = set() if words == "RESET" else state
            if words.startswith("SET next"):
                assert not state, words_on(connection)
            if words.startswith(("WATCH", "MULTI", "CLIENT NO-EVICT")):
                state.add(words.split()[0])
            elif words.startswith("DISCARD"):
                state -= {"MULTI", "WATCH"}


@pytest.mark.pins("P2")
async def test_one_that_waits_for_the_first_to_lease_is_cancelled(client):
    """Several first commands at once, and the one that leases is cancelled: another leases instead."""
    session = client.dedicated()
    tasks = [asyncio.create_task(session.get(f"k{number}")) for number in range(3)]
    await turns(2)
    tasks[0].cancel()
    results = [await outcome(task) for task in tasks]
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [b"k1", b"k2"]
    assert lease_count(client)[1] == 1
    await session.close()


@pytest.mark.pins("P2")
async def test_one_that_ends_while_it_leases(client):
    session = client.dedicated()
    task = asyncio.create_task(session.get("k"))
    await turns(2)
    await session.close()
    assert isinstance(await outcome(task), ClientClosedError)
    await until(lambda: lease_count(client) == (1, 0))
    assert dedicated_lane(client).holders == ()


# -- a primary that became a replica ----------------------------------------------------------------


@pytest.mark.pins("4.14")
@pytest.mark.parametrize("kind", ["command", "pipeline", "transaction"])
async def test_a_server_that_has_become_a_replica_is_left(peer, client, kind):
    """What a session, or its pipeline, had written there counts. The refusal is raised; the next one begins anew."""
    peer.on("WATCH", resp.simple("OK"))
    peer.on(
        "EXEC",
        resp.array(resp.simple("OK")),
        resp.error("EXECABORT Transaction discarded"),
        resp.array(resp.simple("OK")),
    )
    queued = resp.simple("QUEUED") if kind == "transaction" else resp.simple("OK")
    peer.on("SET", queued, resp.error("READONLY You can't write against a read only replica."), queued)

    def write(pipe):
        pipe.multi()
        pipe.set("k", 1)

    async def use():
        if kind == "transaction":
            return await client.transaction(write, "k")
        async with client.dedicated() as session:
            if kind == "pipeline":
                return await session.pipeline(transaction=False).set("k", 1).execute()
            return [await session.set("k", 1)]

    assert await use() == [True]
    assert isinstance(await outcome(use()), redis.exceptions.ReadOnlyError)
    await until(lambda: len(peer.connections) == 3 and client.is_ready)
    assert await use() == [True]
    assert [each.connection.number for each in peer.commands if each.name == "SET"] == [1, 1, 3]


# -- its end ----------------------------------------------------------------------------------------


@pytest.mark.pins("P6")
@pytest.mark.parametrize("way", ["given back", "lost", "can not be reset"])
async def test_no_timer_outlives_its_connection(peer, make_client, way):
    client = await make_client(reconnect_strategy=0.0).connect()
    session = await client.dedicated().connect()
    await session.get("k")
    if way == "lost":
        peer.connections[1].close()
        await until(lambda: lease_count(client)[0] == 0)
    elif way == "can not be reset":
        await session.client_no_evict("ON")
    await session.close()
    await turns()
    await client.close()
    assert not timers(asyncio.get_running_loop())

"""Dedicated connections: lent one at a time and in order, never more than the limit, and never as somebody left them."""

from __future__ import annotations

import asyncio

import pytest
import redis.exceptions

from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    ClientClosedError,
    ConnectError,
    NotConnectedError,
    PoolExhaustedError,
)
from aioredis_kit.testing import resp
from tests.support.blocking import BlockingPeer, lease_count, words_on
from tests.support.observing import outcome, turns, until

GO_AWAY = resp.error("ERR go away")


@pytest.fixture(autouse=True)
def states(peer):
    """The peer takes what changes a connection."""
    for name in ("CLIENT NO-EVICT", "READONLY", "WATCH", "RESET"):
        peer.on(name, resp.simple("OK"))


@pytest.fixture
def blocking(peer):
    """A peer that answers blocking commands when asked to."""
    return BlockingPeer(peer)


async def loses_shared(peer, client):
    """Lose the shared connection while no other is to be had."""
    peer.on("HELLO", GO_AWAY)
    peer.connections[0].close()
    await until(lambda: not client.is_ready)


# -- the limit and the waiting line -----------------------------------------------------------------


@pytest.mark.pins("P5")
async def test_no_more_than_the_limit_and_served_in_order(peer, make_client):
    """Whoever waits is served before who comes later, also one who comes when a connection is free."""
    client = await make_client(max_dedicated_connections=2).connect()
    served = []
    most = 0

    async def use(number):
        nonlocal most
        async with client.dedicated() as session:
            served.append(number)
            most = max(most, lease_count(client)[1])
            await session.get("k")

    tasks = []
    for number in range(20):
        tasks.append(asyncio.create_task(use(number)))
        await turns(number % 4)
    await asyncio.gather(*tasks)
    assert served == list(range(20))
    assert most == 2
    assert lease_count(client) == (2, 0)
    assert len(peer.connections) == 3


@pytest.mark.pins("P2", "P5")
async def test_when_all_are_in_use(clock, blocking, make_client):
    """Within ``command_timeout`` an error that names the limit and the holders; it is a TimeoutError too."""
    client = await make_client(max_dedicated_connections=2, ping_interval=None).connect()
    popping = asyncio.create_task(client.blpop("k", 0))
    async with client.dedicated():
        await until(lambda: blocking.waiting)
        began = clock()
        for attempt in (lambda: client.blmove("a", "b", 0), client.dedicated().connect):
            error = await outcome(attempt())
            assert isinstance(error, PoolExhaustedError)
            assert isinstance(error, redis.exceptions.TimeoutError)
            assert (error.limit, error.holders, error.maybe_executed) == (2, ("BLPOP", "session"), False)
            assert "all 2 dedicated connections (max_dedicated_connections) were in use, by BLPOP, session" in str(
                error
            )
        assert clock() - began == pytest.approx(10, abs=0.1)
    blocking.give(resp.array(resp.bulk("k"), resp.bulk("v")))
    assert await popping == (b"k", b"v")


@pytest.mark.pins("P2")
async def test_when_none_can_be_opened(clock, peer, make_client):
    """The error says so, and why; another attempt is made meanwhile, and serves who comes next."""
    client = await make_client(ping_interval=None).connect()
    peer.on("HELLO", GO_AWAY)
    error = await outcome(client.blpop("k", 1))
    assert isinstance(error, PoolExhaustedError)
    assert error.holders == ()
    assert isinstance(error.__cause__, ConnectError)
    assert "no dedicated connection could be opened in time" in str(error)
    assert "go away" in str(error)
    peer.on("HELLO", resp.mapping({}))
    async with client.dedicated() as session:
        assert await session.get("k") == b"k"
    assert clock() < 7


@pytest.mark.pins("P2")
async def test_refused_credentials_are_said_at_once(peer, client):
    peer.on("HELLO", resp.error("WRONGPASS invalid username-password pair"))
    error = await outcome(client.dedicated().connect())
    assert isinstance(error, AuthenticationFailedError)
    assert lease_count(client) == (0, 0)


@pytest.mark.pins("P2", "P5", "4.7")
@pytest.mark.parametrize("kind", ["opened", "idle", "waited for"])
async def test_cancelled_at_any_point_a_lease_is_not_lost(blocking, make_client, kind):
    """The first of the four failures of peers.md: with a limit of one, one lost slot is the end."""
    client = await make_client(max_dedicated_connections=1).connect()
    for count in range(60):
        holder = client.dedicated()
        if kind != "opened":
            await holder.connect()
        if kind == "idle":
            await holder.close()
        waiting = asyncio.create_task(client.dedicated().connect())
        await turns(count // 2)
        if kind == "waited for":
            await holder.close()
            await turns(count % 5)
        waiting.cancel()
        result = await outcome(waiting)
        if not isinstance(result, asyncio.CancelledError):
            await result.close()
        await until(lambda: lease_count(client)[1] == 0)
        assert lease_count(client)[0] <= 1
        async with client.dedicated() as session:
            assert lease_count(client) == (1, 1)
            if kind == "opened":
                await session.select(5)
        if kind == "opened":  # the next one finds none
            blocking.peer.connections[-1].close()
            await until(lambda: lease_count(client) == (0, 0))


# -- how long they live -----------------------------------------------------------------------------


@pytest.mark.pins("P5")
async def test_closed_when_nobody_needed_it_for_30_seconds(clock, peer, make_client):
    client = await make_client(ping_interval=None).connect()

    async def use(count):
        sessions = [await client.dedicated().connect() for _ in range(count)]
        for session in sessions:
            await session.close()

    await use(2)
    await asyncio.sleep(20)
    await use(1)  # the one that was given back last
    await asyncio.sleep(9.9)
    assert lease_count(client) == (2, 0)
    await asyncio.sleep(0.2)
    assert lease_count(client) == (1, 0)
    await asyncio.sleep(19.7)
    assert lease_count(client) == (1, 0)
    await asyncio.sleep(0.3)
    assert lease_count(client) == (0, 0)
    await peer.connections[1].wait_closed()
    await peer.connections[2].wait_closed()
    assert clock() == pytest.approx(50, abs=0.2)


async def test_one_that_the_server_closes_is_not_lent(peer, client):
    async with client.dedicated() as session:
        await session.get("k")
    peer.connections[1].close()
    await until(lambda: lease_count(client) == (0, 0))
    async with client.dedicated() as session:
        assert await session.get("k") == b"k"
    assert len(peer.connections) == 3


@pytest.mark.pins("4.10")
@pytest.mark.parametrize("kind", ["session", "pipeline", "transaction"])
async def test_one_that_the_server_has_closed_unnoticed_is_not_lent(peer, blocking, client, kind):
    """The event loop has not told it yet, but the system knows: nothing is written to it."""
    peer.on("MULTI", resp.simple("OK"))
    peer.on("EXEC", resp.array())
    peer.on("BLPOP", resp.null())
    async with client.dedicated() as session:
        await session.get("k")

    async def use_session():
        async with client.dedicated() as session:
            return await session.get("k")

    uses = {
        "session": (use_session, b"k"),
        "pipeline": (lambda: client.pipeline(transaction=False).blpop("k", 0).execute(), [None]),
        "transaction": (lambda: client.transaction(lambda pipe: pipe.multi(), "k"), []),
    }
    use, expected = uses[kind]
    peer.connections[1].close()
    assert await outcome(use()) == expected
    assert words_on(peer.connections[1]) == ["GET k"]


@pytest.mark.pins("case-36")
@pytest.mark.parametrize("change", ["SELECT", "AUTH", "SETNAME"])
async def test_one_from_before_a_change_is_not_lent_after_it(peer, client, change):
    """Neither one that was idle then, nor one that was lent."""
    changes = {"SELECT": ("SELECT", 3), "AUTH": ("AUTH", "ada", "s3cret"), "SETNAME": ("CLIENT SETNAME", "me")}
    expected = {"SELECT": "SELECT 3", "AUTH": "AUTH ada s3cret", "SETNAME": "SETNAME me"}
    lent = await client.dedicated().connect()
    async with client.dedicated() as session:
        await session.get("idle")
    await client.execute_command(*changes[change])
    assert words_on(peer.connections[1]) == []  # leases keep theirs
    await lent.get("lent")
    await lent.close()
    async with client.dedicated() as session:
        await session.get("new")
    assert words_on(peer.connections[1]) == ["GET lent"]
    assert words_on(peer.connections[2]) == ["GET idle"]
    assert words_on(peer.connections[3])[-1] == "GET new"
    assert any(expected[change] in each for each in words_on(peer.connections[3], handshakes=True))
    assert lease_count(client) == (1, 0)


# -- as new for the next user -----------------------------------------------------------------------


@pytest.mark.pins("case-92")
async def test_one_that_was_changed_is_reset_before_it_is_lent_again(peer, make_client):
    """RESET and the whole introduction, before the first command of the next user."""
    client = await make_client(db=2, client_name="me", max_dedicated_connections=1).connect()
    async with client.dedicated() as session:
        await session.readonly()
        await session.select(5)
        await session.execute_command("WATCH", "k")
    async with client.dedicated() as session:
        await session.get("k")
    found = words_on(peer.connections[1], handshakes=True)
    introduction = found[: found.index("READONLY")]
    assert introduction[0] == "HELLO 3 SETNAME me"
    assert found == [*introduction, "READONLY", "SELECT 5", "WATCH k", "RESET", *introduction, "GET k"]
    assert len(peer.connections) == 2


@pytest.mark.pins("case-92")
async def test_one_that_was_not_changed_is_lent_as_it_is(peer, client):
    for _ in range(3):
        async with client.dedicated() as session:
            await session.set("k", 1)
            await session.get("k")
    assert words_on(peer.connections[1]) == ["SET k 1", "GET k"] * 3


@pytest.mark.pins("case-92")
async def test_one_with_what_a_reset_may_leave_is_closed(peer, make_client):
    """Redis 7.0 does not take NO-EVICT back."""
    client = await make_client(max_dedicated_connections=1).connect()
    async with client.dedicated() as session:
        await session.client_no_evict("ON")
    async with client.dedicated() as session:
        await session.get("k")
    assert words_on(peer.connections[1]) == ["CLIENT NO-EVICT ON"]
    assert words_on(peer.connections[2]) == ["GET k"]
    assert lease_count(client) == (1, 0)


@pytest.mark.pins("case-92")
@pytest.mark.parametrize("answer", [resp.error("ERR unknown command 'RESET'"), None, "gone"], ids=str)
async def test_one_that_can_not_be_reset_is_closed(clock, peer, make_client, answer):
    """Refused, not answered, or lost in the middle: the next user gets another."""
    client = await make_client(max_dedicated_connections=1, ping_interval=None).connect()
    peer.on("RESET", (lambda received: received.connection.close()) if answer == "gone" else answer)
    async with client.dedicated() as session:
        await session.select(5)
    async with client.dedicated() as session:
        assert await session.get("k") == b"k"
    assert words_on(peer.connections[1])[-1] == "RESET"
    assert words_on(peer.connections[2]) == ["GET k"]
    assert clock() < 4
    assert lease_count(client) == (1, 0)


@pytest.mark.pins("case-92")
async def test_what_changes_during_a_reset_counts(peer, client):
    """A SELECT on the client while a lease is reset: the lease is not what it should be by then."""
    resets = []
    peer.on("RESET", resets.append)
    async with client.dedicated() as session:
        await session.select(5)
    await until(lambda: resets)
    await client.select(3)
    peer.connections[1].send(resp.simple("RESET"))
    async with client.dedicated() as session:
        await session.get("k")
    assert "SELECT 3" in words_on(peer.connections[2])
    assert lease_count(client) == (1, 0)


@pytest.mark.pins("4.14", "case-92")
async def test_one_that_is_being_reset_when_a_replica_is_left_is_closed(peer, client):
    """It leads to the replica, as the idle ones do: who wants a primary must not get it."""
    peer.on("RESET", None)
    async with client.dedicated() as session:
        await session.select(5)
    await peer.wait_for_command("RESET")
    peer.on("SET", resp.simple("OK"), resp.error("READONLY You can't write against a replica."), resp.simple("OK"))
    assert [await client.set("k", number) for number in range(2)] == [True, True]
    await peer.connections[1].wait_closed(timeout=1)
    async with client.dedicated() as session:
        await session.get("k")
    assert words_on(peer.connections[-1]) == ["GET k"]
    assert lease_count(client) == (1, 0)


async def answer_reset_by_hand(peer, *frames):
    """Answer a reset behind what is due, as a server does, which answers in order."""
    await peer.wait_for_command("RESET")
    await until(lambda: words_on(peer.connections[1], handshakes=True)[-1] == "PING")
    peer.connections[1].send(*frames, resp.simple("RESET"), resp.mapping({}), resp.simple("PONG"))


def let_resets_wait(peer):
    for name in ("RESET", "HELLO", "PING"):
        peer.on(name, None)


@pytest.mark.pins("P1", "case-92")
async def test_what_the_last_user_left_in_flight_is_behind_a_reset(peer, make_client):
    """A command whose reply is still due may do anything: the next user's come after RESET, with their own replies."""
    client = await make_client(disable_client_info=True, max_dedicated_connections=1).connect()
    session = await client.dedicated().connect()
    let_resets_wait(peer)
    asking = asyncio.create_task(session.execute_command("SLOW"))
    await peer.wait_for_command("SLOW")
    asking.cancel()
    await session.close()
    await answer_reset_by_hand(peer, resp.simple("slow"))
    session = await client.dedicated().connect()
    assert await session.get("k") == b"k"
    await session.close()
    assert len(peer.connections) == 2


@pytest.mark.pins("P1", "4.7", "case-92")
async def test_what_the_last_user_had_not_sent_is_never_sent(peer, make_client):
    """Issued in the very turn in which the session ended."""
    client = await make_client(disable_client_info=True, max_dedicated_connections=1).connect()
    session = await client.dedicated().connect()
    let_resets_wait(peer)
    first = asyncio.create_task(session.execute_command("SLOW"))
    second = asyncio.create_task(session.select(5))
    await turns(1)
    await session.close()
    error = await outcome(second)
    assert isinstance(error, ClientClosedError)
    assert error.maybe_executed is False
    await answer_reset_by_hand(peer, resp.simple("slow"))
    assert await first == b"slow"
    async with client.dedicated() as session:
        await session.get("k")
    assert not [each for connection in peer.connections for each in words_on(connection) if "SELECT" in each]
    assert len(peer.connections) == 2


# -- with the shared lane ---------------------------------------------------------------------------


@pytest.mark.pins("4.3")
@pytest.mark.parametrize("is_idle", [True, False])
async def test_leases_wait_while_the_shared_lane_reconnects(peer, make_client, is_idle):
    """None is opened or lent meanwhile; then the one that is there serves, also where no other may be opened."""
    client = await make_client(max_dedicated_connections=1, reconnect_strategy=0.001).connect()
    if is_idle:
        await (await client.dedicated().connect()).close()
    await loses_shared(peer, client)
    waiting = [asyncio.create_task(client.dedicated().connect()) for _ in range(2)]
    known = {connection.number for connection in peer.connections}
    await until(lambda: len(peer.connections) > len(known) + 5)
    assert not any(task.done() for task in waiting)
    assert lease_count(client) == (int(is_idle), 0)
    peer.on("HELLO", resp.mapping({}))
    session = await waiting[0]
    assert client.is_ready
    assert not waiting[1].done()
    await session.close()
    await (await waiting[1]).close()
    assert lease_count(client) == (1, 0)


@pytest.mark.pins("4.3")
async def test_one_that_comes_back_meanwhile_is_lent_only_afterwards(peer, make_client):
    client = await make_client(max_dedicated_connections=1, reconnect_strategy=0.001).connect()
    session = await client.dedicated().connect()
    waiting = asyncio.create_task(client.dedicated().connect())
    await turns()
    await loses_shared(peer, client)
    await session.close()
    await turns()
    assert not waiting.done()
    peer.on("HELLO", resp.mapping({}))
    assert (await waiting).is_open
    await (await waiting).close()
    assert lease_count(client) == (1, 0)


@pytest.mark.pins("4.4")
async def test_without_an_offline_queue(peer, make_client):
    """Refused while not connected, also for those who were waiting when the connection was lost."""
    client = make_client(disable_offline_queue=True, max_dedicated_connections=1, reconnect_strategy=0.001)
    for call in (lambda: client.blpop("k", 0), client.dedicated().connect):
        error = await outcome(call())
        assert isinstance(error, NotConnectedError)
        assert error.maybe_executed is False
    await client.connect()  # the connecting went on
    session = await client.dedicated().connect()
    waiting = asyncio.create_task(client.dedicated().connect())
    await turns()
    await loses_shared(peer, client)
    assert isinstance(await outcome(waiting), NotConnectedError)
    assert await session.get("k") == b"k"
    await session.close()


@pytest.mark.pins("4.10")
async def test_one_that_is_lost_in_the_moment_in_which_it_is_lent(peer, make_client):
    """Nothing was written: another one is taken."""
    client = await make_client(max_dedicated_connections=1).connect()
    session = await client.dedicated().connect()
    lease = session._core.lease
    waiting = asyncio.create_task(client.dedicated().connect())
    await turns()
    await session.close()
    lease.close("gone")
    session = await waiting
    assert await session.get("k") == b"k"
    assert lease_count(client) == (1, 1)
    await session.close()


@pytest.mark.pins("P1", "case-36")
async def test_whoever_waited_before_a_select_gets_the_database_of_before(blocking, make_client):
    """A command that was issued for one database does not run in another because it had to wait."""
    client = await make_client(max_dedicated_connections=1, db=2).connect()
    session = await client.dedicated().connect()
    before = asyncio.create_task(client.blpop("before", 0))
    await turns()
    await client.select(3)
    after = asyncio.create_task(client.blpop("after", 0))
    await turns()
    await session.close()
    await until(lambda: blocking.waiting)
    blocking.give(resp.array(resp.bulk("before"), resp.bulk("v")))
    await before
    await until(lambda: blocking.waiting)
    blocking.give(resp.array(resp.bulk("after"), resp.bulk("v")))
    await after
    found = {}
    for connection in blocking.peer.connections:
        words = words_on(connection)
        selected = None
        for each in words:
            selected = each if each.startswith("SELECT") else selected
            if each.startswith("BLPOP"):
                found[each] = selected
    assert found == {"BLPOP before 0": "SELECT 2", "BLPOP after 0": "SELECT 3"}


# -- ending -----------------------------------------------------------------------------------------


@pytest.mark.pins("4.19", "P6")
async def test_closing_gives_leases_their_time(peer, make_client):
    """A session works on until it ends; who waits in line, or comes later, is refused; then the client is closed."""
    client = await make_client(max_dedicated_connections=1).connect()
    session = await client.dedicated().connect()
    waiting = asyncio.create_task(client.dedicated().connect())
    await turns()
    closing = asyncio.create_task(client.close())
    assert isinstance(await outcome(waiting), ClientClosedError)
    assert isinstance(await outcome(client.dedicated().connect()), ClientClosedError)
    assert await session.get("k") == b"k"
    assert not closing.done()
    await session.close()
    await closing
    await peer.connections[1].wait_closed()


@pytest.mark.pins("4.19", "4.20", "P6")
async def test_a_session_that_does_not_end_in_time(clock, peer, make_client):
    """After ``close_timeout`` closing becomes destroying."""
    client = await make_client(close_timeout=2.0, ping_interval=None).connect()
    session = await client.dedicated().connect()
    asking = asyncio.create_task(session.execute_command("SLOW"))
    await peer.wait_for_command("SLOW")
    await client.close()
    assert clock() == pytest.approx(2, abs=0.1)
    error = await outcome(asking)
    assert isinstance(error, ClientClosedError)
    assert error.maybe_executed is True
    assert isinstance(await outcome(session.get("k")), ClientClosedError)
    assert not session.is_open
    await session.close()


@pytest.mark.pins("4.19")
async def test_one_that_was_lent_in_the_moment_of_closing_is_taken_back(peer, make_client):
    client = await make_client(max_dedicated_connections=1).connect()
    session = await client.dedicated().connect()
    waiting = asyncio.create_task(client.blpop("k", 0))
    await turns()
    await session.close()  # it is lent now, and not used yet
    async with asyncio.timeout(1):
        await client.close()
    assert isinstance(await outcome(waiting), ClientClosedError)
    assert not [each for each in peer.commands if each.name == "BLPOP"]


@pytest.mark.pins("4.20", "P6")
async def test_destroying_ends_all(peer, blocking, make_client):
    """Lent, idle, being opened and being reset."""
    client = await make_client().connect()
    session = await client.dedicated().connect()
    await (await client.dedicated().connect()).close()
    popping = asyncio.create_task(client.blpop("k", 0))
    await until(lambda: blocking.waiting)
    dirty = await client.dedicated().connect()
    await dirty.select(5)
    peer.on("RESET", None)
    await dirty.close()
    peer.on("HELLO", None)
    opening = asyncio.create_task(client.dedicated().connect())
    await until(lambda: len(peer.connections) >= 5)
    asking = asyncio.create_task(session.execute_command("SLOW"))
    await peer.wait_for_command("SLOW")
    client.destroy()
    for task in (popping, opening, asking):
        assert isinstance(await outcome(task), ClientClosedError)
    assert isinstance(await outcome(session.get("k")), ClientClosedError)
    await client.close()
    for connection in peer.connections:
        await connection.wait_closed()


@pytest.mark.pins("4.18")
async def test_whoever_waits_hears_that_the_strategy_gave_up(peer, make_client):
    client = await make_client(max_dedicated_connections=1, reconnect_strategy=lambda *_: False).connect()
    session = await client.dedicated().connect()
    waiting = asyncio.create_task(client.blpop("k", 0))
    await turns()
    peer.connections[0].close()
    error = await outcome(waiting)
    assert isinstance(error, ConnectError)
    assert error.maybe_executed is False
    await session.close()

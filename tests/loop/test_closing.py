"""How a client ends: given up, closed, destroyed, `aclose()`d, whatever is pending: DESIGN 4.18 to 4.21 and P6."""

from __future__ import annotations

import asyncio
import gc

import pytest

from aioredis_kit import ClientState
from aioredis_kit.exceptions import ClientClosedError, ConnectError, ConnectionLostError, ReconnectStrategyError
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, job_tasks, outcome, sockets_to, timers, turns


async def issue(peer, client, *args):
    """Issue a command that the peer has no rule for; return its task once it has arrived."""
    task = asyncio.create_task(client.execute_command(*args))
    await peer.connections[-1].expect(*args)
    return task


async def leave(client):
    async with client:
        pass


async def be_given_up(peer, client):
    peer.connections[-1].close()
    await client.wait_for("terminated", timeout=5)
    await client.close()


async def be_cancelled(client):
    (supervisor,) = [task for task in job_tasks() if task.get_name().count(":") == 2]
    supervisor.cancel()
    await outcome(supervisor)
    await client.close()


async def be_destroyed(client):
    client.destroy()
    await client.close()  # waits for what is being wound up


ENDS = {
    "close": lambda peer, client: client.close(),
    "aclose": lambda peer, client: client.aclose(),
    "destroy": lambda peer, client: be_destroyed(client),
    "async with": lambda peer, client: leave(client),
    "QUIT": lambda peer, client: client.execute_command("QUIT"),
    "terminated": be_given_up,
    "supervisor cancelled": lambda peer, client: be_cancelled(client),
}


@pytest.mark.pins("P6", "P2", "4.18", "4.19", "4.20", "4.21")
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.leaves_redis_clients_open(reason="one of the ends is a cancelled supervisor")
async def test_nothing_outlives_the_end(peer, make_client, end):
    """No task, timer or socket: with commands pending, deadlines, pings, and listeners that do something."""
    client = await make_client(reconnect_strategy=False, close_timeout=0.2).connect()
    events = EventRecord(client)

    @client.on("end")
    async def _listen():
        await asyncio.sleep(0.01)  # it is still at work when the client has ended

    await client.get("k")
    pending = [await issue(peer, client, "SLOW", number) for number in range(3)]
    async with asyncio.timeout(3):
        await end(peer, client)
    assert not job_tasks()
    assert not timers(asyncio.get_running_loop())
    assert not sockets_to(peer.port)
    gc.collect()  # what was only forgotten warns
    for task in pending:
        assert isinstance(await outcome(task), ClientClosedError | ConnectionLostError)
        assert (await outcome(task)).maybe_executed is True
    assert events.names in (["end"], ["terminated", "error"])
    assert not client.is_open


# -- 4.18: the strategy gives up --------------------------------------------------------------------


@pytest.mark.pins("4.18", "P3", "case-39")
async def test_giving_up_ends_what_waits(peer, make_client):
    """What was written: connection lost, maybe executed. What was not: `ConnectError`, not executed. One cause."""
    answers = iter([0.0, ValueError("enough")])
    client = make_client(
        reconnect_strategy=lambda retries, cause: next(answers), commands_queue_max_length=1, retry_unanswered="never"
    )
    await client.connect()
    events = EventRecord(client)
    written = await issue(peer, client, "SLOW", "1")
    queued = [asyncio.create_task(client.get(str(number))) for number in range(3)]
    await turns()
    peer.on("HELLO", resp.error("ERR go away"))
    peer.connections[0].close()
    lost = await outcome(written)
    assert isinstance(lost, ConnectionLostError)
    assert lost.maybe_executed is True
    errors = [await outcome(task) for task in queued]
    for error in errors:
        assert isinstance(error, ReconnectStrategyError)
        assert error.maybe_executed is False
        assert error.attempts == 2
        assert str(error) == "enough"
    assert len({id(error) for error in errors}) == 3  # one for each: they'd share a traceback
    assert events.names == ["error", "reconnecting", "connect", "terminated", "error"]
    assert isinstance(events.of("terminated")[0].__cause__, ValueError)
    with pytest.raises(ClientClosedError) as caught:
        await client.get("k")
    assert isinstance(caught.value.__cause__, ReconnectStrategyError)
    assert "enough" in str(caught.value)


# -- 4.19: close() ----------------------------------------------------------------------------------


@pytest.mark.pins("4.19", "case-32", "case-29")
async def test_closing_lets_the_replies_come(peer, client):
    """What is in flight is answered and what is queued goes out; what comes later is refused; `end` comes once."""
    events = EventRecord(client)
    flying = await issue(peer, client, "SLOW", "1")
    queued = asyncio.create_task(client.execute_command("SLOW", "2"))
    await turns(1)
    closing = asyncio.create_task(client.close())
    await turns(1)
    assert (client.is_open, client.is_ready, client.state) == (False, False, ClientState.CLOSING)
    with pytest.raises(ClientClosedError):
        await client.get("k")
    await peer.connections[0].expect("SLOW", "2")
    assert events.names == []
    peer.connections[0].send(resp.simple("one"))
    assert await flying == b"one"
    assert not closing.done()
    peer.connections[0].send(resp.simple("two"))
    assert await queued == b"two"
    await closing
    assert events.names == ["end"]
    assert client.state is ClientState.CLOSED
    await client.close()
    assert events.names == ["end"]


@pytest.mark.pins("case-29", "4.19")
@pytest.mark.parametrize("name", ["QUIT", "quit", b"QUIT", " Quit "])
async def test_quitting_is_closing(peer, client, name):
    """node-redis sends QUIT and resolves its OK. Here it is `close()`, whose end it returns from as true."""
    ping = asyncio.create_task(client.ping())
    await turns(1)
    quitting = asyncio.create_task(client.execute_command(name))
    await turns(1)
    assert not client.is_open
    assert await ping is True
    assert await quitting is True
    with pytest.raises(ClientClosedError):
        await client.ping()
    assert "QUIT" not in {each.name for each in peer.commands}


@pytest.mark.pins("4.19", "P2", "P3")
async def test_closing_takes_no_longer_than_it_may(peer, clock, make_client):
    """After close_timeout it destroys: what is due ends, maybe executed."""
    client = await make_client(close_timeout=3, command_timeout=60, ping_interval=None).connect()
    pending = await issue(peer, client, "SLOW", "1")
    await client.close()
    assert clock() == pytest.approx(3, abs=0.01)
    error = await outcome(pending)
    assert isinstance(error, ClientClosedError)
    assert error.maybe_executed is True
    assert not job_tasks()


@pytest.mark.pins("4.19", "case-132", "P2")
@pytest.mark.parametrize("phase", ["connecting", "reconnecting"])
async def test_closing_while_not_ready(peer, make_client, phase):
    """Unwritten commands end at once, not executed; no connection is opened for them."""
    client = make_client(reconnect_strategy=30, connect_timeout=30)
    events = EventRecord(client)
    if phase == "reconnecting":
        await client.connect()
        peer.connections[0].close()
        await events.wait_for("reconnecting")
    else:
        peer.on("PING", None)
    queued = [asyncio.create_task(client.set("k", number)) for number in range(3)]
    await turns()
    async with asyncio.timeout(1):
        await client.close()
    for task in queued:
        error = await outcome(task)
        assert isinstance(error, ClientClosedError)
        assert error.maybe_executed is False
    assert events.names[-1] == "end"
    assert len(peer.connections) == 1
    assert not [each for each in peer.commands if each.name == "SET"]


@pytest.mark.pins("4.19", "case-131", "P2")
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_closing_when_the_server_hangs_up(peer, client, how):
    """FIN or RST instead of the reply: the command ends, and so does `close()`."""
    pending = await issue(peer, client, "SLOW", "1")
    closing = asyncio.create_task(client.close())
    await turns()
    getattr(peer.connections[0], how)()
    async with asyncio.timeout(1):
        await closing
    error = await outcome(pending)
    assert isinstance(error, ConnectionLostError | ClientClosedError)
    assert error.maybe_executed is True
    assert len(peer.connections) == 1


@pytest.mark.pins("4.19")
@pytest.mark.parametrize("delay", range(6))
async def test_closing_cancelled_becomes_destroying(peer, client, delay):
    """At any turn: what is pending ends, and the client is closed."""
    pending = await issue(peer, client, "SLOW", "1")
    events = EventRecord(client)
    closing = asyncio.create_task(client.close())
    await turns(delay)
    closing.cancel()
    assert isinstance(await outcome(closing), asyncio.CancelledError)
    if delay == 0:  # it never began
        assert client.is_open
        client.destroy()
        await outcome(pending)
        return
    assert isinstance(await outcome(pending), ClientClosedError)
    assert client.state is ClientState.CLOSED
    await client.close()
    assert not job_tasks()
    assert events.names == ["end"]
    await client.connect()
    assert await client.get("k") == b"k"


@pytest.mark.pins("4.19", "P2")
async def test_closing_together(peer, client):
    """Several callers wait for one end; a cancelled one among those who wait changes nothing."""
    pending = await issue(peer, client, "SLOW", "1")
    events = EventRecord(client)
    first, second, third = (asyncio.create_task(client.close()) for _ in range(3))
    await turns()
    second.cancel()
    await turns()
    peer.connections[0].send(resp.simple("one"))
    assert await pending == b"one"
    assert [await outcome(first), await outcome(third)] == [None, None]
    assert events.names == ["end"]


@pytest.mark.pins("4.19", "5.2")
async def test_connecting_while_closing(peer, client):
    """It waits for the end and then opens the client."""
    pending = await issue(peer, client, "SLOW", "1")
    events = EventRecord(client)
    closing = asyncio.create_task(client.close())
    await turns()
    connecting = asyncio.create_task(client.connect())
    await turns()
    peer.connections[0].send(resp.simple("one"))
    assert await pending == b"one"
    await closing
    assert await connecting is client
    assert client.is_ready
    assert events.names == ["end", "connect", "ready"]


@pytest.mark.pins("4.19", "4.20")
async def test_destroying_while_closing(peer, client):
    """It ends both at once."""
    pending = await issue(peer, client, "SLOW", "1")
    events = EventRecord(client)
    closing = asyncio.create_task(client.close())
    await turns()
    client.destroy()
    async with asyncio.timeout(1):
        await closing
    assert isinstance(await outcome(pending), ClientClosedError)
    assert events.names == ["end"]


@pytest.mark.pins("4.19")
async def test_closing_what_was_never_opened(peer, make_client):
    """Nothing happens, and it is closed."""
    for end in ("close", "aclose"):
        client = make_client()
        events = EventRecord(client)
        await getattr(client, end)()
        client.destroy()
        await turns()
        assert events == []
    assert client.state is ClientState.NEW
    assert len(peer.connections) == 0


# -- 4.20: destroy() --------------------------------------------------------------------------------


@pytest.mark.pins("4.20", "case-30", "case-33", "P3")
async def test_destroying(peer, make_client):
    """A plain function: what was written ends maybe executed, the rest not; `end` once, then nothing."""
    client = await make_client(commands_queue_max_length=1).connect()
    events = EventRecord(client)
    written = await issue(peer, client, "SLOW", "1")
    queued = asyncio.create_task(client.get("k"))
    await turns()
    client.destroy()
    assert (client.is_open, client.is_ready, client.state) == (False, False, ClientState.CLOSED)
    client.destroy()
    for task, maybe_executed in ((written, True), (queued, False)):
        error = await outcome(task)
        assert isinstance(error, ClientClosedError)
        assert error.maybe_executed is maybe_executed
    client.destroy()
    with pytest.raises(ClientClosedError):
        await client.ping()
    peer.connections[0].reset()
    await client.close()
    await turns()
    assert events.names == ["end"]


@pytest.mark.pins("4.20", "P6", "5.4")
@pytest.mark.leaves_redis_clients_open(reason="its supervisor is cancelled")
async def test_a_supervisor_that_is_cancelled_equals_destroy(peer, client):
    """As `asyncio.run` does with all tasks that are left."""
    events = EventRecord(client)
    pending = await issue(peer, client, "SLOW", "1")
    await be_cancelled(client)
    assert isinstance(await outcome(pending), ClientClosedError)
    assert client.state is ClientState.CLOSED
    assert events.names == ["end"]
    await client.connect()
    assert await client.get("k") == b"k"


# -- 4.21: aclose() ---------------------------------------------------------------------------------


@pytest.mark.pins("4.21")
async def test_aclose_leaves_a_client_as_new(peer, client):
    """The next command opens it again; so redis-py's users expect."""
    pending = await issue(peer, client, "SLOW", "1")
    closing = asyncio.create_task(client.aclose())
    await turns()
    with pytest.raises(ClientClosedError):
        await client.get("k")
    peer.connections[0].send(resp.simple("one"))
    assert await pending == b"one"
    await closing
    assert client.state is ClientState.NEW
    assert await client.get("k") == b"k"
    assert len(peer.connections) == 2


@pytest.mark.pins("4.18", "4.21")
async def test_aclose_leaves_a_client_that_gave_up_as_new(peer, make_client):
    client = await make_client(reconnect_strategy=False).connect()
    peer.connections[-1].close()
    await client.wait_for("terminated", timeout=5)
    with pytest.raises(ClientClosedError, match="gave up"):
        await client.get("k")
    await client.aclose()
    assert client.state is ClientState.NEW
    assert await client.get("k") == b"k"


@pytest.mark.pins("4.18", "4.19", "4.21")
@pytest.mark.parametrize(("end", "state"), [("close", ClientState.CLOSED), ("aclose", ClientState.NEW)])
async def test_giving_up_while_it_is_closed(peer, make_client, end, state):
    """A session's command is waited for; the strategy's answer comes before that."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def strategy(retries, cause):
        asked.set()
        await may_answer.wait()
        return False

    async def work():
        async with client.dedicated() as session:
            await session.execute_command("SLOW")

    client = await make_client(reconnect_strategy=strategy).connect()
    events = EventRecord(client)
    working = asyncio.create_task(work())
    await peer.wait_for_command("SLOW")
    peer.connections[0].close()
    await asked.wait()
    closing = asyncio.create_task(getattr(client, end)())
    await turns()
    assert client.state is ClientState.CLOSING
    may_answer.set()
    await closing
    assert client.state is state
    assert "terminated" in events.names
    error = await outcome(working)
    assert isinstance(error, ConnectError)
    assert error.maybe_executed


@pytest.mark.pins("4.21")
@pytest.mark.parametrize("end", ["close", "destroy", "async with"])
async def test_the_end_is_final_until_connect(peer, client, end):
    """A later `aclose()`, from a library that was handed the client, does not undo it."""
    await ENDS[end](peer, client)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await client.get("k")
    await client.connect()
    assert await client.get("k") == b"k"


@pytest.mark.pins("4.19", "P2")
async def test_the_last_caller_goes_while_the_client_closes(peer, clock, make_client):
    """Nothing is left to wait for, so it doesn't take the whole `close_timeout`."""
    client = await make_client(close_timeout=3, command_timeout=60, ping_interval=None).connect()
    peer.on("GET", None)
    waiting = [asyncio.create_task(client.get(str(number))) for number in range(3)]
    await peer.wait_for_command("GET", count=3)
    closing = asyncio.create_task(client.close())
    await turns()
    assert not closing.done()
    begun = clock()
    for task in waiting:
        task.cancel()
    await closing
    assert clock() - begun < 1


@pytest.mark.pins("4.21", "4.18", "5.2")
async def test_a_client_that_gave_up_stays_closed(peer, make_client):
    """Until `connect()`, which opens it again."""
    client = await make_client(reconnect_strategy=False).connect()
    await be_given_up(peer, client)
    with pytest.raises(ClientClosedError):
        await client.get("k")
    await client.connect()
    assert await client.get("k") == b"k"


@pytest.mark.pins("4.20", "P2")
async def test_destroying_ends_a_closing_that_waits_for_a_session(make_client):
    client = await make_client(close_timeout=60).connect()
    session = await client.dedicated().connect()
    closing = asyncio.create_task(client.close())
    await turns()
    assert not closing.done()
    client.destroy()
    async with asyncio.timeout(2):
        await closing
    await session.close()

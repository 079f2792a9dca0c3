"""Every way in which asyncio and anyio end somebody's waiting: it ends at once, and shifts nobody's reply (P1, P2)."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from aioredis_kit.exceptions import ConnectionLostError
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, outcome, turns, until


class Hanging:
    """A peer's connection whose replies to SLOW come when asked for, numbered in the order of the commands."""

    def __init__(self, peer, client):
        self.client = client
        self.peer = peer
        self.answered = 0

    async def arrived(self, count):
        """Wait until so many SLOW have come in, ever."""
        await self.peer.wait_for_command("SLOW", count=count)

    def answer(self, count=1):
        """Answer the next of them."""
        for _ in range(count):
            self.peer.connections[-1].send(resp.simple(f"reply {self.answered}"))
            self.answered += 1

    async def check(self, number):
        """See that the next command gets its own reply, which is that number."""
        task = asyncio.create_task(self.client.execute_command("SLOW"))
        await self.arrived(number + 1)
        self.answer(number + 1 - self.answered)
        assert await task == b"reply %d" % number


@pytest.fixture
async def hanging(peer, make_client):
    """A client whose commands hang until the test answers them."""
    return Hanging(peer, await make_client(command_timeout=None, ping_interval=None, reconnect_strategy=0.0).connect())


async def with_asyncio_timeout(client):
    async with asyncio.timeout(0.01):
        await client.execute_command("SLOW")


async def with_wait_for(client):
    await asyncio.wait_for(client.execute_command("SLOW"), 0.01)


async def with_fail_after(client):
    with anyio.fail_after(0.01):
        await client.execute_command("SLOW")


@pytest.mark.pins("P1", "P2", "4.8")
@pytest.mark.parametrize("way", [with_asyncio_timeout, with_wait_for, with_fail_after])
async def test_time_limits_of_the_callers_own(hanging, way):
    """`TimeoutError`, and the task itself is not cancelled."""
    task = asyncio.current_task()
    for number in range(3):
        with pytest.raises(TimeoutError):
            await way(hanging.client)
        assert task.cancelling() == 0
        await asyncio.sleep(0)
        await hanging.check(2 * number + 1)


@pytest.mark.pins("P1", "P2", "4.8")
async def test_cancel_scopes(hanging):
    """anyio's, nested and shielded: the inner one ends its own waiting only."""
    with anyio.move_on_after(5) as outer:
        with anyio.move_on_after(0.01) as inner:
            await hanging.client.execute_command("SLOW")
        assert inner.cancelled_caught
        await hanging.check(1)
    assert not outer.cancelled_caught
    with anyio.CancelScope() as scope:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            await hanging.check(2)
        await hanging.client.execute_command("SLOW")
    assert scope.cancelled_caught


@pytest.mark.pins("P1", "P2", "4.8")
async def test_task_groups(hanging):
    """One task fails, and its siblings, in flight and unwritten, are cancelled with it."""

    async def fail():
        await hanging.arrived(3)
        raise LookupError

    async def run_group():
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(hanging.client.execute_command("SLOW"))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await run_group()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    await hanging.check(3)


@pytest.mark.pins("P1", "4.8")
async def test_gathering_and_shielding(hanging):
    """`gather` cancels all; a shielded command goes on and gets its reply."""
    shielded = asyncio.ensure_future(hanging.client.execute_command("SLOW"))
    gathered = asyncio.gather(asyncio.shield(shielded), *(hanging.client.execute_command("SLOW") for _ in range(3)))
    await hanging.arrived(4)
    gathered.cancel()
    assert isinstance(await outcome(gathered), asyncio.CancelledError)
    hanging.answer()
    assert await shielded == b"reply 0"
    await hanging.check(4)


@pytest.mark.pins("P1", "P2", "4.8")
@pytest.mark.parametrize("moment", ["before the reply", "in the same turn", "after the reply"])
async def test_cancelling_around_the_reply(hanging, moment):
    """Whichever comes first decides; nobody else notices."""
    victim = asyncio.create_task(hanging.client.execute_command("SLOW"))
    other = asyncio.create_task(hanging.client.execute_command("SLOW"))
    await hanging.arrived(2)
    if moment == "before the reply":
        victim.cancel()
        hanging.answer(2)
    elif moment == "in the same turn":
        hanging.answer(2)
        asyncio.get_running_loop().call_soon(victim.cancel)
    else:
        hanging.answer(2)
        await until(victim.done)
        assert not victim.cancel()
    result = await outcome(victim)
    if moment != "after the reply":
        assert isinstance(result, asyncio.CancelledError)
    else:
        assert result == b"reply 0"
    assert await other == b"reply 1"
    await hanging.check(2)


@pytest.mark.pins("P1", "P2", "4.8")
async def test_cancelling_several_times(hanging):
    """Each cancellation arrives once; a task that goes on after it may issue commands."""
    replies = []

    async def stubborn():
        for _ in range(3):
            try:
                await hanging.client.execute_command("SLOW")
            except asyncio.CancelledError as error:
                replies.append(str(error))
        replies.append(await hanging.client.execute_command("SLOW"))

    task = asyncio.create_task(stubborn())
    for number in range(3):
        await hanging.arrived(number + 1)
        task.cancel(f"message {number}")
        task.cancel(f"message {number}")  # the same one again
        await turns(3)
    await hanging.arrived(4)
    hanging.answer(4)
    await task
    assert replies == ["message 0", "message 1", "message 2", b"reply 3"]


@pytest.mark.pins("P1", "P2", "4.11")
async def test_cancelling_in_the_turn_of_a_loss(hanging):
    """Cancelled and lost at once: it ends one way, once, and the rest as lost."""
    tasks = [asyncio.create_task(hanging.client.execute_command("SLOW")) for _ in range(4)]
    await hanging.arrived(4)
    events = EventRecord(hanging.client)
    hanging.client.on("error", lambda _: tasks[1].cancel())
    hanging.peer.connections[0].reset()
    tasks[0].cancel()
    results = [await outcome(task) for task in tasks]
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(each, asyncio.CancelledError | ConnectionLostError) for each in results[1:])
    await events.wait_for("ready")
    await hanging.arrived(4)
    hanging.answered = 4
    await hanging.check(4)


@pytest.mark.pins("P1", "4.7")
async def test_a_callback_that_cancels_another(peer, client):
    """The first reply's task cancels the second, whose reply came in the same read."""
    tasks = []

    async def first():
        reply = await client.execute_command("SLOW", 1)
        tasks[1].cancel()
        return reply

    tasks += [asyncio.create_task(first()), *(asyncio.create_task(client.execute_command("SLOW", n)) for n in (2, 3))]
    await peer.wait_for_command("SLOW", count=3)
    peer.connections[0].send(*(resp.simple(str(number)) for number in (1, 2, 3)))
    results = [await outcome(task) for task in tasks]
    assert (results[0], results[2]) == (b"1", b"3")
    assert isinstance(results[1], asyncio.CancelledError) or results[1] == b"2"


@pytest.mark.pins("P2", "P1")
async def test_a_coroutine_that_is_never_awaited(peer, client):
    """Nothing is sent; Python warns, as always."""
    sent = len(peer.commands)
    coroutine = client.get("k")
    with pytest.warns(RuntimeWarning, match="never awaited"):
        del coroutine
    await turns()
    assert len(peer.commands) == sent

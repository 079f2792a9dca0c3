"""``lock()``: what redis-py's gets wrong when its caller goes, or its connection."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from redis.asyncio.lock import Lock as StockLock
from redis.exceptions import LockNotOwnedError

from aioredis_kit.exceptions import CommandTimeoutError, ConnectionLostError
from aioredis_kit.testing import resp
from tests.support.observing import outcome, turns, until


def names(peer, *, since=0):
    return [each.name for each in peer.commands[since:] if each.name in {"SET", "GET", "EVALSHA", "SCRIPT"}]


class Store:
    """The peer's one key, by the rules of SET NX, GET and the script that releases a lock.

    Attributes:
        value: The key's value.
        loses: Names of commands that are executed once more, but the connection is lost before they are answered.
        keeps: Names of commands that are executed, but not answered.
        kept: Where that was so, and with what they are to be answered.
    """

    def __init__(self, peer):
        self.value = None
        self.loses = set()
        self.keeps = set()
        self.kept = []
        peer.on("SET", self.set)
        peer.on("GET", lambda received: resp.null() if self.value is None else resp.bulk(self.value))
        peer.on("EVALSHA", self.release)
        peer.on("EVAL", self.release)

    def set(self, received):
        granted = self.value is None
        if granted:
            self.value = received.words[2]
        return self._answer(received, resp.simple("OK") if granted else resp.null())

    def release(self, received):
        held = self.value == received.words[-1]
        if held:
            self.value = None
        return self._answer(received, resp.integer(int(held)))

    def _answer(self, received, answer):
        if received.name in self.loses:
            self.loses.discard(received.name)
            received.connection.reset()
            return None
        if received.name in self.keeps:
            self.kept.append((received.connection, answer))
            return None
        return answer

    def answer_kept(self):
        """Answer what was not answered before."""
        for connection, answer in self.kept:
            connection.send(answer)


@pytest.fixture
def store(peer):
    return Store(peer)


@pytest.mark.parametrize("way", ["cancelled", "timed out"])
async def test_what_was_granted_to_a_caller_who_had_gone_is_released(make_client, store, way):
    """redis-py's stays locked for ever, or until its time-out."""
    client = await make_client(command_timeout=0.05 if way == "timed out" else 5.0).connect()
    store.keeps.add("SET")
    acquiring = asyncio.ensure_future(client.lock("lock").acquire())
    await until(lambda: store.kept, "the command")
    assert store.value is not None
    if way == "cancelled":
        acquiring.cancel()
        await turns()
    else:
        await until(acquiring.done, "the time-out")
    store.answer_kept()
    assert isinstance(await outcome(acquiring), asyncio.CancelledError if way == "cancelled" else CommandTimeoutError)
    await until(lambda: store.value is None, "the release")


@pytest.mark.pins("4.19")
@pytest.mark.parametrize("end", ["close", "aclose"])
async def test_what_was_granted_is_released_before_the_client_is_closed(client, store, end):
    """Its caller, cancelled, closes the client as it goes."""
    store.keeps.add("SET")

    async def work():
        try:
            async with client.lock("lock"):
                raise AssertionError
        finally:
            await getattr(client, end)()

    working = asyncio.create_task(work())
    await until(lambda: store.kept, "the command")
    assert store.value is not None
    working.cancel()
    await turns()
    store.answer_kept()
    assert isinstance(await outcome(working), asyncio.CancelledError)
    assert store.value is None


@pytest.mark.parametrize("is_held", [False, True], ids=["free", "held by another with the same token"])
async def test_a_token_of_the_callers_own_is_the_callers_to_release(client, store, is_held):
    """It may be somebody else's as well."""
    if is_held:
        await client.lock("lock").acquire(token="mine")
    store.keeps.add("SET")
    acquiring = asyncio.create_task(client.lock("lock").acquire(token="mine"))
    await until(lambda: store.kept, "the command")
    acquiring.cancel()
    await turns()
    store.answer_kept()
    assert isinstance(await outcome(acquiring), asyncio.CancelledError)
    await turns()
    assert await client.get("lock") == b"mine"


async def test_acquiring_again_with_the_same_token(make_client, peer, store):
    """The attempt that was cancelled takes nothing from the one that succeeds."""
    may_reconnect = asyncio.Event()

    async def wait_until_then(retries, cause):
        await may_reconnect.wait()
        return 0.0

    client = await make_client(reconnect_strategy=wait_until_then).connect()
    lock = client.lock("lock", blocking=False)
    peer.connections[0].reset()
    await until(lambda: not client.is_ready, "the loss")

    async def insist():
        try:
            return await lock.acquire(token="mine")
        except asyncio.CancelledError:
            return ["again", await lock.acquire(token="mine")]

    acquiring = asyncio.create_task(insist())
    await turns()
    acquiring.cancel()
    await turns()
    may_reconnect.set()
    assert await acquiring == ["again", True]
    assert await client.get("lock") == b"mine"


async def test_nothing_is_released_that_is_somebody_elses(client, peer, store):
    store.value = b"somebody's"
    acquiring = asyncio.ensure_future(client.lock("lock", sleep=0.001).acquire())
    await until(lambda: names(peer).count("SET") > 2, "attempts")
    acquiring.cancel()
    await outcome(acquiring)
    await turns(50)
    assert store.value == b"somebody's"


@pytest.mark.parametrize("granted", [True, False])
async def test_acquiring_across_a_lost_connection(client, store, granted):
    """Whether or not the server had granted it, its caller has it, or does not, and knows."""
    if not granted:
        store.value = b"somebody's"
    store.loses.add("SET")
    lock = client.lock("lock", blocking=False)
    assert await lock.acquire() is granted
    assert (store.value == lock.local.token) is granted


async def test_releasing_across_a_lost_connection(client, store):
    lock = client.lock("lock")
    await lock.acquire()
    store.loses.add("EVALSHA")
    await lock.release()
    assert store.value is None
    assert lock.local.token is None
    await lock.acquire()
    store.value = b"somebody's"
    with pytest.raises(LockNotOwnedError):
        await lock.release()


async def test_acquiring_while_the_connection_is_lost_again_and_again(make_client, peer):
    """The error is raised, and what was granted is released when there is a connection."""
    client = await make_client(reconnect_strategy=0.0).connect()
    store = Store(peer)

    def lose(received):
        store.set(received)
        received.connection.reset()

    peer.on("SET", lose)
    with pytest.raises(ConnectionLostError):
        await client.lock("lock").acquire()
    await until(lambda: store.value is None, "the release")


async def test_scripts_are_nobody_elses(make_client, store):
    """redis-py's are on its class, with the first client that ever made a lock."""
    client = await make_client(encoding="latin-1").connect()
    lock = client.lock("lock")
    assert lock.lua_release.registered_client is client
    assert "lua_release" not in vars(type(lock))
    other = make_client()
    assert other.lock("lock").lua_release.registered_client is other


async def test_a_lock_keeps_no_client(make_client):
    from aioredis_kit import create_client

    client = create_client()
    gone = weakref.ref(client)
    client.lock("lock")
    del client
    gc.collect()
    assert gone() is None


async def test_a_class_of_the_users(client):
    class Mine(StockLock):
        def register_scripts(self):
            pass

    assert type(client.lock("lock", lock_class=Mine)) is Mine

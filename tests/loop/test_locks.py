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
    """The peer's one key, by the rules of SET NX, GET and the script that releases a lock."""

    def __init__(self, peer):
        self.value = None
        self.loses = set()
        peer.on("SET", self.set)
        peer.on("GET", lambda received: resp.null() if self.value is None else resp.bulk(self.value))
        peer.on("EVALSHA", self.release)

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
        return answer


@pytest.fixture
def store(peer):
    return Store(peer)


@pytest.mark.parametrize("way", ["cancelled", "timed out"])
async def test_what_was_granted_to_a_caller_who_had_gone_is_released(make_client, peer, store, way):
    """redis-py's stays locked for ever, or until its time-out."""
    asked = []
    client = await make_client(command_timeout=0.05 if way == "timed out" else 5.0).connect()

    def keep(received):
        store.set(received)
        asked.append(received.connection)

    peer.on("SET", keep)
    acquiring = asyncio.ensure_future(client.lock("lock").acquire())
    await until(lambda: asked, "the command")
    assert store.value is not None
    if way == "cancelled":
        acquiring.cancel()
        await turns()
        asked[0].send(resp.simple("OK"))
    else:
        await until(acquiring.done, "the time-out")
        asked[0].send(resp.simple("OK"))
    assert isinstance(await outcome(acquiring), asyncio.CancelledError if way == "cancelled" else CommandTimeoutError)
    await until(lambda: store.value is None, "the release")


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

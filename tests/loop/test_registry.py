"""Clients by name: made on first use, one for each event loop, closed together."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from aioredis_kit import ClientClosedError, ClientRegistry, ClientState, ConfigurationError, RedisClient, create_client
from tests.support.observing import EventRecord, job_tasks, outcome, turns, until


@pytest.fixture
async def clients(peer):
    """A registry with three names for the peer; closed with the test."""
    clients = ClientRegistry()
    for name in ("cache", "sessions", None):
        clients.register(name, peer.url, client_name=f"of-{name}")
    yield clients
    await clients.close()


# -- getting ----------------------------------------------------------------------------------------


async def test_a_name_has_one_client(clients, peer):
    """It is made by the first call, and connects with its first command."""
    cache = clients.get("cache")
    assert cache.state is ClientState.NEW
    assert await cache.get("a") == b"a"
    assert clients.get("cache") is cache
    assert clients.get("sessions") is not cache
    assert clients.get() not in {cache, clients.get("sessions")}
    assert await clients.get().get("a") == b"a"
    assert len(peer.connections) == 2


async def test_a_name_that_was_not_registered_is_the_environments(peer, monkeypatch):
    monkeypatch.setenv("CACHE_URI", peer.url)
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere.example.com")
    async with ClientRegistry() as clients:
        assert await clients.get("cache").get("a") == b"a"
        assert "elsewhere" in repr(clients.get())


async def test_options_beside_the_environment(peer, monkeypatch):
    monkeypatch.setenv("CACHE_URI", f"{peer.url}?decode_responses=true")
    clients = ClientRegistry()
    clients.register("cache", client_name="web")
    async with clients:
        assert await clients.get("cache").get("a") == "a"
    assert any(b"web" in received.words for received in peer.commands)


async def test_something_else_may_make_what_was_not_registered(make_client):
    asked = []

    def make(name):
        asked.append(name)
        return make_client(client_name=name)

    async with ClientRegistry(make) as clients:
        made = [clients.get(name) for name in ("a", None, "a")]
        assert made[0] is made[2]
    assert asked == ["a", None]


async def test_a_function_may_make_it(make_client):
    clients = ClientRegistry()
    clients.register("cache", make_client)
    async with clients:
        assert await clients.get("cache").get("a") == b"a"
        assert clients.get("cache") is clients.get("cache")


async def test_each_event_loop_has_its_own(clients):
    mine = clients.get("cache")
    others = []

    async def use():
        async with clients:
            others.append(clients.get("cache"))
            await others[0].get("a")
            assert clients.get("cache") is others[0]

    await asyncio.to_thread(asyncio.run, use())
    assert others[0] is not mine
    assert others[0].state is ClientState.CLOSED
    assert await mine.get("a") == b"a"


async def test_many_threads_at_once(clients):
    made = []
    gate = threading.Barrier(4)

    async def use():
        gate.wait()
        async with clients:
            first = clients.get("cache")
            await first.get("a")
            made.append(first)
            assert clients.get("cache") is first

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, use()) for _ in range(4)))
    assert len(set(made)) == 4


@pytest.mark.leaves_redis_clients_open(reason="that is what it is about")
async def test_an_event_loop_that_was_closed_is_forgotten(clients):
    made = []

    async def leave_open():
        client = clients.get("cache")
        await client.get("a")
        made.append(weakref.ref(client))

    await asyncio.to_thread(asyncio.run, leave_open())
    assert await clients.get("cache").get("a") == b"a"
    gc.collect()
    assert made[0]() is None


def test_without_an_event_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        ClientRegistry().get("cache")


# -- closing ----------------------------------------------------------------------------------------


async def test_the_latest_is_closed_first(clients):
    record = []
    for name in ("sessions", "cache", None):
        client = clients.get(name)
        client.on("end", lambda name=name: record.append(name))
        await client.connect()
    await clients.close()
    assert record == [None, "cache", "sessions"]
    assert not job_tasks()


async def test_after_closing_names_are_made_anew(clients):
    cache = clients.get("cache")
    await clients.close()
    assert clients.get("cache") is not cache
    with pytest.raises(ClientClosedError):
        await cache.get("a")
    assert await clients.get("cache").get("a") == b"a"


async def test_only_the_last_exit_closes(clients):
    async with clients:
        async with clients:
            cache = await clients.get("cache").connect()
        assert cache.is_ready
    assert cache.state is ClientState.CLOSED


async def test_nothing_is_made_while_it_is_being_closed(clients, peer):
    peer.on("GET", None)
    cache = clients.get("cache")
    reading = asyncio.create_task(outcome(cache.get("a")))
    await peer.wait_for_command("GET")
    closing = asyncio.create_task(clients.close())
    again = asyncio.create_task(clients.close())
    await turns()
    assert not again.done()
    assert clients.get("cache") is cache
    with pytest.raises(ClientClosedError, match="'sessions'.*being closed"):
        clients.get("sessions")
    cache.destroy()
    await closing
    await again
    assert isinstance(await reading, ClientClosedError)


async def test_closing_that_is_cancelled_destroys_all(clients, peer):
    peer.on("GET", None)
    both = [await clients.get(name).connect() for name in ("sessions", "cache")]
    reading = [asyncio.create_task(outcome(client.get("a"))) for client in both]
    await peer.wait_for_command("GET", count=2)
    closing = asyncio.create_task(clients.close())
    await turns()
    closing.cancel()
    assert isinstance(await outcome(closing), asyncio.CancelledError)
    assert [client.state for client in both] == [ClientState.CLOSED] * 2
    assert all(isinstance(each, ClientClosedError) for each in await asyncio.gather(*reading))
    await until(lambda: not job_tasks())


async def test_blocks_outlast_a_close_within_them(clients):
    """What is made afterwards is kept to the last exit, as before."""
    async with clients:
        async with clients:
            await clients.get("cache").connect()
            await clients.close()
            cache = await clients.get("cache").connect()
        assert cache.is_ready
    assert cache.state is ClientState.CLOSED


async def test_a_block_that_is_entered_while_the_last_one_closes(clients, peer):
    """It counts for what is made after the closing."""
    peer.on("GET", None)
    await clients.__aenter__()
    closed = await clients.get("cache").connect()
    reading = asyncio.create_task(outcome(closed.get("a")))
    await peer.wait_for_command("GET")
    leaving = asyncio.create_task(clients.__aexit__(None, None, None))
    await turns()
    async with clients:
        closed.destroy()
        await leaving
        async with clients:
            cache = await clients.get("cache").connect()
        assert cache.is_ready
    assert cache.state is ClientState.CLOSED
    assert isinstance(await reading, ClientClosedError)


async def test_closing_what_was_never_used():
    await ClientRegistry().close()
    async with ClientRegistry() as clients:
        await clients.close()


# -- in tests ---------------------------------------------------------------------------------------


async def test_a_client_in_the_place_of_another(clients, make_client):
    """It is not the registry's to close."""
    original, mine = clients.get("cache"), make_client()
    events = EventRecord(mine)
    with clients.override("cache", mine):
        assert clients.get("cache") is mine
        assert await mine.get("a") == b"a"
        with clients.override("cache", original):
            assert clients.get("cache") is original
        assert clients.get("cache") is mine
        await clients.close()
        assert clients.get("cache") is mine
    assert "end" not in events.names
    assert await mine.get("a") == b"a"


async def test_a_function_in_the_place_of_a_client(clients, make_client):
    original = clients.get("cache")
    with clients.override("cache", make_client):
        mine = clients.get("cache")
        assert mine is clients.get("cache")
        assert mine is not original
        await mine.get("a")
    assert clients.get("cache") is original
    await clients.close()
    assert mine.state is ClientState.CLOSED


# -- what is refused --------------------------------------------------------------------------------


async def never():
    """Make no client."""


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("cache", "redis://:s3cret-of-ada@localhost"), {"db": -1}, "^db must"),
        (("cache", "redis://:s3cret-of-ada@localhost"), {"comand_timeout": 1}, "command_timeout"),
        (("cache", "http://:s3cret-of-ada@localhost"), {}, "url must begin with"),
        (("cache", create_client), {"db": 1}, "'cache': options go into the function"),
        (("cache", 5), {}, "'cache' can't be made of a int: give a URL"),
        (("cache", never), {}, "'cache' can't be made by a coroutine function"),
        (("", "redis://localhost"), {}, "a client's name must be letters"),
        (("redis://:s3cret-of-ada@localhost",), {}, "a client's name must be letters"),
        ((5, "redis://localhost"), {}, "a client's name must be text, not int"),
    ],
)
def test_what_can_not_be_registered(arguments, options, text):
    clients = ClientRegistry()
    with pytest.raises(ConfigurationError, match=text) as caught:
        clients.register(*arguments, **options)
    assert "s3cret" not in str(caught.value)


async def test_a_name_is_registered_once_and_before_its_use(make_client, clients):
    with pytest.raises(ConfigurationError, match="'cache' is registered already"):
        clients.register("cache", make_client)
    others = ClientRegistry(lambda _: make_client())
    assert isinstance(others.get("cache"), RedisClient)
    with pytest.raises(ConfigurationError, match="'cache' is in use already"):
        others.register("cache", make_client)


async def test_what_makes_no_client():
    clients = ClientRegistry(lambda _: {})
    with pytest.raises(ConfigurationError, match="the client without a name was to be a RedisClient, but is a dict"):
        clients.get()


@pytest.mark.parametrize(("name", "client"), [("cache", 5), ("cache", never), ("", create_client)])
def test_what_can_not_take_a_place(name, client):
    with pytest.raises(ConfigurationError), ClientRegistry().override(name, client):
        pass


async def test_an_environment_without_it(monkeypatch):
    for name in ("CACHE_URI", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="CACHE_URI"):
        ClientRegistry().get("cache")

"""Pub/sub on a real server, compared with stock redis-py where that has it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
import redis.asyncio
from redis.asyncio.keyspace_notifications import AsyncKeyspaceNotifications
from redis.exceptions import NoPermissionError
from redis.typing import Subscription

from aioredis_kit import create_client
from aioredis_kit.pubsub.message import Message
from aioredis_kit.testing import RedisServer
from tests.support.observing import EventRecord, outcome, until

pins = pytest.mark.pins

COMBINATIONS = [
    {"decode_responses": decode, **({} if protocol is None else {"protocol": protocol})}
    for protocol in (None, 2, 3)
    for decode in (False, True)
]


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
async def client(redis_url, request):
    async with create_client(
        redis_url, protocol=request.param, decode_responses=True, reconnect_strategy=0.0
    ) as client:
        yield client


async def kill_subscribers(client):
    """Kill every connection that has subscriptions."""
    assert await client.execute_command("CLIENT", "KILL", "TYPE", "PUBSUB") >= 1


async def until_subscribed(client, *channels, count=1):
    """Wait until the server has subscriptions to all of these channels."""
    while True:
        numbers = await client.pubsub_numsub(*channels)
        if all(number == count for _, number in numbers):
            return
        await asyncio.sleep(0.001)


# -- the same as redis-py ---------------------------------------------------------------------------


async def run_script(client, *, options=None):
    """Make the calls that can be made; return what comes of it, pongs apart: see below."""
    handled = []
    pubsub = client.pubsub(**(options or {}))
    await pubsub.subscribe("a", b"b")
    await pubsub.psubscribe("x*", Subscription("h*", lambda message: handled.append(message)))
    await pubsub.ssubscribe("s")
    await pubsub.subscribe("a")
    await pubsub.subscribe(called=lambda message: handled.append(message))
    seen = [await pubsub.get_message(timeout=1) for _ in range(3)]
    await client.publish("a", "1")
    await client.publish("b", b"\x00\r\n")
    await client.publish("xx", "2")
    await client.publish("hx", "3")
    await client.publish("called", "4")
    await client.spublish("s", "5")
    seen += [pubsub.subscribed]
    await pubsub.unsubscribe("nope")
    await pubsub.unsubscribe("a")
    await pubsub.unsubscribe(b"b", "called")
    await pubsub.unsubscribe()
    await pubsub.punsubscribe("x*")
    await pubsub.punsubscribe()
    await pubsub.sunsubscribe()
    await pubsub.sunsubscribe()
    for _ in range(18):
        seen.append(await pubsub.get_message(timeout=1))
    seen += [await pubsub.get_message(timeout=0.01), pubsub.subscribed, handled]
    seen += [vars(pubsub)[name] for name in ("channels", "patterns", "shard_channels")]
    await pubsub.aclose()
    return seen


@asynccontextmanager
async def both(url, options):
    async with redis.asyncio.from_url(url, **options) as stock, create_client(url, **options) as ours:
        yield stock, ours


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
@pytest.mark.parametrize("is_quiet", [False, True])
async def test_the_same_messages_for_the_same_calls(redis_url, options, is_quiet):
    async with both(redis_url, options) as (stock, ours):
        theirs = await run_script(stock, options={"ignore_subscribe_messages": is_quiet})
        mine = await run_script(ours, options={"ignore_subscribe_messages": is_quiet})
    assert mine == theirs
    assert len(theirs) == 28


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
async def test_the_same_iteration(redis_url, options):
    """Messages of a loop that unsubscribes itself."""

    async def listen(client):
        seen = []
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("a")
            await pubsub.psubscribe("a*")
            async for message in pubsub.listen():
                seen.append(message)
                if len(seen) == 2:
                    await client.publish("a", "1")
                if len(seen) == 4:
                    await pubsub.unsubscribe()
                    await pubsub.punsubscribe()
        return seen

    async with both(redis_url, options) as (stock, ours):
        assert await listen(ours) == await listen(stock)


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
async def test_the_same_pongs(redis_url, options):
    """Except where redis-py takes the text of one apart."""

    async def ping(client):
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("a")
            await pubsub.get_message(timeout=1)
            await pubsub.ping()
            await pubsub.ping("you")
            return [await pubsub.get_message(timeout=1) for _ in range(2)]

    async with both(redis_url, options) as (stock, ours):
        theirs, mine = await ping(stock), await ping(ours)
    if options["decode_responses"] and options.get("protocol") != 2:
        assert [message["type"] for message in theirs] == ["P", "y"]
        assert mine == [{"type": "pong", "pattern": None, "channel": None, "data": data} for data in ("", "you")]
    else:
        assert mine == theirs


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
async def test_the_same_notifications_about_keys(redis_server, redis_url, options):
    """redis-py's helper, whose patterns begin with the database."""
    if not redis_server.started_here:
        pytest.skip("this changes the server's configuration")

    async def watch_keys(client):
        async with client.keyspace_notifications(key_prefix="user:") as notifications:
            assert isinstance(notifications, AsyncKeyspaceNotifications)
            await notifications.subscribe_keyspace("user:*", db=await current_db(client))
            await client.set("user:1", "x")
            await client.delete("user:1")
            return [
                (each.key, each.event_type)
                for each in [await notifications.get_message(timeout=1) for _ in range(3)]
                if each
            ]

    async def current_db(client):
        return client.get_connection_kwargs().get("db") or 0

    async with both(redis_url, options) as (stock, ours):
        await ours.config_set("notify-keyspace-events", "KEA")
        try:
            theirs, mine = await watch_keys(stock), await watch_keys(ours)
        finally:
            await ours.config_set("notify-keyspace-events", "")
    assert mine == theirs
    assert len(mine) == 2


# -- ours -------------------------------------------------------------------------------------------


@pins("case-55")
async def test_subscribing_to_all_kinds(client):
    async with client.subscribe("news", patterns=["user:*"], shards=["s"]) as messages:
        assert await client.publish("news", "1") == 1
        assert await client.publish("user:1", b"2") == 1
        assert await client.spublish("s", 3) == 1
        seen = [await messages.get(timeout=5) for _ in range(3)]
        assert sorted(seen, key=lambda message: message.data) == [
            Message("message", "news", "1"),
            Message("pmessage", "user:1", "2", "user:*"),
            Message("smessage", "s", "3"),
        ]
    await until_subscribed(client, "news", count=0)


@pins("case-58")
async def test_listeners(client):
    """When unsubscribing has returned, the server knows."""
    calls = []
    listener = lambda message, channel: calls.append((message, channel))  # noqa: E731
    await client.subscribe(["a", "b"], listener)
    await client.psubscribe("c*", listener)
    await client.ssubscribe("s", listener)
    await client.publish("a", "1")
    await client.publish("cx", "2")
    await client.spublish("s", "3")
    await until(lambda: len(calls) == 3)
    assert sorted(calls) == [("1", "a"), ("2", "cx"), ("3", "s")]
    await client.unsubscribe()
    assert await client.pubsub_numsub("a", "b") == [("a", 0), ("b", 0)]
    assert await client.pubsub_numpat() == 1
    await client.punsubscribe()
    assert await client.pubsub_numpat() == 0
    await client.sunsubscribe("s")
    assert await client.spublish("s", "4") == 0
    assert await client.ping() is True


@pins("case-59", "P4")
async def test_killed_connections(client):
    """All is subscribed again, by one connection, and each time that is told."""
    events = EventRecord(client)
    async with client.subscribe("news", patterns=["n*"], shards=["s"]) as messages:
        for number in range(3):
            await kill_subscribers(client)
            gap = await messages.get(timeout=5)
            assert (gap.kind, gap.dropped, gap.reason) == ("gap", None, "connection lost")
            async with asyncio.timeout(5):
                await until_subscribed(client, "news")
                while not (await client.pubsub_numpat() and await client.spublish("s", str(number))):
                    await asyncio.sleep(0.001)
            assert await messages.get(timeout=5) == Message("smessage", "s", str(number))
            assert await client.publish("news", str(number)) == 2
            seen = {(await messages.get(timeout=5)).kind for _ in range(2)}
            assert seen == {"message", "pmessage"}
    assert {error.lane for error in events.of("error")} == {"push"}
    assert "reconnecting" not in events.names


@pins("case-61")
async def test_quit(client):
    async with client.subscribe("news"):
        assert await client.quit() is True


async def test_a_cut_subscriber_takes_no_command_down(redis_server, redis_url):
    """The server cuts off who reads too slowly: the commands don't notice."""
    if not redis_server.started_here:
        pytest.skip("this changes the server's configuration")
    flood = "for _ = 1, 100 do redis.call('PUBLISH', 'news', ARGV[1]) end"
    async with create_client(redis_url, reconnect_strategy=0.0) as client, client.subscribe("news") as messages:
        await client.config_set("client-output-buffer-limit", "pubsub 64kb 0 0")
        try:
            async with asyncio.timeout(10):
                is_cut = False
                while not is_cut:  # it depends on how much the system takes at once
                    await asyncio.gather(client.eval(flood, 0, b"x" * 100_000), *(client.get("k") for _ in range(100)))
                    while (message := await messages.get(timeout=0.05)) is not None:
                        is_cut = is_cut or message.is_gap
        finally:
            await client.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")
        await until_subscribed(client, b"news")
        await client.publish("news", "again")
        assert (await messages.get(timeout=5)).data == b"again"


# -- rights -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded_server():
    """A server with users who may do little."""
    acl = [
        "user reader on >s3cret ~* resetchannels &news* +@all",
        "user listener on >s3cret ~* &* -@all +subscribe +unsubscribe +psubscribe +punsubscribe +ssubscribe +sunsubscribe",
    ]
    with RedisServer(acl=acl) as server:
        yield server


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
async def connect(guarded_server, request):
    """A function that connects as a user."""
    clients = []

    async def connect(user):
        options = {"username": user, "password": "s3cret"} if user else {}
        client = create_client(guarded_server.url, protocol=request.param, decode_responses=True, **options)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        await client.close()


@pins("P2")
async def test_a_refusal(connect):
    """It reaches the caller; others, and the allowed ones of the same call, are not concerned."""
    client, admin = await connect("reader"), await connect(None)
    events = EventRecord(client)
    async with client.subscribe("news") as messages:
        for refused in (
            client.subscribe(["news2", "secret"]).__aenter__,
            client.subscribe((), patterns=["s*"]).__aenter__,
            client.subscribe((), shards=["secret"]).__aenter__,
            lambda: client.subscribe("secret", print).__await__(),
            lambda: client.pubsub().subscribe("secret"),
        ):
            call = refused()
            error = await outcome(call if hasattr(call, "send") and hasattr(call, "cr_frame") else _awaitable(call))
            assert isinstance(error, NoPermissionError)
        await until_subscribed(admin, "news2", "secret", count=0)
        await admin.publish("news", "1")
        assert (await messages.get(timeout=5)).data == "1"
    assert events.of("error") == []


async def _awaitable(generator):
    class Awaitable:
        def __await__(self):
            return generator

    return await Awaitable()


@pins("P1")
async def test_a_user_without_the_right_to_ping(connect):
    """Every PING behind a subscription is refused, which is no refusal of the subscription."""
    client, admin = await connect("listener"), await connect(None)
    async with client.subscribe("a", patterns=["b*"], shards=["s"]) as messages:
        for number in range(3):
            async with client.subscribe(["c", "d"]) as more:
                await admin.publish("c", str(number))
                assert (await more.get(timeout=5)).data == str(number)
        await admin.publish("a", "x")
        assert (await messages.get(timeout=5)).data == "x"


@pins("P2")
@pytest.mark.parametrize("way", ["iterated", "listener", "pubsub"])
async def test_after_auth_the_rights_are_the_new_users(connect, way):
    """Also where the connection of the subscriptions was the old one's."""
    client, admin = await connect(None), await connect(None)
    subscribe = {
        "iterated": lambda name: client.subscribe(name).__aenter__(),
        "listener": lambda name: _awaitable(client.subscribe(name, print).__await__()),
        "pubsub": lambda name: client.pubsub().subscribe(name),
    }[way]
    async with client.subscribe("news") as messages:
        await client.execute_command("AUTH", "reader", "s3cret")
        assert isinstance(await outcome(subscribe("secret")), NoPermissionError)
        await until_subscribed(admin, "news")
        await admin.publish("news", "1")
        assert [(await messages.get(timeout=5)).kind for _ in range(2)] == ["gap", "message"]


async def test_the_rights_end_while_subscribed(connect, guarded_server):
    """The server hangs up; what is allowed is subscribed again."""
    admin = await connect(None)
    await admin.acl_setuser(
        "temporary", enabled=True, passwords=["+s3cret"], commands=["+@all"], channels=["a", "b"], reset=True
    )
    protocol = admin._core.equipment.options.protocol
    client = create_client(
        guarded_server.url, username="temporary", password="s3cret", protocol=protocol, reconnect_strategy=0.0
    )
    async with client:
        events = EventRecord(client)
        async with client.subscribe("a") as kept, client.subscribe("b"):
            await admin.execute_command("ACL", "SETUSER", "temporary", "resetchannels", "&a")
            assert (await kept.get(timeout=5)).is_gap
            await until_subscribed(admin, "a")
            await admin.publish("a", "1")
            assert (await kept.get(timeout=5)).data == b"1"
            await until(lambda: any(isinstance(error, NoPermissionError) for error in events.of("error")))
    await admin.acl_deluser("temporary")


# -- loops ------------------------------------------------------------------------------------------


def test_on_another_loop(redis_url):
    """While the client's own loop lives it is refused; when that was closed, the client and its objects begin anew."""
    client = create_client(redis_url)
    pubsub = client.pubsub(ignore_subscribe_messages=True)

    async def begin():
        await pubsub.subscribe("a")
        assert await pubsub.get_message() is None
        return await client.subscribe("a").__aenter__()

    async def go_on(messages):
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            await messages.get(timeout=1)
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            await anext(messages)
        return await asyncio.gather(pubsub.get_message(timeout=1), pubsub.subscribe("b"), return_exceptions=True)

    with asyncio.Runner() as other, asyncio.Runner() as own:
        messages = own.run(begin())
        assert [type(error) for error in other.run(go_on(messages))] == [RuntimeError] * 2
        own.run(client.aclose())
    with asyncio.Runner() as another:
        for _ in range(3):  # it has ended; then a gap and a confirmation, which are not wanted
            another.run(outcome(pubsub.get_message(timeout=1)))
        another.run(client.publish("a", "1"))
        assert another.run(pubsub.get_message(timeout=5))["data"] == b"1"
        another.run(pubsub.aclose())
        another.run(client.close())

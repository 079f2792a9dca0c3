"""Calls that are more than one command for data: blocking ones, connections' own, and redis-py's helpers.

As those of ``data_calls`` they are made in this order on any client that has them; a helper is a function that does
something with a client and returns what a caller gets to see of it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import redis.asyncio
from redis.exceptions import LockError, RedisError, WatchError

from tests.support.server_calls import SCRIPT

BLOCKING_CALLS = [
    lambda c: c.rpush("bl", *"abcdefgh"),
    lambda c: c.blpop(["missing", "bl"], 1),
    lambda c: c.blpop("bl"),
    lambda c: c.brpop("bl", 1),
    lambda c: c.brpoplpush("bl", "bl1", 1),
    lambda c: c.blmove("bl", "bl1", 1),
    lambda c: c.blmove("bl", "bl1", 1, "RIGHT", "LEFT"),
    lambda c: c.blmovem("bl", "bl1", 1, 1),
    lambda c: c.blmpop(1, 2, "missing", "bl", direction="LEFT", count=2),
    lambda c: c.zadd("bz", {"a": 1, "b": 2.5, "c": 3, "d": 4}),
    lambda c: c.bzpopmin("bz", 1),
    lambda c: c.bzpopmax(["missing", "bz"], 1),
    lambda c: c.bzmpop(1, 1, ["bz"], min=True),
    lambda c: c.xadd("bx", {"a": 1}, id="1-1"),
    lambda c: c.xread({"bx": 0}, block=1000),
    lambda c: c.xread({"bx": "$"}, block=1),
    lambda c: c.xgroup_create("bx", "grp", id=0),
    lambda c: c.xreadgroup("grp", "ada", {"bx": ">"}, block=1000),
    lambda c: c.xreadgroup("grp", "ada", {"bx": ">"}, block=1),
    # in vain
    lambda c: c.blpop("missing", 0.01),
    lambda c: c.brpop(["missing"], 0.01),
    lambda c: c.brpoplpush("missing", "bl1", 0.01),
    lambda c: c.blmove("missing", "bl1", 0.01),
    lambda c: c.blmpop(0.01, 1, "missing", direction="LEFT"),
    lambda c: c.bzpopmin("missing", 0.01),
    lambda c: c.bzpopmax("missing", 0.01),
    lambda c: c.bzmpop(0.01, 1, ["missing"], max=True),
    # refused
    lambda c: c.blpop("bl", -1),
    lambda c: c.blpop("bl", "soon"),
    lambda c: c.execute_command("BLPOP"),
    lambda c: c.execute_command("BLPOP", "bl"),
    lambda c: c.execute_command("XREAD", "BLOCK", "STREAMS", "bx", 0),
]
"""Commands that may block, with and without what they wait for."""

CONNECTION_CALLS = [
    lambda c: c.select(100_000),
    lambda c: c.select("x"),
    lambda c: c.get("s"),
    lambda c: c.auth("wr0ng-one"),
    lambda c: c.auth("wr0ng-one", "nobody"),
    lambda c: c.acl_log_reset(),
    lambda c: c.hello(),
    lambda c: c.script_debug("YES"),
    lambda c: c.sentinel("masters"),
    lambda c: c.sentinel_ckquorum("m"),
    lambda c: c.sentinel_failover("m"),
    lambda c: c.sentinel_flushconfig(),
    lambda c: c.sentinel_get_master_addr_by_name("m"),
    lambda c: c.sentinel_master("m"),
    lambda c: c.sentinel_masters(),
    lambda c: c.sentinel_monitor("m", "127.0.0.1", 1, 1),
    lambda c: c.sentinel_remove("m"),
    lambda c: c.sentinel_reset("m"),
    lambda c: c.sentinel_sentinels("m"),
    lambda c: c.sentinel_set("m", "option", "value"),
    lambda c: c.sentinel_slaves("m"),
]
"""Commands about the connection, which is one for all of these on redis-py's client too, and those for a sentinel."""


async def outcome(awaitable):
    """Return what an awaitable yields, or the class and text of what it raises."""
    try:
        return await awaitable
    except RedisError as error:
        return type(error).__mro__[-6:], str(error)


async def pipeline_of_data(c):
    async with c.pipeline() as pipe:
        pipe.set("s", "v").incr("n").hset("h", mapping={"a": 1}).zadd("z", {"m": 1.5})
        pipe.zrange("z", 0, -1, withscores=True).hgetall("h").get("missing")
        assert len(pipe) == 7
        results = await pipe.execute()
        return results, len(pipe), bool(pipe), await pipe.execute()


async def pipeline_without_transaction(c):
    pipe = c.pipeline(transaction=False)
    pipe.set("s", "v").incr("s").get("s").lpush("s", 1).get("s")
    results = await pipe.execute(raise_on_error=False)
    return [(type(each).__name__, str(each)) if isinstance(each, Exception) else each for each in results]


async def pipeline_with_a_refusal(c):
    pipe = c.pipeline()
    pipe.set("s", "v").lpush("s", 1).get("s")
    return await pipe.execute()


async def pipeline_with_refusals_as_results(c):
    pipe = c.pipeline()
    pipe.set("s", "v").lpush("s", 1).get("s")
    results = await pipe.execute(raise_on_error=False)
    return [(type(each).__name__, str(each)) if isinstance(each, Exception) else each for each in results]


async def pipeline_that_is_discarded(c):
    pipe = c.pipeline()
    pipe.set("s", "discarded").execute_command("NO.SUCH").get("s")
    return await outcome(pipe.execute()), await c.get("s")


async def pipeline_with_a_script(c):
    await c.script_flush()
    script = c.register_script(SCRIPT)
    pipe = c.pipeline()
    pipe.set("s", "v")
    await script(keys=["k"], args=["a"], client=pipe)
    return await pipe.execute()


async def pipeline_with_bytes_kept(c):
    pipe = c.pipeline(transaction=False)
    pipe.set("s", "v").dump("missing").execute_command("GET", "s")
    return await pipe.execute()


async def watching(c):
    async with c.pipeline() as pipe:
        await pipe.watch("n")
        before = await pipe.get("n")
        pipe.multi()
        pipe.incr("n").get("n")
        results = await pipe.execute()
        await pipe.watch("n")
        await pipe.unwatch()
        return before, results, pipe.watching


async def watching_in_vain(c):
    async with c.pipeline() as pipe:
        await pipe.watch("n")
        await c.incr("n")
        pipe.multi()
        pipe.incr("n")
        return await pipe.execute()


async def watching_too_late(c):
    pipe = c.pipeline()
    pipe.get("n")
    try:
        return await outcome(pipe.watch("n")), await outcome(asyncio.to_thread(pipe.multi))
    finally:
        await pipe.reset()


async def transaction(c):
    tries = []

    async def increase(pipe):
        value = int(await pipe.get("n") or 0)
        tries.append(value)
        if len(tries) == 1:
            await c.incr("n")
        pipe.multi()
        pipe.set("n", value + 1)
        return "mine"

    first = await c.transaction(increase, "n")
    return tries, first, await c.transaction(increase, "n", value_from_callable=True), await c.get("n")


async def transaction_without_watch(c):
    return await c.transaction(lambda pipe: pipe.set("s", 1).get("s"))


async def script(c):
    script = c.register_script(SCRIPT)
    await c.script_flush()
    return script.sha, await script(keys=["k"], args=["a"]), await script(["k"], ["b"], client=c)


async def broken_script(c):
    return await c.register_script("not lua")()


async def lock(c):
    lock = c.lock("lock", timeout=5, blocking_timeout=0.01)
    seen = [await lock.locked(), await lock.owned(), await lock.acquire(token="mine"), await lock.locked()]
    seen += [await lock.owned(), await c.lock("lock", blocking=False).acquire(), await c.get("lock")]
    seen += [await lock.extend(5), await lock.extend(5, replace_ttl=True), await lock.reacquire()]
    seen += [await lock.release(), await outcome(lock.release()), lock.local.token]
    async with c.lock("lock") as other:
        seen += [await other.owned(), await outcome(lock.acquire(blocking=False))]
        await c.delete("lock")
        seen.append(await outcome(other.release()))
        await other.acquire()
    return seen


async def lock_that_is_taken(c):
    await c.set("lock", "somebody's")
    try:
        async with c.lock("lock", blocking_timeout=0.01, sleep=0.005):
            pass
    except LockError as error:
        return str(error), type(error)


async def lock_of_another_class(c):
    class Mine(redis.asyncio.lock.Lock):
        async def do_acquire(self, token):
            return "mine"

    return type(c.lock("lock", lock_class=Mine)).__name__, await c.lock("lock", lock_class=Mine).acquire()


async def single_connection(c):
    async with c.client() as own:
        ids = {await own.client_id() for _ in range(3)}
        await own.set("s", "v")
        return len(ids), await own.get("s")


async def another_database(c):
    db = c.get_connection_kwargs()["db"]
    other = (db + 1) % 16
    await c.set("s", "here")
    seen = [await c.select(other), await c.set("s", "there"), await c.get("s"), await c.delete("s")]
    return [*seen, await c.get("s"), await c.select(db), await c.get("s")]


async def iterators(c):
    await c.mset({f"key:{number}": number for number in range(50)})
    await c.hset("h", mapping={f"f{number}": number for number in range(5)})
    await c.sadd("t", *range(5))
    await c.zadd("z", {"a": 1, "b": 2})
    found = []
    for each in (
        c.scan_iter("key:*", count=7),
        c.scan_iter(match="*", count=100, _type="HASH"),
        c.hscan_iter("h", match="f*"),
        c.hscan_iter("h", no_values=True),
        c.sscan_iter("t", count=2),
        c.zscan_iter("z", score_cast_func=int),
    ):
        async with aclosing(each) as items:
            once = {repr(item): item async for item in items}  # SCAN may tell of a key twice
            found.append(sorted(once.values()))
    return found


async def response_callback(c):
    c.set_response_callback("get", lambda reply, **options: ("mine", reply, options))
    await c.set("s", "v")
    return await c.get("s"), await c.execute_command("GET", "s", extra=1), "GET" in c.response_callbacks


async def awaiting_the_client(c):
    return (await c) is c, (await c.initialize()) is c


async def own_module(c):
    class Mine:
        def __init__(self, client):
            self.client = client

        async def get(self, name):
            return await self.client.execute_command("GET", name)

    c.load_external_module("mine", lambda: Mine(c))
    await c.set("s", "v")
    return await c.mine().get("s")


async def encoder(c):
    encoder = c.get_encoder()
    return encoder.encode("grüße"), encoder.decode(b"x"), encoder.decode(b"x", force=True), encoder.encoding


async def connection_kwargs(c):
    kwargs = c.get_connection_kwargs()
    given = [kwargs.get(name) for name in ("host", "port", "db", "decode_responses", "legacy_responses", "protocol")]
    return given, kwargs.get("username"), c.connection_pool.get_protocol()


async def retries(c):
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    retry = Retry(NoBackoff(), 3)
    c.set_retry(retry)
    return c.get_retry() is retry, c.get_retry().get_retries()


async def a_pool_of_its_own(c):
    pool = c.connection_pool
    connection = await pool.get_connection()
    await connection.send_command("SET", "s", "v")
    seen = [await connection.read_response(), isinstance(pool, redis.asyncio.ConnectionPool)]
    await connection.send_command("GET", "s")
    seen.append(await connection.read_response())
    await connection.send_command("LPUSH", "s", "v")
    seen.append(await outcome(connection.read_response()))
    await pool.release(connection)
    await pool.disconnect()
    return seen, connection.is_connected


async def monitor(c):
    async with c.monitor() as monitor, aclosing(monitor.listen()) as commands:
        await c.set("s", 'a "quoted" word')
        while (first := await monitor.next_command())["command"].split()[0] != "SET":
            pass  # redis-py's client opens another connection for it
        await c.get("s")
        second = await anext(commands)
    return [first["command"], second["command"]], sorted(first), first["db"], first["client_type"]


async def pubsub(c):
    async with c.pubsub() as pubsub:
        await pubsub.subscribe("channel", handled=lambda message: handled.append(message["data"]))
        await pubsub.psubscribe("chan*")
        handled, seen = [], [await pubsub.get_message(timeout=5) for _ in range(3)]
        await c.publish("channel", "grüße")
        seen += [await pubsub.get_message(timeout=5) for _ in range(2)]
        await c.publish("handled", 1)
        seen.append(await pubsub.get_message(timeout=5))
        await pubsub.unsubscribe("channel")
        seen += [await pubsub.get_message(timeout=5), await pubsub.get_message(timeout=0.001), pubsub.subscribed]
        # Not compared: the answer to ping(). With RESP3 redis-py takes its text apart, letter by letter.
        return seen, handled, sorted(pubsub.channels), sorted(pubsub.patterns)


async def messages_to_come(c):
    async with c.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("channel")
        await pubsub.get_message(timeout=5)
        await c.publish("channel", b"\x00")
        async with aclosing(pubsub.listen()) as messages:
            message = await anext(messages)
        await pubsub.unsubscribe()
        return message


async def keyspace_notifications(c):
    before = (await c.config_get("notify-keyspace-events"))["notify-keyspace-events"]
    await c.config_set("notify-keyspace-events", "KEA")
    notifications = c.keyspace_notifications(ignore_subscribe_messages=True)
    try:
        await notifications.subscribe_keyspace("notified", db=c.get_connection_kwargs()["db"])
        await c.set("notified", 1)
        first, seen = [await notifications.get_message(timeout=1) for _ in range(2)]  # a confirmation is None
        return first, type(seen).__name__, seen.key, seen.event_type
    finally:
        await notifications.aclose()
        await c.config_set("notify-keyspace-events", before)


async def watch_error(c):
    try:
        await watching_in_vain(c)
    except WatchError as error:
        return str(error)


HELPER_CALLS = [
    pipeline_of_data,
    pipeline_without_transaction,
    pipeline_with_a_refusal,
    pipeline_with_refusals_as_results,
    pipeline_that_is_discarded,
    pipeline_with_a_script,
    pipeline_with_bytes_kept,
    watching,
    watching_in_vain,
    watching_too_late,
    watch_error,
    transaction,
    transaction_without_watch,
    script,
    broken_script,
    lock,
    lock_that_is_taken,
    lock_of_another_class,
    single_connection,
    iterators,
    awaiting_the_client,
    own_module,
    encoder,
    connection_kwargs,
    retries,
    a_pool_of_its_own,
    monitor,
    pubsub,
    messages_to_come,
    keyspace_notifications,
    response_callback,
    another_database,
]
"""What redis-py's own helpers, and code written for redis-py's client, do with a client."""

NOT_COMPARED = {
    "refused here, as they are about one connection among many: see test_refused": (
        "client_no_evict client_no_touch client_reply client_tracking client_tracking_off client_tracking_on psync "
        "readonly readwrite reset sync unwatch wait waitaof watch"
    ),
    "not supported yet": (
        "himport_discard himport_discard_all himport_discard_all_internal himport_discard_internal himport_prepare "
        "himport_prepare_internal himport_registry himport_set"
    ),
    "not what redis-py does: QUIT is close()": "quit",
    "it has to do with redis-py's own connections": "parse_response",
    "they are how clients are made and closed, in every test": "aclose close from_pool from_url",
}
"""Methods that are not compared, and why."""

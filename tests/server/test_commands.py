"""redis-py's command methods give here what they give there: the same value, or the same exception and text."""

from __future__ import annotations

import inspect
import re

import pytest
import redis.asyncio

from aioredis_kit import RedisClient, create_client
from tests.support.client_calls import BLOCKING_CALLS, CONNECTION_CALLS, HELPER_CALLS, NOT_COMPARED
from tests.support.comparing import COMBINATIONS, Names, assert_same, both, in_pipeline, methods_of, name_of, shape
from tests.support.data_calls import DATA_CALLS
from tests.support.server_calls import NOT_CALLED, SERVER_CALLS, UNSTABLE_CALLS

CALLS = [*DATA_CALLS, *SERVER_CALLS, *BLOCKING_CALLS, *CONNECTION_CALLS]


@pytest.fixture(autouse=True)
def _own_server(redis_server):
    if not redis_server.started_here:
        pytest.skip("these calls change users, functions and settings: they are for a server of our own")


@pytest.mark.pins("4.15", "P1")
@pytest.mark.parametrize("options", COMBINATIONS, ids=name_of)
async def test_the_same_response(redis_url, options):
    """For each kind of command, with and without what it asks for being there."""
    theirs, ours = await both(redis_url, options, CALLS)
    assert_same(theirs, ours, CALLS)
    assert len([result for result in theirs if not issubclass(result[0], Exception)]) > 200


@pytest.mark.pins("4.15", "4.6")
@pytest.mark.parametrize("options", COMBINATIONS, ids=name_of)
async def test_the_same_refusal(redis_url, options):
    """All keys hold what the commands can't use: exceptions of the same class with the same text."""

    async def prepare(client):
        for key in "snbpgz":
            await client.rpush(key, "x")
        for key in ("l", "t", "h", "x", "bl", "bz", "bx"):
            await client.set(key, "x")

    theirs, ours = await both(redis_url, options, CALLS, prepare)
    assert_same(theirs, ours, CALLS)
    assert len([result for result in theirs if issubclass(result[0], Exception)]) > 150


@pytest.mark.parametrize("options", COMBINATIONS, ids=name_of)
async def test_the_same_shape(redis_url, options):
    """Where values differ from one moment to the next."""
    theirs, ours = await both(redis_url, options, UNSTABLE_CALLS)
    assert_same(map(shape, theirs), map(shape, ours), UNSTABLE_CALLS)
    assert len([result for result in theirs if not issubclass(result[0], Exception)]) > 25


@pytest.mark.parametrize("options", COMBINATIONS, ids=name_of)
async def test_the_same_from_helpers(redis_url, options):
    """Pipelines, transactions, scripts, locks, iterators, sessions, and what code peeks at."""
    theirs, ours = await both(redis_url, options, HELPER_CALLS)
    assert_same(theirs, ours, HELPER_CALLS)
    failed = {
        call.__name__: result[0]
        for call, result in zip(HELPER_CALLS, theirs, strict=True)
        if issubclass(result[0], Exception)
    }
    failed.pop("iterators", None)  # Redis 7.0 has no NOVALUES
    assert failed == {
        "pipeline_with_a_refusal": redis.ResponseError,
        "watching_in_vain": redis.WatchError,
        "broken_script": redis.ResponseError,
    }


@pytest.mark.pins("4.12")
@pytest.mark.parametrize("is_transaction", [True, False])
@pytest.mark.parametrize("options", COMBINATIONS, ids=name_of)
async def test_the_same_in_a_pipeline(redis_url, options, is_transaction):
    """Each command in a pipeline of its own."""

    noted = [*DATA_CALLS, *SERVER_CALLS]
    calls = [in_pipeline(call, lambda client: client.pipeline(transaction=is_transaction)) for call in noted]
    theirs, ours = await both(redis_url, options, calls)
    assert_same(theirs, ours, noted)
    assert len([result for result in theirs if not issubclass(result[0], Exception)]) > 200


def test_no_method_is_forgotten():
    """Each public method of redis-py's client is called above, or not for a reason."""

    names = Names()
    for call in (*CALLS, *UNSTABLE_CALLS):
        call(names)
    names.called |= {name for call in HELPER_CALLS for name in re.findall(r"\bc\.(\w+)\(", inspect.getsource(call))}
    methods = methods_of(redis.asyncio.Redis)
    assert len(methods) > 400
    excused = set(" ".join([*NOT_CALLED.values(), *NOT_COMPARED.values()]).split())
    assert methods - names.called - excused == set()
    assert excused - methods == set()
    assert excused & names.called == {"execute_command"}


# -- beyond single calls ----------------------------------------------------------------------------


@pytest.mark.pins("P1")
async def test_redis_pys_own_helpers(redis_client):
    """Scripts, locks and iterators are commands on the shared lane."""
    script = redis_client.register_script("return {KEYS[1], ARGV[1]}")
    assert await script(keys=["k"], args=["a"]) == [b"k", b"a"]
    assert await script(keys=["k"], args=["b"]) == [b"k", b"b"]
    async with redis_client.lock("lock", timeout=5) as lock:
        assert await lock.owned()
        assert not await redis_client.lock("lock", blocking=False).acquire()
        assert await lock.extend(5)
        assert await lock.reacquire()
    assert await redis_client.exists("lock") == 0
    await redis_client.mset({f"key:{number}": number for number in range(500)})
    assert len({key async for key in redis_client.scan_iter("key:*", count=50)}) == 500


async def test_what_the_caller_may_pass_along(redis_url):
    """redis-py's own arguments for callbacks: NEVER_DECODE, EMPTY_RESPONSE and a callback's own."""
    from redis.client import EMPTY_RESPONSE, NEVER_DECODE

    for connect in (redis.asyncio.Redis.from_url, create_client):
        async with connect(redis_url, decode_responses=True) as client:
            await client.set("k", "v")
            assert await client.execute_command("GET", "k", **{NEVER_DECODE: True}) == b"v"
            assert await client.get("k") == "v"
            assert await client.execute_command("NO.SUCH", **{EMPTY_RESPONSE: []}) == []
            client.set_response_callback("GET", lambda reply, **options: (reply, options))
            assert await client.execute_command("GET", "k", mine=1) == ("v", {"mine": 1})


async def test_client_list(redis_url, redis_server):
    """It has our library's name, the client's own, and the database."""
    async with create_client(redis_url, client_name="me", client_info_tag="tag") as client:
        (own,) = [each for each in await client.client_list() if each["name"] == "me"]
        assert await client.client_getname() == "me"
        assert own["db"] == str(client.get_connection_kwargs()["db"])
        if "lib-name" in own:
            assert own["lib-name"] == "aioredis_kit(tag)"


@pytest.mark.parametrize("generation", ["child", "grandchild", "with a get of its own"])
async def test_a_subclass_that_takes_all_commands(redis_url, generation):
    """Who overrides `execute_command` sees every command, also those that have a shorter way of their own."""
    seen = []

    class Noting(RedisClient):
        async def execute_command(self, *args, **options):
            seen.append(args[0])
            return await super().execute_command(*args, **options)

    class Grandchild(Noting):
        pass

    class WithGet(Noting):
        async def get(self, name):
            return await super().get(name)

    kind = {"child": Noting, "grandchild": Grandchild}.get(generation, WithGet)
    async with kind(redis_url) as client:
        assert await client.set("k", "v") is True
        assert await client.set("k", "v", ex=100) is True
        assert await client.get("k") == b"v"
        assert await client.hgetall("h") == {}
        view = client.with_options(decode_responses=True)
        assert await view.hgetall("h") == {}
    assert seen == ["SET", "SET", "GET", "HGETALL", "HGETALL"]

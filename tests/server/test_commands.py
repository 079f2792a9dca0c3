"""redis-py's command methods give here what they give there: the same value, or the same exception and text."""

from __future__ import annotations

import inspect
import itertools
import warnings

import pytest
import redis.asyncio
from redis.commands import AsyncCoreCommands

from aioredis_kit import RedisClient, create_client
from tests.support.data_calls import DATA_CALLS
from tests.support.server_calls import NOT_CALLED, SERVER_CALLS, UNSTABLE_CALLS

CALLS = [*DATA_CALLS, *SERVER_CALLS]

COMBINATIONS = [
    {**protocol, "legacy_responses": legacy, "decode_responses": decode}
    for protocol, legacy, decode in itertools.product(
        ({}, {"protocol": 2}, {"protocol": 3}), (True, False), (False, True)
    )
]
NUMBERS = frozenset({int, float})


@pytest.fixture(autouse=True)
def _own_server(redis_server):
    if not redis_server.started_here:
        pytest.skip("these calls change users, functions and settings: they are for a server of our own")


async def make(call, client):
    """Make a call, wait for what it returns, and return that with its types, or the exception and its text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated and experimental methods
        try:
            result = call(client)
            if inspect.isasyncgen(result):
                result = [each async for each in result]
            elif inspect.isawaitable(result):
                result = await result
        except Exception as error:  # noqa: BLE001  # it is the result
            return type(error), str(error)
    return typed(result)


def typed(value):
    """Return a value with the types of all its parts: True is not 1 here."""
    if isinstance(value, dict):
        return type(value), [(typed(key), typed(each)) for key, each in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return type(value), [typed(each) for each in value]
    return type(value), repr(value)


def shape(result):
    """Return what is the same of an unstable result each time: the types, and the keys of mappings."""
    kind, content = result
    if issubclass(kind, dict):
        return kind, sorted((repr(key), shape(each)) for key, each in content)
    if isinstance(content, list):
        return kind, sorted({repr(shape(each)) for each in content}) if kind in {list, tuple} else len(content)
    return float if kind in NUMBERS else kind


async def both(redis_url, options, calls, prepare=None):
    """Make calls on redis-py's client and on ours, each time on the same empty database; return both's results."""
    results = []
    for connect in (redis.asyncio.Redis.from_url, create_client):
        async with connect(redis_url, **options) as client:
            await client.flushdb()
            if prepare is not None:
                await prepare(client)
            results.append([await make(call, client) for call in calls])
    return results


def assert_same(theirs, ours, calls):
    """Compare call by call, and name the call that differs."""
    for call, their, our in zip(calls, theirs, ours, strict=True):
        assert our == their, inspect.getsource(call)


@pytest.mark.pins("4.15", "P1")
@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda options: "-".join(map(str, options.values())))
async def test_the_same_response(redis_url, options):
    """For each kind of command, with and without what it asks for being there."""
    theirs, ours = await both(redis_url, options, CALLS)
    assert_same(theirs, ours, CALLS)
    assert len([result for result in theirs if not issubclass(result[0], Exception)]) > 200


@pytest.mark.pins("4.15", "4.6")
@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda options: "-".join(map(str, options.values())))
async def test_the_same_refusal(redis_url, options):
    """All keys hold what the commands can't use: exceptions of the same class with the same text."""

    async def prepare(client):
        for key in "snbpgz":
            await client.rpush(key, "x")
        for key in "lthx":
            await client.set(key, "x")

    theirs, ours = await both(redis_url, options, CALLS, prepare)
    assert_same(theirs, ours, CALLS)
    assert len([result for result in theirs if issubclass(result[0], Exception)]) > 150


@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda options: "-".join(map(str, options.values())))
async def test_the_same_shape(redis_url, options):
    """Where values differ from one moment to the next."""
    theirs, ours = await both(redis_url, options, UNSTABLE_CALLS)
    assert_same(map(shape, theirs), map(shape, ours), UNSTABLE_CALLS)


def test_no_method_is_forgotten():
    """Each of redis-py's command methods is called above, or not for a reason."""

    class Names:
        def __init__(self):
            self.called = set()

        def __getattr__(self, name):
            self.called.add(name)
            return lambda *args, **kwargs: self

    names = Names()
    for call in (*CALLS, *UNSTABLE_CALLS):
        call(names)
    methods = {
        name
        for each in AsyncCoreCommands.__mro__[:-1]
        for name, member in vars(each).items()
        if callable(member) and not name.startswith("_")
    }
    excused = set(" ".join(NOT_CALLED.values()).split())
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

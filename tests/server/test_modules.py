"""redis-py's module classes give here what they give there, and their pipelines and profiles work here."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from redis.commands.bf import AsyncBFBloom, AsyncCFBloom, AsyncCMSBloom, AsyncTDigestBloom, AsyncTOPKBloom
from redis.commands.json import AsyncJSON
from redis.commands.search import AsyncSearch
from redis.commands.search.aggregation import AggregateRequest
from redis.commands.search.profile_information import ProfileInformation
from redis.commands.search.query import Query
from redis.commands.timeseries import AsyncTimeSeries
from redis.commands.vectorset import AsyncVectorSet

from aioredis_kit import create_client
from tests.support import module_calls as calls_of
from tests.support.comparing import (
    COMBINATIONS,
    Names,
    assert_same,
    both,
    make,
    methods_of,
    name_of,
    shape,
)
from tests.support.module_servers import server_with

MODULES = {
    "json": AsyncJSON,
    "ft": AsyncSearch,
    "ts": AsyncTimeSeries,
    "bf": AsyncBFBloom,
    "cf": AsyncCFBloom,
    "cms": AsyncCMSBloom,
    "topk": AsyncTOPKBloom,
    "tdigest": AsyncTDigestBloom,
    "vset": AsyncVectorSet,
}
ALL_CALLS = [
    *calls_of.JSON_CALLS,
    *calls_of.BLOOM_CALLS,
    *calls_of.SEARCH_CALLS,
    *calls_of.UNSTABLE_SEARCH_CALLS,
    *calls_of.REFUSED_CALLS,
]


@pytest.fixture(scope="module")
def json_url():
    """A Redis with the JSON module."""
    with server_with("rejson", binary="redis-server") as server:
        yield server.url


@pytest.fixture(scope="module")
def bloom_url():
    """A Redis with the module of the probabilistic data structures."""
    with server_with("redisbloom", binary="redis-server") as server:
        yield server.url


@pytest.fixture(scope="module")
def search_url():
    """A Valkey with the search module."""
    with server_with("redisearch") as server:
        yield server.url


def each_combination(test):
    return pytest.mark.parametrize("options", COMBINATIONS, ids=name_of)(test)


async def compare(url, options, calls, *, fine):
    theirs, ours = await both(url, options, calls)
    assert_same(theirs, ours, calls)
    assert len([result for result in theirs if not issubclass(result[0], Exception)]) > fine


# -- the same as redis-py's ----------------------------------------------------------------------------


@each_combination
async def test_json(json_url, options):
    await compare(json_url, options, calls_of.JSON_CALLS, fine=50)


@each_combination
async def test_probabilistic_data_structures(bloom_url, options):
    await compare(bloom_url, options, calls_of.BLOOM_CALLS, fine=45)


@each_combination
async def test_search(search_url, options):
    await compare(search_url, options, calls_of.SEARCH_CALLS, fine=30)
    theirs, ours = await both(search_url, options, calls_of.UNSTABLE_SEARCH_CALLS)
    assert_same(map(shape, theirs), map(shape, ours), calls_of.UNSTABLE_SEARCH_CALLS)


@each_combination
async def test_what_no_server_here_has(redis_url, options):
    theirs, ours = await both(redis_url, options, calls_of.REFUSED_CALLS)
    assert_same(theirs, ours, calls_of.REFUSED_CALLS)


class OfPipeline:
    """Stands for a client in a call, so that it is noted in a module's pipeline."""

    def __init__(self, pipe):
        self._pipe = pipe

    def __getattr__(self, name):
        return getattr(self._pipe, name)

    def json(self):
        return self._pipe

    def ft(self, index_name):
        self._pipe.index_name = index_name
        return self._pipe


def in_search_pipeline(call):
    async def run(client):
        async with client.ft().pipeline(transaction=False) as pipe:
            noted = call(OfPipeline(pipe))
            if inspect.iscoroutine(noted):
                await noted
            return await pipe.execute()

    return run


@each_combination
async def test_search_in_a_pipeline(search_url, options):
    """redis-py's own search pipelines work, those methods aside that take the pipeline for a reply."""
    calls = [call for call in calls_of.SEARCH_CALLS if not re.search(calls_of.BROKEN_IN_PIPELINES, source(call))]
    theirs, ours = await both(search_url, options, [in_search_pipeline(call) for call in calls])
    assert_same(theirs, ours, calls)
    assert len([result for result in theirs if not issubclass(result[0], Exception)]) > 20


def source(call):
    return inspect.getsource(call)


def test_no_method_is_forgotten():
    """Each public method of each module class is called above, or not for a reason."""
    excused = set(" ".join(calls_of.NOT_COMPARED.values()).split())
    total = 0
    for module, kind in MODULES.items():
        called = set()

        class Client:
            def __getattr__(self, name):
                return lambda *args, **kwargs: Names(called) if name == module else Names()  # noqa: B023  # used here

        for call in ALL_CALLS:
            noted = call(Client())
            if inspect.iscoroutine(noted):
                noted.close()
        methods = methods_of(kind) - {"BatchIndexer"}
        total += len(methods)
        assert methods - called - excused == set(), module
    assert total > 150
    assert excused <= set().union(*map(methods_of, MODULES.values()))


# -- what redis-py's own gets wrong ---------------------------------------------------------------------


@pytest.mark.parametrize("is_transaction", [True, False])
@each_combination
async def test_json_in_a_pipeline(json_url, options, is_transaction):
    """Each response is the same in a pipeline. redis-py's is not an asynchronous one."""
    calls = [call for call in calls_of.JSON_CALLS if not re.search(r"set_path|set_file|sorted_by_key", source(call))]

    def in_json_pipeline(call):
        async def run(client):
            pipe = client.json().pipeline(transaction=is_transaction)
            call(OfPipeline(pipe))
            (response,) = await pipe.execute()
            return response

        return run

    async with create_client(json_url, **options) as client:
        await client.flushdb()
        alone = [await make(call, client) for call in calls]
        await client.flushdb()
        for call, expected in zip(calls, alone, strict=True):
            found = await make(in_json_pipeline(call), client)
            if issubclass(expected[0], Exception):
                assert found[0] is expected[0], source(call)
            else:
                assert found == expected, source(call)


async def test_a_json_pipeline_is_an_ordinary_pipeline_too(json_url):
    async with create_client(json_url, decode_responses=True) as client, client.json().pipeline() as pipe:
        pipe.set("doc", "$", {"n": 1}).numincrby("doc", "$.n", 2).get("doc").hset("h", "a", 1).hgetall("h")
        assert (await pipe.execute())[1:] == [[3], {"n": 3}, 1, {"a": "1"}]
        await pipe.watch("doc")
        assert await pipe.get("doc") == {"n": 3}
        pipe.multi()
        pipe.toggle("doc", "$.n").get("doc")
        results = await pipe.execute(raise_on_error=False)
        assert results == [[None], {"n": 3}]


async def test_a_decoder_of_ones_own_is_nobody_elses(json_url):
    """In redis-py's client whoever calls json() last decides on everybody's decoder."""
    floats_as_text = json.JSONDecoder(parse_float=str)
    async with create_client(json_url) as client:
        mine = client.json(decoder=floats_as_text)
        others = client.json()
        await others.set("doc", "$", {"x": 1.5})
        assert await mine.get("doc") == {"x": "1.5"}
        assert await others.get("doc") == {"x": 1.5}
        assert await mine.pipeline().get("doc").execute() == [{"x": "1.5"}]


async def test_time_series_pipelines_are_asynchronous(redis_client):
    async with redis_client.ts().pipeline(transaction=False) as pipe:
        pipe.add("t", 1, 2).get("t").range("t", "-", "+")
        results = await pipe.execute(raise_on_error=False)
    assert ["unknown command" in str(each) for each in results] == [True] * 3


@pytest.fixture
async def search(search_url):
    """A function that makes a client with an index and three documents."""
    clients = []

    async def make_client(**options):
        client = await create_client(search_url, **options).connect()
        clients.append(client)
        await client.flushdb()
        for call in calls_of.SEARCH_CALLS[:6]:
            await make(call, client)
        return client

    yield make_client
    for client in clients:
        await client.close()


@each_combination
async def test_profiles(search, options):
    """redis-py's never awaits the command. The parts are those of its synchronous client."""
    client = await search(**options)
    for query in (Query("hello").no_content(), AggregateRequest("*").load("title")):
        result = await client.ft("idx").profile(query, limited=True)
        if options.get("protocol") == 3 and options["legacy_responses"]:
            assert isinstance(result, ProfileInformation)
        else:
            found, profile = result
            assert isinstance(profile, ProfileInformation)
            assert len(getattr(found, "docs", getattr(found, "rows", []))) == (2 if isinstance(query, Query) else 3)


@each_combination
async def test_synonyms(search, options):
    client = await search(**options)
    assert await client.ft("idx").synupdate("group", False, "moon", "luna")
    synonyms = await client.ft("idx").syndump()
    assert {_text(word): [_text(each) for each in groups] for word, groups in synonyms.items()} == {
        "moon": ["group"],
        "luna": ["group"],
    }


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


@each_combination
async def test_search_pipelines_take_all_methods(search, options):
    client = await search(**options)
    async with client.ft("idx").pipeline(transaction=False) as pipe:
        await pipe.aggregate(AggregateRequest("*").load("title"))
        await pipe.profile(Query("hello").no_content())
        await pipe.syndump()
        await pipe.spellcheck("helo", distance=2)
        await pipe.info()
        with pytest.deprecated_call():
            pipe.get("doc:1")  # of search: it gets documents
        pipe.set("k", "v")
        results = await pipe.execute()
    assert len(results) == 7
    assert results[-1] is True
    assert not [each for each in results if isinstance(each, Exception)]
    # Its response callbacks are its own: the client's are as before.
    assert "FT.SEARCH" not in client.response_callbacks


async def test_a_batch_indexer(search):
    client = await search()
    indexer = client.ft("idx").batch_indexer(chunk_size=2)
    for number in range(3):
        await indexer.add_document(f"doc:batch{number}", title=f"batch {number}", replace=True)
    await indexer.commit()
    assert indexer.total == 3
    assert (await client.ft("idx").search("batch")).total == 3
    await indexer.add_document("doc:late", title="late", replace=True)
    with pytest.warns(ResourceWarning, match="1 documents of a batch were not committed"):
        indexer.__del__()
    await indexer.commit()


async def test_modules_need_no_pool(search, caplog):
    """Neither they nor their pipelines open redis-py's own."""
    client = await search()
    await client.ft("idx").search("hello")
    async with client.ft("idx").pipeline(transaction=False) as pipe:
        await pipe.search("hello")
        assert len(await pipe.execute()) == 1
    assert not client.connection_pool.is_in_use
    assert "connection_pool" not in caplog.text


async def test_modules_of_a_session(search):
    client = await search()
    async with client.dedicated() as session:
        assert (await session.ft("idx").search("hello")).total == 2
        async with session.ft("idx").pipeline(transaction=False) as pipe:
            await pipe.search("hello")
            pipe.client_id()
            assert (await pipe.execute())[1] == await session.client_id()

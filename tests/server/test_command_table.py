"""The command table, compared with what real servers say and do."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest
import redis

from aioredis_kit.policy.commands import CommandTable

SCRIPT = Path(__file__).parents[1] / "tools" / "generate_command_table.py"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_command_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    yield spec.loader.exec_module(module) or module
    del sys.modules[spec.name]


@pytest.fixture(scope="module", params=["valkey-9.1", "redis-7.0"])
def server(request, generator):
    """The URL of a server that the data file was generated from."""
    find = {"valkey-9.1": generator.find_valkey, "redis-7.0": generator.find_redis}[request.param]
    executable = find()
    if executable is None:
        pytest.skip(f"{request.param} is not installed")
    with generator.running(executable) as url:
        name, _ = generator.read_server(url)
        if name != request.param:
            pytest.skip(f"{executable} is {name}, the data file was generated from {request.param}")
        yield url


@pytest.fixture
def client(server):
    with redis.Redis.from_url(server, protocol=2) as client:
        client.response_callbacks.clear()  # replies as they come
        client.flushall()
        yield client


@pytest.fixture(scope="module")
def table():
    return CommandTable()


def test_the_data_file_says_what_the_server_says(generator, server):
    source, commands = generator.read_server(server)
    assert len(commands) > 300
    assert generator.check(generator.parse(generator.DATA_FILE.read_text()), {source: commands}) == []


def test_the_script_would_write_what_the_data_file_has(generator):
    text = generator.DATA_FILE.read_text()
    assert generator.render(generator.parse(text)) == text


def test_a_wrong_fact_would_be_noticed(generator, server):
    source, commands = generator.read_server(server)
    table = generator.parse(generator.DATA_FILE.read_text())
    table["GET"] = (generator.Facts(frozenset(), "1"), table["GET"][1])
    del table["LCS"]
    wrong = generator.check(table, {source: commands})
    assert [line.partition(":")[0] for line in wrong] == ["GET", "LCS"]


@pytest.mark.parametrize(
    "args",
    [
        ("GET", "a"),
        ("MGET", "a", "b", "c"),
        ("MSET", "a", 1, "b", 2),
        ("BLPOP", "a", "b", 0),
        ("BLMOVE", "a", "b", "LEFT", "RIGHT", 0),
        ("BLMPOP", 1, 2, "a", "b", "LEFT"),
        ("BZMPOP", 1, 2, "a", "b", "MIN", "COUNT", 2),
        ("LCS", "a", "b", "LEN"),
        ("BITOP", "AND", "d", "a", "b"),
        ("OBJECT", "FREQ", "a"),
        ("XGROUP", "CREATE", "a", "g", "$"),
        ("XINFO", "STREAM", "a", "FULL"),
        ("MEMORY", "USAGE", "a"),
        ("EVAL", "return 1", 2, "a", "b", "arg"),
        ("FCALL_RO", "f", 1, "a", "arg"),
        ("ZUNIONSTORE", "d", 2, "a", "b", "WEIGHTS", 1, 2),
        ("ZINTERCARD", 2, "a", "b", "LIMIT", 1),
        ("SUNIONSTORE", "d", "a", "b"),
        ("PFMERGE", "d", "a", "b"),
        ("XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS", "a", "b", "0", "0"),
        ("XREADGROUP", "GROUP", "streams", "c", "STREAMS", "a", ">"),
        ("SORT", "a", "BY", "w_*", "LIMIT", 0, 5, "GET", "#", "STORE", "d"),
        ("GEORADIUS", "a", 1, 2, 3, "km", "COUNT", 5, "STORE", "d"),
        ("GEORADIUSBYMEMBER", "a", "m", 3, "km", "STOREDIST", "d"),
        ("GEOSEARCHSTORE", "d", "a", "FROMMEMBER", "m", "BYRADIUS", 1, "km"),
        ("RESTORE", "a", 0, "dump", "REPLACE"),
        ("COPY", "a", "b", "REPLACE"),
    ],
)
def test_keys_are_those_that_the_server_finds(client, table, args):
    found = client.execute_command("COMMAND GETKEYS", *args)
    keys = table.classify(args).keys(args)
    assert sorted(key.encode() for key in keys) == sorted(found)


@pytest.mark.parametrize(
    "args",
    [
        ("BLPOP",),
        ("BLPOP", "key"),
        ("BLPOP", "key", "soon"),
        ("BLPOP", "key", -1),
        ("BLPOP", "key", "nan"),
        ("BLPOP", "key", "inf"),
        ("BRPOPLPUSH", "a", "b"),
        ("BLMPOP", "soon", 1, "a", "LEFT"),
        ("BLMOVE", "a", "b", "LEFT", "RIGHT"),
        ("XREAD", "BLOCK"),
        ("XREAD", "BLOCK", "STREAMS", "s", "$"),
        ("XREAD", "BLOCK", "soon", "STREAMS", "s", "$"),
        ("XREAD", "BLOCK", -5, "STREAMS", "s", "$"),
    ],
)
def test_the_server_refuses_a_block_time_that_the_table_cant_read(client, table, args):
    assert table.classify(args).block_time(args) is None
    started = time.monotonic()
    with pytest.raises(redis.ResponseError):
        client.execute_command(*args)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "args",
    [
        ("BLPOP", "none", 0.05),
        ("BRPOP", "none", "other", b"0.05"),
        ("BRPOPLPUSH", "none", "other", "0.05"),
        ("BLMOVE", "none", "other", "LEFT", "RIGHT", 0.05),
        ("BLMPOP", 0.05, 1, "none", "LEFT"),
        ("BZPOPMIN", "none", 0.05),
        ("BZMPOP", 0.05, 1, "none", "MIN"),
        ("XREAD", "BLOCK", 50, "STREAMS", "none", "$"),
        ("XREADGROUP", "BLOCK", 50, "GROUP", "g", "STREAMS", "STREAMS", "stream", ">"),
        ("XREADGROUP", "GROUP", "g", "STREAMS", "BLOCK", 50, "STREAMS", "stream", ">"),
    ],
)
def test_the_server_blocks_for_the_time_that_the_table_reads(client, table, args):
    client.xgroup_create("stream", "g", mkstream=True)
    traits = table.classify(args)
    assert traits.is_blocking
    assert traits.block_time(args) == pytest.approx(0.05)
    started = time.monotonic()
    assert not client.execute_command(*args)
    assert time.monotonic() - started >= 0.045


PREPARATION = [
    ("SET", "string", "abc"),
    ("HSET", "hash", "f", 1),
    ("RPUSH", "list", 3, 1, 2),
    ("SADD", "set", "a", "b"),
    ("SADD", "set2", "b", "c"),
    ("ZADD", "zset", 1, "a", 2, "b"),
    ("PFADD", "hll", "a", "b"),
    ("GEOADD", "geo", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"),
]


@pytest.mark.parametrize(
    "args",
    [
        ("SET", "string", "v"),
        ("SET", "new", "v", "KEEPTTL"),
        ("SETEX", "new", 1000, "v"),
        ("PSETEX", "new", 1000_000, "v"),
        ("MSET", "string", 1, "new", 2),
        ("HMSET", "hash", "f", 2, "g", 3),
        ("LSET", "list", 0, "v"),
        ("SETRANGE", "string", 5, "v"),
        ("PFMERGE", "hll", "hll", "new"),
        ("CONFIG", "SET", "maxmemory-samples", 5),
        ("SCRIPT", "LOAD", "return 1"),
        ("EXPIRE", "string", 1000),
        ("PEXPIRE", "none", 1000),
        ("GETEX", "string", "EX", 1000),
        ("GETEX", "string", "PERSIST"),
        ("BITFIELD", "string", "GET", "u8", 0),
        ("SUNIONSTORE", "new", "set", "set2"),
        ("SINTERSTORE", "new", "set", "set2"),
        ("SDIFFSTORE", "new", "set", "set2"),
        ("ZUNIONSTORE", "new", 2, "zset", "set"),
        ("ZINTERSTORE", "new", 2, "zset", "set"),
        ("ZDIFFSTORE", "new", 2, "zset", "set"),
        ("ZRANGESTORE", "new", "zset", 0, 0),
        ("BITOP", "NOT", "new", "string"),
        ("SORT", "list"),
        ("SORT", "list", "STORE", "new"),
        ("GEORADIUS", "geo", 15, 37, 200, "km", "STORE", "new"),
        ("GEORADIUSBYMEMBER", "geo", "Palermo", 200, "km", "STOREDIST", "new"),
        ("GEOSEARCHSTORE", "new", "geo", "FROMMEMBER", "Palermo", "BYRADIUS", 200, "km"),
    ],
)
def test_what_may_be_sent_twice_gives_the_same_reply_and_the_same_data(client, table, args):
    assert table.classify(args).is_idempotent(args)
    for command in PREPARATION:
        client.execute_command(*command)
    outcomes = []
    for _ in range(2):
        reply = client.execute_command(*args)
        keys = client.execute_command("KEYS", "*")
        outcomes.append((reply, {key: client.execute_command("DUMP", key) for key in keys}))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "args",
    [("XINFO", "GROUPS", "stream"), ("XINFO", "STREAM", "stream", "FULL"), ("SORT_RO", "list", "BY", "weight_*")],
)
def test_a_reply_that_is_not_deterministic_changes_without_an_invalidation(client, server, table, args):
    """This is why the table corrects what servers say of these commands."""
    client.xadd("stream", {"a": 1})
    client.xgroup_create("stream", "group", "0")
    client.rpush("list", 1, 2)
    assert not table.classify(args).is_deterministic
    with redis.Redis.from_url(server, protocol=3, single_connection_client=True) as tracking:
        tracking.execute_command("CLIENT TRACKING", "ON")
        tracking.response_callbacks.clear()
        pushes = []
        tracking.connection._parser.set_invalidation_push_handler(pushes.append)
        before = tracking.execute_command(*args)
        client.xreadgroup("group", "consumer", {"stream": ">"})
        client.set("weight_1", 5)
        assert tracking.execute_command(*args) != before
        assert pushes == []
        client.delete("stream", "list")
        tracking.ping()
        assert len(pushes) == 1  # so the connection did track the key

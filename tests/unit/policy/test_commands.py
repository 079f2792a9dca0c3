"""What the command table says of commands: lanes, keys, block times, what may be sent twice."""

from __future__ import annotations

import json
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.policy.commands import CommandTable, Lane, split_name

FACTS = json.loads(resources.files("aioredis_kit.policy").joinpath("commands.json").read_bytes())

SESSION_ONLY = [
    *("MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "RESET", "HELLO", "READONLY", "READWRITE"),
    *("ASKING", "SCRIPT DEBUG", "SYNC", "PSYNC", "REPLCONF", "MONITOR", "WAIT", "WAITAOF"),
    *("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"),
    *("CLIENT REPLY", "CLIENT TRACKING", "CLIENT CACHING", "CLIENT NO-EVICT", "CLIENT NO-TOUCH"),
    *("CLIENT CAPA", "CLIENT IMPORT-SOURCE", "CLIENT MAINT_NOTIFICATIONS", "CLUSTER SYNCSLOTS"),
    *("HIMPORT", "HIMPORT PREPARE", "HIMPORT SET", "HIMPORT DISCARD", "HIMPORT DISCARDALL", "ASYNC"),
]

ALWAYS_BLOCKING = [
    *("BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BLMOVEM", "BLMPOP"),
    *("BZPOPMIN", "BZPOPMAX", "BZMPOP"),
]


@pytest.fixture(scope="module")
def table():
    return CommandTable()


def spellings(name):
    """Each way in which redis-py and its users write a name."""
    words = name.split()
    for change in (str.upper, str.lower, str.title):
        for text in (change(name), f" {change(name)}  ", f"{change(name)}\n"):
            yield (text,)
            yield (text.encode(),)
        yield tuple(change(word) for word in words)
        yield tuple(change(word).encode() for word in words)
        yield (change(words[0]), *(memoryview(change(word).encode()) for word in words[1:]))
        yield (change(words[0]), *(bytearray(change(word).encode()) for word in words[1:]))


# -- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GET", "CONFIG GET", "XINFO STREAM", "CLIENT NO-EVICT", "FT._LIST"])
def test_a_name_is_recognised_in_every_spelling(table, name):
    expected = table.classify((name,))
    assert expected.is_known
    for args in spellings(name):
        assert table.classify((*args, "argument")) is expected, args


@pytest.mark.parametrize(
    ("args", "flat"),
    [
        (("GET", "a b"), ("GET", "a b")),
        (("CONFIG GET", "port"), ("CONFIG", "GET", "port")),
        ((b"config  get ", "port"), (b"config", b"get", "port")),
        (("SLAVEOF NO ONE",), ("SLAVEOF", "NO", "ONE")),
        ((" GET ", "a b"), ("GET", "a b")),
        ((" ", "a b"), (" ", "a b")),
        ((), ()),
        ((7, "a b"), (7, "a b")),
    ],
)
def test_the_words_of_a_name_become_arguments(args, flat):
    assert split_name(args) == flat


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("",),
        (" ",),
        (b"\xff\xfe",),
        (12,),
        (1.5,),
        ("\N{LATIN SMALL LETTER LONG S}et", "k", "v"),
        ("X" * 10_000,),
        ("FOO.BAR", "k"),
    ],
)
def test_an_unknown_command_is_a_shared_write_without_keys(table, args):
    traits = table.classify(args)
    assert traits.lane is Lane.SHARED
    assert not traits.is_known
    assert not traits.is_readonly
    assert not traits.is_deterministic
    assert not traits.is_idempotent(args)
    assert traits.keys(args) == ()
    assert traits.first_key(args) is None
    assert traits.block_time(args) is None


def test_what_follows_a_container_never_becomes_part_of_a_name(table):
    for args in [("CLIENT", "hunter2"), ("ACL", b"hunter2"), ("CONFIG", 5), ("CLIENT hunter2",)]:
        assert "hunter2" not in table.classify(args).name.lower()


@given(st.lists(st.text() | st.binary() | st.integers() | st.floats(), max_size=6))
def test_no_arguments_make_it_raise(args):
    table = CommandTable()
    for name in ("BLPOP", "XREAD", "EVAL", "SET", "ZUNIONSTORE", "GEORADIUS", "EXPIRE", "MSETEX", "CLIENT"):
        command = (name, *args)
        traits = table.classify(command)
        traits.keys(command)
        traits.first_key(command)
        traits.block_time(command)
        traits.is_idempotent(command)


# -- lanes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lane"),
    [
        *((name, Lane.SESSION_ONLY) for name in SESSION_ONLY),
        *((name, Lane.BLOCKING) for name in ALWAYS_BLOCKING),
        *((name, Lane.FENCE) for name in ("SELECT", "AUTH")),
        *((name, Lane.EVERY_LINK) for name in ("CLIENT SETNAME", "CLIENT SETINFO")),
        ("QUIT", Lane.QUIT),
    ],
)
def test_the_lane_is_known_by_the_name_alone(table, name, lane):
    for args in spellings(name):
        traits = table.classify((*args, "argument"))
        assert (traits.name, traits.lane) == (name, lane), args


def test_every_other_command_is_shared(table):
    elsewhere = {name for name in FACTS if table.classify((name,)).lane is not Lane.SHARED}
    special = {"SELECT", "AUTH", "CLIENT SETNAME", "CLIENT SETINFO", "QUIT"}
    assert elsewhere == special | (set(SESSION_ONLY) | set(ALWAYS_BLOCKING)) & FACTS.keys()


def test_no_command_that_a_server_calls_blocking_is_shared_by_name_alone(table):
    blocking = {name for name, (flags, *_) in FACTS.items() if "blocking" in flags}
    assert {"BLPOP", "XREAD", "WAIT", "TS.READ"} <= blocking
    for name in blocking:
        is_shared = table.classify((name,)).lane is Lane.SHARED
        assert is_shared == table.depends_on_arguments(name), name


@pytest.mark.parametrize(
    ("args", "block_time"),
    [
        (("XREAD", "STREAMS", "s", "0"), None),
        (("XREAD", "COUNT", 2, "STREAMS", "s", "0"), None),
        (("XREAD", "STREAMS", "BLOCK", "0-0"), None),
        (("XREAD", "BLOCK", 1500, "STREAMS", "s", "$"), 1.5),
        (("xread", b"count", b"2", b"block", b"0", b"streams", b"s", b"$"), 0),
        (("XREAD COUNT", 2, "BLOCK", 250, "STREAMS", "s", "$"), 0.25),
        (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"), None),
        (("XREADGROUP", "GROUP", "g", "c", "BLOCK", 100, "STREAMS", "s", ">"), 0.1),
        (("XREADGROUP", "BLOCK", 100, "GROUP", "g", "c", "STREAMS", "s", ">"), 0.1),
        (("XREADGROUP", "GROUP", "BLOCK", "BLOCK", "STREAMS", "s", ">"), None),
        (("XREADGROUP", "GROUP", "STREAMS", "STREAMS", "BLOCK", 0, "STREAMS", "s", ">"), 0),
        (("XREADGROUP", "GROUP", "g", "c", "NOACK", "CLAIM", 5, "BLOCK", 0, "STREAMS", "s", ">"), 0),
        (("TS.READ", "k", "-"), None),
        (("TS.READ", "BLOCK", "-", "MAX_COUNT", 5), None),
        (("TS.READ", "k", "$", "MAX_COUNT", 5, "BLOCK", 2000, 1), 2),
        (("TS.READ", "k", "$", "BLOCK", 0, 1, "MAX_COUNT", 5), 0),
    ],
)
def test_the_option_decides_whether_it_blocks(table, args, block_time):
    traits = table.classify(args)
    assert traits.is_blocking == (block_time is not None)
    assert traits.lane is (Lane.SHARED if block_time is None else Lane.BLOCKING)
    assert traits.block_time(args) == block_time


@pytest.mark.parametrize(
    ("args", "block_time"),
    [
        (("BLPOP", "a", "b", 5), 5),
        (("BLPOP", "a", 0), 0),
        ((b"brpop", b"a", b"0.25"), 0.25),
        (("BRPOP", "a", "1.5"), 1.5),
        (("BZPOPMIN", "a", bytearray(b"3")), 3),
        (("BZPOPMAX", "a", memoryview(b"4")), 4),
        (("BRPOPLPUSH", "a", "b", 6), 6),
        (("BLMOVE", "a", "b", "LEFT", "RIGHT", 7), 7),
        (("BLMOVEM", "a", "b", "LEFT", "RIGHT", 8, "COUNT", 2, "OBO"), 8),
        (("BLMPOP", 9, 2, "a", "b", "LEFT", "COUNT", 3), 9),
        (("BZMPOP", "10", 1, "a", "MIN"), 10),
    ],
)
def test_the_block_time_is_read_from_the_arguments(table, args, block_time):
    assert table.classify(args).block_time(args) == block_time


@pytest.mark.parametrize(
    "args",
    [
        ("BLPOP",),
        ("BLPOP", "key"),
        ("BLPOP", "key", "soon"),
        ("BLPOP", "key", -1),
        ("BLPOP", "key", "nan"),
        ("BLPOP", "key", "inf"),
        ("BLPOP", "key", b"\xff"),
        ("BLPOP", "key", 10**400),
        ("BRPOPLPUSH", "a"),
        ("BLMPOP", "soon", 1, "a", "LEFT"),
        ("BLMOVE", "a", "b", "LEFT"),
        ("XREAD", "BLOCK"),
        ("XREAD", "BLOCK", "STREAMS", "s", "$"),
        ("XREADGROUP", "BLOCK", "soon", "GROUP", "g", "c", "STREAMS", "s", ">"),
    ],
)
def test_a_block_time_that_makes_no_sense_leaves_the_command_off_the_shared_lane(table, args):
    traits = table.classify(args)
    assert traits.lane is Lane.BLOCKING
    assert traits.block_time(args) is None


@pytest.mark.parametrize(
    ("name", "depends"),
    [
        ("GET", False),
        (b"get", False),
        ("SET", False),
        ("SORT", False),
        ("BLPOP", False),
        ("EVAL", False),
        ("XREAD", True),
        (b"xreadgroup", True),
        ("TS.READ", True),
        ("CONFIG", True),
        (b"client", True),
        ("CONFIG GET", False),
        (b"client setname", False),
        ("COMMAND", True),
        ("COMMAND COUNT", False),
        ("OBJECT", True),
        ("DEBUG", False),
        ("DEBUG OBJECT", False),
        ("NOSUCH.COMMAND", False),
    ],
)
def test_it_says_which_names_need_their_arguments(table, name, depends):
    assert table.depends_on_arguments(name) is depends


def test_few_names_need_their_arguments(table):
    containers = {name.split()[0] for name in FACTS if " " in name}
    dependent = {name for name in FACTS if table.depends_on_arguments(name)}
    assert dependent == {"XREAD", "XREADGROUP", "TS.READ"} | (containers & FACTS.keys())


# -- reads and writes -------------------------------------------------------------------------------

READS = [
    *("GET", "MGET", "HGETALL", "LRANGE", "SMEMBERS", "ZRANGE", "XRANGE", "XREAD", "SCAN", "TYPE"),
    *("TTL", "EXISTS", "PFCOUNT", "TOUCH", "RANDOMKEY", "SRANDMEMBER", "DUMP", "SORT_RO", "LCS"),
    *("OBJECT FREQ", "MEMORY USAGE", "XINFO STREAM", "XPENDING", "GEOSEARCH", "BITFIELD_RO", "DBSIZE"),
    *("PING", "ECHO", "TIME", "INFO", "CONFIG GET", "CLIENT LIST", "CLIENT INFO", "CLIENT ID", "ROLE"),
    *("COMMAND", "COMMAND DOCS", "PUBSUB NUMSUB", "SLOWLOG GET", "LATENCY DOCTOR", "ACL WHOAMI"),
    *("CLUSTER SLOTS", "FUNCTION LIST", "SCRIPT EXISTS", "MEMORY STATS", "MODULE LIST", "XINFO HELP"),
    *("JSON.GET", "JSON.MGET", "FT.SEARCH", "TS.RANGE", "BF.EXISTS", "VSIM", "DIGEST", "HTTL", "ARGET"),
]

WRITES = [
    *("SET", "GETSET", "GETDEL", "GETEX", "INCR", "APPEND", "DEL", "UNLINK", "EXPIRE", "RENAME", "COPY"),
    *("SPOP", "LPOP", "ZPOPMIN", "LMPOP", "HGETEX", "HGETDEL", "SORT", "GEORADIUS", "BITFIELD"),
    *("XADD", "XREADGROUP", "XAUTOCLAIM", "XCLAIM", "XACK", "XGROUP CREATE", "PFADD", "PFMERGE"),
    *("EVAL", "EVALSHA", "FCALL", "EVAL_RO", "EVALSHA_RO", "FCALL_RO", "SCRIPT LOAD", "SCRIPT FLUSH"),
    *("PUBLISH", "SPUBLISH", "SUBSCRIBE", "CLIENT KILL", "CLIENT PAUSE", "CLIENT UNBLOCK", "SHUTDOWN"),
    *("CONFIG SET", "CONFIG RESETSTAT", "CONFIG REWRITE", "ACL SETUSER", "ACL LOG", "ACL DELUSER"),
    *("FLUSHALL", "FLUSHDB", "BGSAVE", "SAVE", "LATENCY RESET", "SLOWLOG RESET", "FAILOVER", "DEBUG"),
    *("FUNCTION LOAD", "FUNCTION FLUSH", "MEMORY PURGE", "MODULE LOAD", "REPLICAOF", "SWAPDB"),
    *("CLUSTER FAILOVER", "CLUSTER RESET", "MIGRATE", "RESTORE", "WATCH", "MULTI", "EXEC", "AUTH"),
    *("FT.CREATE", "FT.ALIASADD", "FT.DICTADD", "FT.CURSOR", "FT.CONFIG", "CF.COMPACT", "JSON.SET"),
    *("JSON.ARRPOP", "TS.ADD", "BF.ADD", "VADD", "DELEX", "INCREX", "HOTKEYS START", "BLPOP", "WAIT"),
]


@pytest.mark.parametrize("name", READS)
def test_it_is_read_only(table, name):
    traits = table.classify((name,))
    assert traits.is_known
    assert traits.is_readonly
    assert traits.is_idempotent((name, "key"))


@pytest.mark.parametrize("name", WRITES)
def test_it_is_not_read_only(table, name):
    traits = table.classify((name,))
    assert traits.is_known
    assert not traits.is_readonly


def test_only_harmless_commands_are_read_only_without_a_servers_word(table):
    ours = {name for name in FACTS if table.classify((name,)).is_readonly and "readonly" not in FACTS[name][0]}
    assert all(not FACTS[name][1] for name in ours)
    for word in ("SET", "RESET", "KILL", "FLUSH", "LOAD", "DEL", "SAVE", "PAUSE", "FAILOVER", "LOG", "PURGE"):
        assert not [name for name in ours if word in name.split()]


@pytest.mark.parametrize("name", ["GET", "MGET", "HGETALL", "ZRANGE", "EXPIRETIME", "JSON.GET", "XREAD", "PFCOUNT"])
def test_its_reply_depends_on_named_keys_alone(table, name):
    traits = table.classify((name,))
    assert traits.is_deterministic
    assert traits.has_keys


@pytest.mark.parametrize(
    "name",
    [
        *("RANDOMKEY", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER", "VRANDMEMBER", "TIME", "INFO", "SCAN"),
        *("HSCAN", "SSCAN", "ZSCAN", "TTL", "PTTL", "HTTL", "HPTTL", "OBJECT IDLETIME", "OBJECT ENCODING"),
        *("XPENDING", "XINFO STREAM", "XINFO GROUPS", "XINFO CONSUMERS", "SORT_RO", "TOUCH", "DUMP"),
        *("MEMORY USAGE", "TS.GET", "TS.RANGE", "TS.READ", "FT.SEARCH", "FT.AGGREGATE"),
    ],
)
def test_its_reply_depends_on_more(table, name):
    assert not table.classify((name,)).is_deterministic


# -- what may be sent twice -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ("SET", "k", "v"),
        (b"set", b"k", b"NX"),
        ("SET", "k", "v", "EX", 10),
        ("SET", "k", "v", "px", b"10"),
        ("SET", "k", "v", "KEEPTTL"),
        ("SET", "k", "v", "EXAT", 10**10),
        ("SETEX", "k", 10, "v"),
        ("PSETEX", "k", 10, "v"),
        ("MSET", "a", 1, "b", 2),
        ("HMSET", "h", "f", "v"),
        ("LSET", "l", 0, "v"),
        ("SETRANGE", "k", 3, "v"),
        ("PFMERGE", "d", "d", "s"),
        ("CONFIG SET", "maxmemory", 0),
        ("CONFIG", "SET", "maxmemory", 0),
        ("SCRIPT LOAD", "return 1"),
        ("EXPIRE", "k", 10),
        ("PEXPIRE", "k", b"10"),
        ("GETEX", "k"),
        ("GETEX", "k", "EX", 10),
        ("GETEX", "k", "PERSIST"),
        ("BITFIELD", "k", "GET", "u8", 0, "get", "u8", "#1"),
        ("SUNIONSTORE", "d", "a", "b"),
        ("SDIFFSTORE", "d", b"a", b"b"),
        ("ZUNIONSTORE", "d", 2, "a", "b", "WEIGHTS", 1, 2),
        ("ZRANGESTORE", "d", "a", 0, -1),
        ("BITOP", "AND", "d", "a", "b"),
        ("SORT", "k"),
        ("SORT", "k", "BY", "w_*", "GET", "#", "DESC"),
        ("SORT", "k", "STORE", "d"),
        ("GEORADIUS", "k", 1, 2, 3, "km"),
        ("GEORADIUS", "k", 1, 2, 3, "km", "STORE", "d"),
        ("GEOSEARCHSTORE", "d", "k", "FROMMEMBER", "m", "BYRADIUS", 1, "km"),
    ],
)
def test_sending_it_twice_equals_sending_it_once(table, args):
    assert table.classify(args).is_idempotent(args)


@pytest.mark.parametrize(
    "args",
    [
        ("SET", "k", "v", "NX"),
        ("SET", "k", "v", b"xx"),
        ("SET", "k", "v", "GET"),
        ("SET", "k", "v", "EX", 10, "GET"),
        ("SET", "k", "v", "IFEQ", "EX"),
        ("SET", "k", "v", "IFDNE", "1234"),
        ("SET", "k", "v", "SOMETHING-NEW"),
        ("SETNX", "k", "v"),
        ("MSETNX", "k", "v"),
        ("GETSET", "k", "v"),
        ("GETDEL", "k"),
        ("GETEX", "k", "EXAT", 1),
        ("GETEX", "k", "PXAT", 1),
        ("EXPIRE", "k", 10, "NX"),
        ("EXPIRE", "k", 0),
        ("EXPIRE", "k", -1),
        ("EXPIRE", "k"),
        ("EXPIREAT", "k", 10**10),
        ("PERSIST", "k"),
        ("BITFIELD", "k", "GET", "u8", 0, "SET", "u8", 0, 1),
        ("BITFIELD", "k", "INCRBY", "u8", 0, 1),
        ("SDIFFSTORE", "d", "a", "d"),
        ("SDIFFSTORE", "d", "a", b"d"),
        ("ZUNIONSTORE", "d", 2, "a", "d"),
        ("BITOP", "XOR", "d", "a", "d"),
        ("SORT", "k", "STORE", "k"),
        ("GEORADIUS", "k", 1, 2, 3, "km", "STOREDIST", "k"),
        ("INCR", "k"),
        ("APPEND", "k", "v"),
        ("HSET", "h", "f", "v"),
        ("SADD", "s", "m"),
        ("DEL", "k"),
        ("LPUSH", "l", "v"),
        ("XADD", "s", "*", "f", "v"),
        ("PUBLISH", "c", "m"),
        ("FLUSHALL",),
        ("EVAL", "return 1", 0),
        ("EVAL_RO", "return 1", 0),
        ("FCALL_RO", "f", 0),
        ("BLPOP", "k", 0),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"),
        ("JSON.SET", "k", "$", "1"),
        ("MULTI",),
        ("SELECT", 1),
    ],
)
def test_sending_it_twice_may_differ(table, args):
    assert not table.classify(args).is_idempotent(args)


# -- keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "keys"),
    [
        (("GET", "a"), ("a",)),
        (("GET", 5), (5,)),
        (("GET",), ()),
        (("MGET", "a", b"b"), ("a", b"b")),
        (("MSET", "a", 1, "b", 2), ("a", "b")),
        (("MSETEX", 2, "a", 1, "b", 2, "EX", 5), ("a", "b")),
        (("BLPOP", "a", "b", 0), ("a", "b")),
        (("LCS", "a", "b", "LEN"), ("a", "b")),
        (("RENAME", "a", "b"), ("a", "b")),
        (("BITOP", "AND", "d", "a", "b"), ("d", "a", "b")),
        (("OBJECT", "FREQ", "a"), ("a",)),
        (("OBJECT FREQ", "a"), ("a",)),
        ((b"object freq", b"a"), (b"a",)),
        (("XGROUP", "CREATE", "a", "g", "$"), ("a",)),
        (("XGROUP CREATE", "a", "g", "$"), ("a",)),
        (("EVAL", "script", 2, "a", "b", "arg"), ("a", "b")),
        (("EVALSHA", "sha", b"1", "a", "arg"), ("a",)),
        (("FCALL", "f", "0", "arg"), ()),
        (("EVAL", "script"), ()),
        (("EVAL", "script", "many", "a"), ()),
        (("EVAL", "script", -1, "a"), ()),
        (("EVAL", "script", 5, "a"), ("a",)),
        (("EVAL", "script", "1e300", "a"), ("a",)),
        (("ZUNIONSTORE", "d", 2, "a", "b", "WEIGHTS", 1, 2), ("d", "a", "b")),
        (("ZUNION", 2, "a", "b", "WITHSCORES"), ("a", "b")),
        (("BLMPOP", 1, 2, "a", "b", "LEFT"), ("a", "b")),
        (("XREAD", "COUNT", 1, "STREAMS", "a", "b", "0", "0"), ("a", "b")),
        (("XREAD", "COUNT", 1), ()),
        (("XREADGROUP", "GROUP", "streams", "c", "STREAMS", "a", ">"), ("a",)),
        (("SORT", "a", "LIMIT", 0, 5, "store", "d"), ("a", "d")),
        (("GEORADIUS", "a", 1, 2, 3, "km", b"STOREDIST", "d"), ("a", "d")),
        (("MIGRATE", "host", 6379, "", 0, 1000, "KEYS", "a", "b"), ("", "a", "b")),
        (("PUBLISH", "channel", "message"), ("channel",)),
        (("SPUBLISH", "channel", "message"), ("channel",)),
        (("JSON.MGET", "a", "b", "$"), ("a", "b")),
        (("TS.MADD", "a", 1, 2, "b", 3, 4), ("a", "b")),
        (("TDIGEST.MERGE", "d", 2, "a", "b", "OVERRIDE"), ("d", "a", "b")),
        (("FT.SEARCH", "index", "query"), ()),
        (("FT.SUGADD", "a", "text", 1), ("a",)),
        (("PING",), ()),
        (("CONFIG GET", "port"), ()),
    ],
)
def test_keys_are_found_where_the_table_says(table, args, keys):
    traits = table.classify(args)
    assert traits.keys(args) == keys
    assert traits.first_key(args) == (keys[0] if keys else None)


def test_large_values_are_not_looked_through(table):
    args = ("SET", "k", "v", "EX", 10, memoryview(bytes(10_000_000)))
    assert not table.classify(args).is_idempotent(args)


@pytest.mark.parametrize(
    ("args", "keys"),
    [
        (("GET", "a"), ()),
        (("MSET", "a", 1, "b", 2), ("a", "b")),
        (("EVAL", "…", 1, "a"), ("a",)),
        (("EVAL", "…", 0, "a"), None),
        (("FCALL", "f", 0), None),
        (("FCALL_RO", "f", 0), ()),
        (("FLUSHDB",), None),
        (("NOBODY.KNOWS", "a"), None),
    ],
    ids=lambda value: value[0] if value and value[0].isupper() else "",
)
def test_what_a_command_may_change(args, keys):
    assert CommandTable().classify(args).changed_keys(args) == keys


# -- registered commands ----------------------------------------------------------------------------


def test_a_registered_command_has_the_traits_that_were_given():
    table = CommandTable()
    table.register("mymodule.get", readonly=True, keys=1)
    table.register(b"MYMODULE.BPOP", blocking=True, keys="1..-2")
    table.register("MYMODULE.MERGE", keys="1 #2")

    assert table.classify((b"MyModule.Get", "a")).is_readonly
    assert table.classify(("MYMODULE.GET", "a")).keys(("MYMODULE.GET", "a", "b")) == ("a",)
    pop = ("MYMODULE.BPOP", "a", "b", 5)
    traits = table.classify(pop)
    assert (traits.lane, traits.block_time(pop), traits.keys(pop)) == (Lane.BLOCKING, 0, ("a", "b"))
    merge = ("MYMODULE.MERGE", "d", 2, "a", "b", "c")
    traits = table.classify(merge)
    assert traits.keys(merge) == ("d", "a", "b")
    assert not traits.is_readonly
    assert not traits.is_idempotent(merge)


def test_registering_concerns_one_table():
    table = CommandTable()
    table.register("MYMODULE.GET", readonly=True)
    assert not CommandTable().classify(("MYMODULE.GET",)).is_known


def test_a_registered_sub_command_is_found_in_both_spellings():
    table = CommandTable()
    table.register("mymodule read", readonly=True, keys=2)
    assert table.depends_on_arguments("MYMODULE")
    assert not table.depends_on_arguments("MYMODULE READ")
    for args in [("MYMODULE", "read", "a"), ("mymodule READ", "a")]:
        assert table.classify(args).keys(args) == ("a",)
    assert not table.classify(("MYMODULE", "WRITE", "a")).is_known


def test_an_ordinary_command_may_be_registered_anew():
    table = CommandTable()
    table.register("FT.CURSOR", readonly=True)
    assert table.classify(("FT.CURSOR", "READ", "index", 1)).is_readonly


@pytest.mark.parametrize("name", ["MULTI", "BLPOP", "xread", "client  setname", "SELECT", "QUIT"])
def test_what_keeps_the_shared_lane_safe_cant_be_registered_away(name):
    with pytest.raises(ConfigurationError, match="register other commands"):
        CommandTable().register(name, readonly=True)


@pytest.mark.parametrize("name", ["", "  ", "a b c", "SET\N{LATIN SMALL LETTER LONG S}", "x" * 100, 7])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ConfigurationError, match=r"^name: "):
        CommandTable().register(name)


@pytest.mark.parametrize(
    "keys", [0, -1, "0", "1..", "1..0", "#", "#0", "1,2", "STORE@", "store@3", "x", "\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_a_place_of_keys_that_is_none_is_refused(keys):
    with pytest.raises(ConfigurationError, match=r"^keys: .*'1\.\.-1'"):
        CommandTable().register("MYMODULE.GET", keys=keys)

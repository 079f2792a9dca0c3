"""Blocking commands that go on where they were interrupted, and where the first key is that decides a connection."""

import pytest

from aioredis_kit.policy.commands import CommandTable, is_repeated_alike, with_block_time

pins = pytest.mark.pins
TABLE = CommandTable()


def waited(args, elapsed):
    return with_block_time(TABLE.classify(args), args, elapsed)


@pytest.mark.parametrize(
    ("args", "elapsed", "left"),
    [
        (("XREAD", "BLOCK", 5000, "STREAMS", "s", 0), 2.0, ("XREAD", "BLOCK", 3000, "STREAMS", "s", 0)),
        (
            ("xread", "COUNT", 1, b"block", b"5000", "STREAMS", "s", 0),
            4.9995,
            ("xread", "COUNT", 1, b"block", 1, "STREAMS", "s", 0),
        ),
        (
            ("XREADGROUP", "GROUP", "block", "c", "BLOCK", "10", "STREAMS", "s", ">"),
            0.0045,
            ("XREADGROUP", "GROUP", "block", "c", "BLOCK", 6, "STREAMS", "s", ">"),
        ),
        (("BLPOP", "k", "l", 5), 1.5, ("BLPOP", "k", "l", 3.5)),
        (("BLMPOP", b"5", 1, "k", "LEFT"), 1.5, ("BLMPOP", 3.5, 1, "k", "LEFT")),
        (("BLMOVE", "a", "b", "LEFT", "LEFT", "1.5"), 1.0, ("BLMOVE", "a", "b", "LEFT", "LEFT", 0.5)),
        (("BRPOPLPUSH", "a", "b", 2), 1, ("BRPOPLPUSH", "a", "b", 1.0)),
    ],
)
def test_it_waits_for_the_rest(args, elapsed, left):
    assert waited(args, elapsed) == left


@pytest.mark.parametrize("elapsed", [5.0, 5.001, 100])
def test_no_time_is_left(elapsed):
    assert waited(("XREAD", "BLOCK", 5000, "STREAMS", "s", 0), elapsed) is None
    assert waited(("BLPOP", "k", 5), elapsed) is None


def test_a_short_rest_is_not_for_ever():
    """Redis 6 cuts seconds to whole milliseconds, and 0 is for ever."""
    assert waited(("BLPOP", "k", 5), 4.9999999)[-1] == 0.001
    assert waited(("XREAD", "BLOCK", 5000, "STREAMS", "s", 0), 4.9999999)[2] == 1


@pytest.mark.parametrize(
    "args",
    [
        ("BLPOP", "k", 0),
        ("XREAD", "BLOCK", 0, "STREAMS", "s", 0),
        ("XREAD", "STREAMS", "s", 0),
        ("BLPOP", "k", "soon"),
    ],
)
def test_for_ever_stays_for_ever(args):
    assert waited(args, 1000.0) == args


def test_a_registered_command_has_no_block_time_to_change():
    table = CommandTable()
    table.register("MY.WAIT", blocking=True)
    args = ("MY.WAIT", "k", 5)
    assert with_block_time(table.classify(args), args, 3) == args


@pins("4.11")
@pytest.mark.parametrize(
    ("args", "is_alike"),
    [
        (("XREAD", "BLOCK", 0, "STREAMS", "s", 0), True),
        (("XREAD", "BLOCK", 0, "STREAMS", "s", "1-1"), True),
        (("XREAD", "BLOCK", 0, "STREAMS", "s", "$"), False),
        (("XREAD", "BLOCK", 0, "STREAMS", "s", b"$"), False),
        (("XREAD", "BLOCK", 0, "STREAMS", "s", "t", "0", "$"), False),
        (("XREAD", "BLOCK", 0, "STREAMS", "s", bytearray(b"$")), False),
        (("XREAD", "BLOCK", 0, "STREAMS", "s", memoryview(b"$")), False),
        (("XREAD BLOCK", 0, "STREAMS", "s", "$"), False),
        (("BLPOP", "$", 0), True),
    ],
)
def test_what_comes_after_the_end_of_a_stream_depends_on_when_it_is_asked_for(args, is_alike):
    assert is_repeated_alike(TABLE.classify(args), args) is is_alike


@pins("P4")
@pytest.mark.parametrize(
    ("args", "position"),
    [
        (("GET", "k"), 1),
        (("SET", "k", "v"), 1),
        (("MSET", "k", 1, "l", 2), 1),
        (("BITOP", "AND", "d", "s"), 2),
        (("PUBLISH", "c", "m"), 1),
        (("OBJECT", "ENCODING", "k"), 2),
        (("PING",), 0),
        (("CONFIG", "GET", "*"), 0),
        (("NOSUCH", "k"), 0),
        (("EVAL", "s", 1, "k"), None),
        (("ZUNION", 1, "z"), None),
        (("XREAD", "STREAMS", "s", 0), None),
    ],
)
def test_where_the_first_key_is(args, position):
    traits = TABLE.classify(args)
    assert traits.first_key_at == position
    if position is not None:
        assert traits.first_key(args) == (args[position] if position else None)


def test_what_was_registered_is_counted():
    table = CommandTable()
    assert table.registered == 0
    table.register("MY.GET", keys=1)
    table.register("MY.GET", keys=2)
    assert table.registered == 2

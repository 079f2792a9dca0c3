"""Frames are what the protocol says, and commands are found however they are cut."""

import pytest

from aioredis_kit.testing import resp
from aioredis_kit.testing.resp import CommandParser

COMMANDS = [
    [b"PING"],
    [b"SET", b"key", b"a\r\n$3\r\nvalue"],
    [b"SET", b"empty", b""],
    [b"MSET", *(b"%d" % number for number in range(50))],
    [b"GET", bytes(range(256))],
]
WIRE = b"".join(resp.command(*words) for words in COMMANDS)


@pytest.mark.parametrize(
    ("frame", "wire"),
    [
        (resp.simple("OK"), b"+OK\r\n"),
        (resp.error("ERR no"), b"-ERR no\r\n"),
        (resp.integer(-7), b":-7\r\n"),
        (resp.bulk("é"), b"$2\r\n\xc3\xa9\r\n"),
        (resp.bulk(b""), b"$0\r\n\r\n"),
        (resp.bulk(None), b"$-1\r\n"),
        (resp.null(), b"_\r\n"),
        (resp.array(), b"*0\r\n"),
        (resp.array(resp.integer(1), resp.bulk("a")), b"*2\r\n:1\r\n$1\r\na\r\n"),
        (resp.mapping({resp.bulk("k"): resp.null()}), b"%1\r\n$1\r\nk\r\n_\r\n"),
        (resp.push("message", resp.bulk("c")), b">2\r\n$7\r\nmessage\r\n$1\r\nc\r\n"),
        (resp.command("GET", b"k", 5), b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\n5\r\n"),
    ],
)
def test_frames(frame, wire):
    """Each builder returns the protocol's bytes."""
    assert frame == wire


def test_commands_in_one_chunk():
    """Commands that arrive together come out together, in order."""
    parser = CommandParser()
    assert parser.feed(WIRE) == COMMANDS
    assert parser.is_between_commands


def test_commands_byte_by_byte():
    """A command comes out with its last byte, not before."""
    parser = CommandParser()
    ends, position = [], 0
    for words in COMMANDS:
        position += len(resp.command(*words))
        ends.append(position)
    seen = {}
    for index in range(len(WIRE)):
        for words in parser.feed(WIRE[index : index + 1]):
            seen[index + 1] = words
        assert parser.is_between_commands == (index + 1 in ends)
    assert seen == dict(zip(ends, COMMANDS, strict=True))


def test_commands_at_every_split():
    """Where the bytes are cut in two makes no difference."""
    for split in range(len(WIRE) + 1):
        parser = CommandParser()
        assert parser.feed(WIRE[:split]) + parser.feed(WIRE[split:]) == COMMANDS


@pytest.mark.parametrize(
    "wire",
    [
        b"PING\r\n",
        b"+OK\r\n",
        b"*x\r\n",
        b"*-1\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$2\r\nabc\r\n",
    ],
)
def test_what_is_no_command(wire):
    """Bytes that aren't an array of bulk strings are an error, not a hang."""
    with pytest.raises(ValueError, match=r"expected|CRLF"):
        CommandParser().feed(wire)

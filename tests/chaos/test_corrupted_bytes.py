"""One byte on the wire is damaged: no crash, no hang, no other caller's token, and the client serves afterwards.

A token ends with its own checksum, so that a reply that is somebody else's is told from one that is only damaged.
What no client can see is left out, and it is little:

- A damaged length that happens to end where another reply ends. Tokens have a length for which no single byte makes
  such a one. Other lengths make the reply itself damaged (too short, or with what followed it on the wire inside) and
  the stream broken.
- Damage on the way to the server that leaves a well-formed beginning. A longer length swallows the next command; a
  command that does not begin with ``*`` has its parts answered one by one, in the best of form. So in that direction
  one command flies at a time, and the damage is such that no digit becomes another.
"""

from __future__ import annotations

import asyncio
import binascii
from collections import Counter

import pytest
from redis.exceptions import RedisError

from aioredis_kit import ReplyProtocolError, create_client
from aioredis_kit.testing import FaultProxy

TOKEN = 20
REPLY = len(b"$20\r\n") + TOKEN + len(b"\r\n")
REQUEST = len(b"*2\r\n$4\r\nECHO\r\n") + REPLY
BATCH = 64
OPTIONS = {
    "command_timeout": 0.3,
    "ping_interval": 0.5,
    "ping_timeout": 0.3,
    "reconnect_strategy": 0.0,
    "retry_unanswered": "never",
}
"""A damaged stream can look as if more were to come: then it is the deadlines that end the waiting. Nothing is sent
again, so that each damage shows in what the callers got."""
TYPES = b"+-:$*_,#!=(%~>|"
"""The first bytes that a RESP3 frame may have."""


def token(number):
    """Return the token of this number."""
    name = b"%012x" % number
    return name + b"%08x" % binascii.crc32(name)


def is_token(reply):
    """Return whether a reply is one of the tokens."""
    return isinstance(reply, bytes) and len(reply) == TOKEN and reply[12:] == b"%08x" % binascii.crc32(reply[:12])


def damages(length, masks):
    """Return all positions in a frame with all masks."""
    return [(position, mask) for position in range(length) for mask in masks]


async def serves(client):
    """Wait until the client serves, or fail."""
    async with asyncio.timeout(5):
        while True:
            try:
                if await client.echo("again") == b"again":
                    return
            except RedisError:
                pass


async def ask(client, numbers):
    """Ask for these tokens at once; return what came, errors included."""
    return await asyncio.gather(*(client.echo(token(number)) for number in numbers), return_exceptions=True)


def judge(numbers, replies, outcomes):
    """Count what became of some commands; return those that got somebody else's token."""
    strangers = []
    for number, reply in zip(numbers, replies, strict=True):
        if reply == token(number):
            outcomes["right"] += 1
        elif is_token(reply):
            strangers.append((token(number), reply))
        elif isinstance(reply, BaseException):
            assert isinstance(reply, RedisError), repr(reply)
            outcomes[type(reply).__name__] += 1
        else:
            outcomes["damaged"] += 1
    return strangers


@pytest.mark.pins("P1", "P2", "4.17")
async def test_a_damaged_reply_reaches_nobody_else(server, rng, is_long):
    """Each byte of a reply among others, damaged in each way, ends at most the connection."""
    chosen = damages(REPLY, range(1, 256))
    if not is_long:
        types = [(0, ord("$") ^ other) for other in TYPES if other != ord("$")]
        chosen = types + rng.sample(chosen, 300)
    outcomes = Counter()
    async with (
        FaultProxy(server.host, server.port) as proxy,
        create_client(f"redis://{proxy.host}:{proxy.port}", **OPTIONS) as client,
    ):
        for number, (position, mask) in enumerate(chosen):
            await serves(client)
            numbers = range(number * BATCH, (number + 1) * BATCH)
            victim = rng.randrange(10)
            proxy.corrupt("to_client", skip=victim * REPLY + position, mask=mask)
            strangers = judge(numbers, await ask(client, numbers), outcomes)
            assert not strangers, f"reply {victim}, byte {position} ^ {mask:#x}: {strangers}"
        await serves(client)
    print(f"{number + 1} bytes damaged in {(number + 1) * BATCH} replies: {dict(outcomes)}")
    assert outcomes["right"] > number * BATCH / 2
    assert outcomes[ReplyProtocolError.__name__] > 0


@pytest.mark.pins("P1", "P2", "4.17")
async def test_a_damaged_command_reaches_nobody_else(server, rng, is_long):
    """Each byte of a command, damaged in each way that shows, ends at most the connection."""
    chosen = damages(REQUEST, range(0x80, 0x100))
    if not is_long:
        chosen = rng.sample(chosen, 100)
    outcomes = Counter()
    async with (
        FaultProxy(server.host, server.port) as proxy,
        create_client(f"redis://{proxy.host}:{proxy.port}", **OPTIONS) as client,
    ):
        for number, (position, mask) in enumerate(chosen):
            await serves(client)
            proxy.corrupt("to_server", skip=position, mask=mask)
            for turn in (number * 3, number * 3 + 1, number * 3 + 2):
                strangers = judge([turn], await ask(client, [turn]), outcomes)
                assert not strangers, f"byte {position} ^ {mask:#x}: {strangers}"
        await serves(client)
    print(f"{number + 1} bytes damaged in {(number + 1) * 3} commands: {dict(outcomes)}")
    assert outcomes["right"] > number


@pytest.mark.pins("P1", "P2", "P6", "4.17")
async def test_callers_under_damage_at_random(server, rng, is_long):
    """Callers who never stop asking get their own replies or errors while damage keeps coming."""
    outcomes = Counter()
    is_over = asyncio.Event()
    async with (
        FaultProxy(server.host, server.port) as proxy,
        create_client(f"redis://{proxy.host}:{proxy.port}", **OPTIONS) as client,
        asyncio.TaskGroup() as group,
    ):

        async def caller(number):
            turn = 0
            while not is_over.is_set():
                turn += 1
                name = number << 32 | turn
                strangers = judge([name], await ask(client, [name]), outcomes)
                assert not strangers

        for number in range(50):
            group.create_task(caller(number))
        for _ in range(1500 if is_long else 100):
            proxy.corrupt("to_client", skip=rng.randrange(2000), mask=rng.randrange(1, 256))
            await asyncio.sleep(rng.uniform(0, 0.03))  # the pace of the faults
        is_over.set()
    print(dict(outcomes), f"{proxy.statistics().connections_seen} connections")
    assert outcomes["right"] > 1000

"""What callers do, in Python. The clients of Node.js have the same in `node_clients.cjs`.

A workload takes turns until there are none left. A turn is one command, one pipeline of a hundred, one delivered
message, or one element that is pushed and popped.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

PIPELINE_LENGTH: Final = 100
FIELDS: Final = {b"field-%d" % index: b"x" * 16 for index in range(10)}
VERIFIED_SIZE: Final = 64
"""Of the value that each client is verified with, and that is read from caches."""
HASH: Final = "benchmark:hash"
LARGE: Final = "benchmark:large"
LARGE_SIZE: Final = 10_000_000
HOT_KEYS: Final = tuple(f"benchmark:hot:{number}" for number in range(10))
COLD_PREFIX: Final = "benchmark:cold:"
COLD_COUNT: Final = 60_000
"""More keys than a round reads; and fewer than a server tracks, or a cache keeps."""
FAN: Final = 100
_MIX: Final = ("get", "get", "get", "set", "get", "get", "hgetall", "get", "set", "get")
_BURST: Final = 5000
_MESSAGE: Final = b"x" * 64
_CHANNEL: Final = "benchmark:channel:"
# The server publishes a burst by itself, and tells how much of its CPU that took, in microseconds.
_PUBLISH: Final = """
local began = os.clock()
for number = 1, tonumber(ARGV[2]) do redis.call('PUBLISH', ARGV[1] .. number % tonumber(ARGV[4]), ARGV[3]) end
return math.floor((os.clock() - began) * 1000000)
"""


def key_of(size: int) -> str:
    """Return the key that holds a value of this many bytes."""
    return f"benchmark:{size}"


def value_of(size: int) -> bytes:
    """Return the value that is stored and read."""
    return b"x" * size


@dataclass(frozen=True, slots=True)
class Job:
    """What a workload works with: an open client, and how that one sends a pipeline of GETs of one key."""

    client: Any
    send_pipeline: Callable[[Any, str, int], Awaitable[Any]]
    size: int


Workload = Callable[[Job, Iterable[int]], Awaitable[float | None]]
"""May return how many seconds of its time do not count."""


async def _get(job: Job, turns: Iterable[int]) -> None:
    get, key = job.client.get, key_of(job.size)
    for _ in turns:
        await get(key)


async def _set(job: Job, turns: Iterable[int]) -> None:
    set_, key, value = job.client.set, key_of(job.size), value_of(job.size)
    for _ in turns:
        await set_(key, value)


async def _hgetall(job: Job, turns: Iterable[int]) -> None:
    hgetall = job.client.hgetall
    for _ in turns:
        await hgetall(HASH)


async def _mixed(job: Job, turns: Iterable[int]) -> None:
    """Of ten commands seven are reads, two are writes, and one is a hash."""
    get, set_, hgetall = job.client.get, job.client.set, job.client.hgetall
    key, value = key_of(job.size), value_of(job.size)
    for _, command in zip(turns, itertools.cycle(_MIX), strict=False):
        if command == "get":
            await get(key)
        elif command == "set":
            await set_(key, value)
        else:
            await hgetall(HASH)


async def _pipeline(job: Job, turns: Iterable[int]) -> None:
    key = key_of(job.size)
    for _ in turns:
        await job.send_pipeline(job.client, key, PIPELINE_LENGTH)


async def _blocking(job: Job, turns: Iterable[int]) -> None:
    key = f"benchmark:list:{id(asyncio.current_task())}"
    for _ in turns:
        await job.client.rpush(key, _MESSAGE)
        await job.client.blpop(key, timeout=5)


@dataclass(frozen=True, slots=True)
class _Audience:
    client: Any
    channels: int
    messages: list[Any]


@asynccontextmanager
async def _subscribed(job: Job, *, channels: int, subscribers: int) -> AsyncIterator[Job]:
    """Give a job whose client is an audience: subscribers, each on all the channels."""
    names = [f"{_CHANNEL}{number}" for number in range(channels)]
    async with AsyncExitStack() as stack:
        messages = []
        for _ in range(subscribers):
            pubsub = await stack.enter_async_context(job.client.pubsub(ignore_subscribe_messages=True))
            await pubsub.subscribe(*names)
            for _ in names:
                await pubsub.get_message(timeout=1)
            messages.append(pubsub.listen())
            stack.push_async_callback(messages[-1].aclose)
        yield replace(job, client=_Audience(job.client, channels, messages))


async def _fan(job: Job, turns: Iterable[int]) -> float:
    """Return the time that it took to publish, which is not the subscribers'.

    Nothing is sent before all are published, and that takes the server about as long as receiving them takes us.
    """
    audience: _Audience = job.client
    publishing = 0
    turns = iter(turns)
    while burst := sum(1 for _ in itertools.islice(turns, _BURST)) // len(audience.messages):
        publishing += await audience.client.eval(_PUBLISH, 0, _CHANNEL, burst, _MESSAGE, audience.channels)
        if len(audience.messages) == 1:
            await _take(audience.messages[0], burst)
        else:
            await asyncio.gather(*(_take(messages, burst) for messages in audience.messages))
    return publishing / 1e6


async def _take(messages: Any, count: int) -> None:
    for _ in range(count):
        await anext(messages)


# Shared by all callers, so that each key is the next one's; emptied by nobody.
_changing_keys = itertools.cycle([f"{COLD_PREFIX}{number}" for number in range(1000)])
_cold_keys = itertools.cycle([f"{COLD_PREFIX}{number}" for number in range(COLD_COUNT)])


async def _hits(job: Job, turns: Iterable[int]) -> None:
    """Read what is cached.

    A hit never lets the event loop go on. So that all callers get their turns, and a round ends in time, each lets the
    loop go on after a burst of reads, as a request that was answered would.
    """
    get = job.client.get
    turns = iter(turns)
    reads = zip(turns, itertools.cycle(HOT_KEYS), strict=False)
    while operator.length_hint(turns):
        for _, key in itertools.islice(reads, 100):
            await get(key)
        await asyncio.sleep(0)


async def _misses(job: Job, turns: Iterable[int]) -> None:
    get = job.client.get
    for _, key in zip(turns, _cold_keys, strict=False):
        await get(key)


async def _write_read(job: Job, turns: Iterable[int]) -> None:
    """Write a key and read it: each read is a miss, and each write one that the server announces."""
    get, set_, value = job.client.get, job.client.set, value_of(job.size)
    for _, key in zip(turns, _changing_keys, strict=False):
        await set_(key, value)
        await get(key)


WORKLOADS: Final[dict[str, Workload]] = {
    "get": _get,
    "set": _set,
    "hgetall": _hgetall,
    "mixed": _mixed,
    "pipeline": _pipeline,
    "blocking": _blocking,
    "fan-in": _fan,
    "fan-out": _fan,
    "hits": _hits,
    "misses": _misses,
    "write-read": _write_read,
}
PREPARATIONS: Final[dict[str, Callable[[Job], AbstractAsyncContextManager[Job]]]] = {
    "fan-in": partial(_subscribed, channels=FAN, subscribers=1),
    "fan-out": partial(_subscribed, channels=1, subscribers=FAN),
}
"""What is done around a round and not counted.

Of a fan-in one subscriber receives what comes in on a hundred channels; of a fan-out each message of one channel is
received a hundred times, once for each subscriber of this process.
"""
OVERLAPPING: Final = frozenset({"fan-in", "fan-out"})
"""During which server and client work at the same time even with one caller."""
UNTIMED: Final = frozenset({"fan-in", "fan-out", "hits"})
"""Whose turns are drawn in bursts, so that a turn's time is nobody's latency."""

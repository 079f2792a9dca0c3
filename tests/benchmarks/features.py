"""What is more than one command at a time: pipelines, messages, blocking commands.

The floor program has none of it. A turn is one pipeline of a hundred, one message, or one element that is pushed and
popped.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

PIPELINE_LENGTH = 100
_CHANNEL = "benchmark:channel"
_MESSAGE = b"x" * 64
_BURST = 5000
# The server publishes a burst by itself, and tells how much of its CPU that took, in microseconds.
_PUBLISH = """
local began = os.clock()
for _ = 1, tonumber(ARGV[2]) do redis.call('PUBLISH', ARGV[1], ARGV[3]) end
return math.floor((os.clock() - began) * 1000000)
"""


async def _pipeline(client: Any, turns: Iterable[int]) -> None:
    for _ in turns:
        pipe = client.pipeline(transaction=False)
        for _ in range(PIPELINE_LENGTH):
            pipe.get("benchmark:string")
        await pipe.execute()


async def _pubsub(client: Any, turns: Iterable[int]) -> float:
    """Receive messages; return the time that it took to publish them, which is not the subscriber's.

    Nothing is sent before all are published, and that takes the server about as long as receiving them takes us.
    """
    publishing = 0
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(_CHANNEL)
        await pubsub.get_message(timeout=1)
        messages = pubsub.listen()
        turns = iter(turns)
        while burst := sum(1 for _ in itertools.islice(turns, _BURST)):
            publishing += await client.eval(_PUBLISH, 0, _CHANNEL, burst, _MESSAGE)
            for _ in range(burst):
                await anext(messages)
        await messages.aclose()
    return publishing / 1e6


async def _blocking(client: Any, turns: Iterable[int]) -> None:
    key = f"benchmark:list:{id(asyncio.current_task())}"
    for _ in turns:
        await client.rpush(key, _MESSAGE)
        await client.blpop(key, timeout=5)


FEATURES: dict[str, Callable[[Any, Iterable[int]], Awaitable[float | None]]] = {
    "pipeline": _pipeline,
    "pubsub": _pubsub,
    "blocking": _blocking,
}
CALLERS = {"pipeline": (1, 10), "pubsub": (1,), "blocking": (1, 10)}
"""With how many callers they are measured."""
OVERLAPPING = frozenset({"pubsub"})
"""During which server and client work at the same time even with one caller."""

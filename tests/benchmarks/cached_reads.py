"""The workloads of a client with a cache: what is always found, what never is, and what changes all the time.

A hit never lets the event loop go on. So that all callers get their turns, and a round ends in time, each lets the loop
go on after a burst of reads, as a request that was answered would.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

BURST: Final = 100
HOT_KEYS: Final = tuple(f"benchmark:hot:{number}" for number in range(10))
COLD_PREFIX: Final = "benchmark:cold:"
COLD_COUNT: Final = 60_000
"""More keys than a round reads; and fewer than a server tracks, or a cache keeps."""
VALUE: Final = b"x" * 64

# Shared by all callers, so that each key is the next one's; emptied by nobody.
_changing_keys = itertools.cycle([f"{COLD_PREFIX}{number}" for number in range(1000)])
_cold_keys = itertools.cycle([f"{COLD_PREFIX}{number}" for number in range(COLD_COUNT)])


async def _hits(client: Any, turns: Iterable[int]) -> None:
    get = client.get
    reads = zip(turns, itertools.cycle(HOT_KEYS), strict=False)
    while operator.length_hint(turns):
        for _, key in itertools.islice(reads, BURST):
            await get(key)
        await asyncio.sleep(0)


async def _misses(client: Any, turns: Iterable[int]) -> None:
    get = client.get
    for _, key in zip(turns, _cold_keys, strict=False):
        await get(key)


async def _mix(client: Any, turns: Iterable[int]) -> None:
    """Write a key and read it: each read is a miss, and each write one that the server announces."""
    get, set_ = client.get, client.set
    for _, key in zip(turns, _changing_keys, strict=False):
        await set_(key, VALUE)
        await get(key)


READS: Final[dict[str, Callable[[Any, Iterable[int]], Awaitable[float | None]]]] = {
    "hits": _hits,
    "misses": _misses,
    "mix": _mix,
}

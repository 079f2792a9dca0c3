"""Resident memory over a million commands, and traced memory per command in flight.

Each is taken in a fresh process, see `figures`. The commands are ECHO with a token of their own: arguments and
replies differ every time, so that anything kept per command, per key or per value shows, and each
reply is checked. Growth is what is resident after the last tenth less what is after the first: the
first tenth pays for what a process allocates once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aioredis_kit.testing import RedisServer
from tests.benchmarks.clients import OURS, adapter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_STATM = Path("/proc/self/statm")
# Loop turns after which every new task has started, and what can be written has been.
_SETTLING_TURNS = 10


def resident_growth(url: str, commands: int, batch: int, client_name: str = OURS) -> int:
    """Return the bytes by which this process grew between the first and the last tenth."""

    async def run() -> int:
        async with adapter_of(client_name)(url, batch) as client:
            after_tenth = []
            for tenth in range(10):
                for first in range(0, commands // 10, batch):
                    await _echo(client, f"{tenth}:{first}", min(batch, commands // 10 - first))
                gc.collect()
                after_tenth.append(_resident_bytes())
            return after_tenth[-1] - after_tenth[0]

    return asyncio.run(run())


async def _echo(client: Any, name: str, batch: int) -> None:
    tokens = [f"{name}:{index}".encode() for index in range(batch)]
    if batch == 1:
        replies = [await client.echo(tokens[0])]
    else:
        replies = await asyncio.gather(*(client.echo(token) for token in tokens))
    if replies != tokens:
        raise RuntimeError(f"wrong replies in batch {name}")


def _resident_bytes() -> int:
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    # Elsewhere only the peak is known: it shows growth beyond the first tenth's highest point.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def traced_per_command(in_flight: int, client_name: str = OURS) -> float:
    """Return the bytes that a ``get`` in flight takes more than a task that awaits a bare future."""

    async def run(server: RedisServer) -> float:
        bare, bytes_bare = await _traced(_await_bare_future, in_flight)
        for task in bare:
            task.cancel()
        await asyncio.wait(bare)
        async with adapter_of(client_name)(server.url, in_flight) as client:
            await client.get("key")
            server.pause()
            try:
                tasks, bytes_command = await _traced(lambda: client.get("key"), in_flight)
                if any(task.done() for task in tasks):
                    raise RuntimeError("a command ended while the server was stopped")
            finally:
                server.resume()
            await asyncio.gather(*tasks)
        return (bytes_command - bytes_bare) / in_flight

    tracemalloc.start()
    with RedisServer(persistence="none") as server:
        return asyncio.run(run(server))


async def _await_bare_future() -> None:
    await asyncio.get_running_loop().create_future()


async def _traced(start: Callable[[], Coroutine[Any, Any, Any]], count: int) -> tuple[list[asyncio.Task[Any]], int]:
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    tasks = [asyncio.create_task(start()) for _ in range(count)]
    for _ in range(_SETTLING_TURNS):
        await asyncio.sleep(0)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    return tasks, after - before

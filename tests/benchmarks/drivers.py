"""The closed and the open loop, within the process of a client.

Closed: each caller issues its next command when it has the reply to the last one. That finds the most that a client can
do, and says little about latency: a client that stalls is asked less.

Open: commands begin when they are due, as those of users who know nothing of each other, and the time of each counts
from then, whatever kept it from beginning. So a stall is seen by every command that was due meanwhile. The same moments
for every client: they come from a seed.
"""

from __future__ import annotations

import asyncio
import gc
import operator
import random
import signal
import time
from array import array
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.cli.bench.figures import Round
from tests.benchmarks.workloads import LARGE, LARGE_SIZE, UNTIMED, WORKLOADS, Job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

# Bounds a round in commands. Well above what the floor program reaches, so that time ends the round.
_MOST_COMMANDS_PER_SECOND: Final = 2_000_000
# The clock is read twice for a command that is timed, which shows at 400 000 commands a second: one caller in so many.
_CALLERS_TO_ONE_TIMED: Final = 16
_SHORTEST_WAIT: Final = 50e-6
_TIMER: Final = signal.ITIMER_REAL


async def closed_loop(job: Job, workload_name: str, callers: int, seconds: float) -> Round:
    # All callers draw turns from one iterator: the cheapest shared bound there is, and emptying what
    # it runs over ends the round for all of them at once. The collector doesn't look into a bytearray.
    workload = WORKLOADS[workload_name]
    most = int(seconds * _MOST_COMMANDS_PER_SECOND)
    turns = bytearray(most)
    turn = iter(turns)
    may_start = asyncio.Event()
    latencies = array("d")
    unused = 0

    def stop() -> None:
        nonlocal unused
        unused = operator.length_hint(turn)
        turns.clear()

    async def call(number: int) -> float:
        is_timed = number % _CALLERS_TO_ONE_TIMED == 0 and workload_name not in UNTIMED
        await may_start.wait()
        return await workload(job, _timed(turn, latencies) if is_timed else turn) or 0.0

    tasks = [asyncio.create_task(call(number)) for number in range(callers)]
    await asyncio.sleep(0)
    gc.collect()
    timer = asyncio.get_running_loop().call_later(seconds, stop)
    began, cpu_began = time.perf_counter(), time.process_time()
    may_start.set()
    not_counted = sum(await asyncio.gather(*tasks))
    cpu_seconds, elapsed = time.process_time() - cpu_began, time.perf_counter() - began - not_counted
    timer.cancel()
    return Round(most - unused, elapsed, cpu_seconds, latencies)


def _timed(turns: Iterable[int], latencies: array[float]) -> Iterator[int]:
    """Note how long it takes until the next turn is asked for."""
    clock = time.perf_counter
    for turn in turns:
        began = clock()
        yield turn
        latencies.append(clock() - began)


async def open_loop(job: Job, workload_name: str, rate: float, seconds: float) -> Round:
    workload = WORKLOADS[workload_name]
    latencies = array("d")
    gaps = random.Random(rate)
    tasks = []

    async def issue(due: float) -> None:
        await workload(job, (0,))
        latencies.append(time.perf_counter() - due)

    gc.collect()
    async with _alarm() as sleep_until:
        began, cpu_began = time.perf_counter(), time.process_time()
        due = began + gaps.expovariate(rate)
        while due < began + seconds:
            await sleep_until(due)
            now = time.perf_counter()
            while due <= now:
                tasks.append(asyncio.create_task(issue(due)))
                due += gaps.expovariate(rate)
        await asyncio.gather(*tasks)
        cpu_seconds, elapsed = time.process_time() - cpu_began, time.perf_counter() - began
    return Round(len(tasks), elapsed, cpu_seconds, latencies)


@asynccontextmanager
async def _alarm() -> AsyncIterator[Any]:
    """Give a sleep that is exact to some 50 µs: the timers of asyncio and uvloop count in milliseconds."""
    loop = asyncio.get_running_loop()
    rung = asyncio.Event()
    loop.add_signal_handler(signal.SIGALRM, rung.set)

    async def sleep_until(when: float) -> None:
        remaining = when - time.perf_counter()
        if remaining <= 0:
            await asyncio.sleep(0)
            return
        rung.clear()
        signal.setitimer(_TIMER, max(remaining, _SHORTEST_WAIT))
        await rung.wait()

    try:
        yield sleep_until
    finally:
        signal.setitimer(_TIMER, 0)
        loop.remove_signal_handler(signal.SIGALRM)


@asynccontextmanager
async def large_reads(reader: Any) -> AsyncIterator[None]:
    """Read the large value, one after the other, as long as the block runs."""
    is_done = False

    async def read() -> None:
        while not is_done:
            value = await reader.get(LARGE)
            assert len(value) == LARGE_SIZE

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        is_done = True
        await task

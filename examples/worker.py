"""A worker that loses no job: ``JOBS_URI=redis://localhost:6379 uv run examples/worker.py [NAME]``.

``redis-cli RPUSH jobs "write to Ada"`` gives it one; the results are in the list ``results``. On SIGTERM or Ctrl-C it
finishes the job that it is at, and ends.

A job moves from ``jobs`` to the worker's own list in one step (BLMOVE), and leaves that when its result is stored. So a
worker that was killed, or whose connection was lost, finds there what it has to do again: a job is done at least once.
Each worker needs a name of its own, and the same one when it is started again.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from aioredis_kit import (
    CommandTimeoutError,
    ConnectionLostError,
    PoolExhaustedError,
    RedisClient,
    create_client_from_env,
)

JOBS, RESULTS = "jobs", "results"


async def main(name: str) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopping.set)
    async with create_client_from_env("jobs", decode_responses=True) as client:
        print(name, "is ready", flush=True)
        await work_off(client, f"{JOBS}:{name}", stopping)
    print(name, "has stopped", flush=True)


async def work_off(client: RedisClient, mine: str, stopping: asyncio.Event) -> None:
    """Do one job after the other, until it is time to stop."""
    while not stopping.is_set():
        try:
            job = await take(client, mine)
            if job is None:
                continue
            result = await do(job)
            await client.rpush(RESULTS, result)
            await client.lrem(mine, 1, job)
        except (CommandTimeoutError, ConnectionLostError, PoolExhaustedError) as error:
            print("once more, as Redis was away:", error, flush=True)  # what was taken is in this worker's list


async def take(client: RedisClient, mine: str) -> str | None:
    """Return what was not finished, else the next job; ``None`` if there is none for a second."""
    left_over = await client.lindex(mine, 0)
    if left_over is not None:
        return str(left_over)
    # The signal is seen when this returns. To cancel it instead would be safe, too: the job would be in the list.
    job = await client.blmove(JOBS, mine, timeout=1)
    return None if job is None else str(job)


async def do(job: str) -> str:
    print("working on", job, flush=True)
    await asyncio.sleep(0.5)  # the work itself
    return f"{job}: done"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "worker-1"))

"""A worker of arq on our client: ``REDIS_URL=redis://localhost:6379 uv run examples/arq_worker.py``.

With a name as its argument it enqueues a job instead. On SIGTERM arq takes no more jobs, and lets those in flight end
within ``job_completion_wait``; a job is in the queue until it is finished, so one that was killed is done again.

arq 0.28 asks for redis-py below 6: see "Compatibility" in the README for how to install it all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from arq import Worker
from arq.connections import ArqRedis

from aioredis_kit import RedisClient

if TYPE_CHECKING:
    from collections.abc import Mapping


class ArqClient(ArqRedis, RedisClient):  # type: ignore[misc]  # redis-py's own mixins disagree
    """Our client with arq's own methods, such as ``enqueue_job``. It takes the options of both."""


async def write_to(ctx: Mapping[str, Any], name: str) -> str:
    """A job. ``ctx["redis"]`` is the client."""
    print("writing to", name, flush=True)
    await asyncio.sleep(0.5)  # the work itself
    await ctx["redis"].rpush("letters", name)
    return f"a letter to {name}"


async def work(url: str) -> None:
    # max_jobs: how many are done at a time. job_completion_wait: seconds; without it SIGTERM cancels jobs.
    worker = Worker([write_to], redis_pool=ArqClient(url=url), max_jobs=1, job_completion_wait=30, poll_delay=0.1)
    with contextlib.suppress(asyncio.CancelledError):  # that is how it ends
        await worker.async_run()
    await worker.close()  # closes the client, too
    print("stopped", flush=True)


async def enqueue(url: str, name: str) -> None:
    async with ArqClient(url=url) as client:
        print(await client.enqueue_job("write_to", name))


if __name__ == "__main__":
    where = os.environ.get("REDIS_URL", "redis://localhost:6379")
    asyncio.run(enqueue(where, sys.argv[1]) if len(sys.argv) > 1 else work(where))

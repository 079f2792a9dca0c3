"""A worker of taskiq on our client: ``uv run taskiq worker examples.taskiq_worker:broker --workers 1``.

``uv run examples/taskiq_worker.py NAME`` enqueues a task; the server is REDIS_URL, or on this machine. On SIGTERM
taskiq takes no more tasks and waits for those in flight.

The brokers of taskiq-redis take a URL and no client, so this has one of its own. A task moves from the queue to the
worker's own list in one step (BLMOVE) and leaves that when it is done. What a worker had taken when it was killed goes
back when it is started again, so each process needs a name, in the variable WORKER.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from typing import TYPE_CHECKING

from taskiq import AckableMessage, AsyncBroker

from aioredis_kit import CommandTimeoutError, ConnectionLostError, PoolExhaustedError, RedisClient, create_client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from taskiq import BrokerMessage


class ListBroker(AsyncBroker):
    """Tasks in a list of Redis."""

    def __init__(self, client: RedisClient, queue: str = "tasks") -> None:
        super().__init__()
        self.client, self.queue = client, queue
        self.mine = f"{queue}:{os.environ.get('WORKER', 'worker-1')}"

    async def startup(self) -> None:
        await super().startup()
        if self.is_worker_process:
            while await self.client.lmove(self.mine, self.queue, "RIGHT", "LEFT"):
                pass

    async def shutdown(self) -> None:
        await super().shutdown()
        await self.client.close()

    async def kick(self, message: BrokerMessage) -> None:
        await self.client.rpush(self.queue, message.message)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        while True:  # until taskiq cancels it: a task that is moved at that very moment goes back at the next start
            try:
                task = await self.client.blmove(self.queue, self.mine, timeout=0)
            except (CommandTimeoutError, ConnectionLostError, PoolExhaustedError):
                continue  # Redis was away
            if isinstance(task, bytes):  # always: it waits for ever, and decodes nothing
                yield AckableMessage(data=task, ack=functools.partial(self.acknowledge, task))

    async def acknowledge(self, task: bytes) -> None:
        await self.client.lrem(self.mine, 1, task)  # type: ignore[arg-type]  # redis-py's annotation says str


broker = ListBroker(create_client(os.environ.get("REDIS_URL", "redis://localhost:6379")))


@broker.task("write_to")
async def write_to(name: str) -> None:
    print("writing to", name, flush=True)
    await asyncio.sleep(0.5)  # the work itself
    await broker.client.rpush("letters", name)


async def enqueue(name: str) -> None:
    await broker.startup()
    await write_to.kiq(name)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(enqueue(sys.argv[1]))

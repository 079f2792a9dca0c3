"""A chat room: ``uv run examples/chat_room.py NAME [ROOM] [URL of a server]``, in as many terminals as you like.

What one types, all see; Ctrl-D leaves. A listener that was cut off is told that something was missed, in its place
among the messages.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from aioredis_kit import create_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aioredis_kit import Subscription


async def main(name: str, room: str = "lobby", url: str = "redis://localhost:6379") -> None:
    channel = f"chat:{room}"
    async with (
        create_client(url, decode_responses=True) as client,
        client.subscribe(channel) as messages,
        asyncio.TaskGroup() as tasks,
    ):
        showing = tasks.create_task(show(messages))
        await client.publish(channel, f"* {name} comes in")
        async for line in typed():
            await client.publish(channel, f"{name}: {line}")
        await client.publish(channel, f"* {name} leaves")
        showing.cancel()


async def show(messages: Subscription) -> None:
    async for message in messages:
        print(f"* something was missed: {message.reason}" if message.is_gap else message.data, flush=True)


async def typed() -> AsyncIterator[str]:
    """What is typed, line by line, without a thread that would have to be waited for."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        async for line in reader:
            yield line.decode().rstrip()
    finally:
        transport.close()


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))

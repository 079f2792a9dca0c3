"""``monitor()`` on a real server."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import ConnectionLostError


async def commands(monitor, until):
    """Return what a monitor tells, up to a command."""
    seen = []
    while not seen or seen[-1] != until:
        async with asyncio.timeout(5):
            seen.append((await monitor.next_command())["command"])
    return seen


@pytest.mark.pins("case-62", "P1")
async def test_a_monitor_tells_of_every_command_and_disturbs_nobody(redis_url):
    async with create_client(redis_url) as client, client.monitor() as monitor:
        replies = await asyncio.gather(*(client.echo(f"token-{number}") for number in range(50)))
        assert replies == [f"token-{number}".encode() for number in range(50)]
        seen = await commands(monitor, "ECHO token-49")
    assert [each for each in seen if each.startswith("ECHO token")] == [f"ECHO token-{number}" for number in range(50)]


@pytest.mark.pins("case-62", "P2")
async def test_a_monitor_ends_with_its_connection(redis_url, redis_server):
    """Unlike node-redis, which goes on after a reconnect: what was missed meanwhile would not show."""
    if not redis_server.started_here:
        pytest.skip("it kills connections")
    async with create_client(redis_url) as client, create_client(redis_url) as killer:
        async with client.monitor() as monitor:
            await client.echo("before")
            assert (await commands(monitor, "ECHO before"))[-1] == "ECHO before"
            own = {int(each["id"]) for each in await killer.client_list() if "monitor" in each["cmd"]}
            for number in own:
                await killer.client_kill_filter(_id=number)
            with pytest.raises(ConnectionLostError):
                while True:
                    await monitor.next_command()
        assert await client.echo("after") == b"after"
        async with client.monitor() as monitor:
            await client.echo("again")
            assert (await commands(monitor, "ECHO again"))[-1] == "ECHO again"

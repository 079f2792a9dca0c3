"""A mixed load under faults for a minute: see ``harness.soak``. ``python -m tests.chaos --soak 60`` takes an hour."""

from __future__ import annotations

import asyncio
import socket

import pytest

from aioredis_kit import RedisClient
from tests.chaos.harness.soak import Sample, Soak, soak


def grown(result):
    """Return what has grown. Within a minute noise is larger than any slope: its ends are compared, with room for it."""
    gained = {name: result.gained(name) for name in ("memory", "blocks", "tasks", "descriptors")}
    before, after = result.ends("p99", share=2)  # of more samples: each depends on its own few faults
    print(f"{result.faults} faults, {result.calls} calls; gained {gained}; p99 {before:.3f} → {after:.3f} s")
    most = {"memory": 8 * 2**20, "blocks": 12_000, "tasks": 5, "descriptors": 5}
    slower = ["p99"] if after > max(2.5 * before, 0.5) else []
    return [name for name, limit in most.items() if gained[name] >= limit] + slower + result.left()


@pytest.mark.only_long
@pytest.mark.pins("P5", "P6")
async def test_what_is_taken_is_given_back(rng):
    assert not grown(await soak(60.0, seed=rng.randrange(10**9)))


# -- planted bugs -----------------------------------------------------------------------------------


class Keeping(RedisClient):
    """Something of each command is kept."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.kept = []

    async def execute_command(self, *args, **options):
        self.kept.append([object(), object()])
        return await super().execute_command(*args, **options)


class Leaking(RedisClient):
    """A task and a socket are left behind."""

    async def close(self, *args):
        self.left = asyncio.create_task(asyncio.sleep(5)), socket.socket()  # longer than anybody looks
        await super().close(*args)


@pytest.mark.only_long
async def test_growth_is_seen():
    assert "blocks" in grown(await soak(10.0, seed=1, make=Keeping))


@pytest.mark.only_long
async def test_what_is_left_is_seen():
    clients = []

    def make(*args, **options):
        clients.append(Leaking(*args, **options))
        return clients[-1]

    result = await soak(2.0, seed=1, make=make)
    for client in clients:
        client.left[0].cancel()
        client.left[1].close()
    assert result.left() == [f"{len(clients)} tasks are left", f"{len(clients)} descriptors are left"]


@pytest.mark.parametrize(
    ("hourly", "text"),
    [
        ({}, None),
        ({"memory": 2**19}, None),
        ({"memory": 2**21}, "memory grows by 2.00 MB an hour"),
        ({"p99": 0.05}, "p99 has risen"),
        ({"tasks": 4}, "tasks"),
        ({"descriptors": 4}, "descriptors"),
    ],
)
def test_an_hour_is_judged(hourly, text):
    still = {"memory": 80 * 2**20, "blocks": 300_000, "tasks": 100, "descriptors": 50, "p50": 0.005, "p99": 0.05}
    samples = [
        Sample(at=at, **{name: value + hourly.get(name, 0) * at / 3600 for name, value in still.items()})
        for at in range(0, 3600, 6)
    ]
    wrong = Soak(samples, 0, 0, 0, 0, []).wrong()
    assert len(wrong) == (text is not None)
    assert not text or text in wrong[0]

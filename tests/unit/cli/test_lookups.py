"""Threads that nobody waits for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aioredis_kit.cli.lookups import LookUps
from aioredis_kit.cli.output import run


def test_it_returns_and_raises():
    def fail():
        raise KeyError("x")

    executor = LookUps()
    assert executor.submit(lambda a, b: a + b, 1, b=2).result(5) == 3
    with pytest.raises(KeyError):
        executor.submit(fail).result(5)


def test_an_event_loop_does_not_wait_for_what_hangs():
    """It ends while the thread goes on."""
    end, ended = threading.Event(), threading.Event()

    def hang():
        end.wait(20)
        ended.set()

    async def give_up():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().run_in_executor(None, hang)

    run(give_up())
    assert not ended.is_set()
    end.set()
    assert ended.wait(5)

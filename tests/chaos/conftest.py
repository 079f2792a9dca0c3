"""What the chaos tests share: the seed, the event loop, resident memory, and a server to be maltreated.

Two variables of the environment repeat a run or vary it: ``AIOREDIS_KIT_CHAOS_SEED`` (a number; each test prints
the one that it used) and ``AIOREDIS_KIT_CHAOS_LOOP`` (``asyncio`` or ``uvloop``).
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest
import uvloop

from aioredis_kit.testing import RedisServer

_LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(config, item):
    """Offer both loops to a test that names its loops; run the others on the chosen one."""
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        return _LOOPS
    chosen = os.environ.get("AIOREDIS_KIT_CHAOS_LOOP", "asyncio")
    return {chosen: _LOOPS[chosen]}


@pytest.fixture
def rng():
    """Random numbers that can be had again: pytest shows the seed when the test fails."""
    seed = int(os.environ.get("AIOREDIS_KIT_CHAOS_SEED", random.SystemRandom().randrange(10**9)))
    print(f"AIOREDIS_KIT_CHAOS_SEED={seed} repeats this run")
    return random.Random(seed)


@pytest.fixture
def resident_bytes():
    """A function that returns how much memory of this process is resident, in bytes."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("resident memory is read from /proc, which this platform lacks")
    page = os.sysconf("SC_PAGE_SIZE")
    return lambda: int(statm.read_text(encoding="ascii").split()[1]) * page


@pytest.fixture
def server():
    """A server of the test's own, which it may stop, kill and start again."""
    with RedisServer() as server:
        yield server

"""A million commands leave nothing behind in memory.

Measured in a process of its own, by the program that the benchmarks use (``tests/benchmarks/memory.py``): ECHO, each
with a token of its own. Growth is what is resident after the last tenth less what is after the first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_MEASURE = """
import asyncio, sys, uvloop
from tests.benchmarks.memory import resident_growth

def run_on_uvloop(main):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)

url, commands, batch, loop = sys.argv[1:]
if loop == "uvloop":
    asyncio.run = run_on_uvloop
print(resident_growth(url, int(commands), int(batch)))
"""


@pytest.mark.pins("P5")
@pytest.mark.parametrize(
    "batch", [pytest.param(1, id="sequential", marks=pytest.mark.only_long), pytest.param(1000, id="concurrent")]
)
def test_memory_stays_flat(server, is_long, batch):
    """Memory grows by less than 5 MB over 900 000 commands; over 18 000 by less than 1 MiB, 58 bytes a command."""
    commands, bound = (1_000_000, 5_000_000) if is_long else (20_000, 2**20)
    loop = os.environ.get("AIOREDIS_KIT_CHAOS_LOOP", "asyncio")
    command = [sys.executable, "-c", _MEASURE, server.url, str(commands), str(batch), loop]
    ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    growth = int(ended.stdout)
    print(f"{commands} commands in batches of {batch} on {loop}: {growth / 1e6:+.2f} MB")
    assert growth < bound

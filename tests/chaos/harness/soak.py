"""A long mixed load under faults: what is taken must be given back, and nothing may become slower."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median, quantiles

from tests.chaos.harness.faults import disturb
from tests.chaos.harness.run import quiet
from tests.chaos.harness.workloads import CachedReads, Counters, Echoes, Messages, Queues, SeveralKinds, Transfers
from tests.chaos.harness.world import World

KINDS = (CachedReads, Counters, Echoes, Messages, Queues, SeveralKinds, Transfers)
FAULTS = (
    *("cut", "reset", "half_close", "cut_within_a_reply", "stall", "delay", "split", "refuse"),
    *("client_kill", "client_kill_one", "busy_script", "no_room", "cancellations", "raising_listeners"),
)
WARM_UP = 0.25
"""The share of the time in which what is kept for later is still being filled."""


class Forgetful(list):
    """A history that keeps nothing, or its own growth would be measured."""

    def append(self, _):
        pass


@dataclass(slots=True)
class Sample:
    """How things were at one moment.

    Attributes:
        at: When, in seconds.
        memory: What is resident, in bytes.
        blocks: How many blocks Python has allocated.
        tasks: How many tasks there are.
        descriptors: How many descriptors are open.
        latencies: How long commands took since the sample before, in seconds.
    """

    at: float
    memory: int
    blocks: int
    tasks: int
    descriptors: int
    latencies: list[float] = field(repr=False)


@dataclass(slots=True)
class Soak:
    """What came of it.

    Attributes:
        samples: Those behind the warm-up.
        faults: How many faults there were.
        calls: How many commands were measured.
    """

    samples: list[Sample]
    faults: int
    calls: int

    def slope(self, what):
        """Return by how much something grows, an hour."""
        return linear_regression([each.at for each in self.samples], [what(each) for each in self.samples]).slope * 3600

    def gained(self, what):
        """Return by how much the median of the last quarter exceeds that of the first."""
        quarter = max(len(self.samples) // 4, 1)
        first, last = self.samples[:quarter], self.samples[-quarter:]
        return median(map(what, last)) - median(map(what, first))

    def p99(self):
        """Return how long the slowest hundredth of the commands took at least, in the first quarter and in the last."""
        quarter = max(len(self.samples) // 4, 1)
        ends = (self.samples[:quarter], self.samples[-quarter:])
        return [quantiles([each for one in end for each in one.latencies], n=100)[-1] for end in ends]


async def soak(seconds, *, seed, pause=0.5):
    """Run the load.

    Args:
        seconds: For how long.
        seed: What all choices follow from.
        pause: How long to wait between samples, in seconds.
    """
    samples, latencies = [], []
    async with World(seed) as world:
        world.history = Forgetful()
        loads = [kind(world) for kind in KINDS]
        for load in loads:
            await load.prepare()
        probe = world.client()
        with quiet():
            began = time.monotonic()
            tasks = [asyncio.create_task(each) for load in loads for each in load.callers()]
            tasks.append(asyncio.create_task(_measure(world, probe, latencies)))
            tasks.append(asyncio.create_task(_tidy(world, loads)))
            disturbing = asyncio.create_task(disturb(world, FAULTS, seconds))
            while not disturbing.done():
                await asyncio.sleep(pause)
                taken, latencies[:] = latencies[:], []
                samples.append(_sample(time.monotonic() - began, taken))
            faults = len(disturbing.result())
            world.over = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await world.close_clients()
    behind = samples[round(len(samples) * WARM_UP) :]
    return Soak(behind, faults, sum(len(each.latencies) for each in samples))


async def _measure(world, probe, latencies):
    """A caller of its own, whose commands are timed while nothing is wrong with its connection."""
    while not world.over:
        began = time.monotonic()
        call = await world.call("probe", probe.ping)
        if call.succeeded:
            latencies.append(time.monotonic() - began)
        await asyncio.sleep(0.002)  # the pace of what is measured


async def _tidy(world, loads):
    """Forget what the workloads keep for their checks, and empty what grows on the server."""
    while not world.over:
        await asyncio.sleep(0.5)  # the pace of tidying
        for load in loads:
            for name in ("received", "published", "orphaned", "wrong"):
                if hasattr(load, name):
                    getattr(load, name).clear()
        await world.call("tidy", lambda: world.admin.delete("queue", "done"))


def _sample(at, latencies):
    gc.collect()
    status = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return Sample(
        at,
        int(status[1]) * os.sysconf("SC_PAGE_SIZE"),
        sys.getallocatedblocks(),
        len(asyncio.all_tasks()),
        len(os.listdir("/proc/self/fd")),
        latencies,
    )

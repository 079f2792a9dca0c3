"""A long mixed load under faults: what is taken must be given back, and nothing may become slower."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import time
from array import array
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import linear_regression, median, quantiles

from aioredis_kit import create_client
from tests.chaos.harness.faults import FAULTS, disturb
from tests.chaos.harness.run import quiet
from tests.chaos.harness.workloads import WORKLOADS
from tests.chaos.harness.world import World

WARM_UP = 0.25
"""The share of the time in which what is kept for later is still being filled."""
UNFIT = {"damage"}
"""The faults that the workloads' own code does not bear."""
SAMPLES = 600
"""How many samples there are at most, some seconds apart in an hour."""
LEAST_BETWEEN = 1.0
"""How long there are faults before each of them at least, in seconds."""
MOST_MEMORY = 2**20
"""By how much resident memory may grow, in bytes an hour."""
MORE = 1
"""By how many tasks and descriptors the last quarter's median may exceed the first's: a caller may just begin."""
SLOWER = 1.25
"""By what factor the slowest commands may take longer in the end: noise, on a machine that does other things too."""


class Tally:
    """A history that only counts, or its own growth would be measured."""

    def __init__(self):
        self.length = 0

    def append(self, _):
        self.length += 1


@dataclass(slots=True)
class Sample:
    """How things were at one moment, when no fault was going on and no call either.

    Attributes:
        at: When, in seconds.
        memory: What is resident, in bytes.
        blocks: How many blocks Python has allocated.
        tasks: How many tasks there are.
        descriptors: How many descriptors are open.
        p50: How long half of the commands since the sample before took at most, in seconds.
        p99: How long all but a hundredth of them took at most.
    """

    at: float
    memory: int
    blocks: int
    tasks: int
    descriptors: int
    p50: float
    p99: float


@dataclass(slots=True)
class Soak:
    """What came of it.

    Attributes:
        samples: Those behind the warm-up.
        faults: How many faults there were.
        calls: How many commands there were.
        tasks_left: How many tasks there are more when all is closed than there were before.
        descriptors_left: How many descriptors.
        ended: The callers that ended before they should, as they said it.
    """

    samples: list[Sample]
    faults: int
    calls: int
    tasks_left: int
    descriptors_left: int
    ended: list[str]

    def slope(self, what):
        """Return by how much something grows, an hour."""
        return linear_regression([each.at for each in self.samples], [what(each) for each in self.samples]).slope * 3600

    def ends(self, name, *, share=4):
        """Return the medians of the first samples and of the last: of a quarter of all, or of another share."""
        length = max(len(self.samples) // share, 1)
        values = [getattr(each, name) for each in self.samples]
        return median(values[:length]), median(values[-length:])

    def gained(self, name):
        """Return by how much the last quarter's median exceeds the first's."""
        before, after = self.ends(name)
        return after - before

    def wrong(self):
        """Return what must not be after an hour. Within minutes noise is larger than any slope."""
        before, after = self.ends("p99")
        memory = self.slope(lambda each: each.memory)
        return [
            *([f"memory grows by {memory / 2**20:.2f} MB an hour"] if memory >= MOST_MEMORY else []),
            *(f"{gained:+g} {name}" for name in ("tasks", "descriptors") if (gained := self.gained(name)) > MORE),
            *([f"p99 has risen from {before:.4f} to {after:.4f} s"] if after > before * SLOWER else []),
            *self.left(),
        ]

    def left(self):
        """Return what must not be, however short it was."""
        return [
            *([f"{self.tasks_left} tasks are left"] if self.tasks_left else []),
            *([f"{self.descriptors_left} descriptors are left"] if self.descriptors_left else []),
            *self.ended,
        ]


class _Samples:
    """Samples, in room that is there from the start: if there were more of them all the time, that would be growth."""

    def __init__(self):
        self._width = len(fields(Sample))
        self._numbers = array("d", bytes(8 * self._width * SAMPLES))
        self._length = 0

    def add(self, sample):
        if self._length < SAMPLES:
            place = self._length * self._width
            self._numbers[place : place + self._width] = array("d", astuple(sample))
            self._length += 1

    def behind_the_warm_up(self):
        return [
            Sample(*self._numbers[number * self._width : (number + 1) * self._width])
            for number in range(round(self._length * WARM_UP), self._length)
        ]


async def soak(seconds, *, seed, make=create_client):
    """Run the load.

    Args:
        seconds: For how long.
        seed: What all choices follow from.
        make: Makes the clients under test.
    """
    samples = _Samples()
    tasks_before, descriptors_before = len(asyncio.all_tasks()), _descriptors()
    async with World(seed, make=make) as world:
        world.history = Tally()
        with quiet():
            faults, ended = await _run(world, seconds, samples)
    await asyncio.sleep(0.1)  # sockets that are closed are closed in the loop's next turns
    return Soak(
        samples.behind_the_warm_up(),
        faults,
        world.history.length,
        len(asyncio.all_tasks()) - tasks_before,
        _descriptors() - descriptors_before,
        ended,
    )


async def _run(world, seconds, samples):
    loads = [kind(world) for kind in WORKLOADS.values()]
    for load in loads:
        await load.prepare()
    probe, latencies, faults = world.client(), [], 0
    began = time.monotonic()
    works = [each for load in loads for each in load.callers()]
    tasks = [asyncio.create_task(each) for each in (*works, _measure(world, probe, latencies), _tidy(world, loads))]
    while time.monotonic() < began + seconds:
        between = max(seconds / SAMPLES, LEAST_BETWEEN)
        faults += len(await disturb(world, sorted(FAULTS.keys() - UNFIT), between, first=faults))
        async with world.rest():
            await _renew_connections(world)
            if len(latencies) > 1:
                samples.add(_sample(time.monotonic() - began, latencies))
        latencies.clear()
    ended = [f"a caller ended too soon: {task!r}" for task in tasks if task.done()]
    world.over = True
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await world.close_clients()
    for load in loads:
        await load.end()
    return faults, ended


async def _renew_connections(world):
    """End all connections, and wait until those are there that the clients always have, and no others: what they hold is
    the same then, whatever fault was the last."""
    world.proxy.cut()
    async with asyncio.timeout(30):
        while True:
            lanes = [lane for client in world.clients for lane in _lanes(client)]
            ready = sum(lane.ready for lane in lanes)
            others = sum(lane.idle + lane.connecting + lane.waiting for lane in lanes)
            if not others and world.proxy.statistics().connections_open == ready:
                return
            await asyncio.sleep(0.01)  # between two looks


def _lanes(client):
    connections = client.statistics().connections
    return connections.shared, connections.dedicated, connections.push


async def _measure(world, probe, latencies):
    """A caller of its own, whose commands are timed."""
    while not world.over:
        call = await world.call("probe", probe.ping)
        if call.succeeded:
            latencies.append(call.ended - call.began)
        await asyncio.sleep(0.002)  # the pace of what is measured


async def _tidy(world, loads):
    """Forget what the workloads keep for their checks, and empty what grows on the server."""
    while not world.over:
        await asyncio.sleep(0.5)  # the pace of tidying
        for load in loads:
            load.forget()
        await world.call("tidy", lambda: world.admin.delete("queue", "done"))
        await world.call("tidy", lambda: world.admin.xtrim("stream", maxlen=0, approximate=False))


def _sample(at, latencies):
    """Look at this process when it has given back what it does not need."""
    gc.collect()
    _trim()
    status = Path("/proc/self/statm").read_text(encoding="ascii").split()
    percentiles = quantiles(latencies, n=100)
    return Sample(
        at,
        int(status[1]) * os.sysconf("SC_PAGE_SIZE"),
        sys.getallocatedblocks(),
        len(asyncio.all_tasks()),
        _descriptors(),
        percentiles[49],
        percentiles[98],
    )


def _trim():
    """Let glibc return to the system what has been freed: it keeps that, and it would look like growth."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _descriptors():
    return len(os.listdir("/proc/self/fd"))

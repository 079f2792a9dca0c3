"""Run one seed: which workload, under which faults, for how long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from dataclasses import dataclass, field

from aioredis_kit import create_client
from tests.chaos.harness.faults import FAULTS, NETWORK_FAULTS, disturb
from tests.chaos.harness.workloads import WORKLOADS
from tests.chaos.harness.world import World, promises_kept

PATIENCE = 20.0
"""How long all may take to come to an end when all is well again, in seconds."""


@dataclass(slots=True)
class Report:
    """What came of a seed.

    Attributes:
        seed: The seed.
        workload: The workload's name.
        chosen: Which faults may happen.
        seconds: How long faults happen.
        in_network: Whether the server is in a network of its own.
        faults: Which faults happened, in their order.
        calls: How calls ended: ``ok``, or the error's name.
        wrong: What must not be.
    """

    seed: int
    workload: str
    chosen: list[str]
    seconds: float
    in_network: bool = False
    faults: list[str] = field(default_factory=list)
    calls: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def command(self):
        """What plays it again: the same choices, for the same callers, and the same faults in the same order."""
        faults = " ".join(f"--fault {each}" for each in self.chosen)
        return (
            f"uv run python -m tests.chaos --seeds 1 --first {self.seed} --seconds {self.seconds} "
            f"--workload {self.workload} {faults}{' --network' if self.in_network else ''}"
        )

    def __str__(self):
        verdict = "; ".join(self.wrong[:5]) or "nothing wrong"
        calls = ", ".join(f"{count} {name}" for name, count in self.calls.most_common())
        again = f"\n  again: {self.command}" if self.wrong else ""
        return f"seed {self.seed}: {self.workload} under {', '.join(self.faults)}: {calls}: {verdict}{again}"


async def run_seed(seed, *, workload=None, faults=None, seconds=0.7, make=create_client, network=None):
    """Run a workload under faults.

    Args:
        seed: What all choices follow from.
        workload: Its name; else the seed chooses.
        faults: Their names; else the seed chooses some.
        seconds: How long faults happen.
        make: Makes the clients under test.
        network: Where the server is, and the faults are; else they are those of a server behind a proxy.

    Returns:
        The report.
    """
    chance = random.Random(f"{seed} choices")
    name = workload or chance.choice(sorted(WORKLOADS))
    kind = WORKLOADS[name]
    fit = sorted(FAULTS.keys() - kind.unfit if network is None else NETWORK_FAULTS)
    chosen = list(faults) if faults else chance.sample(fit, chance.choice((1, 2, 3, 5)))
    report = Report(seed, name, chosen, seconds, in_network=network is not None)
    before = asyncio.all_tasks()
    persistence = random.Random(f"{seed} persistence").choice(("aof", "none")) if kind.bears_loss else "aof"
    async with World(seed, make=make, persistence=persistence, network=network) as world:
        load = kind(world)
        await load.prepare()
        with quiet():
            await _play(world, load, chosen, seconds, report)
        report.wrong += promises_kept(world)
        await load.end()
        report.wrong += await load.check()
        for call in world.history:
            report.calls["ok" if call.error is None else type(call.error).__name__] += 1
    for _ in range(100):
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0.001)  # between two looks at the condition
    report.wrong += [f"a task is left: {task.get_coro()}" for task in left]
    return report


async def _play(world, load, chosen, seconds, report):
    callers = [asyncio.create_task(each) for each in load.callers()]
    try:
        report.faults = await disturb(world, chosen, seconds)
        world.over = True
        ends = asyncio.gather(*callers)
        settled = asyncio.create_task(load.settle())
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(ends, settled)
        except TimeoutError:
            report.wrong.append("the callers do not come to an end")
    finally:
        world.over = True
        for each in callers:
            each.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        try:
            async with asyncio.timeout(PATIENCE / 2):
                await world.close_clients()
        except TimeoutError:
            report.wrong.append("close() does not come to an end")


@contextlib.contextmanager
def quiet():
    """Log nothing: faults are what this is about."""
    loggers = [logging.getLogger(name) for name in ("aioredis_kit", "aioredis_kit.client.listeners")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)

"""Workloads under faults, each from a seed: see ``harness``. And that what checks them sees what it is to see."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from aioredis_kit import KitError, RedisClient, create_client
from tests.chaos.harness.faults import FAULTS
from tests.chaos.harness.run import run_seed
from tests.chaos.harness.workloads import WORKLOADS


@pytest.mark.pins("P1", "P2", "P3", "P6")
@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(name, marks=() if name in {"Echoes", "Queues", "CachedReads"} else pytest.mark.only_long)
        for name in sorted(WORKLOADS)
    ],
)
async def test_nothing_is_wrong_under_faults(workload, rng, is_long):
    """Some seeds of each workload; ``python -m tests.chaos --first … --seeds 1`` plays one again."""
    for _ in range(6 if is_long else 1):
        seed = rng.randrange(10**9)
        report = await run_seed(seed, workload=workload, seconds=0.7 if is_long else 0.3)
        assert not report.wrong, (
            f"{report}: uv run python -m tests.chaos --first {seed} --seeds 1 --workload {workload}"
        )


@pytest.mark.only_long
@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_each_fault_alone(fault, rng):
    fit = sorted(name for name, kind in WORKLOADS.items() if fault not in kind.unfit)
    seed = rng.randrange(10**9)
    report = await run_seed(seed, workload=rng.choice(fit), faults=[fault])
    assert report.faults
    assert not report.wrong, report


# -- planted bugs -----------------------------------------------------------------------------------


class Swapping(RedisClient):
    """Now and then two callers get each other's replies."""

    _waiting = None
    _numbers = count()

    async def execute_command(self, *args, **options):
        reply = await super().execute_command(*args, **options)
        if args[0] != "ECHO" or next(self._numbers) % 50 > 1:
            return reply
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
            mine, self._waiting.reply = self._waiting, reply
            try:
                async with asyncio.timeout(0.2):
                    return await mine
            except TimeoutError:
                self._waiting = None
                return reply
        theirs, self._waiting = self._waiting, None
        if not theirs.done():
            theirs.set_result(reply)
            return theirs.reply
        return reply


class Repeating(RedisClient):
    """What may have been executed is sent again."""

    async def execute_command(self, *args, **options):
        while True:
            try:
                return await super().execute_command(*args, **options)
            except KitError as error:
                if not error.maybe_executed:
                    raise


class Hiding(RedisClient):
    """What may have been executed is said not to be."""

    async def execute_command(self, *args, **options):
        try:
            return await super().execute_command(*args, **options)
        except KitError as error:
            error.maybe_executed = False
            raise

    def pipeline(self, *args, **options):
        pipe = super().pipeline(*args, **options)
        execute = pipe.execute

        async def hide():
            try:
                return await execute()
            except KitError as error:
                error.maybe_executed = False
                raise

        pipe.execute = hide
        return pipe


class Leaking(RedisClient):
    """A task is left behind."""

    async def close(self, *args):
        self.left = asyncio.create_task(asyncio.sleep(5))  # longer than anybody looks
        await super().close(*args)


class Hanging(RedisClient):
    """A command whose connection is lost never ends."""

    async def execute_command(self, *args, **options):
        try:
            return await super().execute_command(*args, **options)
        except KitError:
            return await asyncio.Event().wait()


class Losing(RedisClient):
    """An element that was popped reaches nobody."""

    _numbers = count()

    async def execute_command(self, *args, **options):
        reply = await super().execute_command(*args, **options)
        return None if args[0] == "LPOP" and next(self._numbers) % 20 == 0 else reply


@pytest.mark.only_long
@pytest.mark.parametrize(
    ("kind", "workload", "faults", "text"),
    [
        (Swapping, "Echoes", ["delay"], "got another reply"),
        (Repeating, "Counters", ["cut"], "counter"),
        (Hiding, "Counters", ["cut"], "counter"),
        (Hiding, "Transfers", ["cut"], "said not to be"),
        (Leaking, "Counters", ["delay"], "a task is left"),
        (Hanging, "Counters", ["cut"], "do not come to an end"),
        (Losing, "Queues", ["delay"], "are missing"),
    ],
)
async def test_a_planted_bug_is_seen(kind, workload, faults, text, monkeypatch):
    monkeypatch.setattr("tests.chaos.harness.run.PATIENCE", 3.0)
    for seed in range(20):
        report = await run_seed(seed, workload=workload, faults=faults, seconds=0.5, make=kind)
        await _end_what_is_left()
        if any(text in each for each in report.wrong):
            return
    pytest.fail(f"nobody saw it; the last one is {report}")


async def _end_what_is_left():
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        if "sleep" in repr(task.get_coro()):
            task.cancel()
    await asyncio.sleep(0)


@pytest.mark.only_long
@pytest.mark.parametrize("fault", ["lose", "fence"])
async def test_a_stale_read_is_seen(fault, monkeypatch):
    """A cache that forgets to drop what it has to."""
    from aioredis_kit.cache.store import LOADING, ClientSideCache

    drop = ClientSideCache._drop
    if fault == "lose":
        monkeypatch.setattr(ClientSideCache, "lose", lambda self, source: [])
    else:
        monkeypatch.setattr(
            ClientSideCache, "_drop", lambda self, entry: None if entry.ends_at == LOADING else drop(self, entry)
        )
    for seed in range(20):
        faults = ["delay"] if fault == "fence" else ["cut"]
        report = await run_seed(seed, workload="CachedReads", faults=faults, seconds=0.5, make=create_client)
        if any("was read as" in each for each in report.wrong):
            return
    pytest.fail(f"nobody saw it; the last one is {report}")

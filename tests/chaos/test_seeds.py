"""Workloads under faults, each from a seed: see ``harness``. And that what checks them sees what it is to see."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from itertools import count

import pytest

from aioredis_kit import KitError, RedisClient, create_client
from tests.chaos.__main__ import main
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
    """Some seeds of each workload; a failure shows the command that plays it again."""
    for _ in range(6 if is_long else 1):
        seed = rng.randrange(10**9)
        report = await run_seed(seed, workload=workload, seconds=0.7 if is_long else 0.3)
        assert not report.wrong, report


@pytest.mark.only_long
@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_each_fault_alone(fault, rng):
    fit = sorted(name for name, kind in WORKLOADS.items() if fault not in kind.unfit)
    seed = rng.randrange(10**9)
    report = await run_seed(seed, workload=rng.choice(fit), faults=[fault])
    assert report.faults
    assert not report.wrong, report


@pytest.mark.only_long
async def test_a_seed_makes_the_same_choices_each_time():
    """The same workload, the same faults, in the same order. How many there is time for is not the seed's choice."""
    for seed in range(4):
        one, other = [await run_seed(seed, seconds=0.5) for _ in range(2)]
        assert (one.workload, one.chosen) == (other.workload, other.chosen)
        assert all(mine == theirs for mine, theirs in zip(one.faults, other.faults, strict=False))


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


class LosingBlocked(RedisClient):
    """An element that comes for a caller who has gone is told to nobody."""

    def on(self, event, listener):
        return super().on(event, (lambda *_: None) if event == "reply-orphaned" else listener)


class Shifting(RedisClient):
    """Now and then a pipeline gets the replies of the one before."""

    _numbers = count()
    _last = None

    def pipeline(self, *args, **options):
        pipe = super().pipeline(*args, **options)
        execute = pipe.execute

        async def shift():
            replies = await execute()
            last, self._last = self._last, replies
            return last if last and next(self._numbers) % 20 == 0 else replies

        pipe.execute = shift
        return pipe


class Halving(RedisClient):
    """Now and then half of a transaction is applied once more."""

    _numbers = count()

    def pipeline(self, *args, **options):
        pipe = super().pipeline(*args, **options)
        execute = pipe.execute

        async def again():
            replies = await execute()
            if next(self._numbers) % 20 == 0:
                await self.execute_command("INCRBY", "account:0", 5)
            return replies

        pipe.execute = again
        return pipe


class Sharing(RedisClient):
    """Now and then two consumers get the same entries."""

    _numbers = count()
    _last = None

    async def execute_command(self, *args, **options):
        reply = await super().execute_command(*args, **options)
        if args[0] == "XREADGROUP" and reply:
            last, self._last = self._last, reply
            return last if last and next(self._numbers) % 5 == 0 else reply
        return reply


class Pretending(RedisClient):
    """Acknowledgements are never sent."""

    async def execute_command(self, *args, **options):
        return 1 if args[0] == "XACK" else await super().execute_command(*args, **options)


class Late(RedisClient):
    """Errors come long after the deadline."""

    async def execute_command(self, *args, **options):
        try:
            return await super().execute_command(*args, **options)
        except KitError:
            await asyncio.sleep(2.5)  # that is the bug
            raise


class Unending(RedisClient):
    """``close()`` never ends."""

    async def close(self, *args):
        await super().close(*args)
        await asyncio.Event().wait()


def altered(alter):
    """Return a client whose messages are altered: a function takes each with its number, and returns what comes."""

    class Altered(RedisClient):
        def subscribe(self, *channels, **options):
            subscription = super().subscribe(*channels, **options)
            numbers = count()

            @contextlib.asynccontextmanager
            async def entered():
                async with subscription as messages:

                    async def each():
                        async for message in messages:
                            for one in alter(next(numbers), message):
                                yield one

                    yield each()

            return entered()

    return Altered


Dropping = altered(lambda number, message: [] if number % 50 == 20 else [message])
Doubling = altered(lambda number, message: [message] * (1 + (number % 50 == 20)))
Unannounced = altered(lambda _, message: [] if message.is_gap else [message])


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
        (Repeating, "Queues", ["cut"], "came out 2 times"),
        (LosingBlocked, "CancelledPops", ["delay"], "are missing"),
        (Halving, "Transfers", ["delay"], "the sum has changed"),
        (Dropping, "Messages", ["delay"], "are missing without a gap"),
        (Doubling, "Messages", ["delay"], "came after"),
        (Unannounced, "Messages", ["cut"], "are missing without a gap"),
        (Repeating, "Streams", ["cut"], "is there 2 times"),
        (Sharing, "Streams", ["delay"], "went to several"),
        (Pretending, "Streams", ["delay"], "and is pending"),
        (Repeating, "Tokens", ["cut"], "counter"),
        (Shifting, "SeveralKinds", ["delay"], "got"),
        (Late, "Counters", ["cut"], "took"),
        (Unending, "Counters", ["delay"], "close() does not come to an end"),
    ],
)
async def test_a_planted_bug_is_seen(kind, workload, faults, text, monkeypatch):
    """And seen again by what the report says plays it again."""
    monkeypatch.setattr("tests.chaos.harness.run.PATIENCE", 3.0)
    for seed in range(20):
        report = await run_seed(seed, workload=workload, faults=faults, seconds=0.5, make=kind)
        await _end_what_is_left()
        if any(text in each for each in report.wrong):
            break
    else:
        pytest.fail(f"nobody saw it; the last one is {report}")
    words = report.command.removeprefix("uv run python -m tests.chaos ").split()
    replay = partial(run_seed, make=kind)
    monkeypatch.setattr("tests.chaos.__main__.run_seed", replay)
    assert await asyncio.to_thread(_fails_again, words)


def _fails_again(words):
    """Play it again as the command line does: a bug that needs two callers to meet, a few times."""
    return any(main(words) for _ in range(5))


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
    from aioredis_kit.cache.store import ClientSideCache

    invalidate, end = ClientSideCache.invalidate, ClientSideCache._end

    def invalidate_but_loads(self, key):
        self._end = lambda read: None if read in self.loads else end(self, read)
        try:
            invalidate(self, key)
        finally:
            del self._end

    if fault == "lose":
        monkeypatch.setattr(ClientSideCache, "lose", lambda self, source: [])
    else:
        monkeypatch.setattr(ClientSideCache, "invalidate", invalidate_but_loads)
    for seed in range(20):
        faults = ["delay"] if fault == "fence" else ["cut"]
        report = await run_seed(seed, workload="CachedReads", faults=faults, seconds=0.5, make=create_client)
        if any("was read as" in each for each in report.wrong):
            return
    pytest.fail(f"nobody saw it; the last one is {report}")

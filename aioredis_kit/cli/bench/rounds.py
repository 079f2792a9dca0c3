"""Rounds of commands: clients take turns, and what they store is gone in the end.

Rules of this file:

1. A closed loop: each caller issues its next command when it has the reply to the last one. That finds the most that a
   client can do.
2. Each caller has a key of its own, under a prefix of this run's, with an expiry: what can't be deleted any more, as
   the server or this process was killed, goes by itself.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import secrets
import time
from array import array
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from aioredis_kit.cli.bench.figures import Round

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from aioredis_kit.cli.bench.clients import Measured
    from aioredis_kit.cli.bench.figures import Plan
    from aioredis_kit.client.client import RedisClient

__all__ = ["PREFIX", "Keys", "alternate", "stored"]

PREFIX: Final = "aioredis-kit:bench:"
_WARM_UP: Final = 0.2
"""How long the round that warms up is at most, in seconds."""
_SPARE: Final = 60
"""By how many seconds keys outlive a run that goes as planned."""
_PATIENCE: Final = 2.0
"""How long deleting them may take, in seconds: somebody may wait who has pressed Ctrl-C."""
_GETS_TO_ONE_SET: Final = 9


@dataclass(frozen=True, slots=True)
class Keys:
    """What is stored.

    Attributes:
        names: A key for each caller.
        value: The value of all.
        lifetime: How long they live, in seconds.
    """

    names: tuple[str, ...]
    value: bytes = field(repr=False)
    lifetime: int

    @classmethod
    def of(cls, plan: Plan) -> Keys:
        """Return those of a new run."""
        prefix = f"{PREFIX}{secrets.token_hex(8)}:"
        lifetime = int(plan.steps * plan.seconds) + _SPARE
        return cls(tuple(f"{prefix}{number}" for number in range(plan.callers)), bytes(plan.size), lifetime)


@asynccontextmanager
async def stored(client: RedisClient, keys: Keys) -> AsyncIterator[None]:
    """Store them, and delete them in the end.

    Raises:
        RedisError: They can't be stored. That they can't be deleted is no error: they expire.

    Cancellation:
        They are deleted.
    """
    try:
        await asyncio.gather(*(client.set(name, keys.value, ex=keys.lifetime) for name in keys.names))
        yield
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                # One by one, as those of a cluster's node have different slots.
                await asyncio.gather(*(client.delete(name) for name in keys.names), return_exceptions=True)


async def alternate(
    plan: Plan, clients: Mapping[str, Measured], keys: Keys, done: Callable[[str, Round | None], None]
) -> None:
    """Let the clients take turns.

    Args:
        plan: What to do.
        clients: The clients by their names.
        keys: What is stored.
        done: Told of each round; of those that warm up no figures.

    Raises:
        RedisError: A command failed.

    Cancellation:
        Safe.
    """
    for number, name in itertools.product(range(plan.rounds + 1), plan.clients):
        seconds = plan.seconds if number else min(plan.seconds, _WARM_UP)
        measured = await _round(plan, clients[name], keys, seconds)
        done(name, measured if number else None)


async def _round(plan: Plan, client: Measured, keys: Keys, seconds: float) -> Round:
    turns = _Turns()
    latencies = array("d")
    gc.collect()
    timer = asyncio.get_running_loop().call_later(seconds, turns.end)
    began, cpu_began = time.perf_counter(), time.process_time()
    try:
        counts = await asyncio.gather(
            *(
                _call(turns, _commands(plan, client, keys, number), None if number % plan.stride else latencies)
                for number in range(plan.callers)
            )
        )
    finally:
        timer.cancel()
    cpu_seconds, elapsed = time.process_time() - cpu_began, time.perf_counter() - began
    if turns.failure is not None:
        raise turns.failure
    return Round(sum(counts), elapsed, cpu_seconds, latencies)


@dataclass(slots=True)
class _Turns:
    """Whether there is another turn for anybody.

    Attributes:
        are_over: There is none.
        failure: Why, if a command failed.
    """

    are_over: bool = False
    failure: RedisError | None = None

    def end(self) -> None:
        self.are_over = True


def _commands(plan: Plan, client: Measured, keys: Keys, number: int) -> Iterator[Callable[[], Awaitable[Any]]]:
    """Return what a caller issues, one after the other, for ever. Callers who mix begin in different places."""
    name = keys.names[number]
    read = partial(client.get, name)
    write = partial(client.set, name, keys.value, ex=keys.lifetime)
    if plan.command == "mixed":
        mixture = [read] * _GETS_TO_ONE_SET
        mixture.insert(number % (_GETS_TO_ONE_SET + 1), write)
        return itertools.cycle(mixture)
    return itertools.repeat(read if plan.command == "get" else write)


async def _call(turns: _Turns, commands: Iterator[Callable[[], Awaitable[Any]]], latencies: array[float] | None) -> int:
    """Issue commands until the turns are over; return how many."""
    clock, count = time.perf_counter, 0
    try:
        for issue in commands:
            began = clock() if latencies is not None else 0.0
            await issue()
            if latencies is not None:
                latencies.append(clock() - began)
            count += 1
            if turns.are_over:
                break
    except RedisError as error:
        turns.failure = turns.failure or error
        turns.end()
    return count

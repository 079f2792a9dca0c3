"""Throughput and client CPU, clients side by side in alternating rounds.

One cell is (workload, callers, loop). The callers are a closed loop: each awaits its command before it
issues the next one. A round is bounded in time and in commands; its commands, seconds and CPU seconds
are kept.

Rules of this file:

1. Each (client, loop) has a process of its own, and the rounds go round workloads and processes:
   A B C A B C … In one process the clients would wear each other's clothes: the interpreter
   specialises the driver's and asyncio's call sites for the first client and takes the slow path for
   the next, one client's garbage is collected on another's time, and imports pile up. An application
   runs one client; so does each process here. Alternating puts a slow moment of the machine on
   everyone, and short rounds make the moments comparable.
2. A process whose turn it is not is blocked in ``recv`` with its loop stopped: it costs no CPU.
3. The first round of each cell warms up and is discarded. The collector stays on, as it does in an
   application, and starts each round with nothing to collect.
4. With one caller, server and clients share a CPU where the system lets us. They take turns (messages
   are an exception), so a second CPU adds only the cost of waking it, and whether it does is the kernel's whim: a program
   measured against itself came out between 0.86 and 1.13 where the kernel had the choice. With more
   callers it has the choice, as it has for an application.
5. glibc keeps its heap in all of them. asyncio reads into a fresh 256 KiB each time, and whether glibc
   asks the system for that memory each time depends on the accidents of the heap's layout: it
   doubles the CPU of a lone caller's command, for one process and not for the next.
6. Replies are verified once per client and number of callers, so that nobody is fast by being wrong.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import operator
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from aioredis_kit.testing.probe import Probe
from tests.benchmarks.cached_reads import READS
from tests.benchmarks.clients import ADAPTERS, CACHING_ADAPTERS, FLOOR, LOOPS
from tests.benchmarks.features import CALLERS, FEATURES, OVERLAPPING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from aioredis_kit.testing import RedisServer

KEY = "benchmark:string"
VALUE = b"x" * 64
HASH = "benchmark:hash"
FIELDS = {b"field-%d" % index: b"x" * 16 for index in range(10)}

_KEEP_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}
# Bounds a round in commands. Well above what the floor program reaches, so that time ends the round.
_MOST_COMMANDS_PER_SECOND = 2_000_000
# A reply from a process includes opening its connections. Longer than this is a hang.
_PATIENCE = 60.0


async def _get(client: Any, turns: Iterable[int]) -> None:
    get = client.get
    for _ in turns:
        await get(KEY)


async def _set(client: Any, turns: Iterable[int]) -> None:
    set_ = client.set
    for _ in turns:
        await set_(KEY, VALUE)


async def _hgetall(client: Any, turns: Iterable[int]) -> None:
    hgetall = client.hgetall
    for _ in turns:
        await hgetall(HASH)


Workload = Callable[[Any, Iterable[int]], Awaitable[float | None]]
"""Takes turns until there are none left; may return how many seconds of its time do not count."""
COMMANDS: dict[str, Workload] = {"get": _get, "set": _set, "hgetall": _hgetall}
WORKLOADS = COMMANDS | FEATURES
_EVERY_WORKLOAD = WORKLOADS | READS
_EVERY_ADAPTER = ADAPTERS | CACHING_ADAPTERS


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured: for each cell every client runs every round."""

    workload: str
    callers: int
    loop: str


@dataclass(frozen=True, slots=True)
class Round:
    """What one client did in one round."""

    commands: int
    seconds: float
    cpu_seconds: float

    @property
    def throughput(self) -> float:
        """Commands a second."""
        return self.commands / self.seconds

    @property
    def cpu_per_command(self) -> float:
        """Seconds of the client's process."""
        return self.cpu_seconds / self.commands


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells and the sizes of a run."""

    clients: tuple[str, ...]
    workloads: tuple[str, ...]
    callers: tuple[int, ...]
    loops: tuple[str, ...]
    rounds: int
    seconds: float


Results = dict[Cell, dict[str, list[Round]]]


def measure_speed(server: RedisServer, plan: Plan) -> Results:
    """Run the plan against the server and return every round but the warm-ups."""
    with Probe(server.address) as probe:
        prepare(probe)
    results: Results = {}
    for loop in plan.loops:
        with ExitStack() as stack:
            workers = {client: stack.enter_context(worker(client, loop, server.url)) for client in plan.clients}
            for callers in plan.callers:
                print(f"speed: {loop}, {callers} callers", file=sys.stderr)
                for workload, rounds in alternate(workers, callers, plan, server.pid).items():
                    results[Cell(workload, callers, loop)] = rounds
    return results


def prepare(probe: Probe) -> None:
    """Store what the workloads read and don't write."""
    probe.call("HSET", HASH, *itertools.chain.from_iterable(FIELDS.items()))


def place(*pids: int, takes_turns: bool) -> None:
    """Let processes share one CPU, or run where the kernel wants them."""
    if hasattr(os, "sched_setaffinity"):
        cpus = os.sched_getaffinity(0)
        for pid in pids:
            os.sched_setaffinity(pid, {min(cpus)} if takes_turns else cpus)


def alternate(
    workers: dict[str, Worker], callers: int, plan: Plan, *server_pids: int
) -> dict[str, dict[str, list[Round]]]:
    """Run all workloads with this many callers, client by client, and return their rounds but the warm-ups."""
    for each in workers.values():
        each.ask(callers)
    rounds: dict[str, dict[str, list[Round]]] = {
        workload: {client: [] for client in workers if workload in COMMANDS or client != FLOOR}
        for workload in plan.workloads
        if callers in CALLERS.get(workload, (callers,))
    }
    for number in range(1 + plan.rounds):
        for workload, by_client in rounds.items():
            takes_turns = callers == 1 and workload not in OVERLAPPING
            place(*server_pids, *(each.pid for each in workers.values()), takes_turns=takes_turns)
            for client in by_client:
                measured = workers[client].ask((workload, plan.seconds))
                if number > 0:
                    by_client[client].append(measured)
    for each in workers.values():
        each.ask(None)
    return rounds


@dataclass(frozen=True, slots=True)
class Worker:
    """The process of one client on one loop, seen from the driver.

    Orders: a number opens a client for that many callers, ``(workload, seconds)`` runs a round,
    ``None`` closes the client, and once more ends the process. Each is answered when it is done.
    """

    name: str
    pid: int
    connection: Connection

    def ask(self, order: int | tuple[str, float] | None) -> Any:
        self.connection.send(order)
        if not self.connection.poll(_PATIENCE):
            raise TimeoutError(f"{self.name} did not finish {order!r} within {_PATIENCE:.0f} s")
        try:
            return self.connection.recv()
        except EOFError:
            raise RuntimeError(f"{self.name} failed at {order!r}: see its traceback above") from None


@contextmanager
def worker(client: str, loop: str, url: str) -> Iterator[Worker]:
    # Forked children would share the driver's heap; spawned ones start like an application.
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(theirs, client, loop, url), daemon=True)
    with patch.dict(os.environ, _KEEP_HEAP):
        process.start()
    theirs.close()
    try:
        assert process.pid is not None
        started = Worker(f"{client} on {loop}", process.pid, ours)
        yield started
        started.ask(None)
        process.join(_PATIENCE)
    finally:
        process.kill()
        process.join()


def _work(orders: Connection, client: str, loop: str, url: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(_follow(orders, client, url))


async def _follow(orders: Connection, client_name: str, url: str) -> None:
    # One task opens, drives and closes the client: some clients insist on it.
    while (callers := orders.recv()) is not None:
        async with _EVERY_ADAPTER[client_name](url, callers) as client:
            await _verify(client)
            orders.send(None)
            while (order := orders.recv()) is not None:
                workload, seconds = order
                orders.send(await _run_round(client, _EVERY_WORKLOAD[workload], callers, seconds))
        orders.send(None)
    orders.send(None)


async def _verify(client: Any) -> None:
    if not await client.set(KEY, VALUE):
        raise RuntimeError("SET was refused")
    for reply, expected in ((await client.get(KEY), VALUE), (await client.hgetall(HASH), FIELDS)):
        if reply != expected:
            raise RuntimeError(f"expected {expected!r}, got {reply!r}")


async def _run_round(client: Any, workload: Workload, callers: int, seconds: float) -> Round:
    # All callers draw turns from one iterator: the cheapest shared bound there is, and emptying what
    # it runs over ends the round for all of them at once. The collector doesn't look into a bytearray.
    most = int(seconds * _MOST_COMMANDS_PER_SECOND)
    turns = bytearray(most)
    turn = iter(turns)
    may_start = asyncio.Event()
    unused = 0

    def stop() -> None:
        nonlocal unused
        unused = operator.length_hint(turn)
        turns.clear()

    async def call() -> float:
        await may_start.wait()
        return await workload(client, turn) or 0.0

    tasks = [asyncio.create_task(call()) for _ in range(callers)]
    await asyncio.sleep(0)
    gc.collect()
    timer = asyncio.get_running_loop().call_later(seconds, stop)
    began, cpu_began = time.perf_counter(), time.process_time()
    may_start.set()
    not_counted = sum(await asyncio.gather(*tasks))
    cpu_seconds, elapsed = time.process_time() - cpu_began, time.perf_counter() - began - not_counted
    timer.cancel()
    return Round(commands=most - unused, seconds=elapsed, cpu_seconds=cpu_seconds)

"""Cells and clients in alternating rounds.

Rules of this file:

1. Rounds go round cells and clients: A B C A B C … Alternating puts a slow moment of the machine on everyone, and short
   rounds make the moments comparable.
2. The first round of each cell warms up and is discarded. The collector stays on, as it does in an application, and
   starts each round with nothing to collect.
3. With one caller, server and clients share a CPU where the system lets us. They take turns (messages are an exception),
   so a second CPU adds only the cost of waking it, and whether it does is the kernel's whim: a program measured against
   itself came out between 0.86 and 1.13 where the kernel had the choice. With more callers it has the choice, as it has
   for an application.
4. Before each round of a cached read the server is emptied and filled anew. So it tracks nothing for anybody, each cache
   has been told to forget all, and what is read afterwards is a miss that the server has to note.
5. TLS is measured on two servers of one binary, one with it and one without.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trustme

from aioredis_kit.testing import RedisServer, TLSFiles
from aioredis_kit.testing.probe import Probe
from tests.benchmarks.cells import READS, Cell
from tests.benchmarks.clients import LOOPS, PEERS, REDIS_PY
from tests.benchmarks.workers import Order, start, why_not
from tests.benchmarks.workloads import (
    COLD_COUNT,
    COLD_PREFIX,
    FIELDS,
    HASH,
    HOT_KEYS,
    LARGE,
    LARGE_SIZE,
    OVERLAPPING,
    VERIFIED_SIZE,
    key_of,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aioredis_kit.cli.bench.figures import Round
    from tests.benchmarks.workers import Worker

_FILL: Final = """
for number = 0, ARGV[1] - 1 do redis.call('SET', ARGV[2] .. number, ARGV[3]) end
"""
_SEARCHES: Final = 5
"""Rounds that find out the most that redis-py can do."""

Results = dict[Cell, "dict[str, list[Round]]"]
Workers = dict[str, "Worker"]


@dataclass(slots=True)
class Measured:
    """Every round but the warm-ups; and what could not be measured, with the reason."""

    cells: Results = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run consists of: `seconds` is the length of a round."""

    cells: tuple[Cell, ...]
    peers: tuple[str, ...]
    rounds: int
    seconds: float

    @property
    def taking_part(self) -> tuple[str, ...]:
        """The clients that have something to do."""
        return tuple(peer for peer in self.peers if any(PEERS[peer].takes(cell) for cell in self.cells))


def measure_cells(server: RedisServer, plan: Plan) -> Measured:
    """Run the plan; TLS on servers of its own."""
    measured = Measured()
    peers = tuple(peer for peer in plan.taking_part if _is_here(peer, measured.skipped))
    by_place: dict[tuple[str, bool], list[Cell]] = defaultdict(list)
    for cell in plan.cells:
        if cell.loop in LOOPS:
            by_place[cell.loop, cell.tls].append(cell)
        else:
            measured.skipped[cell.name] = f"{cell.loop} is not installed"
    for (loop, tls), cells in by_place.items():
        if not tls:
            _measure_on((server, server), loop, cells, peers, plan, measured)
        elif (binary := find_tls_binary()) is None:
            measured.skipped |= {cell.name: "there is no redis-server with TLS on PATH" for cell in cells}
        else:
            with tls_servers(binary) as servers:
                _measure_on(servers, loop, cells, peers, plan, measured)
    measured.cells = {cell: measured.cells[cell] for cell in plan.cells if cell in measured.cells}
    return measured


def _is_here(peer: str, skipped: dict[str, str]) -> bool:
    reason = why_not(peer)
    if reason:
        skipped[peer] = reason
    return reason is None


def _measure_on(
    servers: tuple[RedisServer, RedisServer],
    loop: str,
    cells: list[Cell],
    peers: tuple[str, ...],
    plan: Plan,
    measured: Measured,
) -> None:
    plain, secured = servers
    secured_url = f"{secured.url}?ssl_ca_certs={secured.tls.ca}" if secured.tls else secured.url
    by_callers: dict[int, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_callers[cell.callers].append(cell)
    with ExitStack() as stack:
        probes = [stack.enter_context(Probe(server.address)) for server in dict.fromkeys(servers)]
        workers: Workers = {
            peer: stack.enter_context(start(peer, loop, plain.url if PEERS[peer].is_plain else secured_url))
            for peer in peers
            if any(PEERS[peer].takes(cell) for cell in cells)
        }
        here = _Place(workers, tuple({plain.pid, secured.pid}), probes, plan)
        for callers, together in by_callers.items():
            here.alternate(callers, together, measured)


@dataclass(frozen=True, slots=True)
class _Place:
    """Workers and the servers that they use, on one loop."""

    workers: Workers
    server_pids: tuple[int, ...]
    probes: list[Probe]
    plan: Plan

    def alternate(self, callers: int, cells: list[Cell], measured: Measured) -> None:
        """Run cells that have the same number of callers, round by round and client by client."""
        began = time.monotonic()
        taking_part = {
            name: worker for name, worker in self.workers.items() if any(PEERS[name].takes(cell) for cell in cells)
        }
        for probe in self.probes:
            prepare(probe, cells)
        for worker in taking_part.values():
            worker.open(callers)
        orders = {cell: order for cell in cells if (order := self._order(cell, measured.skipped))}
        results: Results = {
            cell: {client: [] for client in taking_part if PEERS[client].takes(cell)} for cell in orders
        }
        for number, cell in itertools.product(range(1 + self.plan.rounds), orders):
            self._place(cell, taking_part.values())
            for client, rounds in results[cell].items():
                if cell.workload in READS:
                    for probe in self.probes:
                        _fill(probe, cells)
                done = taking_part[client].run(orders[cell])
                if number > 0:
                    rounds.append(done)
        for worker in taking_part.values():
            worker.close()
        place(_CPUS)
        measured.cells |= {cell: by_client for cell, by_client in results.items() if by_client}
        names = ", ".join(cell.name for cell in cells)
        print(f"{time.monotonic() - began:4.0f} s  {names}", file=sys.stderr)

    def _order(self, cell: Cell, skipped: dict[str, str]) -> Order | None:
        order = Order(cell.workload, cell.size, self.plan.seconds)
        if cell.load is None:
            return order
        rate = cell.load.rate
        if cell.load.share:
            if REDIS_PY not in self.workers:
                skipped[cell.name] = f"its load is a part of what {REDIS_PY} can do, which does not take part"
                return None
            rate = cell.load.share * max(self.workers[REDIS_PY].run(order).throughput for _ in range(_SEARCHES))
        return Order(cell.workload, cell.size, self.plan.seconds, rate, cell.load.beside_large)

    def _place(self, cell: Cell, workers: Iterable[Worker]) -> None:
        takes_turns = cell.callers == 1 and cell.workload not in OVERLAPPING
        pids = (*self.server_pids, *(pid for worker in workers for pid in worker.pids))
        place(_CPUS[:1] if takes_turns else _CPUS, *pids)


_CPUS: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def place(cpus: list[int], *pids: int) -> None:
    """Let processes run on these CPUs, with all their threads; and with us, from whom what we start inherits it."""
    for pid in (os.getpid(), *pids) if cpus else ():
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(int(thread.name), cpus)


def prepare(probe: Probe, cells: Iterable[Cell]) -> None:
    """Store what is read by the cells, and by each client that is verified."""
    probe.call("HSET", HASH, *itertools.chain.from_iterable(FIELDS.items()))
    for size in {VERIFIED_SIZE, *(cell.size for cell in cells)}:
        probe.call("SET", key_of(size), value_of(size))
    if any(cell.load and cell.load.beside_large for cell in cells):
        probe.call("SET", LARGE, value_of(LARGE_SIZE))


def _fill(probe: Probe, cells: Iterable[Cell]) -> None:
    """Empty the server and store what is read, also from a cache; all who had read something are told that it is gone."""
    probe.call("FLUSHALL")
    prepare(probe, cells)
    for key in HOT_KEYS:
        probe.call("SET", key, value_of(VERIFIED_SIZE))
    probe.call("EVAL", _FILL, "0", COLD_COUNT, COLD_PREFIX, value_of(VERIFIED_SIZE))


def find_tls_binary() -> str | None:
    """Return the path of a server that was built with TLS, if there is one."""
    found = shutil.which("redis-server")
    return found if found is not None and RedisServer(binary=found).has_tls else None


@contextmanager
def tls_servers(binary: str) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Run a server without TLS and one with it."""
    with tempfile.TemporaryDirectory() as folder:
        files = TLSFiles(*(Path(folder) / name for name in ("cert.pem", "key.pem", "ca.pem")))
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(files.cert)
        certificate.private_key_pem.write_to_path(files.key)
        authority.cert_pem.write_to_path(files.ca)
        with RedisServer(binary=binary) as plain, RedisServer(binary=binary, tls=files) as secured:
            yield plain, secured

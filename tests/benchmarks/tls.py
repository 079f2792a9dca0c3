"""What TLS costs: throughput with and without it, and the first commands of a new client.

Rules of this file:

1. Two servers from one binary, one with TLS and one without, with clients side by side in alternating rounds as in
   `speed`.
2. The floor program runs on both: what it loses under TLS is what asyncio, OpenSSL and the server take.
3. A burst begins with nothing: the client, its TLS context and its connections are made within the measured time. One
   command and a hundred take turns, each with a new client.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import trustme

from aioredis_kit.testing import RedisServer, TLSFiles
from aioredis_kit.testing.probe import Probe
from tests.benchmarks.clients import ADAPTERS, FLOOR, LOOPS, OURS, REDIS_PY
from tests.benchmarks.speed import COMMANDS, Cell, Plan, Results, alternate, prepare, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN = "without TLS"
PLAIN_FLOOR = "floor without TLS"
CALLERS = 100
_BURST = 100
_BURST_CLIENTS = (OURS, REDIS_PY)
# redis-py needs seconds for each.
_MOST_BURST_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Burst:
    """How long a new client took for its first commands, in seconds: one, and a hundred at once."""

    loop: str
    client: str
    one: tuple[float, ...]
    hundred: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How much longer a hundred take: the median of the rounds."""
        return median(hundred / one for one, hundred in zip(self.one, self.hundred, strict=True))


def find_tls_binary() -> str | None:
    """Return the path of a server that was built with TLS, if there is one."""
    found = shutil.which("redis-server")
    return found if found is not None and RedisServer(binary=found).has_tls else None


@contextmanager
def servers(binary: str) -> Iterator[tuple[RedisServer, RedisServer]]:
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


def measure_tls(plain: RedisServer, secured: RedisServer, plan: Plan) -> tuple[Results, list[Burst]]:
    """Run the plan's commands with 100 callers, and the bursts."""
    results: Results = {}
    bursts = []
    url = f"{secured.url}?ssl_ca_certs={secured.tls and secured.tls.ca}"
    runs = {FLOOR: (FLOOR, url), OURS: (OURS, url), REDIS_PY: (REDIS_PY, url)}
    runs |= {PLAIN: (OURS, plain.url), PLAIN_FLOOR: (FLOOR, plain.url)}
    for server in (plain, secured):
        with Probe(server.address) as probe:
            prepare(probe)
    for loop in plan.loops:
        print(f"TLS: {loop}, {CALLERS} callers", file=sys.stderr)
        with ExitStack() as stack:
            workers = {name: stack.enter_context(worker(client, loop, where)) for name, (client, where) in runs.items()}
            for workload, rounds in alternate(workers, CALLERS, plan, plain.pid, secured.pid).items():
                results[Cell(workload, CALLERS, loop)] = rounds
        for client in _BURST_CLIENTS:
            print(f"TLS: {loop}, first commands of {client}", file=sys.stderr)
            bursts.append(_measure_bursts(client, loop, url, min(plan.rounds, _MOST_BURST_ROUNDS)))
    return results, bursts


def plan_for_tls(plan: Plan) -> Plan:
    """Return the part of a plan that is about commands."""
    workloads = tuple(each for each in plan.workloads if each in COMMANDS)
    return Plan((), workloads, (CALLERS,), plan.loops, plan.rounds, plan.seconds)


def _measure_bursts(client: str, loop: str, url: str, rounds: int) -> Burst:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as executor:
        return executor.submit(_take_turns, client, loop, url, rounds).result()


def _take_turns(client: str, loop: str, url: str, rounds: int) -> Burst:
    """Measure in this process; the first of each warms up."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        turns = [[runner.run(_first_commands(client, url, count)) for count in (1, _BURST)] for _ in range(1 + rounds)]
    one, hundred = zip(*turns[1:], strict=True)
    return Burst(loop, client, one, hundred)


async def _first_commands(client_name: str, url: str, count: int) -> float:
    began = time.perf_counter()
    async with ADAPTERS[client_name](url, count) as client:
        await asyncio.gather(*(client.get(f"benchmark:{number}") for number in range(count)))
        return time.perf_counter() - began

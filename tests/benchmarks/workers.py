"""The processes in which clients run, seen from the driver.

Rules of this file:

1. Each (client, loop) has a process of its own. In one process the clients would wear each other's clothes: the
   interpreter specialises the driver's and asyncio's call sites for the first client and takes the slow path for the
   next, one client's garbage is collected on another's time, and imports pile up. An application runs one client; so
   does each process here.
2. A process whose turn it is not is blocked reading orders, its loop stopped: it costs no CPU.
3. glibc keeps its heap in all of them. asyncio reads into a fresh 256 KiB each time, and whether glibc asks the system
   for that memory each time depends on the accidents of the heap's layout: it doubles the CPU of a lone caller's
   command, for one process and not for the next.
4. Replies are verified each time that a client is opened, so that nobody is fast by being wrong.
"""

from __future__ import annotations

import asyncio
import csv
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
from array import array
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from unittest.mock import patch
from urllib.parse import urlsplit

from aioredis_kit.cli.bench.figures import Round
from tests.benchmarks.clients import LOOPS, NODE_PEERS, PEERS, REDIS_BENCHMARK, adapter_of
from tests.benchmarks.drivers import closed_loop, large_reads, open_loop
from tests.benchmarks.workloads import FIELDS, HASH, HOT_KEYS, PREPARATIONS, VERIFIED_SIZE, Job, key_of, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

_KEEP_HEAP: Final = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}
# A reply from a process includes opening its connections. Longer than this is a hang.
_PATIENCE: Final = 60.0
_NODE_SCRIPT: Final = Path(__file__).with_name("node_clients.cjs")
_NODE_PACKAGES: Final = ("redis@6", "ioredis@6")

# Of the first round of redis-benchmark.
_FIRST_BYTES: Final = 200_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """A round.

    Attributes:
        rate: Commands a second in an open loop; None is a closed loop.
    """

    workload: str
    size: int
    seconds: float
    rate: float | None = None
    beside_large: bool = False


class Worker(Protocol):
    """A client in a process of its own."""

    @property
    def pids(self) -> tuple[int, ...]: ...

    def open(self, callers: int) -> None:
        """Open a client for that many callers."""

    def run(self, order: Order) -> Round:
        """Run a round."""

    def close(self) -> None:
        """Close the client."""


def start(client: str, loop: str, url: str) -> AbstractContextManager[Worker]:
    """Return the worker of a client, to be entered."""
    if client == REDIS_BENCHMARK:
        return nullcontext(_RedisBenchmark(url))
    if client in NODE_PEERS:
        return _node_worker(client, url)
    return _python_worker(client, loop, url)


@cache
def why_not(client: str) -> str | None:
    """Return why a client can't take part here; None if it can."""
    if client == REDIS_BENCHMARK:
        return None if shutil.which("redis-benchmark") else "there is no redis-benchmark on PATH"
    if client in NODE_PEERS:
        return _node_modules()[1]
    package = PEERS[client].package
    return None if find_spec(package) else f"the package {package} is not installed: uv run --group bench"


@dataclass(frozen=True, slots=True)
class _PythonWorker:
    """Orders: a number opens a client for that many callers, an `Order` runs a round, None closes the client, and once
    more ends the process. Each is answered when it is done.
    """

    name: str
    pid: int
    connection: Connection

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.pid,)

    def open(self, callers: int) -> None:
        self._ask(callers)

    def run(self, order: Order) -> Round:
        answer: Round = self._ask(order)
        return answer

    def close(self) -> None:
        self._ask(None)

    def _ask(self, order: int | Order | None) -> Any:
        self.connection.send(order)
        if not self.connection.poll(_PATIENCE):
            raise TimeoutError(f"{self.name} did not finish {order!r} within {_PATIENCE:.0f} s")
        try:
            return self.connection.recv()
        except EOFError:
            raise RuntimeError(f"{self.name} failed at {order!r}: see its traceback above") from None


@contextmanager
def _python_worker(client: str, loop: str, url: str) -> Iterator[_PythonWorker]:
    # Forked children would share the driver's heap; spawned ones start like an application.
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(theirs, client, loop, url), daemon=True)
    with patch.dict(os.environ, _KEEP_HEAP):
        process.start()
    theirs.close()
    try:
        assert process.pid is not None
        worker = _PythonWorker(f"{client} on {loop}", process.pid, ours)
        yield worker
        worker.close()
        process.join(_PATIENCE)
    finally:
        process.kill()
        process.join()


def _work(orders: Connection, client: str, loop: str, url: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(_follow(orders, client, url))


async def _follow(orders: Connection, client_name: str, url: str) -> None:
    # One task opens, drives and closes the client: some clients insist on it.
    peer, adapter = PEERS[client_name], adapter_of(client_name)
    while (callers := orders.recv()) is not None:
        async with adapter(url, callers) as client:
            await _verify(client)
            orders.send(None)
            while (order := orders.recv()) is not None:
                job = Job(client, peer.send_pipeline, order.size)
                orders.send(await _run(job, order, callers, peer.reads_large))
        orders.send(None)
    orders.send(None)


async def _run(job: Job, order: Order, callers: int, reads_large: Callable[[Any], Any]) -> Round:
    if order.rate is None:
        async with PREPARATIONS.get(order.workload, nullcontext)(job) as prepared:
            return await closed_loop(prepared, order.workload, callers, order.seconds)
    if not order.beside_large:
        return await open_loop(job, order.workload, order.rate, order.seconds)
    async with reads_large(job.client) as reader, large_reads(reader):
        return await open_loop(job, order.workload, order.rate, order.seconds)


async def _verify(client: Any) -> None:
    key, value = key_of(VERIFIED_SIZE), value_of(VERIFIED_SIZE)
    if not await client.set(key, value):
        raise RuntimeError("SET was refused")
    for reply, expected in ((await client.get(key), value), (await client.hgetall(HASH), FIELDS)):
        if reply != expected:
            raise RuntimeError(f"expected {expected!r}, got {reply!r}")


@cache
def _node_modules() -> tuple[Path, str | None]:
    """Return the folder that has the packages of Node.js, installed there if need be; and why it has them not."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aioredis_kit-benchmarks"
    folder = home / "node_modules"
    if not shutil.which("node"):
        return folder, "there is no node on PATH"
    if all((folder / package.partition("@")[0] / "package.json").is_file() for package in _NODE_PACKAGES):
        return folder, None
    if not (npm := shutil.which("npm")):
        return folder, "there is no npm on PATH that could install redis and ioredis"
    print(f"installing {' and '.join(_NODE_PACKAGES)} into {home}", file=sys.stderr)
    home.mkdir(parents=True, exist_ok=True)
    options = ["--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000", "--prefix", str(home)]
    try:
        ended = subprocess.run(
            [npm, "install", *options, *_NODE_PACKAGES], capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return folder, f"npm could not install redis and ioredis within {_PATIENCE:.0f} s"
    return folder, None if ended.returncode == 0 else f"npm could not install redis and ioredis: {ended.stderr[-300:]}"


def node_versions() -> dict[str, str]:
    """Return the versions of Node.js and of the packages, if they are here."""
    folder, reason = _node_modules()
    if reason:
        return {}
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    packages = {"redis": "node-redis", "ioredis": "ioredis"}
    return {"node": node} | {
        name: json.loads((folder / package / "package.json").read_text(encoding="utf-8"))["version"]
        for package, name in packages.items()
    }


@dataclass(frozen=True, slots=True)
class _NodeWorker:
    """A client of Node.js: `node_clients.cjs`. Orders and answers are lines of JSON."""

    name: str
    process: subprocess.Popen[str]

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.process.pid,)

    def open(self, callers: int) -> None:
        self._ask({"callers": callers})

    def run(self, order: Order) -> Round:
        answer = self._ask(asdict(order))
        return Round(**{**answer, "latencies": array("d", answer["latencies"])})

    def close(self) -> None:
        self._ask({})

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(order)}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} failed at {order!r}: see its traceback above")
        return json.loads(line)


@contextmanager
def _node_worker(client: str, url: str) -> Iterator[_NodeWorker]:
    command = ["node", str(_NODE_SCRIPT), client, url, key_of(VERIFIED_SIZE), HASH, *HOT_KEYS]
    environment = os.environ | {"NODE_PATH": str(_node_modules()[0])}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield _NodeWorker(client, process)
        finally:
            process.kill()


@dataclass(slots=True)
class _RedisBenchmark:
    """The server's own tool, for what the server gives: ten connections, and in flight as many commands as callers.

    It is told a number of commands, not a time: what it reached in the round before says how many. It says no more than
    how many commands a second it got through.
    """

    url: str
    callers: int = 1
    rates: dict[tuple[str, int, int], float] = field(default_factory=dict)

    @property
    def pids(self) -> tuple[int, ...]:
        return ()

    def open(self, callers: int) -> None:
        self.callers = callers

    def close(self) -> None:
        """It keeps nothing open."""

    def run(self, order: Order) -> Round:
        connections = min(self.callers, 10)
        cell = (order.workload, order.size, self.callers)
        count = max(
            int(self.rates.get(cell, 0) * order.seconds), min(5000, _FIRST_BYTES // order.size), 2 * self.callers
        )
        key = HASH if order.workload == "hgetall" else key_of(order.size)
        address = urlsplit(self.url)
        command = [
            "redis-benchmark", "-3", "--csv", "-h", str(address.hostname), "-p", str(address.port), "-c", str(connections),
            "-P", str(self.callers // connections), "-n", str(count), *(["-x"] if order.workload == "set" else []),
            order.workload.upper(), key,
        ]  # fmt: skip
        before = _cpu_of_children()
        value = value_of(order.size) if order.workload == "set" else None
        ended = subprocess.run(command, input=value, capture_output=True, timeout=_PATIENCE, check=True)
        told = float(list(csv.DictReader(ended.stdout.decode().splitlines()))[-1]["rps"])
        rate = min(told, count * 1000)  # its clock counts in milliseconds
        self.rates[cell] = rate
        return Round(count, count / rate, _cpu_of_children() - before)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

"""What is not a matter of commands a second: each figure has a way of its own to be measured, in fresh processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.testing import RedisServer
from tests.benchmarks.clients import COREDIS, GLIDE, LOOPS, OURS, REDIS_PY, adapter_of
from tests.benchmarks.measure import find_tls_binary, tls_servers
from tests.benchmarks.memory import resident_growth, traced_per_command
from tests.benchmarks.telemetry import measure
from tests.benchmarks.workers import why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_IMPORTS: Final = {
    OURS: "from aioredis_kit import create_client",
    REDIS_PY: "from redis.asyncio import Redis",
    COREDIS: "from coredis import Redis",
    GLIDE: "from glide import GlideClient",
}
_IMPORT_AND_TELL: Final = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
_BATCH: Final = 1000
_BURST: Final = 100
# redis-py needs seconds for each burst.
_MOST_ROUNDS: Final = 5
_QUEUED: Final = 10_000
HOOK_COST: Final = "CPU time a GET of 100 callers: "
HOOK_TIMES: Final = "the same ÷ that of no hook: "
"""How the two figures about each way to be observed begin."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: rounds, commands in a measurement of resident memory, commands in flight while it is traced."""

    rounds: int
    commands: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One number about one client: bytes, milliseconds, or how many times something."""

    what: str
    client: str
    value: float
    unit: str


def _imports(sizes: Sizes) -> Iterator[Figure]:
    for client, statement in _IMPORTS.items():
        if why_not(client) is None:
            command = [sys.executable, "-c", _IMPORT_AND_TELL.format(statement)]
            turns = [float(subprocess.check_output(command)) for _ in range(1 + min(sizes.rounds, _MOST_ROUNDS))]
            yield Figure("time to import", client, median(turns[1:]) * 1000, "ms")


def _memory(sizes: Sizes) -> Iterator[Figure]:
    with RedisServer(persistence="none") as server:
        for how, batch in (("in sequence", 1), ("in concurrent batches", _BATCH)):
            growth = _in_fresh_process(resident_growth, server.url, sizes.commands, batch)
            yield Figure(f"resident growth over {sizes.commands:,} commands {how}", OURS, growth, "bytes")
    traced = _in_fresh_process(traced_per_command, sizes.in_flight)
    yield Figure(f"traced memory per command, {sizes.in_flight:,} in flight", OURS, traced, "bytes")


def _reconnect(sizes: Sizes) -> Iterator[Figure]:
    turns = [_in_fresh_process(_answer_queued, _QUEUED) for _ in range(min(sizes.rounds, _MOST_ROUNDS))]
    since_ready, since_connected = (median(each) * 1000 for each in zip(*turns, strict=True))
    yield Figure(f"{_QUEUED:,} queued commands answered after the server is back", OURS, since_ready, "ms")
    yield Figure(f"{_QUEUED:,} queued commands answered after reconnecting", OURS, since_connected, "ms")


def _answer_queued(count: int) -> tuple[float, float]:
    """Return the seconds since the server answered again, and since the client was ready."""

    async def run(server: RedisServer) -> tuple[float, float]:
        from aioredis_kit import create_client

        ready_at = []
        async with create_client(server.url, command_timeout=60) as client:
            client.on("error", lambda *_: None)  # it would be logged: the server is gone for a moment
            await client.set("key", "value")
            is_lost = asyncio.Event()
            client.on("reconnecting", lambda *_: is_lost.set())
            client.on("ready", lambda *_: ready_at.append(time.perf_counter()))
            server.kill()
            await is_lost.wait()
            queued = [asyncio.create_task(client.exists("key")) for _ in range(count)]
            await asyncio.sleep(0)
            await asyncio.to_thread(server.start)
            back_at = time.perf_counter()
            await asyncio.gather(*queued)
            ended = time.perf_counter()
        # The client may be back before the thread has told us that the server is.
        return ended - min(back_at, *ready_at), ended - ready_at[0]

    with RedisServer(persistence="none") as server:
        return asyncio.run(run(server))


def _first_under_tls(sizes: Sizes) -> Iterator[Figure]:
    """Take turns: a new client's first command, and a new client's first hundred at once.

    A burst begins with nothing: the client, its TLS context and its connections are made within the measured time.
    """
    binary = find_tls_binary()
    if binary is None:
        return
    rounds = min(sizes.rounds, _MOST_ROUNDS)
    with tls_servers(binary) as (_, server):
        assert server.tls is not None
        url = f"{server.url}?ssl_ca_certs={server.tls.ca}"
        for client in (OURS, REDIS_PY):
            one, hundred = _in_fresh_process(_take_turns, client, url, rounds)
            yield Figure("first command of a new client under TLS", client, median(one) * 1000, "ms")
            yield Figure(f"first {_BURST} commands of a new client under TLS", client, median(hundred) * 1000, "ms")
            ratio = median(many / single for single, many in zip(one, hundred, strict=True))
            yield Figure(f"first {_BURST} commands under TLS ÷ the first one", client, ratio, "times")


def _telemetry(sizes: Sizes) -> Iterator[Figure]:
    for what, microseconds, more in _in_fresh_process(_measure_telemetry, sizes.rounds):
        yield Figure(f"{HOOK_COST}{what}", OURS, microseconds, "µs")
        yield Figure(f"{HOOK_TIMES}{what}", OURS, 1 + more / 100, "times")


def _measure_telemetry(rounds: int) -> list[tuple[str, float, float]]:
    with RedisServer(persistence="none") as server:
        return asyncio.run(measure(server.url, rounds))


def _take_turns(client: str, url: str, rounds: int) -> tuple[list[float], list[float]]:
    """Measure in this process; the first of each warms up."""
    with asyncio.Runner(loop_factory=LOOPS["asyncio"]) as runner:
        turns = [[runner.run(_first_commands(client, url, count)) for count in (1, _BURST)] for _ in range(1 + rounds)]
    one, hundred = zip(*turns[1:], strict=True)
    return list(one), list(hundred)


async def _first_commands(client_name: str, url: str, count: int) -> float:
    began = time.perf_counter()
    async with adapter_of(client_name)(url, count) as client:
        await asyncio.gather(*(client.get(f"benchmark:{number}") for number in range(count)))
        return time.perf_counter() - began


def _in_fresh_process(measure: Callable[..., Any], *args: Any) -> Any:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as executor:
        return executor.submit(measure, *args).result()


FIGURES: Final[dict[str, Callable[[Sizes], Iterator[Figure]]]] = {
    "imports": _imports,
    "memory": _memory,
    "reconnect": _reconnect,
    "first-under-tls": _first_under_tls,
    "telemetry": _telemetry,
}
"""By the names that `--cells` knows them by."""

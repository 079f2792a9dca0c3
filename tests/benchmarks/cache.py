"""What a client-side cache gives and costs: hits, misses, and a mix with writes, client by client in alternating rounds.

Rules of this file:

1. As in `speed`: a process for each client and loop, and all clients' rounds next to each other.
2. Before each round the server is emptied and filled anew. So it tracks nothing for anybody, each cache has been told to
   forget all, and what is read afterwards is a miss that the server has to note.
3. Those are only compared who read the same keys in the same way.
4. coredis takes part where it is installed. node-redis takes part where Node.js is there and finds its package: see ``NODE_PATH``. Where it does not, its place is
   taken by what was measured once, which says less: that was another moment, if not another machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.testing.probe import Probe
from tests.benchmarks.cached_reads import COLD_COUNT, COLD_PREFIX, HOT_KEYS, VALUE
from tests.benchmarks.clients import CACHED, COREDIS_CACHED, LASTING, OURS, UNCACHED_VIEW
from tests.benchmarks.speed import Cell, Plan, Results, Round, Worker, place, prepare, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioredis_kit.testing import RedisServer

NODE: Final = "node-redis, cached"
NODE_MEASURED: Final = 0.7e6
"""Its hits a second, as measured on the machine that this was written on."""
CLIENTS: Final = {
    "hits": (CACHED, UNCACHED_VIEW, COREDIS_CACHED, NODE),
    "misses": (OURS, CACHED, LASTING),
    "mix": (OURS, CACHED, LASTING),
}
"""Who is compared. Those that are not ours are of interest with one caller alone."""
CALLERS: Final = (1, 100)
_ONE_CALLER: Final = frozenset({UNCACHED_VIEW, COREDIS_CACHED, NODE})
_SCRIPT: Final = Path(__file__).with_name("node_hits.cjs")
_PATIENCE: Final = 60.0
_FILL: Final = """
for number = 0, ARGV[1] - 1 do redis.call('SET', ARGV[2] .. number, ARGV[3]) end
"""


def measure_cache(server: RedisServer, plan: Plan) -> Results:
    """Run the workloads with one caller and with a hundred; return every round but the warm-ups."""
    results: Results = {}
    with Probe(server.address) as probe, ExitStack() as for_all_loops:
        _fill(probe)
        node = for_all_loops.enter_context(_node(server.url)) if has_node() else None
        for loop in plan.loops:
            with ExitStack() as stack:
                names = dict.fromkeys(client for clients in CLIENTS.values() for client in clients)
                missing = {NODE} | ({COREDIS_CACHED} if find_spec("coredis") is None else set())
                workers: dict[str, Worker | _Node] = {
                    name: stack.enter_context(worker(name, loop, server.url)) for name in names if name not in missing
                }
                if node is not None:
                    workers[NODE] = node
                for callers in CALLERS:
                    print(f"cache: {loop}, {callers} callers", file=sys.stderr)
                    for workload, rounds in _alternate(workers, callers, plan, server.pid, probe).items():
                        results[Cell(workload, callers, loop)] = rounds
    return results


def has_node() -> bool:
    """Return whether Node.js is there and finds node-redis."""
    node = shutil.which("node")
    if node is None:
        return False
    found = subprocess.run(
        [node, "-e", "require.resolve('redis')"], capture_output=True, check=False, timeout=_PATIENCE
    )
    return found.returncode == 0


def _fill(probe: Probe) -> None:
    """Store what is read, and nothing else; all who had read something are told that it is gone."""
    probe.call("FLUSHALL")
    prepare(probe)
    for key in HOT_KEYS:
        probe.call("SET", key, VALUE)
    probe.call("EVAL", _FILL, "0", COLD_COUNT, COLD_PREFIX, VALUE)


def _alternate(
    workers: dict[str, Worker | _Node], callers: int, plan: Plan, server_pid: int, probe: Probe
) -> dict[str, dict[str, list[Round]]]:
    """Run all workloads with this many callers, client by client; see ``speed.alternate``."""
    taking_part = {name: each for name, each in workers.items() if callers == 1 or name not in _ONE_CALLER}
    for each in taking_part.values():
        each.ask(callers)
    rounds: dict[str, dict[str, list[Round]]] = {
        workload: {client: [] for client in clients if client in taking_part} for workload, clients in CLIENTS.items()
    }
    for number in range(1 + plan.rounds):
        for workload, by_client in rounds.items():
            place(server_pid, *(each.pid for each in taking_part.values()), takes_turns=callers == 1)
            for client in by_client:
                _fill(probe)
                measured = taking_part[client].ask((workload, plan.seconds))
                if number > 0:
                    by_client[client].append(measured)
    for each in taking_part.values():
        each.ask(None)
    return rounds


@dataclass(frozen=True, slots=True)
class _Node:
    """node-redis in its process, seen from the driver as a ``Worker``: it has but one caller, and one workload."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, order: int | tuple[str, float] | None) -> Any:
        if not isinstance(order, tuple):
            return None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps(order[1])}\n")
        self.process.stdin.flush()
        return Round(**self.read())

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("node-redis failed: see its traceback above")
        return json.loads(line)


@contextmanager
def _node(url: str) -> Iterator[_Node]:
    command = [shutil.which("node") or "node", str(_SCRIPT), url, *HOT_KEYS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            started = _Node(process)
            started.read()
            yield started
        finally:
            process.kill()

"""``uv run python -m tests.chaos``: workloads under faults on a real server, from seeds.

Each seed chooses a workload and some faults. What was called is noted and compared with what the server has in the end.
A violation is shown with its seed, and with the command that plays it again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter

from tests.chaos.harness.faults import FAULTS, NETWORK_FAULTS
from tests.chaos.harness.network import Network, NoNetworkError
from tests.chaos.harness.run import run_seed
from tests.chaos.harness.soak import soak
from tests.chaos.harness.workloads import WORKLOADS


def main(arguments=None):
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=50, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), help="only this one")
    parser.add_argument("--fault", choices=sorted(FAULTS | NETWORK_FAULTS), action="append", help="only these")
    parser.add_argument("--seconds", type=float, default=0.7, help="how long faults happen, for each seed")
    parser.add_argument("--network", action="store_true", help="the faults of a network between namespaces, as root")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="one long mixed load instead of many seeds")
    parser.add_argument("--verbose", action="store_true", help="tell of each seed")
    options = parser.parse_args(arguments)
    fit = NETWORK_FAULTS if options.network else FAULTS
    if unfit := set(options.fault or ()) - fit.keys():
        parser.error(f"{', '.join(sorted(unfit))}: a fault {'without' if options.network else 'with'} --network only")
    if options.soak:
        return tell_of_soak(asyncio.run(soak(options.soak * 60, seed=options.first)))
    if not options.network:
        return play(options, None)
    try:
        with Network() as network:
            return play(options, network)
    except NoNetworkError as error:
        print("skipped:", error)
        return 0


def play(options, network):
    """Play the seeds; return the exit status."""
    began = time.monotonic()
    violations, calls, faults = 0, Counter(), Counter()
    choices = {"workload": options.workload, "faults": options.fault, "seconds": options.seconds, "network": network}
    for seed in range(options.first, options.first + options.seeds):
        report = asyncio.run(run_seed(seed, **choices))
        calls.update(report.calls)
        faults.update(report.faults)
        violations += bool(report.wrong)
        if report.wrong or options.verbose:
            print(report, flush=True)
    print(f"{options.seeds} seeds in {time.monotonic() - began:.0f} s: {violations} with violations")
    print("calls:", ", ".join(f"{count} {name}" for name, count in calls.most_common()))
    print("faults:", ", ".join(f"{count} {name}" for name, count in faults.most_common()))
    return 1 if violations else 0


def tell_of_soak(result):
    """Print what came of a soak; return 1 if something grows."""
    tasks, descriptors = result.gained("tasks"), result.gained("descriptors")
    print(f"{result.faults} faults, {result.calls} calls, {len(result.samples)} samples behind the warm-up")
    print(
        f"an hour: memory {result.slope(lambda each: each.memory) / 2**20:+.2f} MB, "
        f"{result.slope(lambda each: each.blocks):+.0f} blocks of Python's"
    )
    print(f"the last quarter against the first: tasks {tasks:+g}, descriptors {descriptors:+g}")
    for name in ("p50", "p99"):
        before, after = (1000 * each for each in result.ends(name))
        print(f"{name} {before:.2f} → {after:.2f} ms")
    print(f"left when all is closed: {result.tasks_left} tasks, {result.descriptors_left} descriptors")
    for each in result.samples[:: max(len(result.samples) // 12, 1)]:
        print(
            f"  {each.at:7.0f} s: {each.memory / 2**20:.1f} MB, {each.blocks:.0f} blocks, {each.tasks:.0f} tasks, "
            f"{each.descriptors:.0f} descriptors, p50 {each.p50 * 1000:.2f} ms, p99 {each.p99 * 1000:.1f} ms"
        )
    for each in result.wrong():
        print("WRONG:", each)
    return 1 if result.wrong() else 0


if __name__ == "__main__":
    sys.exit(main())

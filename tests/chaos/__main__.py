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

from tests.chaos.harness.faults import FAULTS
from tests.chaos.harness.run import run_seed
from tests.chaos.harness.soak import soak
from tests.chaos.harness.workloads import WORKLOADS


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=50, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), help="only this one")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append", help="only these")
    parser.add_argument("--seconds", type=float, default=0.7, help="how long faults happen, for each seed")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="one long mixed load instead of many seeds")
    parser.add_argument("--verbose", action="store_true", help="tell of each seed")
    options = parser.parse_args()
    if options.soak:
        return tell_of_soak(asyncio.run(soak(options.soak * 60, seed=options.first)))
    began = time.monotonic()
    violations, calls, faults = 0, Counter(), Counter()
    for seed in range(options.first, options.first + options.seeds):
        report = asyncio.run(run_seed(seed, workload=options.workload, faults=options.fault, seconds=options.seconds))
        calls.update(report.calls)
        faults.update(report.faults)
        if report.wrong:
            violations += 1
            print(report)
            print(f"  again: uv run python -m tests.chaos --seeds 1 --first {seed} {_again(options)}".rstrip())
        elif options.verbose:
            print(report)
    print(f"{options.seeds} seeds in {time.monotonic() - began:.0f} s: {violations} with violations")
    print("calls:", ", ".join(f"{count} {name}" for name, count in calls.most_common()))
    print("faults:", ", ".join(f"{count} {name}" for name, count in faults.most_common()))
    return 1 if violations else 0


def tell_of_soak(result):
    """Print what came of a soak; return 1 if something grows."""
    memory, (before, after) = result.slope(lambda each: each.memory) / 2**20, result.p99()
    tasks, descriptors = result.gained(lambda each: each.tasks), result.gained(lambda each: each.descriptors)
    print(f"{result.faults} faults, {result.calls} commands measured, {len(result.samples)} samples")
    print(
        f"memory {memory:+.2f} MB an hour; tasks {tasks:+g}; descriptors {descriptors:+g}; p99 {before * 1000:.1f} → {after * 1000:.1f} ms"
    )
    for each in result.samples[:: max(len(result.samples) // 12, 1)]:
        print(
            f"  {each.at:7.0f} s: {each.memory / 2**20:.1f} MB, {each.blocks} blocks, {each.tasks} tasks, "
            f"{each.descriptors} descriptors"
        )
    return 1 if memory >= 1 or tasks > 2 or descriptors > 2 else 0


def _again(options):
    words = [f"--workload {options.workload}"] if options.workload else []
    words += [f"--fault {fault}" for fault in options.fault or ()]
    words += [f"--seconds {options.seconds}"] if options.seconds != 0.7 else []
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())

"""What counts on, and what does not, when a client is opened again."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from aioredis_kit.cache.statistics import CacheStatistics
from aioredis_kit.statistics import Durations, Statistics


def filled(numbers):
    """The same with 1 everywhere."""
    kinds = {"latest_loss": "lost", "durations": {"GET": Durations((1, 2), 0.5)}, "cache": CacheStatistics(hits=1)}
    return type(numbers)(
        **{
            each.name: filled(getattr(numbers, each.name))
            if is_dataclass(getattr(numbers, each.name))
            else kinds.get(each.name, 1)
            for each in fields(numbers)
        }
    )


def twos(numbers, prefix=""):
    found = set()
    for each in fields(numbers):
        value = getattr(numbers, each.name)
        if is_dataclass(value):
            found |= twos(value, f"{each.name}.")
        elif value == 2:
            found.add(prefix + each.name)
    return found


def test_counters_go_on_and_gauges_are_what_is():
    once = filled(Statistics())
    both = once.after(once)
    assert twos(both) == {
        *("commands." + each.name for each in fields(once.commands)),
        *("connections." + name for name in ("opened", "reconnects", "losses", "failures", "lease_timeouts")),
        *("latency.pings", "latency.total", "loop_lag.delays", "loop_lag.total"),
        *("socket_writes", "bytes_written", "bytes_read", "pushes", "gaps", "orphaned_replies", "unknown_outcomes"),
        *("renewals", "failed_renewals", "reauthentications"),
    }
    assert both.durations == {"GET": Durations((2, 4), 1.0)}
    assert both.cache == once.cache
    assert once.after(Statistics()) == once

"""The numbers of a cache."""

from __future__ import annotations

import pytest

from aioredis_kit.cache.statistics import CacheStatistics

SOME = CacheStatistics(hits=6, misses=2, load_successes=3, load_failures=1, total_load_time=2.0, evictions=5)


@pytest.mark.pins("case-102")
def test_without_requests():
    none = CacheStatistics()
    assert (none.hit_rate(), none.miss_rate(), none.load_failure_rate(), none.average_load_penalty()) == (1, 0, 0, 0)


def test_rates():
    assert (SOME.requests, SOME.loads) == (8, 4)
    assert (SOME.hit_rate(), SOME.miss_rate()) == (0.75, 0.25)
    assert (SOME.load_failure_rate(), SOME.average_load_penalty()) == (0.25, 0.5)


@pytest.mark.pins("case-102")
def test_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="hits must not be negative, and is -1"):
        CacheStatistics(hits=-1)


@pytest.mark.pins("case-102")
def test_sums_and_differences():
    assert SOME.plus(CacheStatistics(hits=1, bytes=7)) == CacheStatistics(
        hits=7, misses=2, load_successes=3, load_failures=1, total_load_time=2.0, evictions=5, bytes=7
    )
    assert SOME.minus(CacheStatistics(hits=2, misses=9)).hits == 4
    assert SOME.minus(CacheStatistics(hits=2, misses=9)).misses == 0

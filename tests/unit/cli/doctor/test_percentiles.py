"""Percentiles, the histogram, and numbers in words."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.cli.doctor.percentiles import histogram, percentile
from aioredis_kit.cli.doctor.wording import duration, listed, size

DURATIONS = st.lists(st.floats(1e-6, 100), min_size=1, max_size=50)


def test_percentiles_are_samples():
    samples = [number / 1000 for number in range(100, 0, -1)]
    assert [percentile(samples, each) for each in (1, 50, 90, 99, 100)] == [0.001, 0.05, 0.09, 0.099, 0.1]
    assert percentile([0.5], 50) == 0.5


@given(DURATIONS)
def test_each_sample_is_in_one_bar(samples):
    """Bars follow each other without a gap, and are few."""
    bars = histogram(samples)
    assert sum(bar.count for bar in bars) == len(samples)
    assert len(bars) <= 10
    assert all(bar.most == other.least for bar, other in itertools.pairwise(bars))
    assert bars[0].least <= min(samples)
    assert max(samples) < bars[-1].most


def test_bars_begin_at_round_numbers():
    assert [(bar.least, bar.most, bar.count) for bar in histogram([0.0011, 0.0012, 0.0021])] == [
        (pytest.approx(0.001), pytest.approx(0.0015), 2),
        (pytest.approx(0.0015), pytest.approx(0.002), 0),
        (pytest.approx(0.002), pytest.approx(0.003), 1),
    ]
    assert histogram([]) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0000123, "0.01 ms"),
        (0.0034, "3.40 ms"),
        (0.25, "250 ms"),
        (3, "3 s"),
        (3.24, "3.2 s"),
        (300, "5 minutes"),
        (7200, "2 hours"),
        (864_000, "10 days"),
        (1e10, "317 years"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes_and_lists():
    assert [size(each) for each in (512, 2048, 1.5 * 2**30)] == ["512 bytes", "2.0 KiB", "1.5 GiB"]
    assert listed(("a", "b", "c"), 2) == "a, b and 1 more"

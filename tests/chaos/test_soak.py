"""A mixed load under faults for a minute: see ``harness.soak``. ``python -m tests.chaos --soak 60`` takes an hour."""

from __future__ import annotations

import pytest

from tests.chaos.harness.soak import soak


@pytest.mark.only_long
@pytest.mark.pins("P5", "P6")
async def test_what_is_taken_is_given_back(rng):
    """Within a minute noise is larger than any slope: so what is compared are medians, with room for that."""
    result = await soak(60.0, seed=rng.randrange(10**9))
    before, after = result.p99()
    memory, blocks = result.gained(lambda each: each.memory), result.gained(lambda each: each.blocks)
    tasks, descriptors = result.gained(lambda each: each.tasks), result.gained(lambda each: each.descriptors)
    print(f"{result.faults} faults: {memory / 2**20:+.1f} MB, {blocks:+g} blocks, {tasks:+g} tasks")
    print(f"{descriptors:+g} descriptors, p99 {before:.3f} → {after:.3f} s")
    assert memory < 8 * 2**20
    assert blocks < 12_000
    assert tasks < 15
    assert descriptors < 60
    assert after < max(3 * before, 0.5)

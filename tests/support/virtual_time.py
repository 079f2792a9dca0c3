"""Time that passes when nothing else is left to do: an hour of waiting takes milliseconds."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

EPOCH = 1_700_000_000.0
"""When virtual time begins, by the wall clock."""
_GRACE = 0.004
"""How long, in real seconds, bytes between two sockets of this process may take before time moves on."""


@contextmanager
def virtual_time(loop, monkeypatch):
    """Run a loop, and the clients that are created meanwhile, on a clock that jumps to the next timer.

    Yields a function that returns the time since the beginning, in seconds.
    """
    start = now = loop.time()
    select = loop._selector.select

    def jump(timeout):
        nonlocal now
        if timeout is None:
            return select(None)
        events = select(0)
        if not events and timeout > 0:
            events = select(_GRACE)
            if not events:
                now += timeout
        return events

    monkeypatch.setattr(loop._selector, "select", jump)
    monkeypatch.setattr(loop, "time", lambda: now)
    # A clock that jumps is never late. What looks for that would only make it jump more often.
    monkeypatch.setattr("aioredis_kit.lanes.watch.TICK", 3600.0)
    monkeypatch.setattr(
        "aioredis_kit.client.equip.time", SimpleNamespace(monotonic=lambda: now, time=lambda: EPOCH + now - start)
    )
    yield lambda: now - start

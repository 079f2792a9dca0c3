"""A slot is given up once, and what that means depends on whether it was sent."""

import pytest

from aioredis_kit.wire.inflight import ABANDONED, DONE, IN_FLIGHT, UNWRITTEN, WITHDRAWN, Slot

pins = pytest.mark.pins


def slot_in(state):
    slot = Slot(b"PING", decode=True)
    slot.state = state
    return slot


def test_a_new_slot_was_not_sent():
    slot = Slot(b"PING", decode=True)
    assert (slot.payload, slot.decode, slot.state) == (b"PING", True, UNWRITTEN)
    assert not hasattr(slot, "reply")
    assert not hasattr(slot, "written")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(UNWRITTEN, WITHDRAWN, marks=pins("4.7")),
        pytest.param(IN_FLIGHT, ABANDONED, marks=pins("4.8")),
        (WITHDRAWN, WITHDRAWN),
        (ABANDONED, ABANDONED),
        (DONE, DONE),
    ],
)
def test_giving_it_up(before, after):
    slot = slot_in(before)
    slot.abandon()
    assert slot.state == after


@pytest.mark.parametrize(
    ("state", "is_awaited"),
    [(UNWRITTEN, True), (IN_FLIGHT, True), (WITHDRAWN, False), (ABANDONED, False), (DONE, False)],
)
def test_the_order_of_the_states_tells_whether_somebody_waits(state, is_awaited):
    """The way of a command asks by comparing."""
    assert (state <= IN_FLIGHT) is is_awaited


def test_a_slot_is_small():
    assert not hasattr(Slot(b"PING", decode=True), "__dict__")

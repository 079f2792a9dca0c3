"""What waits for a subscriber is bounded, and what is missing is announced exactly where it is missing."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.exceptions import ClientClosedError, ConfigurationError, QueueFullError
from aioredis_kit.pubsub.mailbox import Limits, Mailbox
from aioredis_kit.pubsub.message import OVERFLOW, Gap
from tests.support.observing import outcome, turns

pins = pytest.mark.pins

LOST = "connection lost"


def push(number):
    return [b"message", b"news", number]


def make_mailbox(limit=10_000, overflow="drop_oldest"):
    return Mailbox(Limits(limit, overflow))


def deliver(mailbox, *numbers):
    """Let one read bring messages."""
    for number in numbers:
        mailbox.deliver(push(number))
    mailbox.delivered()


def shown(items):
    return [("gap", item.dropped, item.reason) if isinstance(item, Gap) else item[2] for item in items]


def taken(mailbox):
    items = shown(mailbox.items)
    mailbox.items.clear()
    return items


# -- the limit --------------------------------------------------------------------------------------


def test_the_defaults():
    assert Limits() == Limits(10_000, "drop_oldest")


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None, "10"])
def test_a_limit_must_be_a_number_of_messages(limit):
    with pytest.raises(ConfigurationError, match="limit must be a whole number"):
        Limits(limit)


def test_an_overflow_must_be_known():
    with pytest.raises(ConfigurationError, match="drop_oldest, drop_newest, error"):
        Limits(1, "drop_some")


@pins("P5")
def test_the_oldest_are_dropped_and_the_gap_is_before_the_rest():
    mailbox = make_mailbox(3)
    deliver(mailbox, 1, 2, 3)
    assert mailbox.dropped == 0
    deliver(mailbox, 4)
    deliver(mailbox, 5)
    assert taken(mailbox) == [("gap", 2, OVERFLOW), 3, 4, 5]
    assert mailbox.dropped == 2


@pins("P5")
def test_the_newest_are_dropped_and_the_gap_is_behind_the_rest():
    mailbox = make_mailbox(3, "drop_newest")
    deliver(mailbox, 1, 2, 3, 4)
    deliver(mailbox, 5)
    assert shown(mailbox.items) == [1, 2, 3, ("gap", 2, OVERFLOW)]
    for _ in range(2):
        mailbox.items.popleft()
    deliver(mailbox, 6)
    assert taken(mailbox) == [3, ("gap", 2, OVERFLOW), 6]
    assert mailbox.dropped == 2


@pins("P5")
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "error"])
def test_one_read_may_bring_more_than_the_limit(overflow):
    mailbox = make_mailbox(2, overflow)
    deliver(mailbox, *range(10))
    kept = {
        "drop_oldest": [("gap", 8, OVERFLOW), 8, 9],
        "drop_newest": [0, 1, ("gap", 8, OVERFLOW)],
        "error": [0, 1],
    }
    assert taken(mailbox) == kept[overflow]
    assert mailbox.dropped == 8


@pins("P5")
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_the_smallest_mailbox(overflow):
    mailbox = make_mailbox(1, overflow)
    for number in range(1, 4):
        deliver(mailbox, number)
    expected = [("gap", 2, OVERFLOW), 3] if overflow == "drop_oldest" else [1, ("gap", 2, OVERFLOW)]
    assert taken(mailbox) == expected


@pins("P5")
async def test_with_error_it_ends_behind_what_waits():
    mailbox = make_mailbox(2, "error")
    left = []
    mailbox.overflowed = lambda: left.append(True)
    deliver(mailbox, 1, 2, 3)
    assert left == [True]
    assert await mailbox.wait()
    assert taken(mailbox) == [1, 2]
    for _ in range(2):  # each call gets an error of its own
        error = await outcome(mailbox.wait())
        assert isinstance(error, QueueFullError)
        assert error.limit == 2


# -- gaps -------------------------------------------------------------------------------------------


def test_a_lost_connection_is_a_gap_behind_what_had_come():
    mailbox = make_mailbox()
    deliver(mailbox, 1)
    mailbox.missed(LOST)
    mailbox.missed(LOST)  # and lost again before anything came
    deliver(mailbox, 2)
    assert taken(mailbox) == [1, ("gap", None, LOST), 2]


def test_gaps_that_meet_are_one():
    """Nobody knows how many are missing where that is so of a part."""
    mailbox = make_mailbox(2)
    deliver(mailbox, 1)
    mailbox.missed(LOST)
    deliver(mailbox, 2, 3, 4)
    assert taken(mailbox) == [("gap", None, LOST), 3, 4]
    mailbox = make_mailbox(2, "drop_newest")
    deliver(mailbox, 1, 2, 3)
    mailbox.missed(LOST)
    deliver(mailbox, 4)
    assert taken(mailbox) == [1, 2, ("gap", None, LOST)]


def test_the_reason_of_a_gap_is_that_of_its_unknown_part():
    gap = Gap(2, OVERFLOW)
    gap.add(Gap(1, OVERFLOW))
    assert (gap.dropped, gap.reason) == (3, OVERFLOW)
    gap.add(Gap(None, LOST))
    gap.add(Gap(None, "another"))
    gap.add(Gap(5, OVERFLOW))
    assert (gap.dropped, gap.reason) == (None, LOST)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 6)),
        st.tuples(st.just("take"), st.integers(1, 6)),
        st.tuples(st.just("lose"), st.integers(1, 2)),
    )
)


@pins("P5")
@given(STEPS, st.integers(1, 4), st.sampled_from(["drop_oldest", "drop_newest"]))
def test_each_message_is_taken_once_or_lies_in_a_gap(steps, limit, overflow):
    """In order, and where the gaps say how many are missing they are right."""
    mailbox = make_mailbox(limit, overflow)
    sent, got = 0, []
    for what, count in [*steps, ("take", 1000)]:
        if what == "deliver":
            deliver(mailbox, *range(sent, sent + count))
            sent += count
        elif what == "lose":
            mailbox.missed(LOST)
            sent += count
        else:
            got += [mailbox.items.popleft() for _ in range(min(count, len(mailbox.items)))]
        assert sum(not isinstance(item, Gap) for item in mailbox.items) <= limit
    due, allowance = 0, 0  # what comes next, and by how much it may be later
    for item in shown(got):
        if isinstance(item, tuple):
            allowance = None if item[1] is None or allowance is None else allowance + item[1]
            continue
        if allowance is None:
            assert item >= due
        else:
            assert item == due + allowance
        due, allowance = item + 1, 0
    if allowance is not None:
        assert sent == due + allowance


# -- waiting ----------------------------------------------------------------------------------------


async def test_what_is_there_is_not_waited_for():
    mailbox = make_mailbox()
    deliver(mailbox, 1)
    assert await mailbox.wait(0)
    assert await mailbox.wait()


async def test_waiting_takes_no_longer_than_the_limit():
    mailbox = make_mailbox()
    assert await mailbox.wait(0) is False
    assert await mailbox.wait(0.001) is False
    assert not mailbox.is_awaited


async def test_a_waiter_is_woken_once_for_all_that_one_read_brought():
    mailbox = make_mailbox()
    waiting = asyncio.create_task(mailbox.wait())
    await turns()
    assert mailbox.is_awaited
    deliver(mailbox, 1, 2, 3)
    assert not mailbox.is_awaited
    assert await waiting
    assert taken(mailbox) == [1, 2, 3]


async def test_several_waiters_get_as_many_as_there_are():
    mailbox = make_mailbox()

    async def take():
        await mailbox.wait()
        return mailbox.items.popleft()[2]

    tasks = [asyncio.create_task(take()) for _ in range(3)]
    await turns()
    deliver(mailbox, 1, 2)
    await turns()
    assert [task.done() for task in tasks] == [True, True, False]
    deliver(mailbox, 3)
    assert await asyncio.gather(*tasks) == [1, 2, 3]


async def test_a_cancelled_waiter_passes_its_turn_on():
    mailbox = make_mailbox()
    first = asyncio.create_task(mailbox.wait())
    second = asyncio.create_task(mailbox.wait())
    await turns()
    deliver(mailbox, 1)
    first.cancel()
    assert isinstance(await outcome(first), asyncio.CancelledError)
    assert await second


async def test_a_cancelled_waiter_is_forgotten():
    mailbox = make_mailbox()
    waiting = asyncio.create_task(mailbox.wait())
    await turns()
    waiting.cancel()
    await outcome(waiting)
    assert not mailbox.is_awaited
    deliver(mailbox, 1)


async def test_the_end_comes_behind_what_had_come():
    mailbox = make_mailbox()
    waiting = [asyncio.create_task(mailbox.wait()) for _ in range(2)]
    await turns()
    mailbox.ended(ClientClosedError("closed"))
    mailbox.ended(ClientClosedError("closed again"))
    for task in waiting:
        assert str(await outcome(task)) == "closed"
    mailbox = make_mailbox()
    deliver(mailbox, 1)
    mailbox.ended(ClientClosedError("closed"))
    mailbox.missed(LOST)
    assert await mailbox.wait()
    assert taken(mailbox) == [1]
    assert isinstance(await outcome(mailbox.wait()), ClientClosedError)

"""A pipeline is one unit with a place for each reply; a barrier is never sent."""

import asyncio
import math
from dataclasses import replace

import pytest

from aioredis_kit.exceptions import ConnectionLostError
from aioredis_kit.options import CommandOptions
from aioredis_kit.transport.units import Barrier, new_pair, new_unit
from aioredis_kit.wire.inflight import DONE, IN_FLIGHT, SILENT, UNWRITTEN, WITHDRAWN

pins = pytest.mark.pins
OPTIONS = CommandOptions(timeout=5.0, decode_responses=False, retry_unanswered="never")


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Lane:
    """Notes what it is told."""

    def __init__(self):
        self.taken = []
        self.gone = []

    def take_large(self, command):
        self.taken.append(command)

    def withdrawn(self, command):
        self.gone.append(command)

    def abandoned(self):
        self.gone.append(None)


def make(loop, count=3, **kwargs):
    commands = [("SET", f"k{n}", n) for n in range(count)]
    kwargs = {"options": OPTIONS} | kwargs
    return new_unit(loop, commands, b"all of it", [n % 2 == 0 for n in range(count)], **kwargs)


def write(unit, now=100.0):
    """Do what the machine does when it puts the slots in flight."""
    for slot in unit.slots:
        slot.written = (now, 0, 0)
        if slot.state == UNWRITTEN:
            slot.state = IN_FLIGHT


# -- units ------------------------------------------------------------------------------------------


@pins("4.12")
def test_all_is_written_with_the_first_slot(loop):
    unit = make(loop)
    assert [slot.payload for slot in unit.slots] == [b"all of it", b"", b""]
    assert [slot.decode for slot in unit.slots] == [True, False, True]
    assert [slot.state for slot in unit.slots] == [SILENT, SILENT, UNWRITTEN]
    assert unit.slots[-1] is unit
    assert unit.size == 9


def test_one_command_is_a_unit_too(loop):
    unit = make(loop, 1)
    assert (unit.parts, unit.slots, unit.payload, unit.size) == ((), (unit,), b"all of it", 9)


def test_it_is_taken_as_a_whole(loop):
    lane = Lane()
    unit = make(loop)
    unit.dispatch(lane)
    assert lane.taken == [unit]
    assert unit.lane is lane


def test_its_name_in_errors(loop):
    assert make(loop).args == ("PIPELINE",)
    assert make(loop, is_transaction=True).args == ("MULTI",)


@pins("4.12")
def test_the_replies_that_have_come(loop):
    unit = make(loop)
    write(unit)
    assert unit.replies == []
    unit.parts[0].reply = None  # a reply as well
    assert unit.replies == [None]
    unit.parts[1].reply = b"two"
    unit.reply, unit.state = b"three", DONE
    assert unit.replies == [None, b"two"]


@pins("4.12")
def test_its_time_begins_anew_with_each_reply(loop):
    unit = make(loop)
    write(unit, 100.0)
    assert unit.renewed_due(0.0) == 105.0
    unit.parts[0].reply = b"one"
    assert unit.renewed_due(103.0) == 108.0
    assert unit.renewed_due(107.0) == 108.0  # something was read, but not a reply of this one
    unit.parts[1].reply = b"two"
    assert unit.renewed_due(107.5) == 112.5


@pins("4.12")
def test_the_time_of_the_rest_begins_when_the_part_before_has_ended(loop):
    first = make(loop)
    second = make(loop, previous=first)
    write(first, 100.0)
    write(second, 100.0)
    assert second.renewed_due(0.0) == first.due == 105.0
    first.state = DONE
    assert second.renewed_due(104.0) == 109.0
    assert second.previous is None  # which may be collected


def test_without_a_timeout_it_is_never_due(loop):
    unit = make(loop, options=replace(OPTIONS, timeout=None))
    write(unit)
    assert unit.renewed_due(1.0) == math.inf


@pins("4.11", "4.12")
def test_it_forgets_its_replies_to_be_sent_again(loop):
    unit = make(loop)
    write(unit)
    unit.parts[0].reply = b"one"
    unit.renewed_due(101.0)
    unit.rewind()
    assert unit.replies == []
    assert not any(part.is_answered for part in unit.parts)


def test_one_that_was_withdrawn_keeps_nothing_of_its_callers(loop):
    unit = make(loop)
    unit.lane = Lane()
    unit.abandon()
    unit.forget()
    assert unit.state == WITHDRAWN
    assert unit.lane.gone == [unit]
    assert (unit.args, unit.payload, unit.commands, unit.parts) == ((), b"", (), ())


# -- barriers ---------------------------------------------------------------------------------------


def test_a_barrier_has_no_bytes_and_no_end(loop):
    barrier = Barrier(loop)
    assert (barrier.payload, barrier.size, barrier.state, barrier.due) == (b"", 0, UNWRITTEN, math.inf)
    assert not barrier.was_sent
    assert not barrier.reached.done()


def test_it_is_reached_once(loop):
    barrier = Barrier(loop)
    barrier.reach()
    barrier.reach()
    assert barrier.reached.result() is None
    assert barrier.state == UNWRITTEN  # it still holds what is behind it


@pins("P2")
def test_whoever_waits_for_it_hears_that_the_queue_gave_up(loop):
    barrier = Barrier(loop)
    barrier.lane = Lane()
    error = ConnectionLostError("gone")
    barrier.fail(error)
    loop.run_until_complete(asyncio.sleep(0))
    assert barrier.reached.exception() is error
    barrier.reach()


def test_one_that_was_reached_before_is_not_failed(loop):
    barrier = Barrier(loop)
    barrier.lane = Lane()
    barrier.reach()
    barrier.fail(ConnectionLostError("gone"))
    loop.run_until_complete(asyncio.sleep(0))
    assert barrier.reached.result() is None


# -- pairs ------------------------------------------------------------------------------------------


def make_pair(loop):
    return new_pair(loop, ("GET", "k"), ("PTTL", "k"), b"<both>", True, OPTIONS)


def test_a_pair_is_written_in_one_piece_and_has_two_replies(loop):
    pair = make_pair(loop)
    first, second = pair.slots
    assert (first.payload, second.payload) == (b"<both>", b"")
    assert (first.decode, second.decode) == (True, True)
    assert (first.state, second.state) == (SILENT, UNWRITTEN)
    assert second is pair


def test_a_pair_once_more(loop):
    """All of it is sent again, within the time that is left."""
    pair = make_pair(loop)
    pair.state, pair.written = DONE, (100.0, 0)
    again = pair.again(loop)
    assert [slot.payload for slot in again.slots] == [b"<both>", b""]
    assert [slot.state for slot in again.slots] == [SILENT, UNWRITTEN]
    assert (again.args, again.question, again.options) == (("GET", "k"), ("PTTL", "k"), OPTIONS)
    assert again.due == 105.0


def test_a_pair_that_is_forgotten_is_not_sent_in_part(loop):
    pair = make_pair(loop)
    pair.state = WITHDRAWN
    pair.forget()
    assert [slot.payload for slot in pair.slots] == [b"", b""]
    assert [slot.state for slot in pair.slots] == [WITHDRAWN, WITHDRAWN]

"""SUBSCRIBE is answered by pushes, and by a reply only if it is refused: which refusal is whose."""

import pytest
from redis.exceptions import NoPermissionError

from aioredis_kit._redispy import error_reply
from aioredis_kit.testing import resp
from aioredis_kit.wire.decoder import Decoder
from aioredis_kit.wire.inflight import IN_FLIGHT, PUSHED, PushedSlot, Slot
from aioredis_kit.wire.machine import Machine, Mode, State

pins = pytest.mark.pins

PONG = resp.simple("PONG")
NOPERM = resp.error("NOPERM no")


def confirmation(name, word="subscribe", make=resp.push):
    frames = (resp.bulk(name), resp.integer(1))
    return make(word, *frames) if make is resp.push else resp.array(resp.bulk(word), *frames)


@pytest.fixture(params=[False, True], ids=["bytes", "text"])
def machine(request):
    """A subscriber's machine, whose client decodes replies or not."""
    machine = Machine(Decoder("utf-8", "strict", error_reply), decode=request.param)
    machine.move_to(State.READY)
    machine.mode = Mode.SUBSCRIBER
    return machine


def subscribe(machine, count=1, word=b"subscribe"):
    """Send a SUBSCRIBE of so many names, and a PING behind it."""
    slots = PushedSlot(b"<>", word=word, missing=count), Slot(b"<>", decode=True)
    machine.send(slots, (0.0, 0))
    return slots


@pins("P1")
@pytest.mark.parametrize("make", [resp.push, resp.array], ids=["RESP3", "RESP2"])
def test_confirmations_answer_it(machine, make):
    slot, ping = subscribe(machine, 2)
    assert (slot.state, ping.state) == (PUSHED, IN_FLIGHT)
    assert machine.receive_data(confirmation("a", make=make)) == []
    assert list(machine.in_flight) == [slot, ping]
    machine.receive_data(confirmation("b", make=make))
    assert list(machine.in_flight) == [ping]
    assert machine.receive_data(PONG) == [ping]
    assert len(machine.pushes) == 2
    assert slot.refusal is None


@pins("P1")
def test_a_refusal_is_that_of_the_oldest(machine):
    slot, ping = subscribe(machine)
    later, later_ping = subscribe(machine)
    answered = machine.receive_data(NOPERM + PONG + confirmation("b") + PONG)
    assert answered == [ping, later_ping]
    assert isinstance(slot.refusal, NoPermissionError)
    assert later.refusal is None


@pins("P1")
def test_a_ping_that_is_refused_is_not_taken_for_a_subscription(machine):
    """A user may have the right to subscribe and none to PING."""
    slot, ping = subscribe(machine)
    later, later_ping = subscribe(machine)
    answered = machine.receive_data(confirmation("a") + NOPERM + confirmation("b") + NOPERM)
    assert answered == [ping, later_ping]
    assert (slot.refusal, later.refusal) == (None, None)
    assert isinstance(ping.reply, NoPermissionError)
    assert not machine.in_flight


@pins("P1")
def test_a_confirmation_that_never_comes_is_passed_over(machine):
    _, ping = subscribe(machine, 2)
    assert machine.receive_data(confirmation("a") + PONG) == [ping]
    assert not machine.in_flight


@pins("P1")
def test_what_the_server_ends_by_itself_confirms_nothing(machine):
    slot, ping = subscribe(machine, word=b"ssubscribe")
    machine.receive_data(confirmation("x", "sunsubscribe") + resp.push("message", resp.bulk("x"), resp.bulk("y")))
    assert list(machine.in_flight) == [slot, ping]
    machine.receive_data(confirmation("x", "ssubscribe"))
    assert list(machine.in_flight) == [ping]


def test_an_empty_push_confirms_nothing(machine):
    slot, ping = subscribe(machine)
    machine.receive_data(b">0\r\n")
    assert list(machine.in_flight) == [slot, ping]


def test_lost_with_a_subscription_in_flight(machine):
    """Nobody waits for it here: the lane asks again for everything."""
    _, ping = subscribe(machine)
    assert machine.unanswered() == [ping]

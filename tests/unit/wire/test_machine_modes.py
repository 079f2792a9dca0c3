"""Connections for pushes and for monitors read what nobody asked for; parts of a pipeline keep their replies."""

import pytest

from aioredis_kit._redispy import error_reply
from aioredis_kit.testing import resp
from aioredis_kit.wire.decoder import Decoder
from aioredis_kit.wire.inflight import ABANDONED, DONE, SILENT, Slot
from aioredis_kit.wire.machine import Machine, Mode, State

pins = pytest.mark.pins

MESSAGE = resp.push("message", resp.bulk("news"), resp.bulk(b"\xff"))
MESSAGE_RESP2 = resp.array(resp.bulk("message"), resp.bulk("news"), resp.bulk(b"\xff"))
LINE = b'+1700000000.123456 [0 127.0.0.1:1] "GET" "k"\r\n'
LINE_READ = LINE[1:-2]


def make_machine(mode=Mode.REPLIES, *, decode=False):
    machine = Machine(Decoder("utf-8", "strict", error_reply), decode=decode)
    machine.move_to(State.READY)
    machine.mode = mode
    return machine


def send(machine, *states, decode=False):
    """Send one slot for each state; a silent one is silent from the start."""
    slots = [Slot(b"<>", decode=decode) for _ in states]
    for slot, state in zip(slots, states, strict=True):
        if state == SILENT:
            slot.state = SILENT
    machine.send(slots, (0.0, 0))
    for slot, state in zip(slots, states, strict=True):
        if state == ABANDONED:
            slot.abandon()
    return slots


def ways(data):
    """The stream whole, byte by byte, and cut in two at every position."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]


def receive(machine, chunks):
    return [slot for chunk in chunks for slot in machine.receive_data(chunk)]


# -- parts of a pipeline ----------------------------------------------------------------------------


@pins("P1", "4.12")
@pytest.mark.parametrize("is_odd", [False, True])
def test_parts_keep_their_replies_and_only_the_last_is_told(is_odd):
    """Errors among them, and also where the replies are decoded otherwise than most."""
    stream = resp.simple("a") + resp.error("ERR no") + resp.bulk("c") + resp.bulk("d")
    for chunks in ways(stream):
        machine = make_machine(decode=is_odd)
        parts = send(machine, SILENT, SILENT, SILENT, None)
        assert receive(machine, chunks) == parts[-1:]
        assert [part.reply for part in parts if not isinstance(part.reply, Exception)] == [b"a", b"c", b"d"]
        assert str(parts[1].reply) == "no"
        assert [part.state for part in parts] == [SILENT, SILENT, SILENT, DONE]
        assert not machine.in_flight


@pins("P1", "4.8")
def test_parts_of_an_abandoned_pipeline_take_their_own_replies():
    machine = make_machine()
    send(machine, SILENT, SILENT, ABANDONED)
    (later,) = send(machine, None)
    answered = receive(machine, [b"".join(resp.simple(str(number)) for number in range(4))])
    assert [slot.reply for slot in answered] == [b"3"]
    assert answered == [later]


@pins("P2")
def test_parts_are_not_among_what_is_lost():
    """Their pipeline is, and speaks for them."""
    machine = make_machine()
    parts = send(machine, SILENT, SILENT, None)
    machine.receive_data(resp.simple("one"))
    assert machine.unanswered() == parts[-1:]
    assert parts[0].reply == b"one"
    assert not hasattr(parts[1], "reply")


def test_a_part_counts_as_in_flight():
    machine = make_machine()
    slots = [Slot(b"x" * 100, decode=False), Slot(b"", decode=False)]
    slots[0].state = SILENT
    assert machine.send(slots, (0.0, 0)) == b"x" * 100
    assert machine.bytes_in_flight == 100
    machine.receive_data(resp.simple("a"))
    assert (len(machine.in_flight), machine.bytes_in_flight) == (1, 100)
    machine.receive_data(resp.simple("b"))
    assert machine.bytes_in_flight == 0


# -- subscribers ------------------------------------------------------------------------------------


@pins("P1")
@pytest.mark.parametrize("frame", [MESSAGE, MESSAGE_RESP2], ids=["RESP3", "RESP2"])
@pytest.mark.parametrize("decode", [False, True])
def test_a_subscriber_reads_pushes_undecoded(frame, decode):
    """However they are cut, with nothing in flight, and also what is no text."""
    for chunks in ways(frame + frame):
        machine = make_machine(Mode.SUBSCRIBER, decode=decode)
        assert receive(machine, chunks) == []
        assert [list(push) for push in machine.pushes] == [[b"message", b"news", b"\xff"]] * 2
        assert machine.state is State.READY


@pins("P1")
def test_a_subscriber_tells_replies_from_pushes():
    """In RESP2 both may be arrays: what begins otherwise than a push is the answer to a PING."""
    for pong in (resp.simple("PONG"), resp.array(resp.bulk("pong"), resp.bulk(""))):
        for chunks in ways(MESSAGE_RESP2 + pong + MESSAGE_RESP2):
            machine = make_machine(Mode.SUBSCRIBER)
            (ping,) = send(machine, None, decode=True)
            assert receive(machine, chunks) == [ping]
            assert ping.reply in (b"PONG", [b"pong", b""])
            assert len(machine.pushes) == 2
            assert not machine.in_flight


@pins("P1", "4.17")
def test_a_reply_that_no_subscriber_asked_for_breaks():
    for frame in (resp.simple("PONG"), resp.array(resp.bulk("x")), resp.array(), resp.error("ERR no")):
        machine = make_machine(Mode.SUBSCRIBER)
        machine.receive_data(MESSAGE + frame + MESSAGE)
        assert machine.state is State.BROKEN
        assert "nobody had asked for" in str(machine.failure)
        assert len(machine.pushes) == 1


# -- monitors ---------------------------------------------------------------------------------------


@pins("P1")
@pytest.mark.parametrize("decode", [False, True])
def test_a_monitors_lines_come_when_no_reply_is_due(decode):
    """Its own OK goes to the command, in the packet of the first lines or before; lines are not decoded."""
    for chunks in ways(resp.simple("OK") + LINE + LINE):
        machine = make_machine(Mode.MONITOR, decode=decode)
        (command,) = send(machine, None)
        assert receive(machine, chunks) == [command]
        assert command.reply == b"OK"
        assert machine.pushes == [LINE_READ] * 2
        assert machine.state is State.READY


@pins("4.17")
def test_what_is_a_line_to_a_monitor_breaks_any_other_connection():
    machine = make_machine()
    machine.receive_data(LINE)
    assert machine.state is State.BROKEN
    assert not machine.pushes


@pins("4.17")
def test_broken_framing_breaks_a_monitor_too():
    machine = make_machine(Mode.MONITOR)
    machine.receive_data(LINE + b"?what\r\n")
    assert machine.pushes == [LINE_READ]
    assert machine.state is State.BROKEN

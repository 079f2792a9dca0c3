"""How large a reply may be, and how much it may promise: what is beyond that ends its command, soon and with little memory."""

import time

import pytest

from aioredis_kit._redispy import error_reply
from aioredis_kit.exceptions import ReplyProtocolError
from aioredis_kit.testing import resp
from aioredis_kit.wire.decoder import Decoder
from aioredis_kit.wire.machine import Machine, Mode, State
from tests.support.machines import receive, send

pins = pytest.mark.pins


def limited(most_bytes):
    decoder = Decoder("utf-8", "strict", error_reply, most_bytes=most_bytes)
    machine = Machine(decoder, decode=False, most_bytes=most_bytes)
    machine.move_to(State.READY)
    return machine


@pins("P5", "4.17")
@pytest.mark.parametrize("reply", [resp.bulk("x" * 5000), resp.array(*[resp.integer(7)] * 2000)])
def test_a_reply_beyond_the_limit_ends_its_command_and_the_connection(reply):
    """What came before it was answered; what comes behind it was not."""
    machine = limited(1000)
    sent = send(machine, 3)
    answered = receive(machine, [resp.integer(1), *(reply[at : at + 100] for at in range(0, len(reply), 100))])
    assert answered == sent[:2]
    assert sent[0].reply == 1
    assert isinstance(sent[1].reply, ReplyProtocolError)
    assert sent[1].reply.maybe_executed
    assert "max_reply_bytes" in str(sent[1].reply)
    assert machine.state is State.BROKEN
    assert machine.unanswered() == [sent[2]]


def test_many_replies_are_not_one():
    machine = limited(1000)
    sent = send(machine, 100)
    assert receive(machine, [resp.bulk("x" * 500)] * 100) == sent


@pins("4.17")
@pytest.mark.parametrize("mode", [Mode.REPLIES, Mode.SUBSCRIBER])
@pytest.mark.parametrize("cut", [1, 3, 7, 8])
def test_a_push_that_promises_too_much_is_refused(cut, mode):
    """Before the parser makes room for it."""
    machine = limited(None)
    machine.mode = mode
    send(machine, 1)
    header = b">1000000000\r\n"
    assert receive(machine, [header[:cut], header[cut:]]) == []
    assert machine.state is State.BROKEN
    assert "push" in str(machine.failure)


@pins("P5", "4.17")
@pytest.mark.parametrize("cut", [1, 2, 9, 11])
@pytest.mark.parametrize("mark", [b"*", b"~"])
@pytest.mark.parametrize("before", [b"", b"*3\r\n:1\r\n"], ids=["alone", "inside"])
def test_an_array_that_promises_too_much_is_given_up_at_once(mark, before, cut):
    """Before the parser makes room for it: it would take seconds to give that up again."""
    machine = limited(2**30)
    sent = send(machine, 3)
    header = before + mark + b"999999999\r\n"
    cut += len(before)
    began = time.process_time()
    assert receive(machine, [b":1\r\n" + header[:cut], header[cut:]]) == sent[:2]
    assert isinstance(sent[1].reply, ReplyProtocolError)
    assert "max_reply_bytes" in str(sent[1].reply)
    assert machine.state is State.BROKEN
    del machine
    assert time.process_time() - began < 0.5


@pins("P5")
def test_arrays_in_arrays_promise_as_much_as_all_of_them():
    machine = limited(3 * 10_000_000)
    sent = send(machine, 1)
    assert receive(machine, [b"*6000000\r\n"] * 3) == []
    assert receive(machine, [b"*6000000\r\n"]) == sent
    assert machine.state is State.BROKEN


def test_long_arrays_one_after_the_other_are_what_they_are():
    """Each is nearly as large as one may be."""
    machine = limited(3 * 1_100_000)
    sent = send(machine, 3)
    stream = (b"*1000000\r\n" + b"_\r\n" * 1_000_000) * 3
    chunks = [stream[at : at + 2**18] for at in range(0, len(stream), 2**18)]
    assert receive(machine, chunks) == sent
    assert all(len(slot.reply) == 1_000_000 for slot in sent)


@pytest.mark.parametrize("cut", range(1, 24))
def test_text_may_look_like_a_long_array(cut):
    machine = limited(1000)
    sent = send(machine, 2)
    stream = resp.bulk("\n*9999999\n~9999999") + b":7\r\n"
    assert receive(machine, [stream[:cut], stream[cut:]]) == sent
    assert [slot.reply for slot in sent] == [b"\n*9999999\n~9999999", 7]


@pins("P5", "4.17")
@pytest.mark.parametrize("end", [b"yz", b"\n>", b"\n+", b"\n*", b"\r\r"])
@pytest.mark.parametrize("header", [b">1000000000\r\n", b"*1000000000\r\n", b"~9999999\r\n"])
@pytest.mark.parametrize("cut", range(1, 20))
def test_a_promise_behind_a_string_that_ends_wrongly_is_seen(header, end, cut):
    """hiredis does not look at the end of a string, and takes what stands behind it for a frame."""
    machine = limited(1000)
    sent = send(machine, 3)
    stream = b"$1\r\nx" + end + header + b"+a\r\n"
    began = time.process_time()
    answered = receive(machine, [stream[:cut], stream[cut:]])
    assert sent[0].reply == b"x"
    assert machine.state is State.BROKEN
    if header.startswith(b">"):
        assert answered == sent[:1]
        assert "a push of more than" in str(machine.failure)
    else:
        assert answered == sent[:2]
        assert "max_reply_bytes" in str(sent[1].reply)
    del machine
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("header", [b">1000000000x\r\n", b"*99999999999x\r\n", b"*1000000000 \r\n"])
@pytest.mark.parametrize("cut", range(1, 12))
def test_a_promise_that_is_no_number_is_none(header, cut):
    machine = limited(1000)
    sent = send(machine, 2)
    assert receive(machine, [b":1\r\n" + header[:cut], header[cut:]]) == sent[:1]
    assert machine.state is State.BROKEN
    assert "max_reply_bytes" not in str(machine.failure)

"""A reply goes to the oldest slot in flight and to no other; where that can't be, nothing is read any more."""

import gc
import itertools
import sys
import tracemalloc

import pytest

from aioredis_kit._redispy import error_reply
from aioredis_kit.testing import resp
from aioredis_kit.wire.attributes import FramingError
from aioredis_kit.wire.decoder import Decoder
from aioredis_kit.wire.encoder import LARGE, Encoder
from aioredis_kit.wire.inflight import ABANDONED, DONE, IN_FLIGHT, UNWRITTEN, WITHDRAWN, Slot
from aioredis_kit.wire.machine import TRANSITIONS, Machine, State
from tests.support.machines import MOMENT, receive, send, slots

pins = pytest.mark.pins


def make_machine(state=State.READY, *, decode=False):
    machine = Machine(Decoder("utf-8", "strict", error_reply), decode=decode)
    for step in WAYS[state]:
        machine.move_to(step)
    return machine


WAYS = {
    State.HANDSHAKING: [],
    State.READY: [State.READY],
    State.BROKEN: [State.BROKEN],
    State.CLOSED: [State.CLOSED],
}


def cuts(data):
    """Yield the stream whole, byte by byte, and cut in two at every position."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]


# -- states -----------------------------------------------------------------------------------------

FOLLOWERS = {
    State.HANDSHAKING: {State.READY, State.BROKEN, State.CLOSED},
    State.READY: {State.BROKEN, State.CLOSED},
    State.BROKEN: {State.CLOSED},
    State.CLOSED: set(),
}


def test_the_table_has_every_state():
    assert set(TRANSITIONS) == set(FOLLOWERS) == set(State)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_every_transition(before, after):
    machine = make_machine(before)
    if after is before or after in FOLLOWERS[before]:
        machine.move_to(after)
        assert machine.state is after
    else:
        with pytest.raises(RuntimeError, match=f"can't go from {before.value} to {after.value}"):
            machine.move_to(after)
        assert machine.state is before


def test_it_begins_with_the_handshake():
    assert Machine(Decoder("utf-8", "strict", error_reply), decode=True).state is State.HANDSHAKING


@pytest.mark.parametrize("state", State)
def test_when_it_sends(state):
    machine = make_machine(state)
    slot = Slot(b"PING", decode=False)
    if state in {State.HANDSHAKING, State.READY}:
        assert machine.send([slot], MOMENT) == b"PING"
        assert slot.state == IN_FLIGHT
    else:
        with pytest.raises(RuntimeError, match=f"nothing can be sent on a connection that is {state.value}"):
            machine.send([slot], MOMENT)
        assert slot.state == UNWRITTEN
        assert not machine.in_flight


@pytest.mark.parametrize("state", [State.HANDSHAKING, State.READY])
def test_it_reads_until_the_end(state):
    machine = make_machine(State.HANDSHAKING)
    (slot,) = send(machine, 1)
    machine.move_to(state)
    assert machine.receive_data(b"+OK\r\n") == [slot]
    assert machine.state is state


@pytest.mark.parametrize("state", [State.BROKEN, State.CLOSED])
def test_it_reads_nothing_after_the_end(state):
    machine = make_machine(State.HANDSHAKING)
    (slot,) = send(machine, 1)
    machine.move_to(state)
    assert machine.receive_data(b"+OK\r\n>1\r\n+p\r\n") == []
    assert slot.state == IN_FLIGHT
    assert machine.pushes == []


# -- sending ----------------------------------------------------------------------------------------


def test_slots_are_sent_in_order_and_know_when():
    machine = make_machine()
    sent = slots(3)
    assert machine.send(sent, MOMENT) == b"<0><1><2>"
    assert [slot.state for slot in sent] == [IN_FLIGHT] * 3
    assert [slot.written for slot in sent] == [MOMENT] * 3
    assert list(machine.in_flight) == sent


@pins("4.7")
def test_a_withdrawn_slot_is_never_sent():
    machine = make_machine()
    sent = slots(3)
    sent[1].abandon()
    assert machine.send(sent, MOMENT) == b"<0><2>"
    assert sent[1].state == WITHDRAWN
    assert list(machine.in_flight) == [sent[0], sent[2]]
    assert receive(machine, [b":0\r\n:2\r\n"]) == [sent[0], sent[2]]
    assert [sent[0].reply, sent[2].reply] == [0, 2]


@pytest.mark.parametrize("state", [WITHDRAWN, IN_FLIGHT, ABANDONED, DONE])
def test_only_what_was_not_sent_is_sent(state):
    machine = make_machine()
    slot = Slot(b"PING", decode=False)
    slot.state = state
    assert machine.send([slot], MOMENT) == b""
    assert not machine.in_flight
    assert slot.state == state


def test_nothing_to_send_is_nothing_to_write():
    machine = make_machine()
    assert machine.send([], MOMENT) == b""
    assert machine.bytes_in_flight == 0


def test_a_large_value_is_written_as_it_is():
    machine = make_machine()
    value = b"x" * LARGE
    data = machine.send(
        [Slot(b"PING", decode=False), Slot(Encoder().encode(("SET", "k", value)), decode=False)], MOMENT
    )
    assert any(piece is value for piece in data)
    assert machine.bytes_in_flight == sum(map(len, data))


# -- replies ----------------------------------------------------------------------------------------


@pins("P1")
def test_replies_are_given_out_in_order():
    stream = b":0\r\n-ERR no\r\n*2\r\n:1\r\n$1\r\nx\r\n%1\r\n+k\r\n_\r\n+OK\r\n"
    for chunks in cuts(stream):
        machine = make_machine()
        sent = send(machine, 5)
        assert receive(machine, chunks) == sent
        assert [slot.state for slot in sent] == [DONE] * 5
        assert [sent[0].reply, str(sent[1].reply), *(slot.reply for slot in sent[2:])] == [
            *(0, "no", [1, b"x"], {b"k": None}, b"OK")
        ]
        assert not machine.in_flight


def test_a_reply_is_given_out_when_it_is_whole():
    machine = make_machine()
    first, second = send(machine, 2)
    assert machine.receive_data(b"+on") == []
    assert machine.receive_data(b"e\r\n+tw") == [first]
    assert machine.receive_data(b"o\r\n") == [second]
    assert (first.reply, second.reply) == (b"one", b"two")


def test_slots_sent_while_a_reply_comes_wait_their_turn():
    machine = make_machine()
    (first,) = send(machine, 1)
    machine.receive_data(b"*2\r\n:1\r\n")
    (second,) = send(machine, 1)
    assert machine.receive_data(b":2\r\n:3\r\n") == [first, second]
    assert (first.reply, second.reply) == ([1, 2], 3)


def test_no_bytes_are_no_reply():
    machine = make_machine()
    send(machine, 1)
    assert machine.receive_data(b"") == []
    assert machine.state is State.READY


@pins("P1", "4.8")
@pytest.mark.parametrize("odd", [False, True])
def test_the_reply_of_an_abandoned_slot_is_dropped(odd):
    for chunks in cuts(b":0\r\n+one\r\n:2\r\n"):
        machine = make_machine(decode=odd)
        sent = send(machine, 3)
        sent[1].abandon()
        assert receive(machine, chunks) == [sent[0], sent[2]]
        assert sent[1].state == ABANDONED
        assert not hasattr(sent[1], "reply")
        assert [sent[0].reply, sent[2].reply] == [0, 2]


def test_a_slot_may_be_abandoned_in_the_middle_of_its_reply():
    machine = make_machine()
    first, second = send(machine, 2)
    machine.receive_data(b"*2\r\n:1\r\n")
    first.abandon()
    assert machine.receive_data(b":2\r\n+b\r\n") == [second]
    assert second.reply == b"b"


# -- decoding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [False, True])
@pytest.mark.parametrize("choices", list(itertools.product([False, True], repeat=3)))
def test_each_reply_is_decoded_as_its_slot_wants_it(most, choices):
    for chunks in cuts(b"*2\r\n+a\r\n$1\r\na\r\n+b\r\n$1\r\nc\r\n"):
        machine = make_machine(decode=most)
        sent = [Slot(b"x", decode=choice) for choice in choices]
        machine.send(sent, MOMENT)
        assert receive(machine, chunks) == sent
        expected = [["a", "a"], "b", "c"]
        raw = [[b"a", b"a"], b"b", b"c"]
        assert [slot.reply for slot in sent] == [(expected if c else raw)[i] for i, c in enumerate(choices)]


@pytest.mark.parametrize("most", [False, True])
def test_the_choice_of_later_slots_does_not_change_a_reply_that_has_begun(most):
    for cut in range(1, len(b"*2\r\n+a\r\n+b\r\n")):
        stream = b"*2\r\n+a\r\n+b\r\n"
        machine = make_machine(decode=most)
        (first,) = send(machine, 1, decode=most)
        machine.receive_data(stream[:cut])
        (second,) = send(machine, 1, decode=not most)
        assert machine.receive_data(stream[cut:] + b"+c\r\n") == [first, second]
        assert (first.reply, second.reply) == ((["a", "b"], b"c") if most else ([b"a", b"b"], "c"))


def test_an_abandoned_slot_still_decides_how_its_reply_is_read():
    machine = make_machine(decode=False)
    odd, even = Slot(b"x", decode=True), Slot(b"y", decode=False)
    machine.send([odd, even], MOMENT)
    odd.abandon()
    assert machine.receive_data(b"+\xff\r\n+b\r\n") == [even]
    assert even.reply == b"b"


@pins("4.16", "P1")
@pytest.mark.parametrize("most", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_a_reply_that_cannot_be_decoded_fails_its_own_command_alone(most, last):
    for chunks in cuts(b"+a\r\n*2\r\n$1\r\n\xff\r\n+x\r\n+c\r\n$1\r\n\xff\r\n"):
        machine = make_machine(decode=most)
        sent = [Slot(b"x", decode=choice) for choice in (True, True, True, last)]
        machine.send(sent, MOMENT)
        assert receive(machine, chunks) == sent
        assert isinstance(sent[1].reply, UnicodeDecodeError)
        assert (sent[0].reply, sent[2].reply) == ("a", "c")
        assert isinstance(sent[3].reply, UnicodeDecodeError) if last else sent[3].reply == b"\xff"
        assert machine.state is State.READY


# -- pushes and attributes --------------------------------------------------------------------------

PUSH = resp.push("message", resp.bulk("\xff\r\n>1\r\n"))
ATTRIBUTE = b"|1\r\n+ttl\r\n:3\r\n"


@pins("P1")
@pytest.mark.parametrize("decode", [False, True])
def test_pushes_come_between_replies_and_are_never_one(decode):
    stream = PUSH + b"+a\r\n" + PUSH + PUSH + ATTRIBUTE + b"+b\r\n" + ATTRIBUTE + PUSH + b"+c\r\n" + PUSH
    for chunks in cuts(stream):
        machine = make_machine(decode=decode)
        sent = send(machine, 3, decode=True)
        assert receive(machine, chunks) == sent
        assert [slot.reply for slot in sent] == ["a", "b", "c"]
        assert machine.pushes == [[b"message", "\xff\r\n>1\r\n".encode()]] * 5


def test_pushes_need_no_slot():
    for chunks in cuts(PUSH + ATTRIBUTE + PUSH):
        machine = make_machine()
        assert receive(machine, chunks) == []
        assert len(machine.pushes) == 2
        assert machine.state is State.READY


def test_a_push_that_goes_on_while_slots_are_sent():
    for cut in range(1, len(PUSH)):
        machine = make_machine()
        machine.receive_data(PUSH[:cut])
        (slot,) = send(machine, 1, decode=True)
        assert machine.receive_data(PUSH[cut:] + b"+a\r\n") == [slot]
        assert slot.reply == "a"
        assert len(machine.pushes) == 1


def test_pushes_read_before_the_stream_broke_are_kept():
    machine = make_machine()
    machine.receive_data(PUSH + b"hello\r\n")
    assert len(machine.pushes) == 1
    assert machine.state is State.BROKEN


# -- what can't be attributed -----------------------------------------------------------------------


@pins("4.17", "P1")
@pytest.mark.parametrize(
    "reply",
    [
        *(b"+OK\r\n", b"-ERR x\r\n", b":1\r\n", b"$2\r\nab\r\n", b"*2\r\n:1\r\n:2\r\n", b"%1\r\n+k\r\n:1\r\n"),
        *(b"+\xff\r\n", b"$1\r\n\xff\r\n", b"*1\r\n$1\r\n\xff\r\n", b"%1\r\n*0\r\n:1\r\n", ATTRIBUTE + b":1\r\n"),
    ],
)
@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("before", [0, 2])
def test_a_reply_that_nobody_asked_for_breaks_the_connection(reply, decode, before):
    for chunks in cuts(b"+a\r\n" * before + reply):
        machine = make_machine(decode=decode)
        sent = send(machine, before)
        assert receive(machine, chunks) == sent
        assert machine.state is State.BROKEN
        assert isinstance(machine.failure, FramingError)


@pins("4.17", "P1")
@pytest.mark.parametrize("beginning", [b"+", b"+hel", b"$5\r\nhel", b"*2\r\n", b"*2\r\n:1\r\n", b"%1\r\n+k\r\n"])
@pytest.mark.parametrize("before", [0, 1])
def test_the_beginning_of_one_is_enough(beginning, before):
    """Else its end would become the reply to whatever is sent next."""
    machine = make_machine()
    send(machine, before)
    machine.receive_data(b"+a\r\n" * before + beginning)
    assert machine.state is State.BROKEN


def test_the_failure_says_what_the_server_said():
    machine = make_machine()
    machine.receive_data(b"-ERR max number of clients reached\r\n")
    assert str(machine.failure) == "a reply that nobody had asked for: max number of clients reached"


BROKEN = [
    *(b"hello\r\n", b"\x00", b"*2\r\n:1\r\nhello\r\n", b"!5\r\nERR x\r\n", b"%1\r\n*0\r\n:1\r\n", b"*-2\r\n"),
    *(b"$99999999999999999999\r\n", b"|x\r\n", b"|1\r\nhello\r\n", b"*1\r\n|1\r\n+k\r\nhello\r\n"),
    b"*4294967296\r\n",
]


@pins("4.17")
@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("garbage", BROKEN)
def test_broken_framing_keeps_what_was_answered_before(garbage, decode):
    for chunks in cuts(b":0\r\n:1\r\n" + garbage + b":2\r\n"):
        machine = make_machine(decode=decode)
        sent = send(machine, 4)
        assert receive(machine, chunks) == sent[:2]
        assert [slot.reply for slot in sent[:2]] == [0, 1]
        assert machine.state is State.BROKEN
        assert isinstance(machine.failure, FramingError)
        assert machine.receive_data(b":2\r\n") == []
        assert machine.unanswered() == sent[2:]


@pins("P1", "4.17")
@pytest.mark.parametrize(
    "reply",
    [
        b"*1\r\n>1\r\n+x\r\n",
        b"*2\r\n:1\r\n>1\r\n+x\r\n",
        b"%1\r\n+k\r\n>0\r\n",
        b"*1\r\n*1\r\n>1\r\n+x\r\n",
        b"*2\r\n$1\r\n\xff\r\n>1\r\n+x\r\n",
        b"*1\r\n" + ATTRIBUTE + b">1\r\n+x\r\n",
    ],
)
@pytest.mark.parametrize("decode", [False, True])
def test_a_push_within_a_reply_breaks_the_connection(reply, decode):
    """One damaged type byte makes it; taken for a push, the reply would leave its slot to the next reply."""
    for chunks in cuts(b"+a\r\n" + reply + b"+c\r\n"):
        machine = make_machine(decode=decode)
        sent = send(machine, 3, decode=decode)
        assert receive(machine, chunks) == sent[:1]
        assert machine.state is State.BROKEN
        assert machine.pushes == []
        assert machine.unanswered() == sent[1:]


def test_a_length_that_no_memory_holds_breaks_the_connection_or_waits():
    """An array is allocated by its header, so it depends on the system whether four thousand million items are."""
    machine = make_machine()
    (slot,) = send(machine, 1)
    assert machine.receive_data(b"*4294967295\r\n") == []
    assert machine.state in {State.READY, State.BROKEN}
    assert machine.unanswered() == [slot]


@pytest.mark.parametrize("garbage", [*BROKEN, b"*1\r\n>1\r\n+x\r\n", b"$1\r\n\xff\r\n"])
def test_what_was_read_is_let_go_of_at_once(garbage):
    """It may be large, and the garbage collector may come late: an exception that holds its frames would keep it."""

    def read():
        machine = make_machine(decode=True)
        sent = send(machine, 2, decode=True)
        machine.receive_data(garbage)
        assert isinstance(machine.failure, FramingError) or isinstance(sent[0].reply, UnicodeDecodeError)

    read()  # what is made once, such as patterns, leaves garbage of its own
    gc.collect()
    gc.disable()
    try:
        read()
        assert gc.collect() == 0
    finally:
        gc.enable()


# -- the end ----------------------------------------------------------------------------------------


@pins("P2")
def test_what_stays_unanswered_comes_out_once():
    machine = make_machine()
    sent = send(machine, 4)
    machine.receive_data(b":0\r\n*2\r\n:1\r\n")
    sent[2].abandon()
    assert machine.unanswered() == [sent[1], sent[3]]
    assert machine.state is State.CLOSED
    assert machine.unanswered() == []
    assert machine.receive_data(b":1\r\n") == []
    assert [slot.state for slot in sent] == [DONE, IN_FLIGHT, ABANDONED, IN_FLIGHT]


@pytest.mark.parametrize("state", State)
def test_every_connection_can_end(state):
    machine = make_machine(state)
    assert machine.unanswered() == []
    assert machine.state is State.CLOSED


# -- how much is in flight --------------------------------------------------------------------------


def test_a_write_counts_until_its_last_command_is_answered():
    machine = make_machine()
    sent = send(machine, 3)
    assert machine.bytes_in_flight == 9
    send(machine, 1)
    assert machine.bytes_in_flight == 12
    sent[0].abandon()
    machine.receive_data(b":0\r\n:1\r\n")
    assert machine.bytes_in_flight == 12
    machine.receive_data(b":2\r\n")
    assert machine.bytes_in_flight == 3
    machine.receive_data(b":0\r\n")
    assert machine.bytes_in_flight == 0


def test_to_look_how_much_is_in_flight_changes_nothing():
    """It is looked at in other threads, too, while the loop's sends and forgets."""
    machine = make_machine()
    for _ in range(3):
        send(machine, 2)
    machine.receive_data(b":0\r\n:1\r\n:0\r\n")
    before = list(machine._writes), machine._bytes_answered
    assert machine.count_bytes_in_flight() == 12
    assert (list(machine._writes), machine._bytes_answered) == before
    assert machine.bytes_in_flight == 12


def test_withdrawn_slots_have_no_bytes():
    machine = make_machine()
    sent = slots(3)
    sent[0].abandon()
    machine.send(sent, MOMENT)
    assert machine.bytes_in_flight == 6


@pins("P5")
def test_answered_commands_leave_nothing_behind():
    machine = make_machine()
    withdrawn = slots(1)
    withdrawn[0].abandon()

    def run(count):
        for _ in range(count):
            send(machine, 2)
            machine.send(withdrawn, MOMENT)
            machine.receive_data(b"+OK\r\n+OK\r\n" + PUSH)
            machine.pushes.clear()

    run(100)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run(2000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2000, "a byte for each command is more than nothing"
    assert sys.getsizeof(machine.in_flight) < 2000

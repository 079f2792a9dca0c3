"""P1 and P2 under everything that can happen to a connection, in any order and however the stream is cut.

A model of the server answers commands in the order in which it read them, each with its number somewhere in the
reply, so that a reply in the wrong place is seen. What the machine hands out is compared with what the model knows.
"""

from collections import Counter, deque
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aioredis_kit._redispy import error_reply
from aioredis_kit.testing import resp
from aioredis_kit.wire.decoder import Decoder
from aioredis_kit.wire.inflight import Slot
from aioredis_kit.wire.machine import Machine, State

EXAMPLES, EXAMPLES_LONG = 250, 10_000

ATTRIBUTES = [
    b"|0\r\n",
    b"|1\r\n+ttl\r\n:3600\r\n",
    b"|1\r\n$6\r\n\r\n|1\r\n\r\n*2\r\n|1\r\n+k\r\n:1\r\n:2\r\n$-1\r\n",
]
GARBAGE = [
    *(b"hello\r\n", b"\x00", b"$x\r\n", b"*-2\r\n", b":1.5\r\n", b"%1\r\n*0\r\n:1\r\n"),
    *(b"|x\r\n", b"|1\r\n+k\r\nhello\r\n", b">1\r\nhello\r\n"),
]
# What a reply may begin with before it turns out to be none.
FRAGMENTS = [b"", b"*2\r\n:1\r\n", b"*1\r\n", b"%1\r\n+k\r\n"]
PERHAPS_AN_ATTRIBUTE = st.sampled_from([b"", b"", b"", *ATTRIBUTES])
SELDOM = st.sampled_from([False, False, False, True])


def replies(number):
    """Return frames that carry a command's number, with their value as bytes, and their value as text."""
    digits = b"%d" % number
    text = digits.decode()
    marks = digits + b"\r\n|1\r\n+x\r\n>2\r\n"
    return [
        (b":%d\r\n" % number, number, number),
        (b"+%d\r\n" % number, digits, text),
        (resp.bulk(digits), digits, text),
        (resp.bulk(marks), marks, marks.decode()),
        (resp.bulk(digits + b"\xff"), digits + b"\xff", UnicodeDecodeError),
        (b"-ERR %d\r\n" % number, f"error {number}", f"error {number}"),
        (b"*3\r\n_\r\n:%d\r\n*1\r\n$1\r\n\xff\r\n" % number, [None, number, [b"\xff"]], UnicodeDecodeError),
        (b"*2\r\n|1\r\n+k\r\n+v\r\n+%d\r\n~0\r\n" % number, [digits, []], [text, []]),
        (b"%%1\r\n+k\r\n|1\r\n+k\r\n+v\r\n+%d\r\n" % number, {b"k": digits}, {"k": text}),
        (b"*0\r\n", [], []),
        (b"_\r\n", None, None),
    ]


def comparable(reply):
    if isinstance(reply, UnicodeDecodeError):
        return UnicodeDecodeError
    return f"error {reply}" if isinstance(reply, Exception) else reply


@dataclass(eq=False)
class Sent:
    """A command, as the test knows it."""

    number: int
    slot: Slot
    expected: object = ...
    is_given_up: bool = False


class Wire(RuleBasedStateMachine):
    """One connection after another, and one command after another on each."""

    def __init__(self):
        super().__init__()
        self.commands: list[Sent] = []
        self.fates: Counter[int] = Counter()
        self.waiting: deque[Sent] = deque()

    @initialize(decode=st.booleans())
    def connect(self, decode):
        self.machine = Machine(Decoder("utf-8", "strict", error_reply), decode=decode)
        self.decode = decode
        self.asked: deque[Sent] = deque()  # what the server has read and not answered
        self.flying: deque[Sent] = deque()  # what was sent and whose answer was not read
        self.stream = b""  # what the server has sent and was not read
        self.due: list[tuple[int, object]] = []  # where a frame ends in all that was ever sent: whose it is, or a push
        self.written = 0
        self.read = 0
        self.breaks_at = None  # the position in the stream from which on it makes no sense
        self.pushes: list[object] = []
        self.writes: list[tuple[list[Sent], int]] = []

    # The client.

    @rule(choices=st.lists(st.sampled_from([None, None, None, False, True]), min_size=1, max_size=4))
    def issue(self, choices):
        """Mostly decoded as most are: that is another path through the machine."""
        for choice in choices:
            number = len(self.commands) + 1000
            decode = self.decode if choice is None else choice
            command = Sent(number, Slot(resp.command("GET", number), decode=decode))
            self.commands.append(command)
            self.waiting.append(command)

    @precondition(lambda self: self.machine.state in {State.HANDSHAKING, State.READY})
    @rule(count=st.integers(0, 5))
    def send(self, count):
        batch = [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]
        live = [command for command in batch if not command.is_given_up]
        data = self.machine.send([command.slot for command in batch], (0.0, 0))
        assert data == b"".join(command.slot.payload for command in live)
        self.asked += live
        self.flying += live
        self.writes.append((live, len(data)))

    @precondition(lambda self: self.machine.state not in {State.HANDSHAKING, State.READY})
    @rule()
    def send_too_late(self):
        with pytest.raises(RuntimeError, match="nothing can be sent"):
            self.machine.send([command.slot for command in self.waiting], (0.0, 0))

    @precondition(lambda self: self.waiting or self.flying)
    @rule(data=st.data())
    def give_up(self, data):
        """The caller is cancelled, or its deadline passes."""
        command = data.draw(st.sampled_from([*self.waiting, *self.flying]))
        is_sent = command in self.flying
        command.slot.abandon()
        if not command.is_given_up:
            command.is_given_up = True
            self.end(command, "abandoned" if is_sent else "withdrawn")

    @precondition(lambda self: self.machine.state is State.HANDSHAKING)
    @rule()
    def become_ready(self):
        self.machine.move_to(State.READY)

    # The server.

    @precondition(lambda self: self.asked and self.breaks_at is None)
    @rule(
        choices=st.lists(st.tuples(PERHAPS_AN_ATTRIBUTE, st.integers(0, len(replies(0)) - 1)), min_size=1, max_size=6)
    )
    def answer(self, choices):
        for attribute, choice in choices[: len(self.asked)]:
            command = self.asked.popleft()
            wire, raw, text = replies(command.number)[choice]
            command.expected = text if command.slot.decode else raw
            self.say(attribute + wire, command)

    @precondition(lambda self: self.breaks_at is None)
    @rule(attribute=PERHAPS_AN_ATTRIBUTE, text=st.sampled_from([b"x", b"\r\n>1\r\n", b"\xff"]))
    def push(self, attribute, text):
        self.say(attribute + resp.push("message", resp.bulk(text)), [b"message", text])

    @precondition(lambda self: self.breaks_at is None)
    @rule(fragment=st.sampled_from(FRAGMENTS), garbage=st.sampled_from(GARBAGE), now=SELDOM)
    def talk_nonsense(self, fragment, garbage, now):
        if now:
            self.breaks_at = self.written
            self.say(fragment + garbage, None)

    @precondition(lambda self: self.asked and self.breaks_at is None)
    @rule(now=SELDOM)
    def push_within_a_reply(self, now):
        if now:
            self.breaks_at = self.written
            self.say(b"*1\r\n" + resp.push("message"), None)

    @precondition(lambda self: not self.asked and self.breaks_at is None)
    @rule(size=st.integers(1, 12), data=st.data(), now=SELDOM)
    def say_what_nobody_asked_for(self, size, data, now):
        """Read at once: what arrives after the next command was sent can't be told from its reply."""
        if now:
            wire = data.draw(st.sampled_from(replies(7)))[0]
            self.breaks_at = self.written
            self.say(wire[:size], None)
            self.deliver([len(self.stream)])

    # Between them.

    @precondition(lambda self: self.stream)
    @rule(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6))
    def deliver(self, sizes):
        for size in sizes:
            chunk, self.stream = self.stream[:size], self.stream[size:]
            self.read += len(chunk)
            self.take(self.machine.receive_data(chunk))

    @precondition(lambda self: self.stream)
    @rule()
    def deliver_all(self):
        self.deliver([len(self.stream)])

    @rule(now=SELDOM, decode=st.booleans())
    def disconnect(self, now, decode):
        if now or self.machine.state not in {State.HANDSHAKING, State.READY}:
            self.hang_up()
            self.connect(decode)

    def hang_up(self):
        unanswered = self.machine.unanswered()
        assert unanswered == [command.slot for command in self.flying if not command.is_given_up]
        assert self.machine.state is State.CLOSED
        for command in self.flying:
            if not command.is_given_up:
                self.end(command, "unanswered")
        assert self.machine.unanswered() == []
        assert self.machine.receive_data(b":1\r\n") == []

    # What has to hold.

    def say(self, wire, whose):
        self.stream += wire
        self.written += len(wire)
        if whose is not None:
            self.due.append((self.written, whose))

    def take(self, answered):
        """Compare what the machine made of what it has read with what the server had sent up to there."""
        expected = []
        while self.due and self.due[0][0] <= self.read:
            _, whose = self.due.pop(0)
            if not isinstance(whose, Sent):
                self.pushes.append(whose)
                continue
            assert whose is self.flying.popleft()
            if not whose.is_given_up:
                expected.append(whose)
                self.end(whose, "answered")
        assert answered == [command.slot for command in expected]
        for command in expected:
            assert comparable(command.slot.reply) == command.expected
        assert self.machine.pushes == self.pushes

    def end(self, command, fate):
        self.fates[command.number] += 1
        assert self.fates[command.number] == 1, f"{command.number} ended twice, at last {fate}"

    @invariant()
    def the_queue_is_what_was_sent(self):
        assert list(self.machine.in_flight) == [command.slot for command in self.flying]

    @invariant()
    def it_breaks_where_the_stream_does(self):
        is_broken = self.machine.state is State.BROKEN
        assert is_broken is (self.machine.failure is not None)
        if self.breaks_at is None or self.read <= self.breaks_at:
            assert not is_broken
        elif not self.stream:
            assert is_broken

    @invariant()
    def the_size_of_what_is_in_flight_is_known(self):
        flying = set(self.flying)
        self.writes = [write for write in self.writes if not flying.isdisjoint(write[0])]
        assert self.machine.bytes_in_flight == sum(size for _, size in self.writes)

    def teardown(self):
        if not hasattr(self, "machine"):
            return
        self.hang_up()
        for command in self.waiting:
            command.slot.abandon()
            if not command.is_given_up:
                self.end(command, "withdrawn")
        assert self.fates == {command.number: 1 for command in self.commands}


@pytest.mark.pins("P1", "P2", "4.7", "4.8", "4.17")
def test_a_slot_gets_its_own_reply_and_ends_once(is_long):
    run_state_machine_as_test(
        Wire,
        settings=settings(
            max_examples=EXAMPLES_LONG if is_long else EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )

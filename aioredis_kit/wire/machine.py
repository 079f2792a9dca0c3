"""The state machine of one connection: which reply belongs to which command, and what may be sent.

Bytes go in with ``receive_data``; out come the slots that they answered, and pushes. ``send`` takes
slots and returns what to write. The shell around it owns the socket and the clock.

Rules of this file:

1. A reply goes to the oldest slot in flight, and to no other. Where that can't be upheld (broken
   framing, a reply nobody asked for) the machine is ``BROKEN``: it takes no further byte.
2. Every slot that was sent comes out exactly once: from ``receive_data``, or from ``unanswered``.
   An abandoned one comes out of neither: its caller has gone.
3. Nothing here knows of sockets, tasks or time; time is an argument.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from hiredis import PushNotification

from aioredis_kit.exceptions import ReplyProtocolError
from aioredis_kit.wire.attributes import FramingError
from aioredis_kit.wire.decoder import NOT_ENOUGH, TooLargeError
from aioredis_kit.wire.encoder import join, size_of
from aioredis_kit.wire.handshake import cut_quoted
from aioredis_kit.wire.inflight import ABANDONED, DONE, IN_FLIGHT, PUSHED, SILENT, UNWRITTEN, PushedSlot, Slot
from aioredis_kit.wire.large import LargeString

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioredis_kit.wire.decoder import Decoder
    from aioredis_kit.wire.encoder import Payload
    from aioredis_kit.wire.large import Chunk


class State(enum.Enum):
    """What a connection's machine is doing."""

    HANDSHAKING = "handshaking"
    """Only the handshake's own commands are sent."""
    READY = "ready"
    """Commands are sent."""
    BROKEN = "broken"
    """What was read can't be attributed; the connection has to be dropped."""
    CLOSED = "closed"
    """The connection has ended."""


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.HANDSHAKING: frozenset({State.READY, State.BROKEN, State.CLOSED}),
    State.READY: frozenset({State.BROKEN, State.CLOSED}),
    State.BROKEN: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""Which state may follow which. Asking for the state that is already there changes nothing."""


class Mode(enum.Enum):
    """What kind of frames a connection is for."""

    REPLIES = "replies"
    """Commands and their replies; pushes now and then."""
    SUBSCRIBER = "subscriber"
    """Pushes, in RESP2 also those that come as arrays; replies now and then. All is read undecoded."""
    MONITOR = "monitor"
    """What comes when no reply is due is no mistake: it is read undecoded, and taken for a push."""


PUSH_KINDS: Final = frozenset(
    {b"message", b"pmessage", b"smessage"}
    | {b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe", b"punsubscribe", b"sunsubscribe"}
)
"""With what an array begins that is a push in RESP2."""

_KEEPS_REPLY: Final = frozenset({SILENT, PUSHED})
_AWAITS_REPLY: Final = frozenset({SILENT, IN_FLIGHT})
_OPEN: Final = frozenset({State.HANDSHAKING, State.READY})


class Machine:
    """One connection's protocol state.

    Attributes:
        state: See ``State``.
        failure: Why the machine is ``BROKEN``.
        pushes: Push frames read and not yet taken by the shell, in order.
        in_flight: The slots that wait for their replies, the oldest first.
        mode: See ``Mode``.
        bytes_sent: The size of all that was put in flight.
        dropped: How many replies came when their callers had gone.
    """

    __slots__ = (
        "_bytes_answered",
        "_decode",
        "_decoder",
        "_lost",
        "_most_bytes",
        "_odd",
        "_sent",
        "_unfinished",
        "_writes",
        "bytes_sent",
        "dropped",
        "failure",
        "in_flight",
        "mode",
        "pushes",
        "state",
    )

    def __init__(self, decoder: Decoder, *, decode: bool, most_bytes: int | None = None) -> None:
        """Begin in ``HANDSHAKING``.

        Args:
            decoder: Parses this connection's stream.
            decode: The choice of decoding that most slots will have; others cost a little more.
            most_bytes: How large a reply may be, in bytes; ``None``: as large as it likes. It is noticed within one
                read.
        """
        self._most_bytes = math.inf if most_bytes is None else most_bytes
        self._unfinished = 0  # bytes of a frame that is not whole yet
        self._decoder = decoder
        self._decode = decode
        self._odd = 0  # slots in flight that are decoded otherwise than most
        self.state = State.HANDSHAKING
        self.mode = Mode.REPLIES
        self.failure: FramingError | None = None
        self.pushes: list[Any] = []
        self.in_flight: deque[Slot] = deque()
        self._sent = 0  # slots, ever
        self._writes: deque[tuple[int, int]] = deque()  # for each: slots sent up to its end, and its bytes
        self._lost = 0  # slots that will not be answered any more
        self.bytes_sent = 0
        self._bytes_answered = 0
        self.dropped = 0

    @property
    def bytes_in_flight(self) -> int:
        """The size of what is in flight. A write counts until its last command is answered."""
        self._forget_answered()
        return self.bytes_sent - self._bytes_answered

    def count_bytes_in_flight(self) -> int:
        """Return the same, in any thread: nothing is forgotten, as the one that sends may be about to do that."""
        answered = self._sent - len(self.in_flight)
        return sum(size for last, size in tuple(self._writes) if last > answered)

    @property
    def is_in_large(self) -> bool:
        """Whether a large string is being read."""
        return self._decoder.large is not None

    @property
    def answered(self) -> int:
        """How many slots were answered, ever."""
        return self._sent - self._lost - len(self.in_flight)

    @property
    def errors(self) -> int:
        """How many error replies came, those within others included."""
        return self._decoder.errors

    def move_to(self, state: State) -> None:
        """Go to another state.

        Raises:
            RuntimeError: That state can't follow this one.
        """
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"a connection can't go from {self.state.value} to {state.value}")
        self.state = state

    def send(self, slots: Iterable[Slot], moment: tuple[float, int, int]) -> Payload:
        """Put slots in flight, in this order, and return what to write for them.

        Slots whose callers have gone are left out, so there may be nothing to write.

        Args:
            slots: The slots.
            moment: What becomes their ``written``.

        Raises:
            RuntimeError: Nothing can be sent in this state.
        """
        if self.state not in _OPEN:
            raise RuntimeError(f"nothing can be sent on a connection that is {self.state.value}")
        self._forget_answered()
        payloads: list[Payload] = []
        add_slot, add_payload = self.in_flight.append, payloads.append
        decode = self._decode
        for slot in slots:
            if slot.state == UNWRITTEN:
                slot.state = IN_FLIGHT
            elif slot.state not in _KEEPS_REPLY:
                continue
            slot.written = moment
            if slot.decode is not decode:
                self._odd += 1
            add_slot(slot)
            add_payload(slot.payload)
        data = join(payloads)
        if data:
            size = size_of(data)
            self._sent += len(payloads)
            self.bytes_sent += size
            self._writes.append((self._sent, size))
        return data

    def receive_data(self, data: Chunk) -> list[Slot]:
        """Take bytes from the peer and return the slots that they answered, in order.

        Pushes are appended to ``pushes``. When the bytes make no sense the state becomes ``BROKEN``
        and ``failure`` says why; what had been answered before is still returned.
        """
        if self.state not in _OPEN or not data:
            return []
        answered: list[Slot] = []
        frames = len(self.in_flight) - len(self.pushes)
        try:
            if self.mode is Mode.SUBSCRIBER:
                self._receive_subscribed(data, answered)
            else:
                self._receive_replies(data, answered)
            if len(self.in_flight) - len(self.pushes) == frames:  # no frame was whole
                self._unfinished += len(data)
                if self._unfinished > self._most_bytes:
                    self._give_up(answered)
            else:
                self._unfinished = 0
                self._decoder.note_frames()
        except TooLargeError:
            self._give_up(answered)
        except FramingError as error:
            self._break(error)
        except (TypeError, MemoryError) as error:
            # hiredis: a map key that is no scalar; a length that no memory can hold.
            self._break(FramingError(f"a frame that can't be represented: {error}"))
        return answered

    def unanswered(self) -> list[Slot]:
        """End; return the slots that were sent, still have a caller, and will get no reply."""
        self.move_to(State.CLOSED)
        slots = [slot for slot in self.in_flight if slot.state == IN_FLIGHT]
        self._lost = len(self.in_flight)
        self.in_flight.clear()
        return slots

    def _receive_replies(self, data: Chunk, answered: list[Slot]) -> None:
        """Take bytes of a connection that is not a subscriber's."""
        decoder = self._decoder
        for piece in decoder.pieces(data):
            if isinstance(piece, LargeString):
                self._answer_large(piece, answered)
                continue
            decoder.feed(piece)
            if decoder.in_push and not self._read_push():
                continue
            if self._odd:
                self._read_each(answered)
            else:
                self._read_alike(answered)
            if not self.in_flight:
                self._read_unasked()
        if decoder.large is not None and not self.in_flight and self.mode is not Mode.MONITOR:
            self._take_unasked(None)  # not when it is whole: by then a command may be in flight

    def _read_alike(self, answered: list[Slot]) -> None:
        """Read what is there: replies, decoded alike. The hot loop."""
        decoder = self._decoder
        decoder.use_text(has_text=self._decode)
        read, has_data = decoder.read, decoder.has_data
        in_flight = self.in_flight
        take = in_flight.popleft
        while in_flight and has_data():
            try:
                reply = read()
            except UnicodeDecodeError as error:  # hiredis has consumed that reply
                reply = error.with_traceback(None)  # as in `_break`
            if reply is NOT_ENOUGH:
                decoder.is_open = True
                return
            slot = take()
            if slot.state == IN_FLIGHT:
                slot.state = DONE
                slot.reply = reply
                answered.append(slot)
            elif slot.state == SILENT:
                slot.reply = reply
            elif slot.state == ABANDONED:
                self.dropped += 1

    def _read_push(self) -> bool:
        """Read the push that comes next; tell whether it is whole."""
        try:
            reply = self._decoder.read(False)  # noqa: FBT003  # hiredis takes no keyword
        except UnicodeDecodeError as error:  # a reply had begun before, which is to be decoded
            reply = error.with_traceback(None)  # as in `_break`
        if reply is NOT_ENOUGH:
            self._decoder.is_open = True
            return False
        if reply.__class__ is not PushNotification:
            raise FramingError("a push inside a reply")
        self._decoder.in_push = False
        self.pushes.append(reply)
        return True

    def _read_each(self, answered: list[Slot]) -> None:
        """Read what is there: replies decoded as each slot wants it."""
        decoder = self._decoder
        decoder.use_text(has_text=True)
        while self.in_flight and decoder.has_data():
            try:
                reply = decoder.read(self.in_flight[0].decode)
            except UnicodeDecodeError as error:
                reply = error.with_traceback(None)  # as in `_break`
            if reply is NOT_ENOUGH:
                decoder.is_open = True
                return
            slot = self.in_flight.popleft()
            self._odd -= slot.decode is not self._decode
            if slot.state == IN_FLIGHT:
                slot.state = DONE
                slot.reply = reply
                answered.append(slot)
            elif slot.state == SILENT:
                slot.reply = reply
            elif slot.state == ABANDONED:
                self.dropped += 1

    def _answer_large(self, string: LargeString, answered: list[Slot]) -> None:
        """Give a large string to the oldest slot."""
        if not self.in_flight:
            self._take_unasked(bytes(string))
            return
        slot = self.in_flight.popleft()
        self._odd -= slot.decode is not self._decode
        if slot.state == ABANDONED:
            self.dropped += 1
        elif slot.state in _AWAITS_REPLY:
            slot.reply = self._decoder.text_of(string) if slot.decode else bytes(string)
            if slot.state == IN_FLIGHT:
                slot.state = DONE
                answered.append(slot)

    def _receive_subscribed(self, data: Chunk, answered: list[Slot]) -> None:
        """Take bytes of a subscriber's connection: pushes, most of all."""
        decoder, add_push = self._decoder, self.pushes.append
        read, has_data = decoder.read, decoder.has_data
        decoder.use_text(has_text=False)
        for piece in decoder.pieces(data, marks_pushes=False):
            if isinstance(piece, LargeString):
                self._answer_subscribed_or_break(bytes(piece), answered)
                continue
            decoder.feed(piece)
            while has_data():
                reply = read()
                if reply is NOT_ENOUGH:
                    decoder.is_open = True
                    break
                kind = reply.__class__
                if kind is PushNotification or (kind is list and reply and _is_push_kind(reply[0])):
                    add_push(reply)
                    if self.in_flight:
                        self._confirm_subscribed(reply)
                else:
                    self._answer_subscribed_or_break(reply, answered)

    def _confirm_subscribed(self, push: list[Any]) -> None:
        """Count a confirmation. With the last one its slot is answered."""
        slot = self.in_flight[0]
        if isinstance(slot, PushedSlot) and push and push[0] == slot.word:
            slot.missing -= 1
            if not slot.missing:
                self._odd -= slot.decode is not self._decode
                self.in_flight.popleft()

    def _answer_subscribed_or_break(self, reply: Any, answered: list[Slot]) -> None:
        if not self._answer_subscribed(reply, answered):
            raise FramingError(f"a reply that nobody had asked for{_quoted(reply)}")

    def _answer_subscribed(self, reply: Any, answered: list[Slot]) -> bool:
        """Give a reply to the oldest slot whose answers are replies; tell whether there was one.

        A refusal goes to the oldest slot of any kind. Otherwise slots that wait for pushes are passed over: as the
        server answers in order, their confirmations will not come any more.
        """
        while self.in_flight:
            slot = self.in_flight.popleft()
            self._odd -= slot.decode is not self._decode
            if slot.state == PUSHED:
                if isinstance(reply, Exception):
                    slot.reply = reply
                    return True
                continue
            if slot.state == IN_FLIGHT:
                slot.state = DONE
                slot.reply = reply
                answered.append(slot)
            return True
        return False

    def _read_unasked(self) -> None:
        """Break if there is more than was asked for, unless it is a monitor's. Nothing of it has been parsed yet."""
        while self._decoder.has_data():
            reply = self._decoder.read(False)  # noqa: FBT003  # hiredis takes no keyword
            if reply is NOT_ENOUGH and self.mode is Mode.MONITOR:
                self._decoder.is_open = True
                return
            self._take_unasked(reply)

    def _take_unasked(self, reply: Any) -> None:
        if self.mode is not Mode.MONITOR:
            raise FramingError(f"a reply that nobody had asked for{_quoted(reply)}")
        self.pushes.append(reply)

    def _give_up(self, answered: list[Slot]) -> None:
        """Give a reply up that is larger than the limit: its command ends, and so does the connection.

        Args:
            answered: The slots that were answered.
        """
        text = (
            f"a reply of more than {self._most_bytes} bytes: ask for less at once, in parts or with a cursor, or raise "
            "max_reply_bytes"
        )
        while self.in_flight:  # of a pipeline the last slot speaks for all
            slot = self.in_flight.popleft()
            if slot.state == IN_FLIGHT:
                slot.state = DONE
                slot.reply = ReplyProtocolError(text, maybe_executed=True)
                answered.append(slot)
            if slot.state != SILENT:
                break
        self._break(FramingError(text))

    def _forget_answered(self) -> None:
        """Forget the writes whose last command was answered."""
        answered = self._sent - len(self.in_flight)
        while self._writes and self._writes[0][0] <= answered:
            self._bytes_answered += self._writes.popleft()[1]

    def _break(self, error: FramingError) -> None:
        # Without the frames of where it was raised: they would keep all that was read until the garbage is collected.
        self.failure = error.with_traceback(None)
        self.move_to(State.BROKEN)


def _is_push_kind(word: object) -> bool:
    return isinstance(word, bytes) and word in PUSH_KINDS


def _quoted(reply: object) -> str:
    return f": {cut_quoted(str(reply))}" if isinstance(reply, Exception) else ""

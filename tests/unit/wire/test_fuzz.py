"""Streams that are nearly RESP: whatever comes, in whatever pieces, nothing crashes, hangs, grows or shifts.

What is found is kept: each file in ``corpus`` is a stream that once did harm, or is like one that might.

``AIOREDIS_KIT_FUZZ_EXAMPLES=200000 uv run pytest --long tests/unit/wire/test_fuzz.py`` tries that many.
"""

from __future__ import annotations

import itertools
import os
import resource
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aioredis_kit._redispy import error_reply
from aioredis_kit.wire.decoder import Decoder
from aioredis_kit.wire.inflight import DONE, Slot
from aioredis_kit.wire.large import DIGITS
from aioredis_kit.wire.machine import Machine, Mode, State

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.resp"))
EXAMPLES = int(os.environ.get("AIOREDIS_KIT_FUZZ_EXAMPLES", "3000"))
EXAMPLES_SHORT = 150
IN_FLIGHT = 6
MOST_BYTES = 4096
"""How large a reply may be here."""
TOO_LARGE = "a reply of more than"
ENDS_WRONGLY = "does not end where it says"
MOST_MEMORY = 50 * 2**20
"""By how many bytes memory may grow in one example. (Over all of them Hypothesis itself grows by some 15 KiB each.)"""
LONGEST = 2.0
"""How long one example may take, in seconds of this thread: a busy machine is no finding, nor is one garbage collection."""

# -- streams ----------------------------------------------------------------------------------------

LINE = st.binary(max_size=12).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b""))
NUMBERS = st.integers(-(2**70), 2**70).map(lambda number: b"%d" % number)
SCALARS = st.one_of(
    LINE.map(lambda line: b"+" + line + b"\r\n"),
    LINE.map(lambda line: b"-ERR " + line + b"\r\n"),
    NUMBERS.map(lambda number: b":" + number + b"\r\n"),
    NUMBERS.map(lambda number: b"(" + number + b"\r\n"),
    st.sampled_from([b"_\r\n", b"#t\r\n", b"#f\r\n", b",1.5\r\n", b",inf\r\n", b",nan\r\n", b"$-1\r\n", b"*-1\r\n"]),
    st.binary(max_size=40).map(lambda text: b"$%d\r\n%b\r\n" % (len(text), text)),
    st.binary(max_size=20).map(lambda text: b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text)),
    st.binary(max_size=20).map(lambda text: b"!%d\r\n%b\r\n" % (len(text), text)),
)


def aggregate(mark, factor):
    """Return a function that makes a frame of frames."""
    return lambda parts: b"%b%d\r\n" % (mark, len(parts) // factor) + b"".join(parts[: len(parts) // factor * factor])


FRAMES = st.recursive(
    SCALARS,
    lambda frames: st.one_of(
        *(st.lists(frames, max_size=4).map(aggregate(mark, 1)) for mark in (b"*", b"~", b">")),
        *(st.lists(frames, max_size=4).map(aggregate(mark, 2)) for mark in (b"%", b"|")),
    ),
    max_leaves=8,
)
ODDITIES = st.sampled_from(
    [
        *(b"*99999\r\n", b"%99999\r\n", b"~99999\r\n", b"|99999\r\n", b">99999\r\n"),
        *(b"*999999999\r\n", b"~4294967295\r\n", b"%4294967295\r\n", b">999999999\r\n", b"|999999999\r\n"),
        *(
            b"*999999999",
            b"*9999",
            b"~9999999",
            b"*1\r\n*9999999\r\n",
            b"*9999999\r\n" * 100,
            b"*99999999999999999999\r\n",
        ),
        *(b"$4294967296\r\n", b"$-2\r\n", b"*-2\r\n", b"=3\r\n", b"!-1\r\n", b"$12\r\n\n*9999999\r\n\r\n"),
        *(b"$?\r\n;4\r\nabcd\r\n;0\r\n", b"*?\r\n:1\r\n.\r\n", b"%?\r\n+a\r\n:1\r\n.\r\n", b".\r\n", b";1\r\n"),
        *(
            b"*1\r\n" * 1100,
            b"%1\r\n+k\r\n" * 1100,
            b"|1\r\n+k\r\n" * 1100,
            b">1\r\n" * 1100,
            b"^1\r\n",
            b"\r\n",
            b"\n",
        ),
        *(b"*1\r\n>2\r\n+a\r\n", b"$5\r\n>9999", b":\r\n", b":1:2\r\n", b"+", b"$", b"|", b">", b"\x00" * 50),
        b"*6000\r\n" + b":1\r\n" * 3000,
        b"$9000\r\n" + b"x" * 5000,
    ]
)


@st.composite
def streams(draw):
    """Frames, some of them odd, some of them damaged."""
    stream = bytearray(b"".join(draw(st.lists(FRAMES | FRAMES | FRAMES | ODDITIES, min_size=1, max_size=8))))
    for _ in range(draw(st.integers(0, 3))):
        if not stream:
            break
        position = draw(st.integers(0, len(stream) - 1))
        match draw(st.sampled_from(["change", "insert", "delete", "repeat", "cut", "number"])):
            case "change":
                stream[position] = draw(st.integers(0, 255))
            case "insert":
                stream[position:position] = draw(st.binary(max_size=4) | ODDITIES)
            case "delete":
                del stream[position : position + draw(st.integers(1, 8))]
            case "repeat":
                stream[position:position] = stream[position : position + draw(st.integers(1, 30))]
            case "cut":
                del stream[position:]
            case "number":
                found = next((at for at in range(position, len(stream)) if chr(stream[at]).isdigit()), None)
                if found is not None:
                    stream[found : found + 1] = draw(NUMBERS)
    return bytes(stream)


def pieces(stream, cuts):
    """Cut a stream at some positions."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


# -- what comes of them -----------------------------------------------------------------------------


def comparable(value):
    """Return what makes up a value, as a list that can be compared: NaN, exceptions and a thousand levels too."""
    parts, rest = [], [value]
    while rest:
        each = rest.pop()
        if isinstance(each, list):
            parts.append((type(each).__name__, len(each)))
            rest += reversed(each)
        elif isinstance(each, dict):
            parts.append((type(each).__name__, len(each)))
            rest += itertools.chain.from_iterable(each.items())
        else:
            parts.append((type(each).__name__, repr(each)))
    return parts


def play(chunks, *, decode, mode, large_digits=DIGITS):
    """Feed a machine with commands in flight; return all that came of it."""
    decoder = Decoder("utf-8", "strict", error_reply, most_bytes=MOST_BYTES, large_digits=large_digits)
    machine = Machine(decoder, decode=decode, most_bytes=MOST_BYTES)
    machine.move_to(State.READY)
    machine.mode = mode
    slots = [Slot(b"<%d>" % number, decode=decode if number % 3 else not decode) for number in range(IN_FLIGHT)]
    machine.send(slots, (0.0, 0, 0))
    answered = []
    for chunk in chunks:
        answered += machine.receive_data(chunk)
    assert answered == slots[: len(answered)]  # in their order, none left out
    assert all(slot.state == DONE for slot in answered)
    assert (machine.failure is not None) == (machine.state is State.BROKEN)
    left = [] if machine.state is State.BROKEN else machine.unanswered()
    assert left == ([] if machine.state is State.BROKEN else slots[len(answered) :])
    state = machine.state.name
    if ENDS_WRONGLY in str(machine.failure):
        state = ENDS_WRONGLY
    elif TOO_LARGE in str(machine.failure):
        state = TOO_LARGE
    return [comparable(slot.reply) for slot in answered], state, [comparable(push) for push in machine.pushes]


def check(stream, cuts):
    """However a stream is cut, the same comes of it, soon."""
    before = peak()
    assert any(compare(stream, cuts) < LONGEST for _ in range(2))
    assert peak() - before < MOST_MEMORY


def peak():
    """Return how much memory this process has had at most, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare(stream, cuts):
    """Play a stream whole, cut, and byte by byte. Return how long that took."""
    began = time.thread_time()
    for decode in (False, True):
        for mode in (Mode.REPLIES, Mode.SUBSCRIBER, Mode.MONITOR):
            whole = play([stream], decode=decode, mode=mode)
            if len(stream) < MOST_BYTES // 2:  # beyond that a limit may be noticed a read earlier or later
                assert play(pieces(stream, cuts), decode=decode, mode=mode) == whole
                each = [stream[at : at + 1] for at in range(len(stream))]
                assert play(each, decode=decode, mode=mode) == whole
                for chunks in ([stream], pieces(stream, cuts), each):  # now strings of a byte or two are large
                    replies, state, pushes = play(chunks, decode=decode, mode=mode, large_digits=1)
                    if state == ENDS_WRONGLY:  # hiredis does not look
                        assert (replies, pushes) == (whole[0][: len(replies)], whole[2][: len(pushes)])
                    elif state == TOO_LARGE:  # which is known from its first line
                        assert (replies[:-1], pushes) == (whole[0][: len(replies) - 1], whole[2][: len(pushes)])
                    else:
                        assert (replies, state, pushes) == whole
    return time.thread_time() - began


@pytest.mark.pins("P1", "P2", "4.17")
def test_streams_that_are_nearly_resp(is_long):
    @given(stream=streams(), cuts=st.lists(st.integers(0, 500), max_size=6))
    @settings(
        max_examples=EXAMPLES if is_long else EXAMPLES_SHORT,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def run(stream, cuts):
        check(stream, cuts)

    run()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_was_found_once(path):
    stream = path.read_bytes()
    check(stream, range(0, len(stream), 7))

"""Large strings are read beside the parser, and nobody can tell: not by what comes, nor by what it was cut into."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest

from aioredis_kit._redispy import error_reply
from aioredis_kit.testing import resp
from aioredis_kit.wire.attributes import FramingError
from aioredis_kit.wire.decoder import NOT_ENOUGH, Decoder
from aioredis_kit.wire.inflight import ABANDONED, DONE, SILENT, Slot
from aioredis_kit.wire.large import DIGITS, LargeString
from aioredis_kit.wire.machine import Machine, Mode, State

pins = pytest.mark.pins

NEVER = 9  # so many digits no length in this file has
WORD = b"twelve bytes"


class Counting(Decoder):
    """Counts the large strings that it has read."""

    __slots__ = ("large_strings",)

    def pieces(self, data, **options):
        for piece in super().pieces(data, **options):
            self.large_strings = getattr(self, "large_strings", 0) + isinstance(piece, LargeString)
            yield piece


def make_machine(*, digits=2, decode=False, most_bytes=None, encoding="utf-8", errors="strict"):
    decoder = Counting(encoding, errors, error_reply, most_bytes=most_bytes, large_digits=digits)
    machine = Machine(decoder, decode=decode, most_bytes=most_bytes)
    machine.move_to(State.READY)
    return machine, decoder


def play(chunks, count, *, abandoned=(), **options):
    """Return the replies to some commands, pushes, and how many large strings were read."""
    decode = options.get("decode", False)
    machine, decoder = make_machine(**options)
    slots = [Slot(b"<%d>" % number, decode=decode) for number in range(count)]
    machine.send(slots, (0.0, 0, 0))
    for place in abandoned:
        slots[place].abandon()
    answered = [slot for chunk in chunks for slot in machine.receive_data(chunk)]
    assert answered == [slot for place, slot in enumerate(slots) if place not in abandoned][: len(answered)]
    replies = [repr(slot.reply) for slot in answered]
    return replies, machine.pushes, machine.state, getattr(decoder, "large_strings", 0)


def cuts(data):
    """Yield the stream whole, byte by byte, and cut in two at every position."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]


STREAMS = {
    "alone": (resp.bulk(WORD), 1),
    "several": (resp.bulk(WORD) * 3, 3),
    "before small ones": (resp.bulk(WORD) + resp.bulk("a") + resp.integer(1), 3),
    "behind small ones": (resp.bulk("a") + resp.integer(1) + resp.bulk(WORD), 3),
    "among small ones": ((resp.bulk(WORD) + resp.bulk("a")) * 3, 6),
    "with what looks like a line": (resp.bulk(b"\n*3\r\n$12\r\n>2\r\n") * 2 + resp.bulk(WORD), 3),
    "in a small one that looks like it": (resp.bulk(b"1\n$12\r\n!") + resp.bulk(WORD), 2),
    "in an array": (resp.bulk(WORD) + resp.array(resp.bulk(WORD), resp.bulk(WORD)) + resp.bulk(WORD), 3),
    "in an array of arrays": (resp.array(resp.array(resp.bulk(WORD)), resp.bulk(WORD)) + resp.bulk(WORD), 2),
    "behind a small one and in an array": (
        resp.bulk(WORD) + resp.integer(1) + resp.array(resp.bulk(WORD), resp.integer(1)) + resp.bulk(WORD),
        4,
    ),
    "in a map": (resp.bulk(WORD) + resp.mapping({resp.bulk("a"): resp.bulk(WORD)}) + resp.bulk(WORD), 3),
    "in a push": (resp.bulk(WORD) + resp.push("p", resp.bulk(WORD), resp.bulk(WORD)) + resp.bulk(WORD), 2),
    "behind an attribute": (b"|1\r\n+k\r\n" + resp.bulk(WORD) + resp.bulk("a") + resp.bulk(WORD) * 2, 3),
    "in an error": (resp.bulk(WORD) + b"!21\r\nERR twelve bytes more\r\n" + resp.bulk(WORD), 3),
    "verbatim": (b"=16\r\ntxt:twelve bytes\r\n" + resp.bulk(WORD), 2),
    "not as text": (resp.bulk(b"\xff" * 12) + resp.bulk(WORD) + resp.bulk(b"\xff"), 3),
    "with leading zeros": (b"$012\r\n" + WORD + b"\r\n" + resp.bulk(WORD), 2),
    "nobody had asked for": (resp.bulk(WORD) + resp.bulk(WORD), 1),
}


@pins("P1")
@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_the_same_comes_of_it(name, decode):
    stream, count = STREAMS[name]
    expected = play([stream], count, digits=NEVER, decode=decode)[:3]
    for chunks in cuts(stream):
        for digits in (1, 2):
            assert play(chunks, count, digits=digits, decode=decode)[:3] == expected, chunks


@pytest.mark.parametrize("name", ["with what looks like a line", "in an array of arrays", "in a push", "in a map"])
def test_views_of_a_buffer_that_is_used_again(name):
    stream, count = STREAMS[name]
    expected = play([stream], count, digits=NEVER)[:3]
    buffer = bytearray(len(stream))

    def through_the_buffer(chunks):
        for chunk in chunks:
            buffer[: len(chunk)] = chunk
            yield memoryview(buffer)[: len(chunk)]
            buffer[:] = b"?" * len(buffer)

    for chunks in cuts(stream):
        assert play(through_the_buffer(chunks), count)[:3] == expected


@pytest.mark.parametrize(
    ("name", "large"),
    [("several", 3), ("before small ones", 1), ("among small ones", 3), ("behind small ones", 0), ("in an array", 1)],
)
def test_what_begins_with_one_is_read_beside_the_parser(name, large):
    stream, count = STREAMS[name]
    assert play([stream], count)[3] == large


def test_in_any_order_and_pieces():
    """As ``test_fuzz``, of whole frames alone, and longer."""
    chance = random.Random(7)
    frames = [
        *(resp.bulk(WORD), resp.bulk(WORD * 9), resp.bulk(b"\n*2\r\n$12\r\n\r\n"), resp.bulk("a"), resp.simple("OK")),
        *(resp.array(resp.bulk(WORD), resp.integer(1)), resp.mapping({resp.bulk("a"): resp.bulk(WORD)}), resp.null()),
        *(resp.push("invalidate", resp.array(resp.bulk(WORD))), b"|1\r\n+k\r\n:1\r\n" + resp.bulk(WORD)),
    ]
    large = 0
    for _ in range(200):
        chosen = chance.choices(frames, k=30)
        stream = b"".join(chosen)
        edges = [0, *sorted(chance.sample(range(1, len(stream)), 20)), len(stream)]
        chunks = [stream[start:end] for start, end in itertools.pairwise(edges)]
        count = sum(not frame.startswith(b">") for frame in chosen)
        expected = play([stream], count, digits=NEVER)
        got = play(chunks, count)
        assert got[:3] == expected[:3]
        assert expected[2] is State.READY
        large += got[3]
    assert large > 50


FRAMES = [
    *(resp.bulk(WORD), resp.bulk(WORD * 9), resp.bulk(b"\n*2\r\n$12\r\n>1\r\n\xff"), resp.bulk("a"), resp.simple("OK")),
    *(resp.array(resp.bulk(WORD), resp.integer(1)), resp.array(resp.array(resp.bulk(WORD)), resp.bulk(WORD))),
    *(resp.mapping({resp.bulk("a"): resp.bulk(WORD)}), resp.array(), resp.null(), resp.error("ERR no"), b"*-1\r\n"),
    *(
        b"|1\r\n+k\r\n$12\r\n" + WORD + b"\r\n" + resp.bulk(WORD),
        b"*2\r\n|1\r\n+k\r\n:1\r\n$12\r\n" + WORD + b"\r\n:1\r\n",
    ),
]
PUSHES = [resp.push("message", resp.bulk("c"), resp.bulk(WORD)), resp.push("invalidate", resp.array(resp.bulk(WORD)))]


def play_as_sent(steps, *, digits, decode, mode):
    """Return all that comes of steps, each of which sends slots, abandons the one at a place, and receives a chunk."""
    machine, decoder = make_machine(digits=digits, decode=decode)
    machine.mode = mode
    slots, answered = [], []
    for choices, abandoned, chunk in steps:
        new = [Slot(b"<>", decode=each) for _, each in choices]
        for slot, (is_silent, _) in zip(new, choices, strict=True):
            slot.state = SILENT if is_silent else slot.state
        slots += new
        machine.send(new, (0.0, 0, 0))
        if abandoned is not None and slots:
            slots[abandoned % len(slots)].abandon()
        answered += machine.receive_data(chunk)
    replies = [(slot.state, repr(getattr(slot, "reply", None))) for slot in slots]
    outcome = replies, [slots.index(slot) for slot in answered], repr(machine.pushes), machine.dropped
    assert machine.state is State.READY, machine.failure
    return outcome, len(machine.in_flight), getattr(decoder, "large_strings", 0)


@pins("P1")
@pytest.mark.parametrize("mode", Mode)
def test_commands_that_are_sent_between_the_pieces(mode):
    """Each before its reply begins, some long before, some just then; cut where a frame, an element or a line ends."""
    chance = random.Random(11)
    large = 0
    for _ in range(100):
        chosen = chance.choices(FRAMES + PUSHES * 3, k=20)
        stream = b"".join(chosen)
        starts = list(itertools.accumulate(map(len, chosen[:-1]), initial=0))
        starts = [start for start, frame in zip(starts, chosen, strict=True) if frame not in PUSHES]
        ends = [at + 1 for at, byte in enumerate(stream[:-1]) if byte == ord("\n")]
        edges = sorted({0, len(stream), *chance.sample(ends, 15), *chance.sample(range(1, len(stream)), 5)})
        decode, steps, sent = chance.random() < 0.5, [], 0
        for start, end in itertools.pairwise(edges):
            due = sum(each < end for each in starts)
            count = (
                0 if mode is Mode.MONITOR else min(max(due - sent, 0) + chance.choice((0, 0, 2)), len(starts) - sent)
            )
            choices = [(chance.random() < 0.3, chance.random() < 0.5) for _ in range(count)]
            steps.append((choices, chance.choice((None, None, chance.randrange(20))), stream[start:end]))
            sent += count
        expected, left, _ = play_as_sent(steps, digits=NEVER, decode=decode, mode=mode)
        assert left == 0
        for digits in (1, 2):
            got, left, found = play_as_sent(steps, digits=digits, decode=decode, mode=mode)
            assert (got, left) == (expected, 0)
            large += found
    assert large > 100


def test_one_that_is_wanted_no_more_is_dropped():
    replies, _, state, large = play([resp.bulk(WORD) + resp.bulk(b"another word")], 2, abandoned=[0])
    assert (replies, state, large) == (["b'another word'"], State.READY, 2)


def test_each_is_decoded_as_its_slot_wants_it():
    machine, decoder = make_machine(decode=True, encoding="latin-1")
    slots = [Slot(b"<>", decode=decode) for decode in (True, True, False, True)]
    machine.send(slots, (0.0, 0, 0))
    for chunk in (resp.bulk("a"), resp.bulk(b"\xe4" * 12) * 3):
        machine.receive_data(chunk)
    assert [slot.reply for slot in slots] == ["a", "ä" * 12, b"\xe4" * 12, "ä" * 12]
    assert decoder.large_strings == 3


@pins("4.16")
def test_one_that_is_no_text_fails_by_itself():
    for errors, expected in (("strict", None), ("replace", "�" * 12)):
        machine, _ = make_machine(decode=True, errors=errors)
        slots = [Slot(b"<>", decode=True) for _ in range(2)]
        machine.send(slots, (0.0, 0, 0))
        machine.receive_data(resp.bulk(b"\xff" * 12) + resp.bulk(WORD))
        if expected is None:
            assert isinstance(slots[0].reply, UnicodeDecodeError)
        else:
            assert slots[0].reply == expected
        assert slots[1].reply == WORD.decode()


@pytest.mark.parametrize(
    "before", [resp.array(resp.bulk(b"\n*1\r\n")), resp.mapping({resp.bulk("a"): resp.integer(1)})]
)
def test_one_behind_what_is_whole_is_no_element(before):
    """Also while more is due, and whatever is in it: what was whole does not slow down what comes later."""
    for chunks in ([before, resp.bulk(WORD)], [before[:-1], before[-1:], resp.bulk(WORD) + before + resp.bulk(WORD)]):
        replies, _, state, large = play(chunks, 9)
        assert (replies[1], state, large) == (repr(WORD), State.READY, len(replies) // 2)


@pins("P1", "4.17")
@pytest.mark.parametrize("before", [b"", resp.bulk(WORD), resp.integer(1)])
def test_one_that_nobody_had_asked_for_is_no_reply_to_what_is_sent_before_its_end(before):
    machine, _ = make_machine()
    if before:
        machine.send([Slot(b"<>", decode=False)], (0.0, 0, 0))
    for chunk in (before, resp.bulk(WORD)[:12]):
        machine.receive_data(chunk)
    assert machine.state is State.BROKEN
    assert "a reply that nobody had asked for" in str(machine.failure)


def test_one_in_an_array_of_a_monitor():
    machine, _ = make_machine()
    machine.mode = Mode.MONITOR
    machine.receive_data(resp.simple("line") + resp.push("p") + b"*2\r\n:1\r\n")
    machine.receive_data(resp.bulk(WORD))
    assert machine.pushes == [b"line", [b"p"], [1, WORD]]


def test_one_larger_than_the_limit_ends_at_its_first_line():
    machine, _ = make_machine(most_bytes=1000)
    machine.send([slot := Slot(b"<>", decode=False)], (0.0, 0, 0))
    (answered,) = machine.receive_data(b"$1001\r\n" + b"x" * 10)
    assert answered is slot
    assert "a reply of more than 1000 bytes" in str(slot.reply)
    assert machine.state is State.BROKEN


def test_one_as_large_as_the_limit_is_read():
    machine, _ = make_machine(most_bytes=1000)
    machine.send([slot := Slot(b"<>", decode=False)], (0.0, 0, 0))
    machine.receive_data(resp.bulk(b"x" * 900))
    assert (slot.state, slot.reply) == (DONE, b"x" * 900)


def test_one_in_between_of_a_monitor():
    machine, decoder = make_machine()
    machine.mode = Mode.MONITOR
    machine.receive_data(resp.bulk(WORD) + resp.simple("line"))
    assert (machine.pushes, decoder.large_strings) == ([WORD, b"line"], 1)


def test_a_subscriber_gets_one_as_a_reply():
    machine, decoder = make_machine()
    machine.mode = Mode.SUBSCRIBER
    machine.send([slot := Slot(b"<>", decode=False)], (0.0, 0, 0))
    machine.receive_data(resp.bulk(WORD) + resp.push("message", resp.bulk("channel"), resp.bulk(WORD)))
    assert (slot.reply, decoder.large_strings) == (WORD, 1)
    assert machine.pushes == [[b"message", b"channel", WORD]]
    machine.receive_data(resp.bulk(WORD))
    assert machine.state is State.BROKEN


def test_it_says_while_it_is_in_one():
    machine, _ = make_machine()
    machine.send([Slot(b"<>", decode=False)], (0.0, 0, 0))
    told = []
    for byte in resp.bulk(WORD):
        told.append(machine.is_in_large)
        machine.receive_data(bytes([byte]))
    told.append(machine.is_in_large)
    assert told == [False] * len(told)  # its first line came byte by byte, and went to the parser
    machine.send([Slot(b"<>", decode=False)], (0.0, 0, 0))
    told.clear()
    for piece in (resp.bulk(WORD * 2)[:15], resp.bulk(WORD * 2)[15:]):
        machine.receive_data(piece)
        told.append(machine.is_in_large)
    assert told == [True, False]


def test_one_that_ends_wrongly():
    """The parser does not look at the end of strings, and would go on."""
    for end in (b"\n\r", b"..", b"\r\r"):
        replies, _, state, _ = play([resp.bulk(WORD) + b"$12\r\n" + WORD + end + resp.bulk(WORD)], 3)
        assert (replies, state) == (["b'twelve bytes'"], State.BROKEN)


def test_ten_thousand_bytes_are_large():
    for size, large in ((9_999, 0), (10_000, 1), (70_000, 1)):
        assert play([resp.bulk(b"x" * size)], 1, digits=DIGITS)[3] == large


def test_one_that_begins_with_a_packet():
    """From another machine not much more comes at once."""
    stream = resp.bulk(b"x" * 70_000)
    packets = [stream[start : start + 1448] for start in range(0, len(stream), 1448)]
    assert play(packets, 1, digits=DIGITS) == ([repr(b"x" * 70_000)], [], State.READY, 1)


def test_abandoned_counts():
    machine, _ = make_machine()
    slot = Slot(b"<>", decode=False)
    machine.send([slot], (0.0, 0, 0))
    slot.abandon()
    assert slot.state == ABANDONED
    assert machine.receive_data(resp.bulk(WORD)) == []
    assert machine.dropped == 1


def test_one_takes_as_much_room_as_has_come():
    """However long it says it is, and in however small parts it comes."""
    string = LargeString(Decoder("utf-8", "strict", error_reply)._large_line.match(b"$999999999\r\n"))
    tracemalloc.start()
    try:
        for _ in range(10_000):
            string.take(b"ab", 0)
        assert tracemalloc.get_traced_memory()[0] < 40_000
    finally:
        tracemalloc.stop()


def test_a_string_takes_what_is_its_own():
    line = Decoder("utf-8", "strict", error_reply, large_digits=2)._large_line.match(b"$12\r\n")
    string = LargeString(line)
    assert string.take(b"??twelve", 2) == 8
    assert string.take(b" bytes\r", 0) == 7
    assert not string.is_whole
    assert string.take(b"\n+OK\r\n", 0) == 1
    assert string.is_whole
    assert bytes(string) == WORD
    with pytest.raises(FramingError, match="does not end where it says"):
        LargeString(line).take(WORD + b"..", 0)


def test_a_first_line_in_two_parts_delays_it_by_one_string():
    """The parser has begun with that string; the next ones are read beside it again, though no read begins with one."""
    string = resp.bulk(b"x" * 20_000)
    stream = string * 10
    for cut in range(1, 8):
        chunks = [stream[: len(string) + cut]]
        chunks += [stream[start : start + 15_000] for start in range(len(string) + cut, len(stream), 15_000)]
        replies, _, state, large = play(chunks, 10, digits=DIGITS)
        assert (len(replies), state) == (10, State.READY)
        assert large == 9


def test_small_ones_are_never_split_for_large_ones():
    stream = resp.bulk(b"x" * 64) * 1000
    machine, decoder = make_machine(digits=DIGITS)
    machine.send([Slot(b"<>", decode=False) for _ in range(1000)], (0.0, 0, 0))
    fed = []
    decoder_feed = Decoder.feed
    for start in range(0, len(stream), 20_000):
        before = len(fed)
        for piece in Decoder.pieces(decoder, stream[start : start + 20_000]):
            fed.append(piece)
            decoder_feed(decoder, piece)
            while decoder.has_data():
                if decoder.read() is NOT_ENOUGH:
                    decoder.is_open = True
                    break
        assert len(fed) == before + 1

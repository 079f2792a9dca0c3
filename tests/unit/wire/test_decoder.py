"""Each frame comes out once and right, however the stream was cut; what is no frame never comes out."""

import gc
import itertools
import math
import sys

import pytest
from hiredis import PushNotification
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import BusyLoadingError, MovedError, NoScriptError, RedisError, ResponseError

from aioredis_kit._redispy import error_reply
from aioredis_kit.testing import resp
from aioredis_kit.wire.attributes import FramingError
from aioredis_kit.wire.decoder import NOT_ENOUGH, Decoder
from aioredis_kit.wire.large import LargeString

pins = pytest.mark.pins


class Told(Exception):
    """What an error reply comes out as, comparable."""

    def __eq__(self, other):
        return isinstance(other, Told) and self.args == other.args

    __hash__ = Exception.__hash__


def read_all(chunks, *, decode=False, encoding="utf-8", errors="strict"):
    """Return all frames, read as the machine reads them; a decoding error takes its frame's place."""
    decoder = Decoder(encoding, errors, Told)
    frames = []
    for chunk in chunks:
        for piece in decoder.pieces(chunk):
            if isinstance(piece, LargeString):
                frames.append(decoder.text_of(piece) if decode else bytes(piece))
                continue
            decoder.feed(piece)
            while True:
                try:
                    frame = decoder.read(decode and not decoder.in_push)
                except UnicodeDecodeError as error:
                    frame = error.__class__
                if frame is NOT_ENOUGH:
                    break
                assert decoder.in_push is isinstance(frame, PushNotification)
                decoder.in_push = False
                frames.append(frame)
    return frames


def cuts(data):
    """Yield the stream whole, byte by byte, and cut in two at every position."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]


def typed(value):
    """Return a value with its types, since ``1 == True == 1.0`` and a push is a list."""
    if isinstance(value, list | set | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, dict):
        return dict, [(typed(key), typed(item)) for key, item in value.items()]
    return type(value), repr(value)


def assert_frames(data, *frames, **options):
    for chunks in cuts(data):
        assert typed(read_all(chunks, **options)) == typed(list(frames)), chunks


# -- types ------------------------------------------------------------------------------------------

LONG = "x" * 300

# What is on the wire, what it is undecoded, and what it is as text.
TYPES = {
    "simple string": (b"+OK\r\n", b"OK", "OK"),
    "empty simple string": (b"+\r\n", b"", ""),
    "error": (b"-ERR no\r\n", Told("ERR no"), Told("ERR no")),
    "error beyond UTF-8": (b"-ERR \xff\r\n", Told("ERR \ufffd"), Told("ERR \ufffd")),
    "integer": (b":42\r\n", 42, 42),
    "negative integer": (b":-42\r\n", -42, -42),
    "longest integer": (b":9223372036854775807\r\n", 2**63 - 1, 2**63 - 1),
    "string": (resp.bulk("tür"), "tür".encode(), "tür"),
    "empty string": (resp.bulk(""), b"", ""),
    "long string": (resp.bulk(LONG), LONG.encode(), LONG),
    "string that looks like frames": (
        resp.bulk("\r\n|1\r\n+a\r\n>1\r\n"),
        b"\r\n|1\r\n+a\r\n>1\r\n",
        "\r\n|1\r\n+a\r\n>1\r\n",
    ),
    "string of marks": (resp.bulk("\n|\n>\n|"), b"\n|\n>\n|", "\n|\n>\n|"),
    "string of one mark": (resp.bulk("|"), b"|", "|"),
    "null of RESP2": (b"$-1\r\n", None, None),
    "array": (resp.array(resp.integer(1), resp.bulk("a")), [1, b"a"], [1, "a"]),
    "empty array": (b"*0\r\n", [], []),
    "null array of RESP2": (b"*-1\r\n", None, None),
    "array of arrays": (
        resp.array(resp.array(resp.array()), resp.array(resp.bulk(None))),
        [[[]], [None]],
        [[[]], [None]],
    ),
    "array with an error": (
        resp.array(resp.error("ERR no"), resp.integer(1)),
        [Told("ERR no"), 1],
        [Told("ERR no"), 1],
    ),
    "null": (b"_\r\n", None, None),
    "true": (b"#t\r\n", True, True),
    "false": (b"#f\r\n", False, False),
    "double": (b",1.5\r\n", 1.5, 1.5),
    "double without a point": (b",10\r\n", 10.0, 10.0),
    "double with an exponent": (b",-1e-5\r\n", -1e-5, -1e-5),
    "infinity": (b",inf\r\n", math.inf, math.inf),
    "negative infinity": (b",-inf\r\n", -math.inf, -math.inf),
    "not a number": (b",nan\r\n", math.nan, math.nan),
    "big number, as text": (b"(-12345678901234567890123\r\n", b"-12345678901234567890123", "-12345678901234567890123"),
    "verbatim text, without its format": (b"=8\r\ntxt:t\xc3\xbcr\r\n", "tür".encode(), "tür"),
    "map": (resp.mapping({resp.bulk("k"): resp.integer(1)}), {b"k": 1}, {"k": 1}),
    "map of other keys": (
        b"%3\r\n:1\r\n_\r\n_\r\n:3\r\n#f\r\n:4\r\n",
        {1: None, None: 3, False: 4},
        {1: None, None: 3, False: 4},
    ),
    "empty map": (b"%0\r\n", {}, {}),
    "set, as a list": (b"~2\r\n:1\r\n+a\r\n", [1, b"a"], [1, "a"]),
    "set of lists": (b"~1\r\n*1\r\n:1\r\n", [[1]], [[1]]),
    "map in a map in an array": (
        resp.array(resp.mapping({resp.bulk("a"): resp.mapping({resp.bulk("b"): resp.array()})})),
        [{b"a": {b"b": []}}],
        [{"a": {"b": []}}],
    ),
}

each_type = pytest.mark.parametrize(("wire", "raw", "text"), TYPES.values(), ids=TYPES)


@each_type
def test_a_reply_of_each_type(wire, raw, text):
    assert_frames(wire, raw)
    assert_frames(wire, text, decode=True)


@each_type
def test_frames_follow_one_another(wire, raw, text):
    assert_frames(wire + b":1\r\n" + wire, raw, 1, raw)


@each_type
def test_a_push_is_read_undecoded(wire, raw, text):
    push = resp.push("message", wire)
    assert_frames(push, PushNotification([b"message", raw]))
    assert_frames(
        b"+a\r\n" + push + push + b"+b\r\n", "a", *[PushNotification([b"message", raw])] * 2, "b", decode=True
    )


@given(st.lists(st.sampled_from(sorted(TYPES)), max_size=8), st.data())
def test_any_stream_in_any_pieces(names, data):
    stream = b"".join(TYPES[name][0] for name in names)
    positions = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    bounds = [0, *sorted(set(positions) - {0, len(stream)}), len(stream)]
    chunks = [stream[start:end] for start, end in itertools.pairwise(bounds) if start < end]
    assert typed(read_all(chunks)) == typed([TYPES[name][1] for name in names])


def test_a_depth_that_no_server_reaches_is_refused():
    nested = 1
    for _ in range(100):
        nested = [nested]
    assert_frames(b"*1\r\n" * 100 + b":1\r\n", nested)
    with pytest.raises(FramingError, match="nesting depth"):
        read_all([b"*1\r\n" * 2000])


# -- errors -----------------------------------------------------------------------------------------


@pins("4.15")
def test_an_error_reply_is_redis_pys_exception():
    decoder = Decoder("utf-8", "strict", error_reply)
    decoder.feed(b"-NOSCRIPT x\r\n*2\r\n-LOADING y\r\n-ERR z\r\n-MOVED 1 h:2\r\n-MOVED\r\n-\r\n")
    frames = [decoder.read(False) for _ in range(5)]
    assert type(frames[0]) is NoScriptError
    assert [type(item) for item in frames[1]] == [BusyLoadingError, ResponseError]
    assert [type(frame) for frame in frames[2:]] == [MovedError, ResponseError, ResponseError]
    assert all(isinstance(frame, RedisError) for frame in frames[2:])


@pins("4.17")
@pytest.mark.parametrize(
    "data",
    [
        *(b"hello\r\n", b"\x00", b"\r\n", b"OK\r\n", b".\r\n", b"?\r\n"),
        *(b":\r\n", b":1.5\r\n", b":99999999999999999999\r\n", b",abc\r\n", b"(abc\r\n", b"#x\r\n", b"_x\r\n"),
        *(b"$x\r\n", b"$-2\r\n", b"$99999999999999999999999\r\n", b"*x\r\n", b"*-2\r\n", b"*99999999999999999999\r\n"),
        *(b"$?\r\n", b"*?\r\n", b"+a\nb\r\n", b"=3\r\nabc\r\n", b"=8\r\ntext:abc\r\n"),
        b"!5\r\nERR x\r\n",  # RESP3 knows it, hiredis doesn't; no server is known to send it
        b"*2\r\n:1\r\nhello\r\n",
        b"%1\r\n+k\r\nhello\r\n",
        b"|1\r\n+key\r\nhello\r\n:1\r\n",
        b"|?\r\n",
        b"*1\r\n|x\r\n",
    ],
)
def test_what_is_no_resp_is_refused(data):
    for chunks in cuts(data):
        with pytest.raises(FramingError):
            read_all(chunks)
    with pytest.raises(FramingError):
        read_all([b"+fine\r\n" + data])


@pins("4.17")
@pytest.mark.parametrize("key", [b"*1\r\n:1\r\n", b"%0\r\n", b"~0\r\n"], ids=["array", "map", "set"])
def test_a_map_key_that_is_no_scalar_is_refused(key):
    for chunks in cuts(b"%1\r\n" + key + b":1\r\n"):
        with pytest.raises(TypeError, match="unhashable"):
            read_all(chunks)


@pins("4.17")
def test_nothing_is_read_after_an_error():
    """hiredis' own state is of no use then: the machine takes no further byte."""
    decoder = Decoder("utf-8", "strict", Told)
    decoder.feed(b"hello\r\n+OK\r\n")
    for _ in range(3):
        with pytest.raises(FramingError):
            decoder.read(False)


@pytest.mark.parametrize("header", [b"$600000000000\r\n", b"%4294967295\r\n", b"$536870912\r\nbeginning"])
def test_a_length_alone_takes_no_memory(header):
    """There is no limit to a reply's size; but what was announced only is not allocated."""
    decoder = Decoder("utf-8", "strict", Told)
    decoder.feed(header)
    assert decoder.read(False) is NOT_ENOUGH


# -- decoding ---------------------------------------------------------------------------------------

INVALID = {
    "string": b"$2\r\na\xff\r\n",
    "simple string": b"+\xff\r\n",
    "verbatim text": b"=5\r\ntxt:\xff\r\n",
    "nested": b"*3\r\n:1\r\n$1\r\n\xff\r\n$1\r\na\r\n",
    "deeply nested": b"*2\r\n*1\r\n%1\r\n+k\r\n$1\r\n\xff\r\n:1\r\n",
    "twice": b"*2\r\n$1\r\n\xff\r\n$1\r\n\xfe\r\n",
    "map key": b"%1\r\n$1\r\n\xff\r\n:1\r\n",
}


@pins("4.16")
@pytest.mark.parametrize("wire", INVALID.values(), ids=INVALID)
def test_a_decoding_error_takes_the_place_of_its_reply_alone(wire):
    assert_frames(b"+a\r\n" + wire + b"+b\r\n" + wire, "a", UnicodeDecodeError, "b", UnicodeDecodeError, decode=True)


@pytest.mark.parametrize("wire", INVALID.values(), ids=INVALID)
def test_what_cannot_be_decoded_can_be_had_raw(wire):
    for chunks in cuts(wire + b"+b\r\n"):
        assert len(read_all(chunks)) == 2


@pytest.mark.parametrize("wire", INVALID.values(), ids=INVALID)
def test_a_push_is_never_a_decoding_error(wire):
    for chunks in cuts(b"+a\r\n" + resp.push("message", wire) + b"+b\r\n"):
        before, push, after = read_all(chunks, decode=True)
        assert (before, after) == ("a", "b")
        assert push[0] == b"message"


@pytest.mark.parametrize(
    ("encoding", "errors", "text"),
    [
        ("utf-8", "replace", "\ufffd"),
        ("utf-8", "ignore", ""),
        ("utf-8", "surrogateescape", "\udcff"),
        ("latin-1", "strict", "ÿ"),
        ("cp1251", "strict", "я"),
    ],
)
def test_how_text_is_decoded_can_be_chosen(encoding, errors, text):
    assert_frames(b"$1\r\n\xff\r\n", text, decode=True, encoding=encoding, errors=errors)


def test_the_names_of_encoding_and_errors_are_kept_alive():
    """hiredis keeps bare pointers to their characters: freed, they are overwritten by whatever comes next."""
    decoder = Decoder("".join(["lat", "in", "-1"]), "".join(["str", "ict"]), Told)
    gc.collect()
    held = [chr(ord("A") + n % 26) * length for length in (6, 7) for n in range(5000)]
    decoder.feed(b"$1\r\n\xe4\r\n")
    assert decoder.read(True) == "ä"
    assert held


def test_a_name_is_held_by_the_decoder():
    """The same without luck: the very objects that hiredis was given are referred to."""
    encoding = "".join(["lat", "in", "-1"])
    before = sys.getrefcount(encoding)
    decoder = Decoder(encoding, "strict", Told)
    assert sys.getrefcount(encoding) == before + 1
    del decoder
    assert sys.getrefcount(encoding) == before


def test_the_flag_of_decoding_counts_for_what_is_parsed_then():
    """Why it must not change within a frame: hiredis would mix both."""
    decoder = Decoder("utf-8", "strict", Told)
    decoder.feed(b"*2\r\n+a\r\n")
    assert decoder.read(True) is NOT_ENOUGH
    decoder.feed(b"+b\r\n")
    assert decoder.read(False) == ["a", b"b"]


# -- attributes -------------------------------------------------------------------------------------

ATTRIBUTE = b"|1\r\n+key-popularity\r\n%2\r\n$1\r\na\r\n,0.19\r\n$1\r\nb\r\n,0.0\r\n"
SHORT = b"|1\r\n+k\r\n:1\r\n"

WITH_ATTRIBUTES = {
    "before a reply": (ATTRIBUTE + b":1\r\n", 1),
    "in an array": (b"*3\r\n:1\r\n" + ATTRIBUTE + b":2\r\n+c\r\n", [1, 2, b"c"]),
    "before the first item": (b"*1\r\n" + ATTRIBUTE + b":2\r\n", [2]),
    "before a key": (b"%1\r\n" + SHORT + b"+k\r\n:1\r\n", {b"k": 1}),
    "before a value": (b"%1\r\n+k\r\n" + SHORT + b":1\r\n", {b"k": 1}),
    "deep inside": (b"*1\r\n*1\r\n%1\r\n+k\r\n*2\r\n" + SHORT + b":1\r\n" + SHORT + b":2\r\n", [[{b"k": [1, 2]}]]),
    "everywhere": (SHORT + b"*1\r\n" + SHORT + b"*1\r\n" + SHORT + b":1\r\n", [[1]]),
    "several": (SHORT * 3 + b":1\r\n", 1),
    "empty": (b"|0\r\n:1\r\n", 1),
    "in an attribute": (b"|1\r\n" + SHORT + b"+k\r\n" + SHORT + b"*1\r\n" + SHORT + b":9\r\n:1\r\n", 1),
    "before an error": (SHORT + b"-ERR no\r\n", Told("ERR no")),
    "before a string of marks": (SHORT + resp.bulk("\r\n|1\r\n>"), b"\r\n|1\r\n>"),
    "with text of marks": (b"|1\r\n" + resp.bulk("\r\n|1\r\n>") + resp.bulk("\n|\n>") + b":1\r\n", 1),
    "before a push": (SHORT + b">1\r\n+p\r\n", PushNotification([b"p"])),
    "in a push": (b">2\r\n" + SHORT + b"+p\r\n" + SHORT + b":1\r\n", PushNotification([b"p", 1])),
    "with a push in it": (b"|1\r\n+k\r\n>1\r\n+p\r\n:1\r\n", 1),
}

each_attributed = pytest.mark.parametrize(("wire", "frame"), WITH_ATTRIBUTES.values(), ids=WITH_ATTRIBUTES)


@pins("P1")
@each_attributed
def test_an_attribute_is_no_reply(wire, frame):
    assert_frames(wire, frame)
    assert_frames(b"+a\r\n" + wire + b"+b\r\n", b"a", frame, b"b")


@pins("P1")
@each_attributed
def test_an_attribute_is_no_reply_from_any_three_pieces(wire, frame):
    stream = wire + b"+b\r\n"
    for first in range(1, len(stream) - 1):
        for second in range(first + 1, len(stream)):
            chunks = [stream[:first], stream[first:second], stream[second:]]
            assert typed(read_all(chunks)) == typed([frame, b"b"]), chunks


def test_an_attribute_without_its_value_is_nothing_yet():
    assert read_all([SHORT]) == []
    assert read_all([b"+a\r\n" + SHORT, SHORT]) == [b"a"]


TEXTS = st.sampled_from(["", "a", "\r\n|1\r\n", "\n>", "|", "\r\n>2\r\n+x\r\n", "ä" * 20])


def frames(*, depth=3):
    """Return a strategy of pairs: a frame with attributes strewn in, and the same without."""
    leaf = st.one_of(
        TEXTS.map(resp.bulk),
        st.integers(-9, 9).map(resp.integer),
        st.sampled_from([b"_\r\n", b"#t\r\n", b",1.5\r\n", b"$-1\r\n", b"-ERR x\r\n", b"(1\r\n", b"=5\r\ntxt:x\r\n"]),
    ).map(lambda wire: (wire, wire))
    inner = leaf if depth == 0 else leaf | aggregates(depth=depth - 1)
    attribute = st.lists(st.tuples(inner, inner), max_size=2).map(
        lambda pairs: b"|%d\r\n%b" % (len(pairs), b"".join(key[0] + value[0] for key, value in pairs))
    )
    return st.tuples(st.lists(attribute, max_size=1), inner).map(lambda p: (b"".join(p[0]) + p[1][0], p[1][1]))


def aggregates(*, depth):
    def build(mark, items):
        header = b"%b%d\r\n" % (mark, len(items))
        return header + b"".join(item[0] for item in items), header + b"".join(item[1] for item in items)

    def build_map(values):
        keys = [resp.bulk(f"k{n}") for n in range(len(values))]
        header = b"%%%d\r\n" % len(values)
        return tuple(
            header + b"".join(key + value[side] for key, value in zip(keys, values, strict=True)) for side in (0, 1)
        )

    items = st.lists(frames(depth=depth), max_size=3)
    return st.builds(build, st.sampled_from([b"*", b"~"]), items) | items.map(build_map)


@pins("P1")
@given(st.lists(st.tuples(frames(), st.booleans()), max_size=4), st.randoms(use_true_random=False))
def test_a_stream_is_the_same_with_attributes_and_without(parts, random):
    def push(wire):
        return b">2\r\n+p\r\n" + wire

    stream = b"".join(push(wire) if is_push else wire for (wire, _), is_push in parts)
    plain = b"".join(push(wire) if is_push else wire for (_, wire), is_push in parts)
    chunks = []
    rest = stream
    while rest:
        size = random.choice([1, 2, 3, 7, len(rest)])
        chunks.append(rest[:size])
        rest = rest[size:]
    expected = read_all([plain]) if plain else []
    assert len(expected) == len(parts)
    assert typed(read_all(chunks)) == typed(expected)


@pytest.mark.parametrize("is_in_array", [False, True])
@pytest.mark.parametrize("first", [10**7, 10**12])
def test_text_with_many_numbers_is_not_cut_up(is_in_array, first):
    """Such as XML: each piece costs more than the parser takes for a thousand bytes."""
    text = b"".join(b"<id>%d</id>" % number for number in range(first, first + 300))
    stream = b"*1\r\n" * is_in_array + b"$%d\r\n%b\r\n" % (len(text), text)
    decoder = Decoder("utf-8", "strict", Told)
    pieces = []
    for piece in decoder.pieces(stream):
        pieces.append(piece)
        decoder.feed(piece)
        while decoder.has_data() and decoder.read() is not NOT_ENOUGH:
            pass
    assert len(pieces) <= 2

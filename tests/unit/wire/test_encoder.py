"""A command becomes the bytes that redis-py would send, or an error that names the argument."""

import array
import contextlib
import enum
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Connection
from redis.exceptions import DataError

from aioredis_kit.wire.encoder import LARGE, Encoder, join, size_of

pins = pytest.mark.pins


def encode(*args, encoding="utf-8", errors="strict"):
    return Encoder(encoding, errors).encode(args)


def whole(payload):
    return payload if isinstance(payload, bytes) else b"".join(payload)


def refusal(*args, **options):
    with pytest.raises(DataError) as caught:
        encode(*args, **options)
    return str(caught.value)


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "not me"


class Raw(bytes):
    __slots__ = ()


class Number(int):
    def __repr__(self):
        return f"Number({int(self)})"

    __str__ = __repr__


class Color(enum.IntEnum):
    RED = 7


class Flags(enum.IntFlag):
    A = 1
    B = 2


class OddFloat(float):
    """As NumPy's float64, which is a float with a repr of its own."""

    def __repr__(self):
        return f"np.float64({float(self)})"

    __str__ = __repr__


# -- what is sent -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arg", "sent"),
    [
        ("text", b"text"),
        ("ä€😀", "ä€😀".encode()),
        ("", b""),
        (b"", b""),
        (b"\x00\r\n\xff", b"\x00\r\n\xff"),
        (0, b"0"),
        (-5, b"-5"),
        (2**63, b"9223372036854775808"),
        (-(10**40), b"-1" + b"0" * 40),
        (1.5, b"1.5"),
        (0.1, b"0.1"),
        (1e100, b"1e+100"),
        (-0.0, b"-0.0"),
        (float("inf"), b"inf"),
        (float("nan"), b"nan"),
        (Text("text"), b"text"),
        (Raw(b"raw"), b"raw"),
        (Number(5), b"5"),
        (Color.RED, b"7"),
        (Flags.A | Flags.B, b"3"),
        (signal.SIGINT, b"2"),
        (OddFloat(1.5), b"1.5"),
        (bytearray(b"bytes"), b"bytes"),
        (memoryview(b"bytes"), b"bytes"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(b"abcdef")[::-1], b"fedcba"),
        (memoryview(array.array("H", [1, 2])), array.array("H", [1, 2]).tobytes()),
        (memoryview(b""), b""),
    ],
    ids=lambda value: f"memoryview of {bytes(value)}" if isinstance(value, memoryview) else repr(value),
)
def test_what_is_sent(arg, sent):
    wire = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n" % (len(sent), sent)
    assert encode("SET", "k", arg) == wire
    # Beside an argument that takes the other path, too.
    assert encode("SET", "k", arg, bytearray(b"x")) == b"*4" + wire[2:] + b"$1\r\nx\r\n"


def test_a_name_alone_is_a_command():
    assert encode("PING") == encode(b"PING") == encode(bytearray(b"PING")) == b"*1\r\n$4\r\nPING\r\n"


def test_names_are_remembered_each_for_itself():
    """As they are spelled, whatever is in them, and not without limit."""
    encoder = Encoder()
    for name in ("GET", b"GET", "get", "100%d", b"%b%%", "grüße", "GET", 1, 1.0, True + 0, bytearray(b"GET")) * 2:
        word = name if isinstance(name, bytes | bytearray) else str(name).encode()
        head = b"$%d\r\n%b\r\n" % (len(word), word)
        assert encoder.encode((name, "k")) == b"*2\r\n" + head + b"$1\r\nk\r\n"
        assert encoder.encode((name, b"k", "ö")) == b"*3\r\n" + head + b"$1\r\nk\r\n$2\r\n\xc3\xb6\r\n"
    for number in range(5000):
        encoder.encode((f"name-{number}", "k"))
    assert len(encoder._with_one) == len(encoder._with_two) <= 2048


def test_a_name_is_not_split():
    """That is for who knows that it is one: a value may contain spaces."""
    assert encode("CONFIG GET") == b"*1\r\n$10\r\nCONFIG GET\r\n"


BYTES = st.binary(max_size=40)
ACCEPTED_BY_BOTH = st.one_of(
    *(st.text(max_size=40), BYTES, st.integers(), st.floats(), BYTES.map(bytearray), BYTES.map(memoryview)),
    st.integers(0, 3).map(lambda n: "x" * (LARGE - 1 + n)),
)


@given(st.lists(ACCEPTED_BY_BOTH, min_size=1, max_size=6))
def test_redis_py_packs_alike(args):
    args = ["NAME", *args]
    assert whole(encode(*args)) == b"".join(Connection().pack_command(*args))


@given(
    st.lists(ACCEPTED_BY_BOTH, min_size=1, max_size=4), st.sampled_from(["utf-16", "cp1252", "latin-1", "utf-32-le"])
)
def test_redis_py_packs_alike_in_other_encodings(args, encoding):
    args = [b"NAME", *args]
    try:
        theirs = b"".join(Connection(encoding=encoding, encoding_errors="replace").pack_command(*args))
    except UnicodeEncodeError:  # lone surrogates have no replacement in UTF-16
        assert "can't be encoded" in refusal(*args, encoding=encoding, errors="replace")
    else:
        assert whole(encode(*args, encoding=encoding, errors="replace")) == theirs


@pytest.mark.parametrize("spelling", ["utf-8", "UTF-8", "utf8", "utf_8", "U8"])
def test_utf8_has_many_names(spelling):
    assert encode("SET", "k", "ä", encoding=spelling) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\xc3\xa4\r\n"


# -- what is refused --------------------------------------------------------------------------------


@pins("4.6", "case-45")
@pytest.mark.parametrize(
    "arg", [True, False, None, [1], (1,), {}, {1}, 1j, object(), int, Color], ids=lambda arg: type(arg).__name__
)
def test_an_argument_of_another_type_is_refused(arg):
    """Its position is named, and its value, which may be a secret, isn't shown."""
    name = type(arg).__name__
    expected = f"argument 2 is of type {name!r}: Redis stores bytes; convert it to bytes, str, int or float first"
    assert refusal("SET", "k", arg) == expected
    assert refusal("SET", "k", arg, "later") == expected
    assert refusal("SET", bytearray(b"k"), arg) == expected


@pins("4.6")
@pytest.mark.parametrize("text", ["\ud800", "a\udc80b", "x" * LARGE + "\udfff"], ids=["first", "within", "long"])
def test_a_lone_surrogate_is_refused(text):
    position = next(i for i, char in enumerate(text) if "\ud800" <= char <= "\udfff")
    expected = f"argument 1 can't be encoded as utf-8: surrogates not allowed at position {position}"
    assert refusal("GET", text) == expected
    assert refusal("SET", text, bytearray(b"x")) == expected


@pins("4.6")
def test_a_character_that_the_encoding_lacks_is_refused():
    assert refusal("GET", "a€", encoding="latin-1") == (
        "argument 1 can't be encoded as latin-1: ordinal not in range(256) at position 1"
    )


@pytest.mark.parametrize(
    ("errors", "sent"),
    [("surrogateescape", b"\xff"), ("replace", b"?"), ("ignore", b""), ("surrogatepass", b"\xed\xb3\xbf")],
)
def test_what_is_done_about_it_can_be_chosen(errors, sent):
    assert encode("GET", "\udcff", errors=errors) == b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(sent), sent)


@pins("4.6")
@pytest.mark.parametrize("number", ["10**5000", "-10**5000", "Number(10**5000)"])
def test_a_number_too_long_to_write_is_refused(number):
    """In a process of its own: hiredis crashes when Python refuses to write a number of more than 4300 digits."""
    script = f"""
from redis.exceptions import DataError
from aioredis_kit.wire.encoder import Encoder
class Number(int): pass
try:
    Encoder().encode(("SET", "k", {number}))
except DataError as error:
    assert "argument 2" in str(error), error
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "refused\n", f"exit status {done.returncode}: {done.stderr[-500:]}"


@given(st.lists(ACCEPTED_BY_BOTH | st.none() | st.booleans() | st.text("\ud800ab"), min_size=1, max_size=5))
def test_a_command_is_encoded_or_refused_with_a_data_error(args):
    with contextlib.suppress(DataError):
        assert whole(encode("X", *args)).startswith(b"*%d\r\n" % (len(args) + 1))


# -- what belongs to the caller ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, LARGE, 4 * LARGE])
@pytest.mark.parametrize("view", [lambda buffer: buffer, memoryview])
def test_a_buffer_is_copied_at_the_call(size, view):
    buffer = bytearray(b"a" * size)
    payload = encode("SET", "k", view(buffer))
    buffer[:] = b"b" * size
    assert whole(payload) == whole(encode("SET", "k", b"a" * size))


# -- large values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, Raw])
@pytest.mark.parametrize("size", [LARGE, LARGE + 1, 10 * LARGE])
def test_large_bytes_are_not_copied(size, kind):
    value = kind(b"a" * size)
    payload = encode("SET", "k", value, "EX", 5)
    assert isinstance(payload, list)
    assert sum(piece is value for piece in payload) == 1
    assert whole(payload) == whole(encode("SET", "k")).replace(b"*2", b"*5") + (
        b"$%d\r\n%b\r\n$2\r\nEX\r\n$1\r\n5\r\n" % (size, value)
    )


def test_large_text_is_encoded_once():
    payload = encode("SET", "k", "ä" * LARGE)
    assert [len(piece) for piece in payload if len(piece) >= LARGE] == [2 * LARGE]


def test_several_large_values_are_pieces_each():
    first, second = b"a" * LARGE, b"b" * LARGE
    payload = encode("MSET", "k1", first, "k2", second)
    assert [piece for piece in payload if len(piece) >= LARGE] == [first, second]
    assert size_of(payload) == len(whole(payload))


@pytest.mark.parametrize("value", [b"a" * (LARGE - 1), "a" * (LARGE - 1), b"", ""], ids=["b", "s", "no b", "no s"])
def test_other_commands_are_one_piece(value):
    assert isinstance(encode("SET", "k", value), bytes)
    assert isinstance(encode("SET", "k", value, bytearray(b"x")), bytes)


# -- joining ----------------------------------------------------------------------------------------

PAYLOADS = st.lists(BYTES | st.lists(BYTES | BYTES.map(memoryview), min_size=1, max_size=3), max_size=6)


@given(PAYLOADS)
def test_joined_payloads_are_their_bytes_in_order(payloads):
    joined = join(payloads)
    assert whole(joined) == b"".join(map(whole, payloads))
    assert size_of(joined) == len(whole(joined)) == sum(map(size_of, payloads))


def test_one_payload_is_not_copied():
    for payload in (encode("PING"), encode("SET", "k", b"a" * LARGE)):
        assert join([payload]) is payload


def test_a_large_value_is_not_copied_by_joining():
    value = b"a" * LARGE
    joined = join([encode("PING"), encode("SET", "k", value), encode("PING")])
    assert sum(piece is value for piece in joined) == 1


def test_nothing_joins_to_nothing():
    assert join([]) == b""

"""What a subscriber is told of a message, as text and as bytes."""

import copy
import pickle
from dataclasses import FrozenInstanceError, fields

import pytest

from aioredis_kit import ConfigurationError, create_client
from aioredis_kit.pubsub.message import Gap, Message, Wording, _Draft

pins = pytest.mark.pins

PUSHES = {
    "message": [b"message", b"news", b"1"],
    "pmessage": [b"pmessage", b"n*", b"news", b"1"],
    "smessage": [b"smessage", b"shard", b"1"],
}


def make_wording(*, decode, **options):
    return Wording(create_client(**options)._core.equipment.options, decode=decode)


@pins("case-55")
@pytest.mark.parametrize("kind", PUSHES)
def test_bytes_or_text(kind):
    push = PUSHES[kind]
    pattern = push[1] if kind == "pmessage" else None
    message = make_wording(decode=False).message(push)
    assert message == Message(kind, push[-2], push[-1], pattern)
    text = make_wording(decode=True).message(push)
    assert text == Message(kind, push[-2].decode(), "1", pattern and pattern.decode())
    assert not text.is_gap


def test_another_encoding():
    wording = make_wording(decode=True, encoding="latin-1")
    assert wording.message([b"message", b"\xe4", b"\xf6"]) == Message("message", "ä", "ö")
    assert wording.to_bytes("ä") == b"\xe4"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_is_no_text(encoding):
    push = [b"message", b"news", b"\xff"]
    with pytest.raises(UnicodeDecodeError):
        make_wording(decode=True, encoding=encoding).message(push)
    lenient = make_wording(decode=True, encoding=encoding, encoding_errors="replace")
    assert lenient.message(push).data == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_is_no_string_at_all(encoding):
    """A server's own message may carry a list, or nothing: invalidations in RESP2."""
    text = make_wording(decode=True, encoding=encoding).text
    assert text([b"a", None, 1]) == ["a", None, 1]


def test_names():
    wording = make_wording(decode=False)
    assert wording.all_to_bytes("news") == [b"news"]
    assert wording.all_to_bytes(["news", b"b", bytearray(b"c"), memoryview(b"d")]) == [b"news", b"b", b"c", b"d"]
    assert wording.all_to_bytes(name for name in ("x",)) == [b"x"]
    for wrong in (1, [1], None, [None]):
        with pytest.raises(ConfigurationError, match="name"):
            wording.all_to_bytes(wrong)


def test_a_message_is_a_value():
    """Although it is made on a shorter way than a frozen dataclass takes."""
    message = make_wording(decode=False).message(PUSHES["message"])
    assert type(message) is Message
    assert hash(message) == hash(Message("message", b"news", b"1"))
    assert pickle.loads(pickle.dumps(message)) == message == copy.copy(message)
    with pytest.raises(FrozenInstanceError):
        message.data = b"2"
    assert sorted(_Draft.__slots__) == sorted(field.name for field in fields(Message))
    assert repr(message).startswith("Message(kind='message', channel=b'news', data=b'1'")


def test_a_gap():
    gap = Gap(3, "too slow").as_message()
    assert gap == Message("gap", None, None, None, 3, "too slow")
    assert gap.is_gap

"""An attribute ends where its last value ends, however its bytes are cut, and whatever it holds."""

import pytest

from aioredis_kit.testing import resp
from aioredis_kit.wire.attributes import AttributeSkipper, FramingError

KEY = resp.simple("key")


def attribute(*frames):
    """Return an attribute of keys and values in turns."""
    return b"|%d\r\n%b" % (len(frames) // 2, b"".join(frames))


ATTRIBUTES = {
    "empty": attribute(),
    "text": attribute(KEY, resp.simple("value")),
    "several": attribute(KEY, resp.integer(1), resp.bulk("ttl"), resp.integer(-2)),
    "an empty string": attribute(KEY, resp.bulk("")),
    "a null of RESP2": attribute(KEY, resp.bulk(None)),
    "a null array of RESP2": attribute(KEY, b"*-1\r\n"),
    "a null": attribute(KEY, resp.null()),
    "a number": attribute(KEY, b",1.5\r\n"),
    "a big number": attribute(KEY, b"(123456789012345678901234567890\r\n"),
    "a truth": attribute(KEY, b"#t\r\n"),
    "an error": attribute(KEY, resp.error("ERR no")),
    "a long error": attribute(KEY, b"!6\r\nERR\r\nx\r\n"),
    "verbatim text": attribute(KEY, b"=7\r\ntxt:a\r\n\r\n"),
    "an array": attribute(KEY, resp.array(resp.integer(1), resp.array(resp.bulk("x")), resp.array())),
    "a set": attribute(KEY, b"~2\r\n:1\r\n:2\r\n"),
    "a map": attribute(KEY, resp.mapping({resp.bulk("a"): resp.mapping({resp.bulk("b"): resp.null()})})),
    "a key of several values": attribute(resp.array(KEY, KEY), resp.integer(1)),
    "text that looks like frames": attribute(KEY, resp.bulk("\r\n|1\r\n+a\r\n$3\r\n>2\r\n*5\r\n")),
    "an attribute of its value": attribute(KEY, attribute(KEY, resp.null()) + resp.integer(1)),
    "an attribute of its key": attribute(attribute(KEY, resp.null()) + KEY, resp.integer(1)),
    "attributes in attributes": attribute(KEY, attribute(KEY, attribute(KEY, KEY) + KEY) + resp.integer(1)),
    "an attribute in an array": attribute(KEY, resp.array(resp.integer(1), attribute(KEY, KEY) + resp.integer(2))),
}

AFTER = b"*1\r\n+the value that it describes\r\n"

each_attribute = pytest.mark.parametrize("attribute", ATTRIBUTES.values(), ids=ATTRIBUTES)


@each_attribute
def test_its_end_is_found_at_once(attribute):
    assert AttributeSkipper().skip(attribute + AFTER, 0) == len(attribute)
    assert AttributeSkipper().skip(attribute, 0) == len(attribute)
    assert AttributeSkipper().skip(b":1\r\n" + attribute + AFTER, 4) == 4 + len(attribute)


@each_attribute
def test_its_end_is_found_byte_by_byte(attribute):
    skipper = AttributeSkipper()
    for position in range(len(attribute) - 1):
        assert skipper.skip(attribute[position : position + 1], 0) is None
    assert skipper.skip(attribute[-1:], 0) == 1


@each_attribute
def test_its_end_is_found_from_any_two_pieces(attribute):
    for cut in range(1, len(attribute)):
        skipper = AttributeSkipper()
        assert skipper.skip(attribute[:cut], 0) is None
        assert skipper.skip(attribute[cut:] + AFTER, 0) == len(attribute) - cut


@pytest.mark.pins("4.17")
@pytest.mark.parametrize(
    "data",
    [
        *(b"|x\r\n", b"|\r\n", b"|?\r\n", b"|1\r\n$x\r\n", b"|1\r\n$\r\n", b"|1\r\n*?\r\n", b"|1\r\n$?\r\n"),
        b"|" + b"9" * 5000 + b"\r\n",
        *(b"|1\r\nkey\r\n", b"|1\r\n\r\n", b"|1\r\n+key\r\n\x00\r\n", b"|1\r\n$1\r\nkk\r\nx\r\n"),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_what_is_no_attribute_is_refused(data):
    with pytest.raises(FramingError):
        AttributeSkipper().skip(data, 0)


def test_depth_costs_no_stack():
    depth = 20_000
    nested = b"|1\r\n+key\r\n" + b"*1\r\n" * depth + b":1\r\n"
    assert AttributeSkipper().skip(nested + AFTER, 0) == len(nested)

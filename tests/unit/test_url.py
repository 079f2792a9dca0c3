"""A URL becomes options, or an error that shows no piece of it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.url import parse_url

pytestmark = pytest.mark.ordinary_secrets(reason="it is about how a URL is taken apart, whatever its pieces are")

pins = pytest.mark.pins

READ = [
    pytest.param(
        "redis://user:secret@localhost:6379/0",
        {"host": "localhost", "port": 6379, "tls": False, "username": "user", "password": "secret", "db": 0},
        marks=pins("case-1"),
    ),
    pytest.param(
        "rediss://user:secret@localhost:6379/0",
        {"host": "localhost", "port": 6379, "tls": True, "username": "user", "password": "secret", "db": 0},
        marks=pins("case-2"),
    ),
    pytest.param("redis://localhost", {"host": "localhost", "tls": False}, marks=pins("case-5")),
    pytest.param("redis://localhost/5", {"host": "localhost", "db": 5, "tls": False}, marks=pins("case-6")),
    pytest.param("redis://[::1]:6379", {"host": "::1", "port": 6379, "tls": False}, marks=pins("case-7")),
    pytest.param("redis://[2001:db8::1]:1", {"host": "2001:db8::1", "port": 1, "tls": False}, marks=pins("case-7")),
    pytest.param("redis://[::1]/5", {"host": "::1", "db": 5, "tls": False}, marks=pins("case-7")),
    ("redis://u:p@[::1]", {"host": "::1", "username": "u", "password": "p", "tls": False}),
    ("redis://[fe80::1%25eth0]", {"host": "fe80::1%eth0", "tls": False}),
    pytest.param("unix:///tmp/s?db=2", {"unix_socket_path": "/tmp/s", "db": "2"}, marks=pins("case-8")),
    pytest.param("unix:///tmp/a%20b%40c", {"unix_socket_path": "/tmp/a b@c"}, marks=pins("case-9")),
    ("unix://u:p@/tmp/s", {"unix_socket_path": "/tmp/s", "username": "u", "password": "p"}),
    ("unix://:p@/tmp/s", {"unix_socket_path": "/tmp/s", "password": "p"}),
    ("valkey://h", {"host": "h", "tls": False}),
    ("valkeys://h", {"host": "h", "tls": True}),
    ("garnet://h", {"host": "h", "tls": False}),
    ("REDIS://h", {"host": "h", "tls": False}),
    ("redis://", {"tls": False}),
    ("redis:///3", {"db": 3, "tls": False}),
    ("redis://h/", {"host": "h", "tls": False}),
    ("redis://h:", {"host": "h", "tls": False}),
    ("redis://:@h", {"host": "h", "tls": False}),
    ("redis://:a:b@h", {"host": "h", "password": "a:b", "tls": False}),
    ("redis://:p@w@h", {"host": "h", "password": "p@w", "tls": False}),
    ("redis://%75%3A:%70%2F%C3%A4%25@h", {"host": "h", "username": "u:", "password": "p/ä%", "tls": False}),
    ("redis://:50%@h", {"host": "h", "password": "50%", "tls": False}),
    ("redis://h?a=1&b=x%20y&c=", {"host": "h", "tls": False, "a": "1", "b": "x y", "c": ""}),
    ("redis://h/2?db=2", {"host": "h", "db": 2, "tls": False}),
]

REFUSED = [
    pytest.param("test://x", r"must begin with one of redis://, rediss://, valkey://", marks=pins("case-3")),
    pytest.param("redis://u:p@localhost:6379/NaN", "number of a database", marks=pins("case-4")),
    pytest.param("unix://", "names no Unix socket", marks=pins("case-10")),
    pytest.param("unix:///", "names no Unix socket", marks=pins("case-10")),
    ("unix://u:p@/", "names no Unix socket"),
    ("unix://tmp/s", "unix:///path"),
    ("", "must begin with"),
    ("localhost:6379", "put redis:// before"),
    ("redis:localhost", "must begin with"),
    ("redis", "must begin with"),
    ("http://h", "must begin with"),
    ("garnets://h", "must begin with"),
    (" redis://h", "must begin with"),
    ("redis://h/1.5", "number of a database"),
    ("redis://h/-1", "number of a database"),
    ("redis://h/+1", "number of a database"),
    ("redis://h/1/2", "number of a database"),
    ("redis://h//1", "number of a database"),
    ("redis://h/1/", "number of a database"),
    ("redis://h/%31", "number of a database"),
    ("redis://h/\u0661", "number of a database"),
    ("redis://h/" + "9" * 5000, "number of a database"),
    ("redis://h:0", "from 1 to 65535"),
    ("redis://h:65536", "from 1 to 65535"),
    ("redis://h:port", "malformed address"),
    ("redis://h:-1", "malformed address"),
    ("redis://h:1:2", "malformed address"),
    ("redis://::1", "malformed address"),
    ("redis://[::1", "malformed address"),
    ("redis://::1]", "malformed address"),
    ("redis://[::1]x:1", "malformed address"),
    ("redis://h\n", "space or control character"),
    ("redis://h /1", "space or control character"),
    ("redis://u:a#b@h", "%23"),
    ("redis://h#", "%23"),
    ("redis://u:a/b@h", "%2F"),
    ("redis://u:a?b@h", "%3F"),
    ("redis://:%ff@h", "password with percent-encoded bytes"),
    ("redis://h?db", "malformed query"),
    ("redis://h?a=%ff", "malformed query"),
    ("redis://h/1?db=2", "what db is"),
    ("redis://h?db=1&db=2", "what db is"),
    ("redis://u@h?username=v", "what username is"),
]


@pytest.mark.parametrize(("url", "options"), READ)
def test_a_url_becomes_options(url, options):
    assert parse_url(url) == options


@pytest.mark.parametrize(("url", "message"), REFUSED)
def test_what_is_no_url_of_a_server_is_refused(url, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_url(url)
    assert str(caught.value).startswith("url ")


@pytest.mark.parametrize("url", [b"redis://h", None, 42, ["redis://h"]])
def test_what_is_no_text_is_refused(url):
    with pytest.raises(ConfigurationError, match=f"url must be text .*, not {type(url).__name__}"):
        parse_url(url)


def refusal_of(url):
    """Return the error for a URL, if it is refused."""
    try:
        parse_url(url)
    except ConfigurationError as error:
        return error
    return None


URLISH = st.sampled_from(["", "redis://", "rediss://", "unix://", "unix:///", "http://"])
ANYTHING = st.text(st.sampled_from("ab1%/?#@:[]&=. ") | st.characters(codec="utf-8"), max_size=8)


@given(URLISH, st.text() | ANYTHING)
@example("redis://", "[::1].com")
@example("redis://", "h\u2100")
@example("redis://", "h?a=%ff&%ff=1")
def test_any_text_is_read_or_refused(scheme, text):
    error = refusal_of(scheme + text)
    assert error is None or str(error).startswith("url ")


@given(URLISH, ANYTHING, ANYTHING, st.sampled_from(["{}:x", "x:{}", ":{}", "{}"]), st.sampled_from("@/ "), ANYTHING)
@example("redis://", "", "/", "x:{}", "@", "h:1")
@example("redis://", "", "", ":{}", " ", "")
@example("redis://", "", "\u2100", ":{}", "@", "h")
@example("", "", "", "x:{}", "@", "h:1")
def test_no_error_shows_a_piece_of_the_user_or_password(scheme, before, after, userinfo, separator, rest):
    error = refusal_of(scheme + userinfo.format(before + "S3cr3t" + after) + separator + rest)
    assert error is None or "S3cr3t" not in str(error)
    assert error is None or error.__context__ is None, "a context may quote the URL"

"""A URL gives options: strictly read, and refused where it contradicts those that are given beside it."""

import pathlib
from datetime import timedelta

import pytest

from aioredis_kit.credentials import Credentials
from aioredis_kit.options import TLSOptions
from tests.support.resolving import refusal, resolve

pins = pytest.mark.pins


@pins("case-1", "case-6")
def test_a_url_gives_options():
    options = resolve("redis://user:s3cret@localhost:7000/5")
    assert (options.host, options.port, options.db, options.tls) == ("localhost", 7000, 5, False)
    assert options.credentials == Credentials("user", "s3cret")


@pins("case-2")
def test_rediss_is_tls():
    assert resolve("rediss://user:s3cret@localhost").tls is True


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("db=2", "db", 2),
        ("decode_responses=false", "decode_responses", False),
        ("decode_responses=True", "decode_responses", True),
        ("decode_responses=1", "decode_responses", True),
        ("no_delay=no", "no_delay", False),
        ("protocol=3", "protocol", 3),
        ("socket_timeout=2.5", "command_timeout", 2.5),
        ("health_check_interval=0", "ping_interval", None),
        ("max_connections=9", "max_dedicated_connections", 9),
        ("client_name=a%26b", "client_name", "a&b"),
        ("password=s3cret%40", "password", "s3cret@"),
        ("queue_full=raise", "queue_full", "raise"),
        ("socket_keepalive=false", "keep_alive", None),
        ("db=2&db=2", "db", 2),
        ("command_timeout=none", "command_timeout", None),
        ("ping_interval=None", "ping_interval", None),
        ("protocol=none", "protocol", None),
        ("username=none", "username", "none"),
    ],
)
def test_an_option_of_a_simple_type_may_stand_in_the_query(query, name, value):
    assert getattr(resolve(f"redis://h?{query}"), name) == value
    assert getattr(resolve(f"unix:///s?{query}"), name) == value


@pytest.mark.parametrize(
    ("query", "name"),
    [
        pytest.param("db=x", "db", marks=pins("case-10")),
        ("db=-1", "db"),
        ("db=1.5", "db"),
        ("db=1_0", "db"),
        ("db=", "db"),
        ("db=" + "9" * 5000, "db"),
        ("protocol=4", "protocol"),
        ("decode_responses=maybe", "decode_responses"),
        ("socket_timeout=nan", "socket_timeout"),
        ("socket_timeout=1e3", "socket_timeout"),
        ("socket_timeout=0", "socket_timeout"),
        ("socket_timeout=-1", "socket_timeout"),
        ("reconnect_strategy=1", "reconnect_strategy"),
        ("credential_provider=x", "credential_provider"),
        ("queue_full=Wait", "queue_full"),
        ("client_name=", "client_name"),
    ],
)
def test_a_query_is_read_strictly(query, name):
    assert refusal(f"unix:///s?{query}").startswith(f"{name} in the URL ")


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("redis://u:s3cret@h:1/2", {"host": "h", "port": 1, "db": 2, "username": "u", "password": "s3cret"}),
        ("redis://h?socket_timeout=5", {"command_timeout": timedelta(seconds=5)}),
        ("unix:///s", {"unix_socket_path": pathlib.Path("/s")}),
        ("redis://", {"host": "h"}),
        pytest.param("redis://h", {"tls": False}, marks=pins("case-11")),
        pytest.param("rediss://h", {"tls": True}, marks=pins("case-11")),
        ("rediss://h", {"ssl": True}),
    ],
)
def test_a_url_and_an_option_may_say_the_same(url, given):
    options = resolve(url, **given)
    assert options == resolve(url, **given).replaced({})


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("redis://h", {"host": "i"}),
        ("redis://h:1", {"port": 2}),
        ("redis://h/1", {"db": 0}),
        ("redis://u@h", {"username": "v"}),
        ("redis://:s3cret@h", {"password": "0ther-one"}),
        ("redis://h?socket_timeout=5", {"command_timeout": 6}),
        ("unix:///s", {"unix_socket_path": "/t"}),
        pytest.param("redis://h", {"tls": True}, marks=pins("case-11")),
        pytest.param("rediss://h", {"tls": False}, marks=pins("case-11")),
        ("redis://h", {"tls": TLSOptions()}),
        ("redis://h", {"ssl": True}),
    ],
)
def test_a_url_against_an_option_is_refused(url, given):
    message = refusal(url, **given)
    assert "in the URL" in message
    assert "contradict each other" in message
    assert all(name in message for name in given)


def test_what_is_no_url_is_refused():
    assert refusal("localhost").startswith("url must begin with")

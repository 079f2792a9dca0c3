"""What a target stands for: a URL, a connection string, or a name in the environment."""

from __future__ import annotations

import click
import pytest

from aioredis_kit.cli.target import probing, read_target, seconds
from aioredis_kit.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("text", "environ", "address", "source", "is_from_environment"),
    [
        ("redis://ada@cache:1/2", {}, "cache:1", "the URL", False),
        ("unix:///run/redis.sock", {}, "/run/redis.sock", "the URL", False),
        ("cache:6380,ssl=true", {}, "cache:6380", "the connection string", False),
        ("127.0.0.1", {}, "127.0.0.1:6379", "the connection string", False),
        ("[::1]:7000", {}, "[::1]:7000", "the connection string", False),
        ("cache", {"CACHE_URI": "redis://one"}, "one:6379", "CACHE_URI", True),
        ("cache", {"CACHE_HOST": "two", "CACHE_PORT": "3"}, "two:3", "CACHE_HOST", True),
        ("cache", {"REDIS_URL": "redis://three"}, "three:6379", "REDIS_URL", True),
        ("my.cache", {"ConnectionStrings__my.cache": "four:5"}, "four:5", "ConnectionStrings__my.cache", True),
        (None, {"REDIS_URL": "redis://five", "CACHE_URI": "redis://one"}, "five:6379", "REDIS_URL", True),
    ],
)
def test_a_target_is_read(text, environ, address, source, is_from_environment):
    target = read_target(text, environ=environ)
    assert target.address == address
    assert target.sources[0] == source
    assert target.is_from_environment is is_from_environment
    assert target.as_dict()["address"] == address


def test_overrides_are_no_source():
    target = read_target("redis://cache", environ={}, **probing(2.0))
    assert target.sources == ("the URL",)
    assert target.options.connect_timeout == 2
    assert target.options.command_timeout == 2
    assert read_target("redis://c?connect_timeout=7", **probing(None)).options.connect_timeout == 7


@pytest.mark.parametrize(("name", "looked_for"), [("localhost", "LOCALHOST_URI"), (None, "REDIS_URL")])
def test_a_name_that_nothing_is_said_of_is_told_with_what_was_looked_for(name, looked_for):
    with pytest.raises(ConfigurationError, match=looked_for) as raised:
        read_target(name, environ={})
    assert ("give redis://localhost" in str(raised.value)) is (name is not None)


def test_a_wrong_value_in_the_environment_is_not_taken_for_a_host():
    with pytest.raises(ConfigurationError, match="CACHE_URI") as raised:
        read_target("cache", environ={"CACHE_URI": "redis://x:y"})
    assert "if 'cache' is a host" not in str(raised.value)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "61", "soon", ""])
def test_a_duration_out_of_its_bounds_is_refused(text):
    with pytest.raises(click.BadParameter, match="from 0.5 to 60"):
        seconds(0.5, 60)(text)


def test_a_duration_is_read():
    assert seconds(0.5, 60)("2.5") == 2.5

"""What text says can be overridden, and explained, without any secret."""

from __future__ import annotations

import dataclasses
import ssl

import pytest
import tenacity

from aioredis_kit import CacheOptions, TLSOptions
from aioredis_kit.config import ClientConfiguration, Explanation, Setting
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import Options

SECRET = "s3cret-of-ada"
URL = f"rediss://ada:{SECRET}@h:7/1?command_timeout=2&ssl_ca_certs=/ca.pem"


def read(text=URL, **overrides):
    return ClientConfiguration.from_string(text, **overrides)


# -- overrides --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"db": 3}, {"db": 3, "host": "h"}),
        ({"command_timeout": None}, {"command_timeout": None}),
        ({"socket_timeout": 9}, {"command_timeout": 9.0}),
        ({"host": "i"}, {"host": "i", "port": 7}),
        ({"password": "0ther-one"}, {"username": "ada", "password": "0ther-one"}),
        ({"password": None}, {"username": "ada", "password": None}),
        ({"credential_provider": print}, {"username": None, "password": None, "credential_provider": print}),
        ({"credential_provider": None}, {"username": "ada", "password": SECRET, "credential_provider": None}),
        ({"unix_socket_path": "/s"}, {"unix_socket_path": "/s", "tls": False, "host": "localhost", "db": 1}),
        ({"unix_socket_path": None}, {"unix_socket_path": None, "host": "h"}),
        ({"tls": False}, {"tls": False}),
        ({"ssl": True}, {"tls": TLSOptions(ca_file="/ca.pem")}),
        ({"tls": TLSOptions(ca_file="/b")}, {"tls": TLSOptions(ca_file="/b")}),
        ({"ssl_ca_certs": "/b"}, {"tls": TLSOptions(ca_file="/b")}),
        ({"ssl_certfile": "/c"}, {"tls": TLSOptions(ca_file="/ca.pem", certificate_file="/c")}),
    ],
)
def test_an_override_takes_the_place_of_what_the_text_says(given, values):
    options = read(**given).options
    assert {name: getattr(options, name) for name in values} == values


def test_a_host_takes_the_place_of_a_unix_socket():
    assert read("unix:///s", host="h").options == Options(host="h")


@pytest.mark.parametrize("text", [{"tls": {"ca_file": "/ca"}}, {"url": "rediss://h", "tls": {"ca_file": "/ca"}}])
def test_who_says_that_there_is_tls_does_not_say_how(text):
    assert ClientConfiguration.from_mapping(text, tls=True).options.tls == TLSOptions(ca_file="/ca")
    assert ClientConfiguration.from_mapping(text, tls=False).options.tls is False


def test_without_tls_its_port_is_not_assumed():
    """The one that a connection string implies; one that it names stays."""
    assert read("h,ssl=true").options.port == 6380
    assert read("h,ssl=true", ssl=False).options.port == 6379
    assert read("h,ssl=true", ssl_ca_certs="/ca.pem").options.port == 6380
    assert read("h:6380,ssl=true", tls=False).options.port == 6380


def test_an_override_decides_what_the_hosts_name_tells():
    options = read("redis://h", host="mine.redis.azure.net", password=SECRET).options
    assert (options.port, options.tls) == (10000, True)
    assert read("redis://mine.redis.azure.net", host="h").options == Options(host="h")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dbb": 1}, "there is no option 'dbb'"),
        ({"db": -1}, "db must be a whole number"),
        ({"command_timeout": 1, "socket_timeout": 2}, "command_timeout and socket_timeout contradict each other"),
        ({"url": "redis://i"}, "url can't replace what text says"),
        ({"connection_pool": None}, "connection_pool can't replace what text says"),
        ({"redis_connect_func": print}, "redis_connect_func is not supported"),
    ],
)
def test_overrides_are_read_as_strictly_as_ever(given, message):
    with pytest.raises(ConfigurationError) as caught:
        read(**given)
    assert str(caught.value).startswith(message)


def test_overrides_without_effect_are_told():
    (note,) = read(retry_on_timeout=True, retry=None).explain().notes
    assert note.startswith("retry_on_timeout has no effect. No option makes a client send a write twice; ")


@pytest.mark.parametrize("text", [None, b"redis://h", 1])
def test_a_string_is_text(text):
    with pytest.raises(ConfigurationError, match="a connection string must be text, not "):
        read(text)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys", "garnet", "unix"])
def test_every_scheme_takes_options_in_the_query(scheme):
    address = "/run/s" if scheme == "unix" else "h"
    options = read(f"{scheme}://{address}?db=2&command_timeout=none&queue_full=raise&max_connections=9").options
    assert (options.db, options.command_timeout, options.queue_full) == (2, None, "raise")
    assert options.max_dedicated_connections == 9
    assert options.tls is (scheme in {"rediss", "valkeys"})


async def test_a_client_has_the_options():
    configuration = read("redis://h:7/1", client_name="web")
    client = configuration.create_client()
    assert client.duplicate().get_connection_kwargs()["client_name"] == "web"
    assert "h:7" in repr(client)


# -- explanations -----------------------------------------------------------------------------------


def test_an_explanation_says_which_setting_came_from_where():
    assert str(read(db=2).explain()).splitlines() == [
        "host             'h'                            from the URL",
        "port             7                              from the URL",
        "db               2                              from an argument",
        "username         'ada'                          from the URL",
        "password         ***                            from the URL",
        "tls              TLSOptions(ca_file='/ca.pem')  from the URL",
        "command_timeout  2.0                            from the URL",
        "all others have their defaults",
    ]


def test_an_explanation_has_every_option():
    explanation = read("redis://h").explain()
    settings = {each.name: each for each in explanation.settings}
    assert list(settings) == [each.name for each in dataclasses.fields(Options) if "kind" in each.metadata]
    assert settings["port"] == Setting("port", "6379", "")
    assert settings["host"] == Setting("host", "'h'", "the URL")


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("reconnect_strategy", False, "False"),
        ("reconnect_strategy", tenacity.wait_fixed(1), "<wait_fixed>"),
        ("reconnect_strategy", (tenacity.wait_fixed(1), tenacity.stop_after_delay(9)), "(<wait_fixed>, <stop_after_delay>)"),
        ("reconnect_strategy", lambda retries, cause: 1, "<function>"),
        ("credential_provider", lambda: ("ada", SECRET), "<function>"),
        ("client_side_cache", CacheOptions(ttl=5), "CacheOptions(ttl=5.0)"),
        ("tls", ssl.create_default_context(), "<SSLContext>"),
        (
            *("tls", TLSOptions(certificate_file="/c", key_password=SECRET)),
            "TLSOptions(certificate_file='/c', key_password=***)",
        ),
        ("keep_alive", (60, 5, 3), "(60.0, 5.0, 3)"),
        ("password", SECRET, "***"),
        ("password", None, "None"),
    ],
)  # fmt: skip
def test_values_are_shown_without_secrets(name, given, value):
    configuration = read("rediss://h", **{name: given})
    shown = {each.name: each for each in configuration.explain().settings}
    assert shown[name] == Setting(name, value, "an argument")
    assert SECRET not in f"{configuration} {configuration.explain()}"


def test_an_explanation_and_a_configuration_are_values():
    assert read().explain() == read().explain()
    for each in (read(), read().explain(), read().explain().settings[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(each, dataclasses.fields(each)[0].name, None)
    assert str(Explanation((), ("so it is",))) == "all others have their defaults\nnote: so it is"

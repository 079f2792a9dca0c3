"""Options are read under all their names, and refused with an error that names option, problem and remedy."""

import inspect
import pathlib
import socket
import ssl
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from datetime import timedelta
from urllib.parse import quote

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.credentials import Credentials
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import CommandOptions, Options, SocketOptions, TLSOptions, resolve_options
from aioredis_kit.spellings import REDIS_PY, Alias

pins = pytest.mark.pins


def resolve(url=None, **given):
    return resolve_options(url, given)


def refusal(url=None, **given):
    with pytest.raises(ConfigurationError) as caught:
        resolve_options(url, given)
    assert caught.value.__context__ is None, "the context may quote a secret"
    return str(caught.value)


# -- what there is ----------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_design():
    assert {each.name: getattr(resolve(), each.name) for each in fields(Options)} == {
        "host": "localhost",
        "port": 6379,
        "unix_socket_path": None,
        "db": 0,
        "username": None,
        "password": None,
        "credential_provider": None,
        "client_name": None,
        "client_info_tag": None,
        "disable_client_info": False,
        "decode_responses": False,
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "legacy_responses": True,
        "protocol": None,
        "tls": False,
        "connections": 1,
        "max_dedicated_connections": 50,
        "command_timeout": 5.0,
        "connect_timeout": 3.0,
        "initial_connect_timeout": 10.0,
        "close_timeout": 5.0,
        "reconnect_strategy": None,
        "ping_interval": 30.0,
        "ping_timeout": 5.0,
        "disable_offline_queue": False,
        "commands_queue_max_length": 100_000,
        "commands_queue_max_bytes": 67_108_864,
        "queue_full": "wait",
        "retry_unanswered": "read_only",
        "keep_alive": (30.0, 5.0, 3),
        "tcp_user_timeout": 30.0,
        "no_delay": True,
        "single_connection_client": False,
        "client_side_cache": None,
        "emit_invalidate": False,
        "ignored": (),
    }


def test_every_option_says_what_it_means():
    assert [each.name for each in fields(Options) if not each.metadata.get("meaning")] == ["ignored"]


@pytest.mark.parametrize("options", [Options, TLSOptions])
def test_no_secret_is_in_the_repr(options):
    hidden = {each.name for each in fields(options) if not each.repr}
    assert hidden == {
        each.name for each in fields(options) if "kind" in each.metadata and each.metadata["kind"].is_secret
    }
    assert hidden in ({"password", "credential_provider"}, {"key_password"})


def test_every_option_of_redis_py_is_known():
    """Each parameter of redis-py's client is taken, without effect, or refused for a reason of its own."""
    names = inspect.signature(redis.asyncio.Redis.__init__).parameters.keys() - {"self"}
    for name in names:
        # Every call is refused, if only for the port.
        assert "there is no option" not in refusal(**{name: object(), "port": -1})
    known = {each.name for each in fields(Options)} | REDIS_PY.keys()
    assert names <= known
    assert all(each.reason for each in REDIS_PY.values() if not isinstance(each, Alias))


def test_the_defaults_of_redis_py_can_be_given():
    parameters = inspect.signature(redis.asyncio.Redis.__init__).parameters
    given = {name: each.default for name, each in parameters.items() if name != "self"}
    assert resolve(**given) == replace(
        resolve(), connect_timeout=5.0, ping_interval=None, ignored=("socket_read_size", "retry")
    )


# -- pools of redis-py's ------------------------------------------------------------------------------


def test_the_options_of_a_pool_are_taken():
    pool = redis.asyncio.ConnectionPool(
        host="h", port=7000, db=3, username="u", password="s3cret", decode_responses=True, max_connections=7
    )
    options = resolve(connection_pool=pool)
    assert (options.host, options.port, options.db, options.decode_responses) == ("h", 7000, 3, True)
    assert options.credentials == Credentials("u", "s3cret")
    assert options.max_dedicated_connections == 7
    assert options.tls is False
    assert resolve(connection_pool=pool, db=3) == options
    assert resolve(connection_pool=None) == resolve()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://u:p@h:1/2?socket_timeout=7", {"host": "h", "port": 1, "db": 2, "command_timeout": 7.0}),
        ("rediss://h?ssl_ca_certs=/ca.pem", {"tls": TLSOptions(ca_file="/ca.pem")}),
        ("rediss://h", {"tls": True}),
        ("unix:///tmp/s?db=1", {"unix_socket_path": "/tmp/s", "db": 1}),
    ],
)
@pytest.mark.parametrize("kind", [redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool])
def test_the_kinds_of_connections_of_a_pool(url, expected, kind):
    options = resolve(connection_pool=kind.from_url(url))
    assert {name: getattr(options, name) for name in expected} == expected


def test_the_pool_of_a_client_of_redis_pys():
    stock = redis.asyncio.Redis(host="h", ssl=True, ssl_cert_reqs="none", health_check_interval=9, client_name="me")
    options = resolve(connection_pool=stock.connection_pool)
    assert (options.host, options.client_name, options.ping_interval) == ("h", "me", 9.0)
    assert options.tls == TLSOptions(verify=False)
    assert {"retry", "driver_info"} <= set(options.ignored)


def test_a_pool_against_an_option_is_refused():
    pool = redis.asyncio.ConnectionPool(host="h", password="s3cret", decode_responses=True)
    message = refusal(connection_pool=pool, decode_responses=False)
    assert message.startswith("decode_responses in the connection_pool and decode_responses contradict each other")
    assert "s3cret" not in refusal(connection_pool=pool, password="other")
    assert "host in the URL and host in the connection_pool" in refusal("redis://i", connection_pool=pool)


@pytest.mark.parametrize(
    ("pool", "problem"),
    [
        (object(), "connection_pool must be a redis.asyncio.ConnectionPool"),
        (redis.ConnectionPool(), "connection_pool must be a redis.asyncio.ConnectionPool"),
        (redis.asyncio.ConnectionPool(encoder_class=object), "encoder_class in the connection_pool is not supported"),
        (redis.asyncio.ConnectionPool(colour="red"), "there is no option 'colour' in the connection_pool"),
        (redis.asyncio.ConnectionPool(port=-1), "port in the connection_pool must be"),
        (
            redis.asyncio.ConnectionPool(connection_class=type("Mine", (redis.asyncio.Connection,), {})),
            "connections of a kind of its own (Mine)",
        ),
        (
            redis.asyncio.sentinel.SentinelConnectionPool("name", redis.asyncio.Sentinel([])),
            "connections of a kind of its own",
        ),
        (redis.asyncio.ConnectionPool(redis_connect_func=print), "redis_connect_func in the connection_pool is not"),
    ],
)
def test_a_pool_that_cannot_be_read_is_refused(pool, problem):
    assert problem in refusal(connection_pool=pool)


def test_a_pool_is_for_a_new_client():
    with pytest.raises(ConfigurationError, match="connection_pool must be given when the client is made"):
        resolve().replaced({"connection_pool": redis.asyncio.ConnectionPool()})


def test_options_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        resolve().port = 1


# -- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alias", "given", "name", "value"),
    [
        ("socket_timeout", 2, "command_timeout", 2.0),
        ("socket_timeout", None, "command_timeout", None),
        ("socket_connect_timeout", 2, "connect_timeout", 2.0),
        ("health_check_interval", 2, "ping_interval", 2.0),
        ("health_check_interval", 0, "ping_interval", None),
        ("max_connections", 7, "max_dedicated_connections", 7),
        ("max_connections", None, "max_dedicated_connections", 50),
        ("credentials_provider", print, "credential_provider", print),
        ("ssl", True, "tls", True),
        ("ssl", False, "tls", False),
        ("ssl", None, "tls", False),
        ("socket_keepalive", True, "keep_alive", (30.0, 5.0, 3)),
        ("socket_keepalive", False, "keep_alive", None),
        ("socket_keepalive", None, "keep_alive", None),
        ("socket_keepalive_options", None, "keep_alive", (30.0, 5.0, 3)),
        ("socket_keepalive_options", {}, "keep_alive", (30.0, 5.0, 3)),
        ("socket_keepalive_options", {socket.TCP_KEEPINTVL: 9}, "keep_alive", (30.0, 9.0, 3)),
        ("single_connection_client", False, "ignored", ()),
        ("connection_pool", None, "ignored", ()),
        ("redis_connect_func", None, "ignored", ()),
        ("retry_on_timeout", False, "ignored", ()),
    ],
)
def test_redis_pys_names_are_other_names_of_options(alias, given, name, value):
    assert getattr(resolve(**{alias: given}), name) == value


def test_all_of_redis_pys_keep_alive_constants_are_read():
    idle = getattr(socket, "TCP_KEEPIDLE", None) or socket.TCP_KEEPALIVE
    constants = {idle: 60, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 6}
    assert resolve(socket_keepalive=True, socket_keepalive_options=constants).keep_alive == (60.0, 10.0, 6)
    assert "socket_keepalive contradict" in refusal(socket_keepalive_options=constants, socket_keepalive=False)
    assert "TCP_KEEPIDLE" in refusal(socket_keepalive_options={-7: 1})


def test_what_has_no_effect_is_listed():
    given = {"retry": object(), "retry_on_timeout": True, "retry_on_error": [OSError]}
    assert resolve("redis://h?socket_read_size=1", **given).ignored == ("socket_read_size", *given)
    assert resolve("redis://h?socket_read_size=1", socket_read_size=2).ignored == ("socket_read_size",)


@pytest.mark.parametrize("name", ["redis_connect_func", "ssl_include_verify_flags", "ssl_exclude_verify_flags"])
def test_what_cannot_be_done_is_refused(name):
    assert refusal(**{name: True}).startswith(f"{name} is not supported")


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("comand_timeout", "command_timeout"),
        ("commandTimeout", "command_timeout"),
        ("reconnectStrategy", "reconnect_strategy"),
        ("ssl_cacerts", "ssl_ca_certs"),
        ("pasword", "password"),
    ],
)
def test_an_unknown_option_is_refused_with_the_closest(name, closest):
    assert refusal(**{name: 1}) == f"there is no option {name!r}: the closest one is {closest!r}"
    assert refusal(f"redis://h?{name}=1") == f"there is no option {name!r}: the closest one is {closest!r}"


@pytest.mark.parametrize("name", ["", "ignored", "tls.ca_file", "x" * 10_000])
def test_anything_else_is_an_unknown_option(name):
    message = refusal(**{name: 1})
    assert message.startswith("there is no option ")
    assert len(message) < 150


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"command_timeout": 5}, {"socket_timeout": timedelta(seconds=5)}),
        ({"ping_interval": None}, {"health_check_interval": 0}),
        ({"credential_provider": print}, {"credentials_provider": print}),
        ({"keep_alive": True}, {"socket_keepalive": True}),
        ({"tls": True}, {"ssl": True}),
    ],
)
def test_two_names_may_say_the_same(one, other):
    assert resolve(**one, **other) == resolve(**one) == resolve(**other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"command_timeout": 5}, {"socket_timeout": 6}),
        ({"command_timeout": 5}, {"socket_timeout": None}),
        ({"max_dedicated_connections": 5}, {"max_connections": 6}),
        ({"credential_provider": print}, {"credentials_provider": repr}),
        ({"keep_alive": False}, {"socket_keepalive": True}),
        ({"tls": True}, {"ssl": False}),
    ],
)
def test_two_names_that_say_different_things_are_refused_and_named(one, other):
    for message in (refusal(**one, **other), refusal(**other, **one)):
        assert "contradict each other: keep one of them" in message
        assert all(name in message for name in (*one, *other))


# -- values for the floors below -----------------------------------------------------------------------


@pins("case-14")
def test_the_command_timeout_is_five_seconds_unless_it_is_replaced_or_removed():
    assert resolve().command == CommandOptions(timeout=5.0, decode_responses=False, retry_unanswered="read_only")
    assert resolve(decode_responses=True).command.timeout == 5.0
    assert resolve(command_timeout=None).command.timeout is None
    assert resolve(command_timeout=2).replaced({"decode_responses": True}).command == CommandOptions(
        timeout=2.0, decode_responses=True, retry_unanswered="read_only"
    )


@pins("case-15")
def test_keep_alive_probes_begin_after_thirty_seconds_unless_said_otherwise():
    assert resolve().socket == SocketOptions(keep_alive=(30.0, 5.0, 3), tcp_user_timeout=30.0, no_delay=True)
    assert resolve(keep_alive=(1.234, 5, 3)).socket.keep_alive == (1.234, 5.0, 3)


# -- the URL ----------------------------------------------------------------------------------------


@pins("case-1", "case-6")
def test_a_url_gives_options():
    options = resolve("redis://user:secret@localhost:7000/5")
    assert (options.host, options.port, options.db, options.tls) == ("localhost", 7000, 5, False)
    assert options.credentials == Credentials("user", "secret")


@pins("case-2")
def test_rediss_is_tls():
    assert resolve("rediss://user:secret@localhost").tls is True


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
        ("password=p%40", "password", "p@"),
        ("queue_full=raise", "queue_full", "raise"),
        ("socket_keepalive=false", "keep_alive", None),
        ("db=2&db=2", "db", 2),
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
        ("redis://u:p@h:1/2", {"host": "h", "port": 1, "db": 2, "username": "u", "password": "p"}),
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
        ("redis://:p@h", {"password": "q"}),
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


# -- combinations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "given", "names"),
    [
        (None, {"unix_socket_path": "/s", "host": "h"}, ["unix_socket_path", "host"]),
        (None, {"unix_socket_path": "/s", "port": 1}, ["unix_socket_path", "port"]),
        ("unix:///s", {"host": "h"}, ["unix_socket_path", "host"]),
        ("redis://h", {"unix_socket_path": "/s"}, ["unix_socket_path", "host in the URL"]),
        ("unix:///s", {"tls": True}, ["unix_socket_path", "tls"]),
        (None, {"credential_provider": print, "password": "p"}, ["credential_provider", "password"]),
        (None, {"credential_provider": print, "username": "u"}, ["credential_provider", "username"]),
        ("redis://:p@h", {"credential_provider": print}, ["credential_provider", "password"]),
        pytest.param(
            *(None, {"client_side_cache": True, "protocol": 2}, ["client_side_cache", "RESP3", "protocol"]),
            marks=pins("case-12"),
        ),
        (None, {"emit_invalidate": True, "protocol": 2}, ["emit_invalidate", "RESP3", "protocol"]),
        pytest.param(
            *(None, {"emit_invalidate": True, "client_side_cache": True}, ["emit_invalidate", "client_side_cache"]),
            marks=pins("case-13"),
        ),
        (None, {"client_side_cache": True}, ["client_side_cache is not supported yet"]),
        (None, {"emit_invalidate": True, "protocol": 3}, ["emit_invalidate is not supported yet"]),
    ],
)
def test_an_impossible_combination_is_refused(url, given, names):
    message = refusal(url, **given)
    assert all(name in message for name in names)


@pytest.mark.parametrize(
    "given",
    [
        {"unix_socket_path": None, "host": "h"},
        {"unix_socket_path": "/s", "tls": False},
        {"credential_provider": None, "password": "p"},
        {"credential_provider": print, "password": None},
        {"client_side_cache": None, "emit_invalidate": False, "protocol": 2},
        {"client_side_cache": False},
    ],
)
def test_what_is_switched_off_contradicts_nothing(given):
    assert resolve(**given).connections == 1


@pytest.mark.parametrize(
    ("given", "credentials"),
    [
        ({}, None),
        ({"username": "", "password": ""}, None),
        ({"password": "p"}, Credentials(None, "p")),
        ({"username": "", "password": "p"}, Credentials(None, "p")),
        ({"username": "u"}, Credentials("u", "")),
        ({"username": "u", "password": "p"}, Credentials("u", "p")),
    ],
)
def test_user_and_password_are_credentials(given, credentials):
    assert resolve(**given).credentials == credentials


# -- TLS --------------------------------------------------------------------------------------------


def test_tls_options_refine_a_plain_yes():
    tls = TLSOptions(verify=False)
    context = ssl.create_default_context()
    for yes in ({"url": "rediss://h"}, {"ssl": True}):
        assert resolve(**yes, tls=tls).tls is tls
        assert resolve(**yes, tls=context).tls is context
    assert resolve(tls=tls, ssl=True).tls is tls
    assert "contradict" in refusal(tls=tls, ssl=TLSOptions())


def test_redis_pys_ssl_options_become_tls_options():
    given = {
        "ssl_keyfile": "k",
        "ssl_certfile": "c",
        "ssl_password": "p",
        "ssl_ca_certs": "a",
        "ssl_ca_path": "b",
        "ssl_ca_data": "d",
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": False,
        "ssl_ciphers": "e",
        "ssl_min_version": ssl.TLSVersion.TLSv1_3,
        "ssl_include_verify_flags": None,
    }
    tls = TLSOptions(
        key_file="k",
        certificate_file="c",
        key_password="p",
        ca_file="a",
        ca_path="b",
        ca_data="d",
        verify=True,
        check_hostname=False,
        ciphers="e",
        minimum_version="TLSv1.3",
    )
    assert resolve(ssl=True, **given).tls == tls
    assert resolve("rediss://h", **given).tls == tls
    assert resolve("rediss://h?ssl_check_hostname=false", ssl_ca_certs="a").tls == TLSOptions(
        ca_file="a", check_hostname=False
    )


@pytest.mark.parametrize(
    ("given", "verifies"),
    [("required", True), ("optional", True), ("none", False), (None, False)]
    + [(mode, mode != ssl.CERT_NONE) for mode in ssl.VerifyMode],
)
def test_redis_pys_certificate_requirements_are_read(given, verifies):
    assert resolve(ssl=True, ssl_cert_reqs=given).tls == TLSOptions(verify=verifies)


def test_the_ssl_options_that_say_nothing_leave_tls_alone():
    assert resolve(ssl=True, ssl_ca_certs=None, ssl_keyfile=None).tls is True
    assert resolve(ssl_ca_certs=None).tls is False
    assert resolve(ssl=False, ssl_ca_certs="a", ssl_cert_reqs=None).tls is False


def test_ssl_options_are_never_dropped_silently():
    for url in (None, "redis://h"):
        assert refusal(url, ssl_ca_certs="a").startswith("ssl_ca_certs has no effect without TLS")
    for tls in (TLSOptions(), ssl.create_default_context()):
        assert refusal(tls=tls, ssl_ca_certs="a").startswith("ssl_ca_certs must be said in the TLSOptions")
    assert "SSLContext" in refusal(ssl=True, ssl_include_verify_flags=[ssl.VerifyFlags.VERIFY_X509_STRICT])


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ca_file", 1),
        ("ca_path", ""),
        ("ca_data", 1),
        ("certificate_file", b"x"),
        ("key_password", 123456),
        ("server_hostname", "a b"),
        ("minimum_version", "TLSv1"),
        ("minimum_version", ssl.TLSVersion.MINIMUM_SUPPORTED),
        ("minimum_version", None),
        ("ciphers", 1),
        ("verify", None),
        ("check_hostname", 1),
    ],
)
def test_tls_options_are_checked(name, given):
    with pytest.raises(ConfigurationError, match=rf"TLSOptions\.{name} must be ") as caught:
        TLSOptions(**{name: given})
    assert "123456" not in str(caught.value)


def test_a_key_needs_its_certificate():
    assert "certificate_file" in refusal(ssl=True, ssl_keyfile="k")


# -- replacing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "overrides", "expected"),
    [
        ({"db": 1}, {}, {"db": 1}),
        ({"db": 1}, {"db": 2}, {"db": 2}),
        ({"command_timeout": 1}, {"socket_timeout": 2}, {"command_timeout": 2}),
        ({"unix_socket_path": "/s"}, {"host": "h"}, {"host": "h"}),
        ({"unix_socket_path": "/s"}, {"port": 1}, {"port": 1}),
        ({"unix_socket_path": "/s", "db": 1}, {"unix_socket_path": None}, {"db": 1}),
        ({"password": "p"}, {"credential_provider": print}, {"credential_provider": print}),
        ({"credential_provider": print}, {"password": "p"}, {"password": "p"}),
        ({"credential_provider": print}, {"credential_provider": None}, {}),
        ({"tls": True}, {"ssl_ca_certs": "a"}, {"tls": TLSOptions(ca_file="a")}),
        ({"tls": TLSOptions()}, {"tls": False}, {}),
        ({"retry": 1}, {}, {}),
        ({}, {"retry": 1}, {"retry": 1}),
    ],
)
def test_options_are_replaced(given, overrides, expected):
    assert resolve(**given).replaced(overrides) == resolve(**expected)


def test_a_unix_socket_takes_the_place_of_host_and_port():
    assert resolve("redis://h:1").replaced({"unix_socket_path": "/s"}).unix_socket_path == "/s"


@pytest.mark.parametrize(
    "overrides",
    [{"dbb": 1}, {"db": -1}, {"command_timeout": 1, "socket_timeout": 2}, {"unix_socket_path": "/s", "host": "h"}],
)
def test_overrides_are_checked_like_options(overrides):
    options = resolve()
    with pytest.raises(ConfigurationError) as caught:
        options.replaced(overrides)
    assert str(caught.value) == refusal(**overrides)


# -- secrets ----------------------------------------------------------------------------------------

SECRET = "S3cr3t"


@given(
    st.sampled_from([each.name for each in fields(Options)]),
    st.sampled_from([SECRET, [SECRET], (SECRET, 1), {SECRET: SECRET}, SECRET.encode(), int(SECRET.encode().hex(), 16)]),
)
def test_no_error_shows_text_that_was_given(name, value):
    message = refusal(**{name: value, "port": True})
    assert SECRET not in message
    if name in {"password", "credential_provider"}:
        assert str(int(SECRET.encode().hex(), 16)) not in message


TEXT = st.text(st.sampled_from("ab1%/?#@:[]&=. ") | st.characters(codec="utf-8"), max_size=8)


@given(st.sampled_from(["redis://", "unix://", ""]), TEXT, TEXT, TEXT)
def test_no_error_shows_a_piece_of_the_user_or_password_of_a_url(scheme, before, after, rest):
    url = f"{scheme}{SECRET}:{before}{SECRET}{after}@{rest}"
    assert SECRET not in refusal(url, port=-1)


@given(TEXT, TEXT)
def test_no_repr_shows_the_password_of_a_url(before, after):
    password = quote(f"{before}{SECRET}{after}", safe="")
    options = resolve(f"redis://user:{password}@h")
    assert options.password == f"{before}{SECRET}{after}"
    assert SECRET not in repr(options)
    assert SECRET not in repr(options.credentials)


def test_passwords_that_contradict_each_other_are_not_shown():
    message = refusal(f"redis://:{SECRET}@h", password=f"other-{SECRET}")
    assert message == "password in the URL and password contradict each other: keep one of them"


# -- loading ----------------------------------------------------------------------------------------


def test_options_are_cheap_to_import():
    """Neither tenacity nor asyncio come with the options; redis-py itself loads what it needs."""
    code = "import redis, sys; before = set(sys.modules); import aioredis_kit.options; print(set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "aioredis_kit.kinds" in loaded
    assert "tenacity" not in loaded

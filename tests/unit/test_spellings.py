"""What redis-py's client takes is understood or refused: its names of options, its ways to say TLS, its pools."""

import inspect
import socket
import ssl
from dataclasses import fields, replace
from datetime import timedelta

import pytest
import redis.asyncio

from aioredis_kit.credentials import Credentials
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import Options, TLSOptions
from aioredis_kit.spellings import REDIS_PY, Alias
from tests.support.resolving import refusal, resolve

# -- names ------------------------------------------------------------------------------------------


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


# -- TLS --------------------------------------------------------------------------------------------


def test_redis_pys_ssl_options_become_tls_options():
    given = {
        "ssl_keyfile": "k",
        "ssl_certfile": "c",
        "ssl_password": "s3cret",
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
        key_password="s3cret",
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


# -- pools ------------------------------------------------------------------------------------------


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
        ("redis://u:s3cret@h:1/2?socket_timeout=7", {"host": "h", "port": 1, "db": 2, "command_timeout": 7.0}),
        ("rediss://h?ssl_ca_certs=/ca.pem", {"tls": TLSOptions(ca_file="/ca.pem")}),
        ("rediss://h", {"tls": True}),
        ("unix:///tmp/s?db=1", {"unix_socket_path": "/tmp/s", "db": 1}),
        ("redis://h?decode_responses=True&protocol=3", {"decode_responses": True, "protocol": 3}),
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


def test_a_number_that_is_text_in_a_pool():
    """redis-py sends it as it is."""
    assert resolve(connection_pool=redis.asyncio.Redis(db="3").connection_pool).db == 3


def test_a_pool_against_an_option_is_refused():
    pool = redis.asyncio.ConnectionPool(host="h", password="s3cret", decode_responses=True)
    message = refusal(connection_pool=pool, decode_responses=False)
    assert message.startswith("decode_responses in the connection_pool and decode_responses contradict each other")
    assert "s3cret" not in refusal(connection_pool=pool, password="0ther-one")
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

"""``client.connection_pool`` answers what it can without being a pool, and shows no secret."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis

from aioredis_kit import TLSOptions, create_client
from aioredis_kit.client.pool import PooledConnection, PooledTLSConnection, PooledUnixConnection, PoolView
from aioredis_kit.options import resolve_options

GIVEN = {
    "host": "h",
    "port": 7000,
    "db": 3,
    "username": "ada",
    "password": "s3cret",
    "client_name": "me",
    "protocol": 3,
    "legacy_responses": False,
    "decode_responses": True,
    "encoding": "latin-1",
    "encoding_errors": "replace",
    "socket_timeout": 2.5,
    "socket_connect_timeout": 1.5,
}


def make_pool(**given):
    return create_client(**given).connection_pool


def test_the_options_have_redis_pys_names():
    kwargs = make_pool(**GIVEN).connection_kwargs
    assert {name: kwargs[name] for name in GIVEN} == GIVEN
    assert set(kwargs) <= set(Redis(**GIVEN, ssl=True).connection_pool.connection_kwargs)


@pytest.mark.parametrize(
    "given",
    [
        GIVEN,
        {"unix_socket_path": "/s", "db": 1},
        {"tls": True},
        {"tls": TLSOptions(verify=False, minimum_version="TLSv1.3")},
        {"keep_alive": (60, 10, 6), "health_check_interval": 0},
        {"keep_alive": False, "socket_timeout": None},
    ],
)
def test_a_client_made_of_them_is_the_same(given):
    """Somebody may make a client of another's pool, or of a pool of its options: as with redis-py's."""
    options = resolve_options(None, given)
    own = make_pool(**given)
    assert resolve_options(None, {"connection_pool": own}) == options
    if options.tls:
        return  # what redis-py's TLS connections know is less than ours
    stock = ConnectionPool(max_connections=50, **own.connection_kwargs)
    if options.unix_socket_path is not None:
        from redis.asyncio import UnixDomainSocketConnection

        stock.connection_class = UnixDomainSocketConnection
    found = resolve_options(None, {"connection_pool": stock})
    assert set(found.ignored) <= {"retry", "maint_notifications_config"}
    assert replace(found, ignored=()) == options


@pytest.mark.pins("P7")
def test_there_is_no_secret():
    options = resolve_options(None, {**GIVEN, "tls": TLSOptions(certificate_file="/c", key_password="s3cret")})
    pool = PoolView(SimpleNamespace(equipment=SimpleNamespace(options=options)), options.command)
    assert pool.connection_kwargs["ssl_password"] == "s3cret"
    assert pool.connection_kwargs["password"] == "s3cret"
    assert "s3cret" not in f"{pool!r} {vars(pool)!r} {pool.connection_kwargs!r} {pool.options!r}"


def test_what_was_not_chosen_is_not_decided():
    """Of the protocol redis-py's modules need the choice, not what it came to: no choice has shapes of its own."""
    assert make_pool().connection_kwargs["protocol"] is None
    assert make_pool().get_protocol() is None
    assert make_pool(protocol=2).get_protocol() == 2


def test_a_view_may_decode_otherwise():
    client = create_client(decode_responses=False)
    view = client.with_options(decode_responses=True, command_timeout=None)
    assert view.get_connection_kwargs()["decode_responses"] is True
    assert view.get_connection_kwargs()["socket_timeout"] is None
    assert view.get_encoder().decode_responses is True
    assert client.get_connection_kwargs()["decode_responses"] is False


def test_the_encoder_has_the_clients_encoding():
    encoder = make_pool(**GIVEN).get_encoder()
    assert encoder.encode("ä€") == b"\xe4?"
    assert encoder.decode(b"\xe4") == "ä"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, PooledConnection),
        ({"tls": True}, PooledTLSConnection),
        ({"unix_socket_path": "/s"}, PooledUnixConnection),
    ],
)
async def test_peeking_does_not_make_it_a_pool(given, kind):
    pool = make_pool(**given, max_connections=7)
    assert isinstance(pool, ConnectionPool)
    assert not isinstance(pool, BlockingConnectionPool)
    assert pool.connection_class is kind
    assert pool.max_connections == 7
    assert repr(pool).startswith("<aioredis_kit.client.pool.PoolView(")
    await pool.disconnect()
    await pool.aclose()
    pool.reset()
    assert not hasattr(pool, "__len__")
    assert not hasattr(pool, "no_such_attribute")
    assert copy.copy(pool).connection_kwargs == pool.connection_kwargs
    assert not pool.is_in_use


async def test_touching_makes_it_one_and_says_so_once(caplog):
    client = create_client()
    pool = client.connection_pool
    assert pool.can_get_connection()
    assert pool.get_connection_count()[0][0] == 0
    assert pool.is_in_use
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "what the client promises of commands does not hold for them" in caplog.text
    assert client.state.value == "never connected"
    assert not pool.maint_notifications_enabled()


def test_code_that_peeks_finds_what_redis_pys_client_has():
    client = create_client()
    assert client.connection is None
    assert client.single_connection_client is False
    assert client.auto_close_connection_pool is True
    assert client.get_retry().get_retries() == 0
    assert client.himport_registry is client.connection_pool.himport_registry

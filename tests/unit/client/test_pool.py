"""redis-py's own code finds what it needs where a pool would be, and nobody finds a secret."""

import copy
import pickle

import pytest
from redis.asyncio import ConnectionPool

from aioredis_kit.client.pool import PoolView
from aioredis_kit.exceptions import ConfigurationError
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


def make_view(**given):
    options = resolve_options(None, given)
    return PoolView(options, options.command)


def test_the_options_have_redis_pys_names():
    kwargs = make_view(**GIVEN).connection_kwargs
    assert kwargs == {name: value for name, value in GIVEN.items() if name != "password"}
    assert set(GIVEN) <= set(ConnectionPool(**GIVEN).connection_kwargs)


@pytest.mark.pins("P7")
def test_there_is_no_secret():
    view = make_view(**GIVEN)
    assert "s3cret" not in f"{view!r} {vars(view)!r}"


def test_what_was_not_chosen_is_not_decided():
    """Of the protocol redis-py's modules need the choice, not what it came to: no choice has shapes of its own."""
    assert make_view().connection_kwargs["protocol"] is None


def test_a_view_may_decode_otherwise():
    options = resolve_options(None, {"decode_responses": False})
    view = PoolView(options, resolve_options(None, {"decode_responses": True, "command_timeout": None}).command)
    assert view.connection_kwargs["decode_responses"] is True
    assert view.connection_kwargs["socket_timeout"] is None
    assert view.get_encoder().decode_responses is True


def test_the_encoder_has_the_clients_encoding():
    encoder = make_view(**GIVEN).get_encoder()
    assert encoder.encode("ä€") == b"\xe4?"
    assert encoder.decode(b"\xe4") == "ä"


@pytest.mark.parametrize(
    "name", ["get_connection", "release", "disconnect", "max_connections", "_available_connections"]
)
def test_what_needs_a_pool_is_refused(name):
    with pytest.raises(
        ConfigurationError, match=rf"connection_pool\.{name}: this client has no pool of redis-py's yet"
    ):
        getattr(make_view(), name)


def test_protocols_of_the_language_find_nothing():
    view = make_view(**GIVEN)
    assert not hasattr(view, "__len__")
    assert copy.copy(view).connection_kwargs == view.connection_kwargs
    assert pickle.loads(pickle.dumps(view)).connection_kwargs == view.connection_kwargs

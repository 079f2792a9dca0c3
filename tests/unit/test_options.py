"""Options are checked, alone and together, and refused with an error that names option, problem and remedy."""

import ssl
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.cache.store import ClientSideCache
from aioredis_kit.credentials import Credentials
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import CommandOptions, Options, SocketOptions, TLSOptions
from tests.support.resolving import refusal, resolve

pins = pytest.mark.pins


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
        "max_reply_bytes": 1_073_741_824,
        "queue_full": "wait",
        "retry_unanswered": "read_only",
        "keep_alive": (30.0, 5.0, 3),
        "tcp_user_timeout": 30.0,
        "no_delay": True,
        "single_connection_client": False,
        "client_side_cache": None,
        "emit_invalidate": False,
        "hooks": (),
        "ignored": (),
        "preset": (),
    }


def test_every_option_says_what_it_means():
    assert [each.name for each in fields(Options) if not each.metadata.get("meaning")] == ["ignored", "preset"]


@pytest.mark.parametrize("options", [Options, TLSOptions])
def test_no_secret_is_in_the_repr(options):
    hidden = {each.name for each in fields(options) if not each.repr}
    assert hidden == {
        each.name for each in fields(options) if "kind" in each.metadata and each.metadata["kind"].is_secret
    }
    assert hidden in ({"password", "credential_provider"}, {"key_password"})


def test_options_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        resolve().port = 1


# -- unknown names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("comand_timeout", "command_timeout"),
        ("commandTimeout", "command_timeout"),
        ("CLIENT_NAME", "client_name"),
        ("reconnectStratagem", "reconnect_strategy"),
        ("ssl_cacerts", "ssl_ca_certs"),
        ("pasword", "password"),
    ],
)
def test_an_unknown_option_is_refused_with_the_closest(name, closest):
    assert refusal(**{name: 1}) == f"there is no option {name!r}: the closest one is {closest!r}"
    assert refusal(f"redis://h?{name}=1") == f"there is no option {name!r}: the closest one is {closest!r}"


@pytest.mark.parametrize("name", ["", "ignored", "preset", "tls.ca_file", "x" * 10_000])
def test_anything_else_is_an_unknown_option(name):
    message = refusal(**{name: 1})
    assert message.startswith("there is no option ")
    assert len(message) < 150


# -- values for the floors below --------------------------------------------------------------------


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


# -- combinations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "given", "names"),
    [
        (None, {"unix_socket_path": "/s", "host": "h"}, ["unix_socket_path", "host"]),
        (None, {"unix_socket_path": "/s", "port": 1}, ["unix_socket_path", "port"]),
        ("unix:///s", {"host": "h"}, ["unix_socket_path", "host"]),
        ("redis://h", {"unix_socket_path": "/s"}, ["unix_socket_path", "host in the URL"]),
        ("unix:///s", {"tls": True}, ["unix_socket_path", "tls"]),
        (None, {"credential_provider": print, "password": "s3cret"}, ["credential_provider", "password"]),
        (None, {"credential_provider": print, "username": "u"}, ["credential_provider", "username"]),
        ("redis://:s3cret@h", {"credential_provider": print}, ["credential_provider", "password"]),
        pytest.param(
            *(None, {"client_side_cache": CacheOptions(), "protocol": 2}, ["client_side_cache", "RESP3", "protocol"]),
            marks=pins("case-12"),
        ),
        (None, {"emit_invalidate": True, "protocol": 2}, ["emit_invalidate", "RESP3", "protocol"]),
        pytest.param(
            *(
                None,
                {"emit_invalidate": True, "client_side_cache": CacheOptions()},
                ["emit_invalidate", "client_side_cache"],
            ),
            marks=pins("case-13"),
        ),
        (None, {"client_side_cache": True}, ["client_side_cache must be CacheOptions, a ClientSideCache or None"]),
        (
            *(None, {"client_side_cache": ClientSideCache(), "single_connection_client": True}),
            ["client_side_cache", "single_connection_client"],
        ),
        (
            *(None, {"emit_invalidate": True, "single_connection_client": True}),
            ["emit_invalidate", "single_connection_client"],
        ),
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
        {"credential_provider": None, "password": "s3cret"},
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
        ({"password": "s3cret"}, Credentials(None, "s3cret")),
        ({"username": "", "password": "s3cret"}, Credentials(None, "s3cret")),
        ({"username": "u"}, Credentials("u", "")),
        ({"username": "u", "password": "s3cret"}, Credentials("u", "s3cret")),
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
        ({"password": "s3cret"}, {"credential_provider": print}, {"credential_provider": print}),
        ({"credential_provider": print}, {"password": "s3cret"}, {"password": "s3cret"}),
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


@pytest.mark.ordinary_secrets(reason="any text may be one here")
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

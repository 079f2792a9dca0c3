"""Each kind of option takes what it should, and refuses the rest with an error that names it."""

import math
import pathlib
import re
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.credentials import Credentials
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.kinds import to_seconds
from aioredis_kit.options import Options, TLSOptions, resolve_options

DURATIONS = [
    *("command_timeout", "connect_timeout", "initial_connect_timeout", "close_timeout", "ping_interval"),
    *("ping_timeout", "tcp_user_timeout", "socket_timeout", "socket_connect_timeout", "health_check_interval"),
]
COUNTS = ["connections", "max_dedicated_connections", "commands_queue_max_length", "commands_queue_max_bytes"]
FLAGS = ["decode_responses", "legacy_responses", "disable_offline_queue", "no_delay", "disable_client_info"]
TEXTS = ["host", "username", "password", "client_name", "client_info_tag", "encoding", "encoding_errors"]


def shown(value):
    """Return what a test case is called: the same in each of several processes."""
    return re.sub(" at 0x[0-9a-f]+", "", ascii(value))


def resolve(**given):
    return resolve_options(None, given)


def refusal(**given):
    with pytest.raises(ConfigurationError) as caught:
        resolve_options(None, given)
    assert caught.value.__context__ is None, "the context may quote a secret"
    return str(caught.value)


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize(("given", "value"), [(2, 2.0), (0.25, 0.25), (timedelta(minutes=1), 60.0)])
def test_a_duration_is_seconds_or_a_timedelta(name, given, value):
    assert value in {getattr(resolve(**{name: given}), each.name) for each in fields(Options)}


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize(
    "given",
    [-1, -0.1, math.nan, math.inf, -math.inf, 10**400, 1e10, True, False, "5", b"5", timedelta(-1), Decimal(1), [1]],
    ids=shown,
)
def test_other_durations_are_refused(name, given):
    assert refusal(**{name: given}).startswith(f"{name} must be a finite number of seconds (or a timedelta)")


@pytest.mark.parametrize("name", sorted({*DURATIONS} - {"ping_interval", "health_check_interval"}))
@pytest.mark.parametrize("given", [0, 0.0, -0.0, timedelta()])
def test_a_duration_of_zero_is_refused(name, given):
    assert refusal(**{name: given}).endswith(f", not {given!r}")


@pytest.mark.parametrize("name", ["connect_timeout", "close_timeout", "ping_timeout"])
def test_what_must_end_needs_a_duration(name):
    assert refusal(**{name: None}) == (
        f"{name} must be a finite number of seconds (or a timedelta) greater than 0, not None"
    )


@pytest.mark.parametrize("name", ["command_timeout", "initial_connect_timeout", "ping_interval", "tcp_user_timeout"])
def test_what_may_take_for_ever_is_none(name):
    assert getattr(resolve(**{name: None}), name) is None


@pytest.mark.parametrize("name", [*COUNTS, "port", "db"])
@pytest.mark.parametrize("given", [-1, 1.0, True, "1", None, 10**40], ids=shown)
def test_a_count_is_a_whole_number_within_limits(name, given):
    assert refusal(**{name: given}).startswith(f"{name} must be a whole number ")


def test_a_number_too_large_to_be_written_out_is_refused():
    assert refusal(port=10**5000) == "port must be a whole number from 1 to 65535, not a number as large"


@pytest.mark.parametrize("name", [*COUNTS, "port"])
def test_a_count_of_zero_is_refused(name):
    assert refusal(**{name: 0}).endswith(", not 0")


@pytest.mark.parametrize(("name", "given"), [("port", 65536), ("db", 2**31)])
def test_a_number_out_of_range_is_refused(name, given):
    assert refusal(**{name: given}).endswith(f", not {given}")


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("given", [0, 1, "yes", "false", None])
def test_a_flag_is_true_or_false(name, given):
    assert refusal(**{name: given}).startswith(f"{name} must be True or False, not ")
    assert getattr(resolve(**{name: True}), name) is True


@pytest.mark.ordinary_secrets(reason="they are refused")
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("given", [b"x", 1, True, ["x"], "\ud800"], ids=shown)
def test_text_is_text(name, given):
    assert refusal(**{name: given}).startswith(f"{name} must be ")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("host", ""),
        ("host", "redis://h"),
        ("host", "h:1@x"),
        ("host", "[::1]"),
        ("host", "a b"),
        ("host", "a..b"),
        ("host", "h:6379"),
        ("host", "h,password=x"),
        ("host", "host=h;port=6379"),
        ("host", "a" * 64),
        ("host", "a." * 200),
        ("client_name", "a b"),
        ("client_name", ""),
        ("client_name", "ä"),
        ("client_info_tag", "a\n"),
        ("encoding", "nonsense"),
        ("encoding", "hex"),
        ("encoding", "\0"),
        ("encoding", "utf-16"),
        ("encoding", "cp037"),
        ("encoding_errors", "nonsense"),
        ("unix_socket_path", ""),
        ("unix_socket_path", "\0abstract"),
        ("unix_socket_path", b"/tmp/s"),
        ("unix_socket_path", "/" + "x" * 107),
        ("unix_socket_path", 1),
        ("protocol", 4),
        ("protocol", "3"),
        ("protocol", 3.0),
        ("protocol", True),
        ("queue_full", "Wait"),
        ("queue_full", None),
        ("retry_unanswered", "always"),
        ("retry_unanswered", False),
        ("keep_alive", 1),
        ("keep_alive", (30, 5)),
        ("keep_alive", (0.5, 5, 3)),
        ("keep_alive", (30, 0, 3)),
        ("keep_alive", (30, 5, 0)),
        ("keep_alive", (30, 5, 128)),
        ("keep_alive", (32768, 5, 3)),
        ("tcp_user_timeout", 0.0001),
        ("tcp_user_timeout", 3_000_000),
        ("tls", "yes"),
        ("tls", 1),
        ("tls", TLSOptions),
        ("credential_provider", Credentials("u", "s3cret")),
        ("credential_provider", ("u", "p")),
        ("credential_provider", dict),
        ("reconnect_strategy", True),
        ("reconnect_strategy", -1),
        ("reconnect_strategy", math.nan),
        ("reconnect_strategy", math.inf),
        ("reconnect_strategy", timedelta(-1)),
        ("reconnect_strategy", "1"),
        ("reconnect_strategy", tenacity.wait_fixed),
        ("reconnect_strategy", (tenacity.wait_fixed(1),)),
        ("reconnect_strategy", (tenacity.wait_fixed(1), 3)),
        ("reconnect_strategy", (tenacity.wait_fixed(1), tenacity.stop_after_attempt)),
    ],
    ids=shown,
)
def test_a_value_that_cannot_be_is_refused(name, given):
    message = refusal(**{name: given})
    assert message.startswith(f"{name} must be ")
    assert "Traceback" not in message


def strategy(retries, cause):
    return False


WAIT, STOP = tenacity.wait_fixed(1), tenacity.stop_after_attempt(1)


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("host", "::1", "::1"),
        ("host", "fe80::1%eth0", "fe80::1%eth0"),
        ("host", "bücher.example", "bücher.example"),
        ("username", "", ""),
        ("unix_socket_path", pathlib.Path("/tmp/s"), "/tmp/s"),
        ("protocol", 3, 3),
        ("retry_unanswered", "never", "never"),
        ("keep_alive", [1, timedelta(seconds=2), 3], (1.0, 2.0, 3)),
        ("reconnect_strategy", None, None),
        ("reconnect_strategy", False, False),
        ("reconnect_strategy", 0, 0.0),
        ("reconnect_strategy", timedelta(seconds=1), 1.0),
        ("reconnect_strategy", strategy, strategy),
        ("reconnect_strategy", WAIT, WAIT),
        ("reconnect_strategy", (WAIT, STOP), (WAIT, STOP)),
    ],
    ids=shown,
)
def test_a_value_that_can_be_is_taken(name, given, value):
    taken = getattr(resolve(**{name: given}), name)
    assert taken == value
    assert type(taken) is type(value)
    assert getattr(resolve(**{name: taken}), name) == value, "what was read can be read again"


@given(st.floats(0, 1e9) | st.integers(0, 10**9) | st.timedeltas(timedelta(), timedelta(days=11_000)))
def test_seconds_are_floats(duration):
    read = to_seconds(duration)
    assert type(read) is float
    assert read == (duration.total_seconds() if isinstance(duration, timedelta) else duration)

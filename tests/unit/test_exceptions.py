"""Every error of ours is caught as redis-py's, says what happened, and survives being copied and sent elsewhere."""

import builtins
import copy
import pickle

import pytest
from redis import exceptions as redis

from aioredis_kit import exceptions
from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    HandshakeError,
    HealthCheckError,
    KitError,
    NotConnectedError,
    PoolExhaustedError,
    QueueFullError,
    ReconnectStrategyError,
    ReplyProtocolError,
    TimeoutDiagnosis,
    TokenRenewalError,
    error_code,
    one_for_each,
)

DIAGNOSIS = TimeoutDiagnosis(
    timeout=5.0,
    queued=1.0,
    in_flight=4.0,
    commands_ahead=3,
    bytes_ahead=99,
    bytes_read=7,
    state="ready",
    lag=0.01,
)

ADDRESSED = {"address": "h:6379", "attempts": 4}
LOST = {"address": "h:6379", "maybe_executed": True}

# For each error its fields, and all classes of others that catch it.
ERRORS = {
    ConfigurationError: ({}, {ValueError}),
    ClientClosedError: ({}, {redis.ConnectionError}),
    NotConnectedError: ({}, {redis.ConnectionError}),
    QueueFullError: ({"limit": 10}, set()),
    PoolExhaustedError: (
        {"limit": 2, "holders": ("BLPOP", "XREAD")},
        {redis.ConnectionError, redis.MaxConnectionsError, redis.TimeoutError},
    ),
    ConnectError: (ADDRESSED, {redis.ConnectionError}),
    ConnectTimeoutError: (ADDRESSED, {redis.ConnectionError, redis.TimeoutError}),
    ReconnectStrategyError: (ADDRESSED, {redis.ConnectionError}),
    HandshakeError: ({**ADDRESSED, "step": "SELECT"}, {redis.ConnectionError}),
    AuthenticationFailedError: (
        {**ADDRESSED, "step": "HELLO"},
        {redis.ConnectionError, redis.AuthenticationError},
    ),
    TokenRenewalError: ({"expires_at": 1e9}, set()),
    ConnectionLostError: (LOST, {redis.ConnectionError}),
    HealthCheckError: ({**LOST, "silent_for": 31.5}, {redis.ConnectionError}),
    ReplyProtocolError: (LOST, {redis.ConnectionError, redis.InvalidResponse}),
    CommandTimeoutError: (
        {"diagnosis": DIAGNOSIS, "maybe_executed": True},
        {redis.TimeoutError, builtins.TimeoutError, OSError},  # the builtin one is an OSError
    ),
}

each_error = pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)


def make(kind):
    return kind("what happened", **ERRORS[kind][0])


def test_the_table_of_this_test_is_complete():
    kinds = {kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, KitError)}
    assert kinds - {KitError} == set(ERRORS)
    assert {kind.__name__ for kind in kinds} <= set(exceptions.__all__)


def test_the_tree_in_the_docstring_is_the_tree():
    for kind in ERRORS:
        line = next(line for line in exceptions.__doc__.splitlines() if f"─ {kind.__name__}" in line)
        catchers = [base for base in kind.__bases__ if not issubclass(base, KitError)]
        assert line.count(" + ") == len(catchers)
        assert all(base.__name__ in line for base in catchers)


@each_error
def test_it_is_caught_as_the_design_says(kind):
    others = {
        *(base for base in vars(redis).values() if isinstance(base, type) and issubclass(base, Exception)),
        *(base for base in vars(builtins).values() if isinstance(base, type) and issubclass(base, Exception)),
    }
    caught_by = {other for other in others if issubclass(kind, other)}
    assert caught_by - {redis.RedisError, Exception} == ERRORS[kind][1]
    assert issubclass(kind, KitError)


def test_a_refused_password_is_told_from_other_failures_to_connect():
    """redis-py's AuthenticationError is a ConnectionError, so who looks for the first has to look first."""
    assert issubclass(redis.AuthenticationError, redis.ConnectionError)
    assert not issubclass(HandshakeError, redis.AuthenticationError)


@each_error
@pytest.mark.pins("P3")
def test_it_has_its_fields_and_says_whether_the_command_may_have_run(kind):
    error = make(kind)
    assert str(error) == "what happened"
    for name, value in ERRORS[kind][0].items():
        assert getattr(error, name) == value
    assert error.maybe_executed is ERRORS[kind][0].get("maybe_executed", False)


@pytest.mark.pins("P3")
@pytest.mark.parametrize("kind", [ConnectionLostError, ReplyProtocolError, ConnectError, ClientClosedError])
def test_nothing_was_executed_unless_it_is_said(kind):
    assert kind("lost").maybe_executed is False


@each_error
@pytest.mark.parametrize(
    "passed_on",
    [
        copy.copy,
        copy.deepcopy,
        *(
            pytest.param(lambda error, n=protocol: pickle.loads(pickle.dumps(error, n)), id=f"pickle-{protocol}")
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_a_copy_has_everything(kind, passed_on):
    error = make(kind)
    error.add_note("a note")
    other = passed_on(error)
    assert type(other) is kind
    assert other is not error
    assert other.args == error.args
    assert other.__dict__ == error.__dict__
    assert str(other) == "what happened"
    assert other.__notes__ == ["a note"]


def test_the_root_is_abstract():
    with pytest.raises(TypeError, match="KitError is abstract"):
        KitError("anything")


def test_a_subclass_of_the_users_own_is_copied_too():
    class OwnError(KitError):
        pass

    assert type(copy.copy(OwnError("mine"))) is OwnError


@each_error
def test_fields_are_given_by_name(kind):
    with pytest.raises(TypeError):
        kind("what happened", 1)


def test_the_diagnosis_of_a_timeout_is_a_value():
    with pytest.raises(AttributeError):
        DIAGNOSIS.timeout = 1.0
    assert copy.deepcopy(DIAGNOSIS) == DIAGNOSIS
    assert pickle.loads(pickle.dumps(DIAGNOSIS)) == DIAGNOSIS


@each_error
def test_each_of_several_callers_gets_an_error_of_its_own(kind):
    shared = make(kind)
    try:
        raise shared
    except KitError:
        own = one_for_each(shared)
    assert own is not shared
    assert own.__dict__ == shared.__dict__
    assert own.__cause__ is shared
    assert own.__traceback__ is None
    assert one_for_each(shared) is not own


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (redis.BusyLoadingError("Redis is loading", status_code="LOADING"), "LOADING"),
        (redis.ResponseError("no such key", status_code="ERR"), "ERR"),
        (redis.ResponseError("WRONGTYPE Operation against a key"), "WRONGTYPE"),
        (redis.ResponseError("ODD"), "ODD"),
        (redis.ResponseError(""), ""),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "'utf-8'"),
    ],
)
def test_the_code_of_an_error_reply(error, code):
    assert error_code(error) == code

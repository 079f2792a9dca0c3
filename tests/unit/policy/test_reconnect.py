"""Every form of reconnect strategy becomes one, and every answer a delay or an end."""

import asyncio
import math
import random
import ssl
import subprocess
import sys
from datetime import timedelta

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.exceptions import AuthenticationFailedError, ConnectError, HandshakeError
from aioredis_kit.options import resolve_options
from aioredis_kit.policy.reconnect import Delay, GiveUp, default_delay, is_hopeless, make_strategy, read_answer

LOST = ConnectionResetError("lost")


def lowest(low, high):
    return low


def highest(low, high):
    return high


def strategy_of(option, uniform=lowest):
    return make_strategy(resolve_options(None, {"reconnect_strategy": option}).reconnect_strategy, uniform)


def decide(option, retries=0, cause=LOST, elapsed=0.0):
    return read_answer(strategy_of(option).ask(retries, cause, elapsed))


# -- the default ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retries", "shortest"), [(0, 0.05), (1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.6), (6, 2.0), (7, 2.0)]
)
def test_the_default_delay_doubles_up_to_two_seconds(retries, shortest):
    assert default_delay(retries, lowest) == pytest.approx(shortest)
    assert default_delay(retries, highest) == pytest.approx(shortest + 0.2)


@given(st.integers(0) | st.just(10**5000))
def test_the_default_delay_is_bounded_for_ever(retries):
    assert 0.05 <= default_delay(retries, random.uniform) <= 2.2


def test_without_an_option_the_default_is_asked():
    strategy = strategy_of(None)
    assert strategy.is_default
    assert strategy.ask(1, LOST, 0.0) == default_delay(1, lowest)


# -- the forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "decision"),
    [
        (False, GiveUp()),
        (0, Delay(0.0)),
        (1.5, Delay(1.5)),
        (timedelta(seconds=2), Delay(2.0)),
        (lambda retries, cause: retries + 0.5, Delay(3.5)),
        (lambda retries, cause: timedelta(seconds=4), Delay(4.0)),
        (lambda retries, cause: False, GiveUp()),
        (lambda retries, cause: cause, GiveUp(LOST)),
        (tenacity.wait_fixed(2) + tenacity.wait_fixed(1), Delay(3.0)),
        (tenacity.wait_incrementing(start=1, increment=2), Delay(7.0)),
        (tenacity.wait_exponential(max=5), Delay(5.0)),
        ((tenacity.wait_fixed(2), tenacity.stop_never), Delay(2.0)),
    ],
)
def test_each_form_of_strategy_decides(option, decision):
    assert not strategy_of(option).is_default
    assert decide(option, retries=3) == decision


async def test_an_async_function_is_left_to_the_caller_to_await():
    async def strategy(retries, cause):
        await asyncio.sleep(0)
        return retries, cause

    assert await strategy_of(strategy).ask(2, LOST, 0.0) == (2, LOST)


@given(st.integers(0, 10**6))
def test_a_tenacity_wait_never_overflows(retries):
    assert decide(tenacity.wait_random_exponential(max=10), retries).seconds <= 10


@pytest.mark.parametrize(("retries", "decision"), [(0, Delay(1.0)), (1, Delay(1.0)), (2, GiveUp())])
def test_a_tenacity_stop_counts_the_attempt_that_failed(retries, decision):
    assert decide((tenacity.wait_fixed(1), tenacity.stop_after_attempt(3)), retries) == decision


@pytest.mark.parametrize(
    ("stop", "elapsed", "decision"),
    [
        (tenacity.stop_after_delay(10), 9.9, Delay(1.0)),
        (tenacity.stop_after_delay(10), 10.0, GiveUp()),
        (tenacity.stop_before_delay(10), 8.9, Delay(1.0)),
        (tenacity.stop_before_delay(10), 9.0, GiveUp()),
    ],
)
def test_a_tenacity_stop_sees_the_clients_clock_and_the_sleep_to_come(stop, elapsed, decision):
    assert decide((tenacity.wait_fixed(1), stop), elapsed=elapsed) == decision


def test_tenacity_sees_the_cause_as_a_failed_outcome():
    seen = []

    def stop(state):
        seen.append((state.outcome.failed, state.attempt_number, str(state)))
        return isinstance(state.outcome.exception(), ConnectionResetError)

    wait = tenacity.wait_exception(lambda error: len(str(error)))
    assert decide((wait, stop)) == GiveUp()
    assert decide((wait, stop), cause=OSError("12345")) == Delay(5.0)
    assert [each[:2] for each in seen] == [(True, 1), (True, 1)]


def test_what_a_strategy_raises_is_raised():
    def strategy(retries, cause):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        strategy_of(strategy).ask(0, LOST, 0.0)


def test_tenacity_is_loaded_only_for_what_may_need_it():
    code = (
        "import random, redis, sys\n"
        "from aioredis_kit.policy.reconnect import make_strategy\n"
        "for option in (None, False, 1.0): make_strategy(option, random.uniform)\n"
        "sys.exit('tenacity' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- the answers ------------------------------------------------------------------------------------


@given(st.floats(0, 1e9) | st.integers(0, 10**9))
def test_seconds_are_a_delay(seconds):
    assert read_answer(seconds) == Delay(seconds)


def test_zero_is_a_delay_and_false_is_none():
    assert read_answer(0) == read_answer(0.0) == read_answer(timedelta()) == Delay(0.0)
    assert read_answer(False) == GiveUp()


@pytest.mark.parametrize("answer", [True, None, "1", b"1", [], (1, 2), 1j, ValueError, KeyboardInterrupt()], ids=repr)
def test_an_answer_of_another_type_is_refused(answer):
    with pytest.raises(TypeError, match="the reconnect strategy must return seconds .*, not " + type(answer).__name__):
        read_answer(answer)


@pytest.mark.parametrize(
    "answer", [-1, -0.001, math.nan, math.inf, -math.inf, 10**5000, timedelta(-1)], ids=lambda _: ""
)
def test_an_answer_out_of_range_is_refused(answer):
    with pytest.raises(ValueError, match="the reconnect strategy must return seconds"):
        read_answer(answer)


# -- what waiting can't mend ------------------------------------------------------------------------


def caused(error, cause):
    error.__cause__ = cause
    return error


def in_context(error, context, *, suppressed=False):
    error.__context__ = context
    error.__suppress_context__ = suppressed
    return error


REFUSED = ssl.SSLCertVerificationError(1, "certificate verify failed")


def refused_by(alert):
    error = ssl.SSLError(1, alert)
    error.reason = alert
    return caused(ConnectError("failed"), error)


@pytest.mark.parametrize(("code", "hopeless"), [(9, False), (10, True), (19, True), (62, True)])
def test_time_mends_only_a_certificate_that_is_not_valid_yet(code, hopeless):
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    assert is_hopeless(caused(ConnectError("failed"), error), resolve_options(None, {})) is hopeless


@pytest.mark.parametrize(
    ("cause", "hopeless"),
    [
        (AuthenticationFailedError("refused", step="HELLO"), True),
        (REFUSED, True),
        (caused(ConnectError("failed"), REFUSED), True),
        (caused(ConnectError("failed"), caused(OSError(), REFUSED)), True),
        (in_context(ConnectError("failed"), REFUSED), True),
        (in_context(ConnectError("failed"), REFUSED, suppressed=True), False),
        (caused(ConnectError("failed"), ssl.SSLError()), False),
        (refused_by("TLSV13_ALERT_CERTIFICATE_REQUIRED"), True),
        (refused_by("TLSV1_ALERT_PROTOCOL_VERSION"), True),
        (refused_by("SSLV3_ALERT_CERTIFICATE_EXPIRED"), False),
        (refused_by("SSLV3_ALERT_HANDSHAKE_FAILURE"), False),
        (HandshakeError("refused", step="SELECT"), False),
        (LOST, False),
    ],
)
def test_refused_credentials_and_certificates_are_hopeless(cause, hopeless):
    assert is_hopeless(cause, resolve_options(None, {"password": "s3cret"})) is hopeless


def test_a_provider_may_have_better_credentials_the_next_time():
    options = resolve_options(None, {"credential_provider": lambda: ("u", "p")})
    assert not is_hopeless(AuthenticationFailedError("refused", step="HELLO"), options)
    assert is_hopeless(REFUSED, options)


def test_an_old_refusal_in_the_context_of_a_loss_is_not_hopeless():
    lost = in_context(OSError("lost"), AuthenticationFailedError("refused", step="HELLO"))
    assert not is_hopeless(lost, resolve_options(None, {}))


def test_causes_in_a_circle_end():
    first, second = OSError(), OSError()
    assert not is_hopeless(caused(first, caused(second, first)), resolve_options(None, {}))

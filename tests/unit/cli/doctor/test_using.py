"""Rules about using the server, and what all of them come to."""

from __future__ import annotations

import pytest

from aioredis_kit import CacheOptions
from aioredis_kit.cli.doctor.diagnosis import diagnose, worst
from aioredis_kit.cli.doctor.facts import Dial, Features, Latency, Permission, Rights
from aioredis_kit.cli.doctor.findings import Severity, Step
from tests.support.doctor import LOCALHOST, NAMES, everything, facts, found, healthy


def rights(refused=(), *, is_dry=True, **others):
    """Return rights to everything but some commands."""
    permissions = dict.fromkeys(NAMES, Permission.GRANTED) | dict.fromkeys(refused, Permission.REFUSED)
    return Rights(user="ada", permissions=permissions | others, is_dry=is_dry)


def told(seen, code):
    """Return the finding of that code."""
    (finding,) = (each for each in everything(seen) if each.code == code)
    return finding


def test_all_rights():
    seen = healthy(rights=rights())
    assert not found(seen)
    assert told(seen, "rights").what == "user ada may use all that the client wants"


def test_no_rights():
    """What could not be asked about is no right."""
    seen = healthy(rights=rights(NAMES, is_dry=False, SET=Permission.UNKNOWN))
    (finding,) = found(seen).values()
    assert (finding.severity, finding.code) == (Severity.ERROR, "no_rights")
    assert "ACL SETUSER ada" in finding.advice


@pytest.mark.parametrize(("url", "is_told"), [("redis://localhost", False), ("redis://:s3cret-of-ada@localhost", True)])
def test_a_server_that_takes_any_password(url, is_told):
    seen = healthy(url, rights=Rights(user="ada", permissions=rights().permissions, is_open=True))
    assert ("any_password" in found(seen)) is is_told


@pytest.mark.parametrize(
    ("command", "code", "severity"),
    [
        ("GET", "no_right_get", "WARNING"),
        ("SET", "no_right_set", "WARNING"),
        ("CLIENT UNBLOCK", "no_right_client_unblock", "WARNING"),
        ("PING", "no_right_ping", "NOTE"),
        ("CLIENT SETINFO", "no_right_client_setinfo", "NOTE"),
        ("SUBSCRIBE", "no_right_subscribe", "NOTE"),
        ("PTTL", "no_right_pttl", "NOTE"),
    ],
)
def test_one_right_that_is_missing(command, code, severity):
    (finding,) = found(healthy(rights=rights([command]))).values()
    assert (finding.code, finding.severity.name) == (code, severity)
    assert f"+{command.lower().replace(' ', '|')}" in finding.advice


def test_a_right_that_an_option_needs():
    seen = healthy(options={"client_side_cache": CacheOptions()}, rights=rights(["PTTL"]))
    finding = found(seen)["no_right_pttl"]
    assert finding.severity is Severity.ERROR
    assert "client_side_cache is set" in finding.why


def test_keys_of_others_and_what_nobody_could_ask():
    seen = healthy(rights=rights(GET=Permission.ELSEWHERE, SET=Permission.UNKNOWN, is_dry=False))
    assert not found(seen)
    why = told(seen, "rights").why
    assert "perhaps with yours: GET" in why
    assert "not known of SET" in why


def latency(*samples, **others):
    return Latency(samples=samples, **others)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (latency(*[0.0005] * 100), {}),
        (latency(*[0.0005] * 98, 0.02, 0.02), {"latency_spikes": "WARNING"}),
        (latency(*[0.0005] * 98, 0.008, 0.008), {}),
        (latency(*[0.05] * 20), {"far_away": "NOTE"}),
        (latency(*[0.9] * 2), {"latency_near_timeout": "WARNING", "far_away": "NOTE"}),
        (latency(0.0005, lag=0.2), {"this_process_late": "NOTE"}),
        (latency(0.0005, error="BUSY: a script runs"), {"pings_answered_with_errors": "WARNING"}),
        (latency(error="timed out"), {"pings_unanswered": "ERROR"}),
    ],
    ids=["well", "spikes", "small spikes", "far", "near the time-out", "lag", "BUSY", "none"],
)
def test_latency(seen, expected):
    told = {code: each.severity.name for code, each in found(healthy(latency=seen)).items()}
    assert told.items() <= expected.items() if "far_away" in expected else told == expected
    assert told or not expected


def test_latency_says_whose_time_it_is():
    """As far as the system tells."""
    assert "the way there and back took 0.20 ms" in told(healthy(), "latency").why
    assert told(healthy(dials=(Dial(address="x", seconds=0.1),)), "latency").why == ""


@pytest.mark.parametrize("is_wanted", [False, True])
def test_a_cache_that_does_not_work(is_wanted):
    options = {"client_side_cache": CacheOptions()} if is_wanted else None
    seen = healthy(options=options, features=Features(tracking_error="refused CLIENT TRACKING"))
    (finding,) = found(seen).values()
    assert finding.code == "no_tracking"
    assert finding.severity is (Severity.ERROR if is_wanted else Severity.NOTE)


def test_maintenance_that_is_announced():
    seen = healthy(features=Features(is_tracking=True, announces_maintenance=True))
    assert list(found(seen)) == ["maintenance_announced"]


def test_options_without_effect_are_told():
    assert (
        "has no effect"
        in found(healthy("localhost,syncTimeout=5000,asyncTimeout=5000,preserveAsyncOrder=true"))["option_note"].what
    )


def test_all_is_well():
    verdicts = diagnose(healthy())
    assert worst(verdicts) is Severity.WELL
    assert all(verdict.is_reached for verdict in verdicts)


@pytest.mark.parametrize(
    ("url", "missing"),
    [("redis://localhost", {Step.TLS}), ("rediss://localhost", set()), ("unix:///tmp/x", {Step.NAME, Step.TLS})],
)
def test_steps_that_there_are(url, missing):
    assert {verdict.step for verdict in diagnose(facts(url))} == set(Step) - missing


def test_time_that_is_over_is_an_error_at_the_step_that_was_not_reached():
    seen = healthy(server=None, rights=None, latency=None, features=None)
    verdicts = {verdict.step: verdict for verdict in diagnose(seen)}
    assert verdicts[Step.SERVER].findings[0].code == "time_over"
    assert not verdicts[Step.RIGHTS].is_reached
    assert worst(verdicts.values()) is Severity.ERROR


def test_after_an_error_nothing_else_is_missed():
    verdicts = diagnose(facts(look_up=LOCALHOST, dials=(Dial(address="x", seconds=0.1, error="refused"),)))
    assert sum(verdict.severity is Severity.ERROR for verdict in verdicts) == 1


def test_what_is_well_comes_first_and_then_the_worst():
    (verdict,) = (each for each in diagnose(healthy(rights=rights(["PING", "GET"]))) if each.step is Step.RIGHTS)
    assert [finding.severity.name for finding in verdict.findings] == ["WELL", "WARNING", "NOTE"]

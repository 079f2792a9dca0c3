"""Rules about the way to the server."""

from __future__ import annotations

import pytest

from aioredis_kit.cli.doctor.facts import Certificate, Dial, DialFailure, Encryption, Greeting, LookUp
from aioredis_kit.cli.doctor.findings import Severity
from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    ConnectError,
    ConnectTimeoutError,
    HandshakeError,
    ReplyProtocolError,
)
from aioredis_kit.policy.tls_failures import TLSFailure
from tests.support.doctor import DAY, LOCALHOST, NOW, everything, facts, found, healthy

TLS = "rediss://cache.example.com:6380"
OWN = Certificate(
    subject="cache.example.com",
    issuer="Example CA",
    names=("cache.example.com", "*.cache.example.com"),
    begins=NOW - 30 * DAY,
    ends=NOW + 60 * DAY,
)
AUTHORITY = Certificate(subject="Example CA", issuer="Example Root", begins=NOW - 900 * DAY, ends=NOW + 900 * DAY)


def only(seen):
    """Return the one finding that is not well."""
    (finding,) = found(seen).values()
    return finding


@pytest.mark.parametrize(
    ("look_up", "code", "words"),
    [
        (LookUp(error="Name or service not known", seconds=0.1), "name_unknown", "Name or service not known"),
        (LookUp(error="no answer", is_late=True, seconds=3.0), "name_resolution_late", "nobody says within 3 s"),
    ],
)
def test_a_name_without_an_address(look_up, code, words):
    finding = only(facts("redis://cache.example.com", look_up=look_up))
    assert (finding.severity, finding.code) == (Severity.ERROR, code)
    assert words in finding.what
    assert "cache.example.com" in finding.what


def test_a_slow_look_up_is_told_with_its_time():
    finding = only(healthy(look_up=LookUp(addresses=("10.0.0.5",), seconds=1.2)))
    assert finding.code == "name_resolution_slow"
    assert "10.0.0.5 (1.2 s)" in finding.what


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (DialFailure.REFUSED, "socket_refused", "refuses connections"),
        (DialFailure.LATE, "socket_late", "does not answer within 3 s"),
        (None, "socket_failed", "No route to host"),
    ],
)
def test_a_port_that_can_not_be_reached(failure, code, words):
    dial = Dial(address="10.0.0.5:6379", seconds=3.0, error="No route to host", failure=failure)
    finding = only(facts(look_up=LOCALHOST, dials=(dial,)))
    assert (finding.severity, finding.code) == (Severity.ERROR, code)
    assert "10.0.0.5:6379" in finding.what
    assert words in finding.what


def test_one_of_two_addresses_is_enough_to_connect():
    bad = Dial(address="[::1]:6379", seconds=0.001, error="refused", failure=DialFailure.REFUSED)
    seen = healthy()
    finding = only(healthy(dials=(bad, *seen.dials)))
    assert (finding.severity, finding.code) == (Severity.WARNING, "socket_refused")
    assert "in their order" in finding.why


def encrypted(**changes):
    given = {
        "name": "cache.example.com",
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256",
        "certificates": (OWN, AUTHORITY),
    }
    return Encryption(**given | changes)


def test_a_certificate_and_its_chain():
    seen = healthy(TLS, encryption=encrypted())
    assert not found(seen)
    (told,) = (each for each in everything(seen) if each.code == "encrypted")
    assert told.what == "TLSv1.3, TLS_AES_256; the certificate ends in 60 days"
    assert "for cache.example.com, *.cache.example.com, from 2026-12-16 to 2027-03-16" in told.why
    assert told.why.endswith("signed by Example CA, signed by Example Root")


@pytest.mark.parametrize(
    ("left", "lifetime", "is_told"),
    [(13, 90, True), (15, 90, False), (3, 6, False), (1.9, 6, True)],
    ids=["of 90 days", "of 90 days, enough", "short-lived, enough", "short-lived"],
)
def test_a_certificate_that_ends_soon(left, lifetime, is_told):
    """Those that live for some days are renewed when a third of that is left."""
    own = Certificate(subject="x", issuer="y", begins=NOW + (left - lifetime) * DAY, ends=NOW + left * DAY)
    assert ("certificate_ends_soon" in found(healthy(TLS, encryption=encrypted(certificates=(own,))))) is is_told


@pytest.mark.parametrize("option", ["verify", "check_hostname"])
def test_a_check_that_is_switched_off(option):
    name = {"verify": "ssl_cert_reqs=none", "check_hostname": "ssl_check_hostname=false"}[option]
    finding = only(healthy(f"{TLS}?{name}", encryption=encrypted()))
    assert (finding.severity, finding.code) == (Severity.WARNING, "certificate_unchecked")
    assert f"TLSOptions.{option} is False" in finding.why
    assert "ca_file" in finding.advice


def failed(failure, **changes):
    given = {"version": "", "cipher": "", "error": "certificate verify failed", "failure": failure, "seconds": 3.0}
    return only(facts(TLS, encryption=encrypted(**given | changes)))


def expired(certificate):
    return Certificate(
        subject=certificate.subject, issuer=certificate.issuer, begins=NOW - 90 * DAY, ends=NOW - 2.5 * DAY
    )


def test_an_expired_certificate():
    finding = failed(TLSFailure.EXPIRED, certificates=(expired(OWN), AUTHORITY))
    assert finding.code == "certificate_expired"
    assert "it ended 2027-01-12 20:00 UTC, 2 days ago" in finding.why
    assert "renew it at the server" in finding.advice


def test_an_expired_certificate_of_the_authority():
    finding = failed(TLSFailure.EXPIRED, certificates=(OWN, expired(AUTHORITY)))
    assert finding.code == "certificate_expired"
    assert "the certificate of Example CA, which signed the server's" in finding.what
    assert "ca_file" in finding.advice


def test_a_certificate_for_another_name():
    finding = failed(TLSFailure.OTHER_NAME, name="10.0.0.5")
    assert finding.code == "certificate_for_another_name"
    assert "not for 10.0.0.5" in finding.what
    assert "it is for cache.example.com, *.cache.example.com" in finding.why
    assert "server_hostname" in finding.advice


def test_an_unknown_authority():
    finding = failed(TLSFailure.UNKNOWN_AUTHORITY)
    assert finding.code == "certificate_of_unknown_authority"
    assert "signed by Example CA, signed by Example Root" in finding.why
    assert "the list of the system" in finding.why
    assert "ssl_ca_certs" in finding.advice


def test_a_certificate_that_signed_itself():
    own = Certificate(subject="cache", issuer="cache", begins=NOW - DAY, ends=NOW + 60 * DAY)
    assert "signed by itself" in failed(TLSFailure.UNKNOWN_AUTHORITY, certificates=(own,)).why


def test_a_certificate_that_is_not_valid_yet():
    own = Certificate(subject="x", issuer="y", begins=NOW + DAY, ends=NOW + 90 * DAY)
    finding = failed(TLSFailure.NOT_YET_VALID, certificates=(own,))
    assert finding.code == "certificate_not_yet_valid"
    assert "clocks" in finding.advice


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"is_plain": True}, "tls_not_spoken"),
        ({"is_late": True}, "tls_silent"),
        ({"failure": TLSFailure.CERTIFICATE_MISSING}, "client_certificate_missing"),
        ({"failure": TLSFailure.CERTIFICATE_REFUSED}, "client_certificate_refused"),
        ({"failure": TLSFailure.VERSION}, "tls_version"),
        ({}, "tls_failed"),
    ],
)
def test_other_failures_of_tls(changes, code):
    assert failed(**{"failure": None, "certificates": ()} | changes).code == code


@pytest.mark.parametrize("failure", [None, *TLSFailure])
def test_no_advice_is_to_switch_a_check_off(failure):
    for certificates in ((), (OWN, AUTHORITY)):
        finding = failed(failure, certificates=certificates)
        assert finding.severity is Severity.ERROR
        assert not any(word in finding.advice for word in ("verify", "check_hostname", "cert_reqs", "False"))


ADDRESS = "localhost:6379"
REFUSED = f"{ADDRESS} refused HELLO: "


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            AuthenticationFailedError(f"{REFUSED}WRONGPASS invalid username-password pair", step="HELLO"),
            "password_refused",
            "the password came from the URL",
        ),
        (
            AuthenticationFailedError(f"{REFUSED}NOAUTH HELLO must be called authenticated", step="HELLO"),
            "password_missing",
            "NOAUTH",
        ),
        (
            AuthenticationFailedError(f"{REFUSED}AUTH <password> called without any password configured", step="HELLO"),
            "password_needless",
            "without any password",
        ),
        (
            HandshakeError(f"{ADDRESS} refused SELECT: DB index is out of range", step="SELECT"),
            "database_refused",
            "DB",
        ),
        (HandshakeError(f"{REFUSED}max number of clients reached", step="HELLO"), "too_many_clients", "max number"),
        (HandshakeError(f"{REFUSED}DENIED Redis is running in protected mode", step="HELLO"), "protected_mode", "mode"),
        (HandshakeError(f"{REFUSED}NOPROTO sorry", step="HELLO", is_unsupported=True), "refused", "NOPROTO"),
        (ReplyProtocolError(f"{ADDRESS} sent Protocol error"), "not_redis", "Protocol error"),
        (ConnectError(f"{ADDRESS} closed the connection during the handshake"), "hung_up", "closed"),
        (ConnectError(f"{ADDRESS}: No buffer space"), "not_connected", "No buffer space"),
    ],
)
def test_a_handshake_that_fails(error, code, words):
    finding = only(
        healthy("redis://:s3cret-of-ada@localhost", greeting=Greeting(seconds=0.1, error=error), server=None)
    )
    assert (finding.severity, finding.code) == (Severity.ERROR, code)
    assert words in finding.why
    assert finding.advice
    assert "s3cret-of-ada" not in f"{finding}"


def test_a_password_that_is_missing_and_an_old_server_that_names_it_otherwise():
    error = AuthenticationFailedError(f"{REFUSED}something else", step="HELLO")
    assert only(healthy(greeting=Greeting(seconds=0.1, error=error), server=None)).code == "password_missing"


@pytest.mark.parametrize("error", [None, ConnectTimeoutError(f"{ADDRESS} did not answer within 3 seconds")])
def test_a_port_that_accepts_and_never_answers(error):
    finding = only(healthy(greeting=Greeting(seconds=3.0, error=error, is_late=True), server=None))
    assert finding.code == "silent"
    assert finding.what == "connections are accepted, and nothing is answered within 3 s"


@pytest.mark.parametrize("said", ["LOADING", "MASTERDOWN", "BUSY"])
def test_a_server_that_does_not_serve_yet(said):
    finding = only(healthy(greeting=Greeting(seconds=3.0, not_serving=f"it answers {said}"), server=None))
    assert finding.code == "not_serving"
    assert said in finding.why


@pytest.mark.parametrize("user", ["", ":s3cret-of-ada@"])
def test_a_server_that_wants_tls(user):
    """If a password was sent in the clear, that is told."""
    greeting = Greeting(seconds=0.1, error=ConnectError("closed"), is_tls=True)
    finding = only(healthy(f"redis://{user}localhost", greeting=greeting, server=None))
    assert finding.code == "tls_missing"
    assert ("not encrypted" in finding.why) is bool(user)


def test_a_server_without_resp3():
    resp2 = Greeting(seconds=0.1, is_ready=True, protocol=2)
    finding = only(healthy(greeting=resp2))
    assert (finding.severity, finding.code) == (Severity.WARNING, "resp2")
    assert not found(healthy("redis://localhost?protocol=2", greeting=resp2)), "it was asked for"


@pytest.mark.parametrize(
    ("url", "address", "is_told"),
    [
        ("redis://:s3cret-of-ada@cache", "10.0.0.5", True),
        ("redis://:s3cret-of-ada@cache", "fe80::1%eth0", True),
        ("redis://:s3cret-of-ada@cache", "127.0.0.1", False),
        ("redis://:s3cret-of-ada@cache", "::1", False),
        ("redis://cache", "10.0.0.5", False),
    ],
)
def test_a_password_on_a_network_without_tls(url, address, is_told):
    seen = healthy(url, look_up=LookUp(addresses=(address,), seconds=0.001))
    assert ("password_unencrypted" in found(seen)) is is_told

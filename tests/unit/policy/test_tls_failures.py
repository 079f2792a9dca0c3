"""Each way in which TLS fails is told in words, with the name that was checked and the option that mends it."""

import ssl

import pytest

from aioredis_kit.options import TLSOptions
from aioredis_kit.policy.tls_failures import (
    TLSFailure,
    explain,
    explain_reset,
    find_failure,
    is_about_name,
    tls_error_behind,
)

NAME = "redis.example.com"


def unverified(code, message="as OpenSSL says it"):
    """What ssl raises about a server's certificate."""
    error = ssl.SSLCertVerificationError(1, f"certificate verify failed: {message}")
    error.verify_code, error.verify_message = code, message
    return error


def failed(reason):
    """What ssl raises otherwise."""
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def told(error, options=None, names=()):
    return explain(error, options or TLSOptions(), NAME, names)


# -- what failed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (unverified(62), TLSFailure.OTHER_NAME),
        (unverified(64), TLSFailure.OTHER_NAME),
        (unverified(18), TLSFailure.UNKNOWN_AUTHORITY),
        (unverified(19), TLSFailure.UNKNOWN_AUTHORITY),
        (unverified(20), TLSFailure.UNKNOWN_AUTHORITY),
        (unverified(10), TLSFailure.EXPIRED),
        (unverified(9), TLSFailure.NOT_YET_VALID),
        (unverified(23), TLSFailure.UNVERIFIED),
        (ssl.SSLCertVerificationError("without a code"), TLSFailure.UNVERIFIED),
        (failed("TLSV13_ALERT_CERTIFICATE_REQUIRED"), TLSFailure.CERTIFICATE_MISSING),
        (failed("TLSV1_ALERT_UNKNOWN_CA"), TLSFailure.CERTIFICATE_REFUSED),
        (failed("SSLV3_ALERT_CERTIFICATE_EXPIRED"), TLSFailure.CERTIFICATE_REFUSED),
        (failed("SSLV3_ALERT_BAD_CERTIFICATE"), TLSFailure.CERTIFICATE_REFUSED),
        (failed("TLSV1_ALERT_PROTOCOL_VERSION"), TLSFailure.VERSION),
        (failed("UNSUPPORTED_PROTOCOL"), TLSFailure.VERSION),
        (failed("SSLV3_ALERT_HANDSHAKE_FAILURE"), TLSFailure.UNSAID),
        (failed("WRONG_VERSION_NUMBER"), TLSFailure.NOT_TLS),
        (failed("UNEXPECTED_EOF_WHILE_READING"), None),
        (ssl.SSLError(), None),
    ],
)
def test_the_failure_is_found_by_openssls_numbers_and_words(error, failure):
    assert find_failure(error) is failure
    assert is_about_name(error) is (failure is TLSFailure.OTHER_NAME)
    assert (told(error) is None) is (failure is None)


def test_the_error_is_found_among_the_causes():
    error, lost = failed("any"), ConnectionResetError()
    lost.__cause__ = error
    outer = RuntimeError()
    outer.__context__ = lost
    assert tls_error_behind(outer) is tls_error_behind(error) is error
    outer.__suppress_context__ = True
    assert tls_error_behind(outer) is None
    assert tls_error_behind(None) is None


# -- the server's certificate -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "it is for another name"),
        (("one",), "it is for one;"),
        (("one", "10.1.2.3"), "it is for one, 10.1.2.3;"),
        (tuple("abcdefg"), "it is for a, b, c, d, e and 2 more;"),
    ],
)
def test_a_certificate_for_another_name(names, said):
    text = told(unverified(62), names=names)
    assert text.startswith(f"its certificate does not verify for {NAME}: {said}")
    assert "tls=TLSOptions(server_hostname=…)" in text


@pytest.mark.parametrize(
    ("options", "trusted"),
    [
        (TLSOptions(), "the system's"),
        (TLSOptions(ca_file="/some/ca.pem"), "those in ca_file=/some/ca.pem"),
        (TLSOptions(ca_path="/some", ca_data="PEM"), "those in ca_path=/some and those in ca_data=…"),
        (ssl.create_default_context(), "those of the SSLContext"),
    ],
)
def test_an_authority_that_is_not_trusted(options, trusted):
    text = told(unverified(19, "self-signed certificate"), options)
    assert f"does not verify for {NAME}: no authority that is trusted signed it (self-signed certificate)" in text
    assert f"trusted are {trusted}:" in text
    assert "ca_file" in text


@pytest.mark.parametrize(
    ("code", "said"),
    [(10, "it has expired"), (9, "it is not valid yet"), (23, "as OpenSSL says it; it has to be replaced")],
)
def test_what_else_is_wrong_with_it(code, said):
    assert f"does not verify for {NAME}: {said}" in told(unverified(code))


# -- the client's -----------------------------------------------------------------------------------


def test_none_was_given():
    text = told(failed("TLSV13_ALERT_CERTIFICATE_REQUIRED"))
    assert "demands a client certificate, and none was given" in text
    assert "tls=TLSOptions(certificate_file=…, key_file=…)" in text
    context = told(failed("TLSV13_ALERT_CERTIFICATE_REQUIRED"), ssl.create_default_context())
    assert "the SSLContext given as tls (certificate_file, key_file)" in context


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "does not trust the authority"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "it has expired"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "it was revoked"),
    ],
)
def test_the_one_given_is_refused(reason, said):
    text = told(failed(reason), TLSOptions(certificate_file="/my/cert.pem"))
    assert text.startswith("the server refused the client certificate /my/cert.pem: ")
    assert said in text
    assert "client certificate: " in told(failed(reason), ssl.create_default_context())


@pytest.mark.parametrize(
    ("options", "suspicion"),
    [
        (TLSOptions(), "demands a client certificate, and none was given"),
        (TLSOptions(certificate_file="/my/cert.pem"), "does not accept the client certificate /my/cert.pem"),
        (ssl.create_default_context(), "and none that it accepts was given"),
    ],
)
def test_what_the_server_left_unsaid(options, suspicion):
    refused = told(failed("SSLV3_ALERT_HANDSHAKE_FAILURE"), options)
    assert suspicion in refused
    assert "cipher" in refused
    assert suspicion in explain_reset(options)


# -- versions ---------------------------------------------------------------------------------------


def test_no_version_in_common():
    error = failed("TLSV1_ALERT_PROTOCOL_VERSION")
    text = told(error)
    assert "TLSv1.2 or newer (tls=TLSOptions(minimum_version=…))" in text
    assert "older one" not in text, "there is none that is safe"
    for version in ("TLSv1.3", ssl.TLSVersion.TLSv1_3):
        text = told(error, TLSOptions(minimum_version=version))
        assert "TLSv1.3 or newer" in text
        assert 'tls=TLSOptions(minimum_version="TLSv1.2")' in text
    assert "the SSLContext given as tls (minimum_version)" in told(error, ssl.create_default_context())


@pytest.mark.parametrize("failure", [unverified(62), unverified(19), unverified(10), failed("WRONG_VERSION_NUMBER")])
def test_no_check_is_to_be_switched_off(failure):
    text = told(failure)
    assert "verify=" not in text
    assert "check_hostname" not in text

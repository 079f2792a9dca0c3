"""A TLS context checks what it was told to check, and an error names the option that is wrong."""

import os
import ssl
import subprocess
import sys

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import TLSOptions
from aioredis_kit.transport.tls import tls_context


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what a certificate authority gave out: its own certificate, the server's, and a client's."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other-ca.pem")
    for name in ("localhost", "client"):
        issued = authority.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}-certificate.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}-key.pem")
    key = serialization.load_pem_private_key((folder / "client-key.pem").read_bytes(), password=None)
    (folder / "client-locked-key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"s3cret"),
        )
    )
    return folder


def server_context(folder, *, asks_for_certificate=False):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "localhost.pem")
    context.verify_mode = ssl.CERT_REQUIRED if asks_for_certificate else ssl.CERT_NONE
    return context


def shake_hands(client_context, server, *, name="localhost"):
    """Connect two ends without a socket; return the server's view of the client's certificate, and the version."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client_context.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
            done = end
        if not ends:
            return done.getpeercert(), done.version()
    raise AssertionError("no handshake")


def refusal(**options):
    with pytest.raises(ConfigurationError) as caught:
        tls_context(TLSOptions(**options))
    assert isinstance(caught.value.__cause__, (OSError, ValueError))
    assert not isinstance(caught.value.__cause__, ConfigurationError)
    return str(caught.value)


# -- trust ------------------------------------------------------------------------------------------


def test_a_context_is_taken_as_it_is():
    context = ssl.create_default_context()
    assert tls_context(context) is context


def test_the_system_is_trusted_by_default():
    context = tls_context(TLSOptions())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats() == ssl.create_default_context().cert_store_stats()


def trusted_by_file(folder):
    return {"ca_file": str(folder / "ca.pem")}


def trusted_by_text(folder):
    return {"ca_data": (folder / "ca.pem").read_text()}


def trusted_by_der(folder):
    return {"ca_data": ssl.PEM_cert_to_DER_cert((folder / "ca.pem").read_text())}


@pytest.mark.parametrize("trusted", [trusted_by_file, trusted_by_text, trusted_by_der])
def test_a_certificate_of_the_authority_is_accepted(folder, trusted):
    context = tls_context(TLSOptions(**trusted(folder)))
    assert len(context.get_ca_certs()) == 1, "the system is not trusted beside it"
    assert shake_hands(context, server_context(folder))


def test_a_certificate_of_another_authority_is_refused(folder):
    context = tls_context(TLSOptions(ca_file=str(folder / "other-ca.pem")))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, server_context(folder))


def test_a_certificate_of_another_name_is_refused(folder):
    context = tls_context(TLSOptions(ca_file=str(folder / "ca.pem")))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(context, server_context(folder), name="other")


def test_the_name_can_be_left_unchecked(folder):
    context = tls_context(TLSOptions(ca_file=str(folder / "ca.pem"), check_hostname=False))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert shake_hands(context, server_context(folder), name="other")
    other = tls_context(TLSOptions(ca_file=str(folder / "other-ca.pem"), check_hostname=False))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(other, server_context(folder), name="other")


@pytest.mark.parametrize("check_hostname", [True, False])
def test_nothing_is_checked_when_switched_off(folder, check_hostname):
    context = tls_context(TLSOptions(verify=False, check_hostname=check_hostname))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert shake_hands(context, server_context(folder), name="other")


# -- the client's own certificate -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certificate", "key", "password"),
    [
        ("client.pem", None, None),
        ("client-certificate.pem", "client-key.pem", None),
        ("client-certificate.pem", "client-key.pem", "needl3ss"),
        ("client-certificate.pem", "client-locked-key.pem", "s3cret"),
    ],
)
def test_a_server_may_ask_for_a_certificate(folder, certificate, key, password):
    context = tls_context(
        TLSOptions(
            ca_file=str(folder / "ca.pem"),
            certificate_file=str(folder / certificate),
            key_file=None if key is None else str(folder / key),
            key_password=password,
        )
    )
    certificate, _ = shake_hands(context, server_context(folder, asks_for_certificate=True))
    assert ("DNS", "client") in certificate["subjectAltName"]


@pytest.mark.pins("P7")
@pytest.mark.parametrize("password", ["wr0ng-one", None])
def test_a_key_without_its_password_is_refused(folder, password):
    files = {
        "certificate_file": str(folder / "client-certificate.pem"),
        "key_file": str(folder / "client-locked-key.pem"),
    }
    message = refusal(**files, key_password=password)
    assert message.startswith(f"tls: certificate_file {files['certificate_file']} and key_file {files['key_file']} ")
    assert "wr0ng-one" not in message


def test_nobody_is_asked_for_the_password(folder):
    """OpenSSL would ask on the terminal, or read it from the standard input, and block the process meanwhile."""
    script = f"""
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import TLSOptions
from aioredis_kit.transport.tls import tls_context
try:
    tls_context(TLSOptions(certificate_file={str(folder / "client-certificate.pem")!r},
                           key_file={str(folder / "client-locked-key.pem")!r}))
except ConfigurationError:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="s3cret\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        start_new_session=True,  # no terminal
        env=dict(os.environ),
    )
    assert done.stdout == "refused\n", done.stderr[-500:]
    assert "pass phrase" not in done.stderr


# -- versions and ciphers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "version"),
    [
        ("TLSv1.2", ssl.TLSVersion.TLSv1_2),
        ("TLSv1.3", ssl.TLSVersion.TLSv1_3),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
    ],
)
def test_the_oldest_version(folder, given, version):
    context = tls_context(TLSOptions(ca_file=str(folder / "ca.pem"), minimum_version=given))
    assert context.minimum_version is version
    server = server_context(folder)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    if version is ssl.TLSVersion.TLSv1_2:
        assert shake_hands(context, server)[1] == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError):
            shake_hands(context, server)


def test_the_ciphers_of_tls_1_2():
    context = tls_context(TLSOptions(ciphers="ECDHE-RSA-AES256-GCM-SHA384"))
    older = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert older == ["ECDHE-RSA-AES256-GCM-SHA384"]


# -- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["ca_file", "certificate_file"])
def test_a_file_that_is_not_there_is_named(option):
    message = refusal(**{option: "/no/such/file.pem"})
    assert message.startswith(f"tls: {option}")
    assert "/no/such/file.pem" in message
    assert "No such file" in message


def test_a_key_file_that_is_not_there_is_named(folder):
    message = refusal(certificate_file=str(folder / "client-certificate.pem"), key_file="/no/such/key.pem")
    assert "key_file" in message
    assert "/no/such/key.pem" in message


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"ca_data": "no certificate"}, "ca_data"),
        ({"ca_data": b"no certificate"}, "ca_data"),
        ({"ciphers": "NO-SUCH-CIPHER"}, "ciphers"),
    ],
)
def test_a_value_that_is_none_is_named(options, option):
    message = refusal(**options)
    assert message.startswith(f"tls: {option}")
    assert "ca_path" not in message
    assert "(" not in message.replace("(_ssl.c", ""), "the text of an error, not its tuple"


@pytest.mark.parametrize("option", ["ca_file", "certificate_file"])
def test_a_file_that_holds_something_else_is_named(folder, option):
    file = folder / "something else.pem"
    file.write_text("something else")
    message = refusal(**{option: str(file)})
    assert message.startswith(f"tls: {option}")
    assert str(file) in message
    assert "ca_path" not in message

"""Credentials are a value that hides its secret, and a provider's answer becomes one or is refused."""

import copy
import math
import pickle

import pytest

from aioredis_kit.credentials import Credentials, read_credentials
from aioredis_kit.exceptions import ConfigurationError


@pytest.mark.pins("P7")
def test_the_password_is_not_shown():
    credentials = Credentials("ada", "s3cret", expires_at=5.0)
    assert repr(credentials) == "Credentials(username='ada', expires_at=5.0)"
    assert "s3cret" not in f"{credentials} {credentials!r} {[credentials]}"


def test_credentials_are_a_value():
    credentials = Credentials("ada", "s3cret")
    assert credentials == Credentials("ada", "s3cret") != Credentials("ada", "0ther-one")
    assert hash(credentials) == hash(Credentials("ada", "s3cret"))
    assert pickle.loads(pickle.dumps(credentials)) == copy.deepcopy(credentials) == credentials
    with pytest.raises(AttributeError):
        credentials.password = "other"


def test_nobody_is_the_default_user():
    assert Credentials() == Credentials(None, "", None)


@pytest.mark.parametrize(
    ("answer", "credentials"),
    [
        (Credentials("ada", "s3cret"), Credentials("ada", "s3cret")),
        (("ada", "s3cret"), Credentials("ada", "s3cret")),
        ((None, "s3cret"), Credentials(None, "s3cret")),
        (("s3cret",), Credentials(None, "s3cret")),  # as redis-py's providers may answer
    ],
)
def test_what_a_provider_may_return(answer, credentials):
    assert read_credentials(answer) == credentials


@pytest.mark.pins("P7")
@pytest.mark.parametrize(
    "answer",
    [None, "s3cret", b"s3cret", (), ("ada", "s3cret", 1), ("ada", None), ["ada", "s3cret"], {"password": "s3cret"}],
    ids=repr,
)
def test_anything_else_is_refused_without_showing_it(answer):
    with pytest.raises(ConfigurationError) as caught:
        read_credentials(answer)
    assert f"returned {type(answer).__name__!r}" in str(caught.value)
    assert "must return Credentials or a (username, password) pair" in str(caught.value)
    assert "s3cret" not in f"{caught.value} {caught.value!r}"


@pytest.mark.pins("P7")
@pytest.mark.parametrize(
    "answer",
    [Credentials("ada", None), Credentials("ada", b"s3cret"), Credentials(b"ada", "s3cret"), (5, "s3cret")],
    ids=["no password", "password of bytes", "user of bytes", "user of a number"],
)
def test_what_is_no_text_is_refused_before_a_handshake_needs_it(answer):
    with pytest.raises(ConfigurationError, match="user name or password that is no text: both must be str") as caught:
        read_credentials(answer)
    assert "s3cret" not in f"{caught.value} {caught.value!r}"


@pytest.mark.pins("P7")
@pytest.mark.parametrize("answer", [("ada", "s3cret\ud800"), ("\udfffada", "s3cret")], ids=["password", "user"])
def test_what_can_not_be_encoded_is_refused_before_a_renewal_needs_it(answer):
    with pytest.raises(ConfigurationError, match="half a surrogate pair: it can't be sent") as caught:
        read_credentials(answer)
    assert "s3cret" not in f"{caught.value} {caught.value!r}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("field", ["expires_at", "refresh_on"])
@pytest.mark.parametrize("value", ["soon", True, b"5", math.nan, math.inf, 10**400, 1_700_000_000_000], ids=repr)
def test_an_end_that_is_no_instant_is_refused(field, value):
    with pytest.raises(ConfigurationError, match=f"{field} that is no such time: it must be seconds since the epoch"):
        read_credentials(Credentials("ada", "s3cret", **{field: value}))


def test_the_same_to_a_server():
    """Whatever is known about their end."""
    assert Credentials("ada", "s3cret").is_same_as(Credentials("ada", "s3cret", expires_at=5.0, refresh_on=1.0))
    assert not Credentials("ada", "s3cret").is_same_as(Credentials("ada", "0ther-one"))
    assert not Credentials("ada", "s3cret").is_same_as(Credentials(None, "s3cret"))
    assert not Credentials().is_same_as(None)

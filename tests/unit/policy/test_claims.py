"""What a token says about itself."""

import pytest

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.policy.claims import end_of, object_id
from tests.support.identity import jwt


def test_whom_it_was_issued_to():
    assert object_id(jwt(oid="me")) == "me"
    for token in (jwt(sub="me"), jwt(oid=5), jwt(oid=""), "garbage", "a.!.c", "a.NQ.c", ""):
        with pytest.raises(ConfigurationError, match="no oid claim"):
            object_id(token)


def test_when_it_ends():
    assert end_of(jwt(exp=2_000_000_000)) == 2e9
    for token in (jwt(oid="me"), jwt(exp="soon"), jwt(exp=True), jwt(exp=-1), "garbage", "a.NQ.c", ""):
        assert end_of(token) is None

"""What a token says about whom it was issued to. It is read, not verified: the server verifies."""

from __future__ import annotations

import base64
import json

from aioredis_kit.exceptions import ConfigurationError


def object_id(token: str) -> str:
    """Return the ``oid`` claim of a token: the name by which the server knows its user.

    Raises:
        ConfigurationError: It has none, or is no token that can be read.
    """
    parts = token.split(".")
    try:
        payload = parts[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        oid = claims["oid"]
    except (IndexError, KeyError, TypeError, ValueError):
        oid = None
    if not isinstance(oid, str) or not oid:
        raise ConfigurationError("the token has no oid claim, which is the user's name: give username=")
    return oid

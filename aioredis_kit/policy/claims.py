"""What a token says about itself. It is read, not verified: the server verifies."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


def object_id(token: str) -> str:
    """Return the ``oid`` claim of a token: the name by which the server knows its user.

    Raises:
        ConfigurationError: It has none, or is no token that can be read.
    """
    oid = _claims(token).get("oid")
    if not isinstance(oid, str) or not oid:
        raise ConfigurationError("the token has no oid claim, which is the user's name: give username=")
    return oid


def end_of(token: str) -> float | None:
    """Return when a token ends, in seconds since the epoch; ``None`` if it does not say so, or is no such token."""
    ends = _claims(token).get("exp")
    return float(ends) if isinstance(ends, int | float) and not isinstance(ends, bool) and ends >= 0 else None


def _claims(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    try:
        payload = parts[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, TypeError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}

"""Resolve options as a client does, or see why they are refused."""

from __future__ import annotations

import pytest

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import resolve_options


def resolve(url=None, **given):
    """Return the options of a client that is given this."""
    return resolve_options(url, given)


def refusal(url=None, **given):
    """Return the text of the error with which this is refused."""
    with pytest.raises(ConfigurationError) as caught:
        resolve_options(url, given)
    assert caught.value.__context__ is None, "the context may quote a secret"
    return str(caught.value)

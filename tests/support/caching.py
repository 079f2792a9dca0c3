"""What the tests of the cache share: what a scripted peer says of changes, and what came in."""

from __future__ import annotations

from aioredis_kit import CacheOptions
from aioredis_kit.testing import resp

LASTING = CacheOptions(key_expiry=False)
"""No questions when keys end: what a test is about is all that is sent."""


def invalidation(*keys):
    return resp.push("invalidate", resp.array(*map(resp.bulk, keys)) if keys else resp.null())


def sent(peer, *names):
    return [tuple(word.decode() for word in each.words) for each in peer.commands if each.name in names]


def stats(client):
    return client.client_side_cache.stats()

"""What a client has done, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioredis_kit.cache.statistics import CacheStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a client has done since it was last opened.

    Attributes:
        socket_writes: How many times it wrote to a socket: many commands share one write.
        orphaned_replies: How many replies came to blocking commands whose callers had gone.
        unknown_outcomes: How many blocking commands ended without anybody knowing what they had done.
        renewals: How many tokens took the place of an older one.
        failed_renewals: How many times that was tried in vain.
        reauthentications: How many times an open connection authenticated with a newer token.
        token_expires_at: When the present token ends, in seconds since the epoch, if there is one.
        cache: What its cache has done, if it has one.
    """

    socket_writes: int = 0
    orphaned_replies: int = 0
    unknown_outcomes: int = 0
    renewals: int = 0
    failed_renewals: int = 0
    reauthentications: int = 0
    token_expires_at: float | None = None
    cache: CacheStatistics | None = None

"""The numbers of all clients that share a hook: what is collected never goes back, whatever becomes of the clients.

Rules of this file:

1. A counter goes on when a client is opened again, when another one of the same address, database and name takes its
   place, and when one is forgotten. So the series are as many as there are addresses and names, not clients; where
   there are too many of these, all others are one.
2. Whoever collects may do so in another thread than a client's, and several may at once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from aioredis_kit.cache.statistics import CacheStatistics
from aioredis_kit.hooks import OTHER
from aioredis_kit.integrations.measures import Kind
from aioredis_kit.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioredis_kit.hooks import Origin
    from aioredis_kit.integrations.measures import Measure


class Identity(NamedTuple):
    """What tells clients apart in what is collected.

    Attributes:
        address: Where the server is, as it may be shown.
        host: Its name or IP address, or the path of its Unix socket.
        port: Its port, if it has one.
        db: The number of the database that was asked for; ``SELECT`` changes nothing here.
        client_name: What the connections are named; empty: nothing.
    """

    address: str
    host: str
    port: int | None
    db: int
    client_name: str

    @property
    def pool_name(self) -> str:
        """What a pool of such connections is called: the clients' name, or where they lead."""
        return self.client_name or f"{self.address}/{self.db}"


_MOST_IDENTITIES: Final = 1000
_OTHERS: Final = Identity(OTHER, OTHER, None, 0, OTHER)


@dataclass(frozen=True, slots=True)
class Reading:
    """The numbers of all clients of one identity, at one moment.

    Attributes:
        identity: What they have in common.
        statistics: The numbers of each, and of those that are gone.
        max_connections: How many connections they may have at once.
    """

    identity: Identity
    statistics: tuple[Statistics, ...]
    max_connections: int


@dataclass(slots=True)
class _Entry:
    """One client. Its cache begins to count anew when it is cleared: what it had counted before is kept here."""

    origin: Origin
    cleared: CacheStatistics = field(default_factory=CacheStatistics)
    latest: CacheStatistics = field(default_factory=CacheStatistics)

    def totals(self) -> Statistics:
        totals = self.origin.totals()
        if totals.cache is None:
            return totals
        if any(
            getattr(totals.cache, name) < getattr(self.latest, name) for name in ("hits", "misses", "load_successes")
        ):
            self.cleared = self.cleared.plus(_counters(self.latest))
        self.latest = totals.cache
        return replace(totals, cache=self.cleared.plus(totals.cache))


class Ledger:
    """Keeps the numbers of clients, those that are gone included."""

    def __init__(self) -> None:
        self._entries: dict[Origin, _Entry] = {}
        self._identities: dict[Origin, Identity] = {}
        self._past: dict[Identity, Statistics] = {}  # of those that are gone
        self._highest: dict[tuple[Identity, str, tuple[str, ...]], float] = {}
        self._lock = threading.RLock()

    def add(self, origin: Origin) -> None:
        """Begin to keep a client's numbers."""
        identity = identity_of(origin)
        with self._lock:
            self.sweep()
            if identity not in self._past and len(self._past) >= _MOST_IDENTITIES:
                identity = _OTHERS
            self._entries[origin] = _Entry(origin)
            self._identities[origin] = identity
            self._past.setdefault(identity, Statistics())

    def sweep(self) -> None:
        """Keep only the sums of clients that are gone."""
        with self._lock:
            for origin in [origin for origin in self._entries if origin.is_gone]:
                totals = self._entries.pop(origin).totals()
                identity = self._identities.pop(origin)
                past = self._past[identity]
                cache = past.cache or CacheStatistics()
                if totals.cache is not None:
                    cache = cache.plus(_counters(totals.cache))
                self._past[identity] = replace(past.after(totals), cache=cache if any(_is_used(cache)) else None)

    def read(self) -> list[Reading]:
        """Return the numbers of all clients, by their identity."""
        with self._lock:
            self.sweep()
            found: dict[Identity, list[Statistics]] = {identity: [past] for identity, past in self._past.items()}
            limits = dict.fromkeys(found, 0)
            for origin, entry in self._entries.items():
                identity = self._identities[origin]
                found[identity].append(entry.totals())
                limits[identity] += origin.max_connections
            return [Reading(each, tuple(statistics), limits[each]) for each, statistics in found.items()]

    def values(self, measure: Measure, reading: Reading) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield the numbers of a measure by its labels. A counter is never less than it was."""
        merged: dict[tuple[str, ...], float] = {}
        for statistics in reading.statistics:
            for labels, value in measure.read(statistics):
                merged[labels] = measure.kind.merge(merged[labels], value) if labels in merged else value
        if measure.kind is not Kind.COUNTER:
            yield from merged.items()
            return
        with self._lock:
            for labels, value in merged.items():
                key = reading.identity, measure.name, labels
                self._highest[key] = highest = max(value, self._highest.get(key, 0))
                yield labels, highest


def identity_of(origin: Origin) -> Identity:
    """Return what a client that was just made is known by."""
    return Identity(origin.address, origin.host, origin.port, origin.db, origin.client_name or "")


def _counters(cache: CacheStatistics) -> CacheStatistics:
    return replace(cache, entries=0, bytes=0)


def _is_used(cache: CacheStatistics) -> tuple[float, ...]:
    return cache.requests, cache.loads, cache.evictions, cache.invalidations

"""Lend the databases of one server to tests, and take them back empty.

Rules of this file:

1. On a server that the kit started, a lent database is emptied by FLUSHDB.
2. On any other, FLUSHDB and FLUSHALL are never sent. Only a database that is empty is lent, so
   that all that is found in it afterwards came with the test, and that is deleted key by key.
3. xdist's workers never lend the same database of a shared server.
"""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from aioredis_kit.testing.probe import ErrorReply, Probe
from aioredis_kit.testing.server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioredis_kit.testing.servers import ServerForTests

_USUAL_NUMBER = 16
_SCAN_COUNT = 1000


class NoDatabaseError(RuntimeError):
    """No database can be lent: there are too few, or somebody's keys are in it."""


class Databases:
    """The databases of one server.

    Lifecycle: made with the first test that wants one, kept for the whole run.

    Args:
        server: Their server.
        worker: The number of this xdist worker, from 0.
        workers: How many share the server.
    """

    def __init__(self, server: ServerForTests, *, worker: int = 0, workers: int = 1) -> None:
        self._server = server
        self._worker = worker
        self._workers = workers

    @contextmanager
    def lend(self) -> Iterator[str]:
        """Yield the URL of an empty database, and empty it afterwards.

        Raises:
            NoDatabaseError: There is no empty one for this worker, or the one that the server's URL names isn't.
            OSError: The server can't be reached.
        """
        number = next(self._numbers)
        if not self._server.started_here:
            with self._probe(number) as probe:
                _require_empty(probe, number)
        try:
            yield _with_database(self._server.url, number)
        finally:
            self._empty(number)

    @cached_property
    def _numbers(self) -> Iterator[int]:
        with self._probe(0) as probe:
            count = _count_databases(probe)
            if self._server.started_here:
                own = self._own(count)
                for number in own:  # a worker that crashed, and in whose place this one is, has emptied none
                    probe.call("SELECT", number)
                    probe.call("FLUSHDB")
                # Another one each time: who writes after the end of his test is less in the way.
                return itertools.cycle(own)
            return itertools.repeat(self._choose(probe, count))

    def _own(self, count: int) -> range:
        """Return this worker's databases of a server that the kit started."""
        own = range(1 + self._worker, count, self._workers)
        if count == self._workers == 1:
            return range(1)
        if not own:
            raise NoDatabaseError(
                f"{self._server!r} has {count} databases, too few for {self._workers} xdist workers that share it; "
                "have fewer workers, or a server for each"
            )
        return own

    def _choose(self, probe: Probe, count: int) -> int:
        named = self._server.address.database
        if named is not None:
            if self._workers > 1:
                raise NoDatabaseError(
                    f"the server's URL names database {named}, but each of {self._workers} xdist "
                    "workers needs its own; leave the number out to have empty ones chosen"
                )
            return named
        in_use = probe.info("keyspace")
        for number in range(count - 1 - self._worker, -1, -self._workers):
            if f"db{number}" not in in_use:
                return number
        raise NoDatabaseError(
            f"{self._server!r} wasn't started by the tests and none of its {count} databases that "
            "this worker may use is empty; empty one, or give no URL to have a server started"
        )

    def _empty(self, number: int) -> None:
        if isinstance(self._server, RedisServer):
            # The test may have left the shared server paused or dead; the next one needs it.
            self._server.resume()
            if not self._server.is_running:
                self._server.start()
        with self._probe(number) as probe:
            if self._server.started_here:
                probe.call("FLUSHDB")
            else:
                _delete_keys(probe)

    def _probe(self, number: int) -> Probe:
        return Probe(dataclasses.replace(self._server.address, database=number))


def _count_databases(probe: Probe) -> int:
    try:
        probe.call("SELECT", 1)
    except ErrorReply:
        return 1  # a cluster's node
    try:
        return int(probe.call("CONFIG", "GET", "databases")[1])
    except ErrorReply:
        return _USUAL_NUMBER  # hosted servers often forbid CONFIG


def _require_empty(probe: Probe, number: int) -> None:
    count = probe.call("DBSIZE")
    if count:
        raise NoDatabaseError(
            f"database {number} of a server that the tests didn't start holds {count} keys, which "
            "they would mix with; name an empty one in the URL, or none to have one chosen"
        )


def _delete_keys(probe: Probe) -> None:
    cursor = b"0"
    while True:
        cursor, keys = probe.call("SCAN", cursor, "COUNT", _SCAN_COUNT)
        if keys:
            probe.call("UNLINK", *keys)
        if cursor == b"0":
            return


def _with_database(url: str, number: int) -> str:
    parts = urlsplit(url)
    is_unix = parts.scheme == "unix"
    options = [(name, value) for name, value in parse_qsl(parts.query) if name != "db"]
    if is_unix:
        options.append(("db", str(number)))
    path = parts.path if is_unix else f"/{number}"
    query = f"?{urlencode(options)}" if options else ""
    return f"{parts.scheme}://{parts.netloc}{path}{query}"

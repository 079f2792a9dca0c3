"""The methods of a client that return an object with methods of its own: monitors, locks, modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioredis_kit.client.locking import Lock
from aioredis_kit.client.monitoring import BUFFERED, Monitor

if TYPE_CHECKING:
    from json import JSONDecoder, JSONEncoder

    from redis.asyncio.lock import Lock as StockLock

    from aioredis_kit.client.modules import JSON, Search, TimeSeries


class Objects:
    """Makes them for a ``CommandClient``."""

    def monitor(self: Any, *, buffered: int = BUFFERED) -> Monitor:
        """Return what tells of every command that the server executes. See redis-py.

        Args:
            buffered: How many lines it keeps that nobody has taken yet; then the oldest is dropped and counted.

        Raises:
            ConfigurationError: ``buffered`` is no number from 1 on.
        """
        return Monitor(self, buffered=buffered)

    def lock(  # redis-py's parameters
        self: Any,
        name: str | bytes | memoryview,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,  # noqa: FBT001, FBT002  # as redis-py
        blocking_timeout: float | None = None,
        lock_class: type[StockLock] | None = None,
        thread_local: bool = True,  # noqa: FBT001, FBT002  # as redis-py
        raise_on_release_error: bool = True,  # noqa: FBT001, FBT002  # as redis-py
    ) -> StockLock:
        """Return a lock that all who use the server share. See redis-py.

        Args:
            name: Its key.
            timeout: When it ends by itself, in seconds; ``None``: never.
            sleep: How long to wait between attempts, in seconds.
            blocking: Whether ``acquire`` waits until it is free.
            blocking_timeout: For how long, in seconds; ``None``: without limit.
            lock_class: The class of the lock, if not ours.
            thread_local: Whether the token is known to the thread alone that acquired it.
            raise_on_release_error: Whether the end of ``async with`` raises if it was not owned any more.
        """
        # Who owns it is not for a cache to say.
        client = self if self.cached_commands is None else self.with_options(cache=False)
        return (lock_class or Lock)(
            client,
            name,
            timeout=timeout,
            sleep=sleep,
            blocking=blocking,
            blocking_timeout=blocking_timeout,
            thread_local=thread_local,
            raise_on_release_error=raise_on_release_error,
        )

    # Importing their classes takes longer than all the rest, and few clients need them.

    def json(self: Any, encoder: JSONEncoder | None = None, decoder: JSONDecoder | None = None) -> JSON:
        """Return the commands of the JSON module. See redis-py.

        Args:
            encoder: Makes text of values; ``None``: Python's own.
            decoder: Makes values of text; ``None``: Python's own.
        """
        from json import JSONDecoder, JSONEncoder  # noqa: PLC0415  # as said

        from aioredis_kit.client.modules import JSON  # noqa: PLC0415  # as said

        # Its response callbacks use the decoder: one of the caller's isn't for the client's other callers.
        client = self if decoder is None else self.with_options()
        return JSON(client, encoder=encoder or JSONEncoder(), decoder=decoder or JSONDecoder())  # type: ignore[no-untyped-call]  # redis-py's

    def ft(self: Any, index_name: str = "idx") -> Search:
        """Return the commands of the search module. See redis-py.

        Args:
            index_name: The index that they are about.
        """
        from aioredis_kit.client.modules import Search  # noqa: PLC0415  # as said

        return Search(self, index_name)  # type: ignore[no-untyped-call]  # redis-py's

    def ts(self: Any) -> TimeSeries:
        """Return the commands of the time series module. See redis-py."""
        from aioredis_kit.client.modules import TimeSeries  # noqa: PLC0415  # as said

        return TimeSeries(self)  # type: ignore[no-untyped-call]  # redis-py's

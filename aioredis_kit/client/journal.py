"""What a client writes into the log about its state: each change once.

Rules of this file:

1. INFO for what is well, WARNING for what is not. Attempts to connect are told by events; here they are at DEBUG.
   An ``error`` event that nobody listens to is logged at WARNING elsewhere; then INFO is enough for what follows of it.
2. Each record has ``redis_address`` and ``redis_event``, and fields of its own that begin with ``redis_`` too.
3. No record holds a key, a value or a secret, at whatever level.
"""

from __future__ import annotations

import logging
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from aioredis_kit.events import Failed, Ready, Reauthenticated, Reconnecting, Renewed

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.client.listeners import Listeners
    from aioredis_kit.events import Event

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # where logging is not set up nothing is printed: listeners are told


class Journal:
    """Logs the changes of one client's state.

    Args:
        address: Where its server is.
        clock: The client's clock.
        listeners: The listeners of its events.
    """

    def __init__(self, address: str, clock: Callable[[], float], listeners: Listeners) -> None:
        self._address = address
        self._clock = clock
        self._listeners = listeners
        self._has_been_ready = False
        self._has_fallen_back = False
        self._down_since: float | None = None
        self._latest_failure: Exception | None = None

    def opened(self) -> None:
        """Begin anew: the client was opened."""
        self._has_been_ready, self._down_since, self._latest_failure = False, None, None

    def happened(self, event: Event) -> None:
        """Log an event, if it changes something."""
        match event:
            case Ready(protocol):
                self._ready(protocol)
            case Failed(error):
                self._latest_failure = error
            case Reconnecting(retries, delay):
                self._reconnecting(retries, delay)
            case Renewed(expires_at):
                self._log(logging.INFO, event.name, "has new credentials", expires_at=expires_at)
            case Reauthenticated():
                self._log(logging.DEBUG, event.name, "a connection has authenticated with new credentials")

    def gave_up(self, cause: Exception) -> None:
        """Log that there will be no more attempts to connect."""
        self._log(self._level_of_failure(), "terminated", f"gave up: {in_words(cause)}", error=type(cause).__name__)

    def closed(self) -> None:
        """Log that the client was closed on purpose."""
        self._log(logging.DEBUG, "end", "closed")

    def fell_back(self) -> None:
        """Log, once for all, that the server speaks an older protocol than was hoped for."""
        if not self._has_fallen_back:
            self._has_fallen_back = True
            logger.warning(
                "%s knows no RESP3: RESP2 is spoken", self._address, extra=self._fields("protocol", {"protocol": 2})
            )

    def _ready(self, protocol: int) -> None:
        since, self._down_since, self._latest_failure = self._down_since, None, None
        text = f"ready, protocol {protocol}"
        fields: dict[str, Any] = {"protocol": protocol, "again": self._has_been_ready}
        if since is not None:
            fields["down_for"] = down_for = self._clock() - since
            text = f"ready{' again' if self._has_been_ready else ''} after {down_for:.3f} s, protocol {protocol}"
        self._has_been_ready = True
        self._log(logging.INFO, Ready.name, text, **fields)

    def _reconnecting(self, retries: int, delay: float) -> None:
        cause = self._latest_failure
        fields = {"retries": retries, "delay": delay, "error": None if cause is None else type(cause).__name__}
        if self._down_since is not None:
            self._log(logging.DEBUG, "attempt", f"attempt {retries + 1} follows in {delay:.3f} s", **fields)
            return
        self._down_since = self._clock()
        what = "the connection was lost" if self._has_been_ready else "there is no connection yet"
        why = "" if cause is None else f" ({in_words(cause)})"
        self._log(self._level_of_failure(), Reconnecting.name, f"{what}{why}; trying again", **fields)

    def _level_of_failure(self) -> int:
        return logging.WARNING if self._listeners.has_any(Failed.name) else logging.INFO

    def _log(self, level: int, event: str, text: str, **fields: Any) -> None:
        if logger.isEnabledFor(level):
            logger.log(level, "%s: %s", self._address, text, extra=self._fields(event, fields))

    def _fields(self, event: str, fields: dict[str, Any]) -> dict[str, Any]:
        own = {f"redis_{name}": value for name, value in fields.items()}
        return {"redis_address": self._address, "redis_event": event, **own}


def in_words(error: BaseException | None) -> str:
    """Return what may be shown of an error. That of the user's own code may hold what nobody must see.

    Of such a one that is its type, and where it was raised: ``KeyError in hooks.py, line 12``.
    """
    if error is None:
        return ""
    if isinstance(error, RedisError):
        return str(error)
    raised_in = error.__traceback__
    if raised_in is None:
        return type(error).__name__
    while raised_in.tb_next is not None:
        raised_in = raised_in.tb_next
    file = PurePath(raised_in.tb_frame.f_code.co_filename).name
    return f"{type(error).__name__} in {file}, line {raised_in.tb_lineno}"
